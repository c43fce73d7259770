/** A server with a token: the token from the address, or from the user, becomes a cookie. */

import { ask } from "./api.js";
import { show } from "./dialog.js";
import { byId, el } from "./dom.js";

/** Open a session where the address has a token: http://.../#token=... */
export async function openSession() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  history.replaceState(null, "", location.pathname + location.search);
  await send(token);
}

/** Ask the user for the token; goes on once it is right. */
export function askForToken() {
  return new Promise((resolve) => {
    const problem = el("p", { class: "problem", role: "alert", hidden: true });
    const input = el("input", { type: "password", name: "token", required: true, "aria-label": "Token", autocomplete: "off" });
    const form = el("form", { class: "row" }, input, el("button", { class: "primary" }, "Open"));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      try {
        await send(input.value);
        byId("dialog").close();
        resolve();
      } catch (error) {
        problem.hidden = false;
        problem.textContent = error.message;
      }
    });
    show("This server needs a token", el("p", {}, "Its terminal shows the address with the token."), form, problem);
  });
}

async function send(token) {
  await ask("/session", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }) });
}
