/** The one dialog of the page. */

import { byId, el } from "./dom.js";

/** Show a title and some content; Escape and a click beside it close it. */
export function show(title, ...content) {
  const dialog = byId("dialog");
  dialog.className = "";
  dialog.replaceChildren(
    el("header", {},
      el("h2", { id: "dialog-title" }, title),
      el("button", { class: "quiet icon", "aria-label": "Close", on: { click: () => dialog.close() } }, "×")),
    el("div", { class: "content" }, content));
  if (!dialog.open) dialog.showModal();
  return dialog;
}

/** Whatever closes it, once. */
export function prepareDialog() {
  const dialog = byId("dialog");
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}
