/** Light and dark: as the system has it, until the user says otherwise. */

import { byId } from "./dom.js";

const KEY = "lookalike.theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

const now = () => localStorage.getItem(KEY) ?? (dark.matches ? "dark" : "light");

function apply() {
  document.documentElement.dataset.theme = now();
  byId("theme").textContent = now() === "dark" ? "☀" : "☾";
}

/** Apply the theme, and let the button switch it. */
export function prepareTheme() {
  byId("theme").addEventListener("click", () => {
    localStorage.setItem(KEY, now() === "dark" ? "light" : "dark");
    apply();
  });
  dark.addEventListener("change", apply);
  apply();
}
