/** The cards of the indexes and their networks, and the keys of the page. */

import { show } from "./dialog.js";
import { el } from "./dom.js";

const LABELS = {
  network: "Network", fingerprint: "Fingerprint", images: "Images", classes: "Classes", dimensions: "Dimensions",
  metric: "Similarity", structure: "Search", bytes: "Size on disk", generation: "Changes", columns: "Columns", path: "Folder", root: "Images in",
};
const KEYS = [
  ["Ctrl V", "search by the copied image"], ["U", "choose an image"], ["/", "write a condition"], ["↑ ↓ ← →", "walk through the results"],
  ["Enter", "search by the focused result"], ["+", "more like it"], ["−", "less like it"], ["R", "mark it right"], ["W", "mark it wrong"],
  ["Y", "why it was found"], ["Alt ←", "back to the search before"], ["?", "these keys"],
];

/** A card for each index. */
export function showAbout(cards) {
  show("About", el("div", { class: "cards" }, cards.map(indexCard)),
    el("p", { class: "muted" }, "The API: ", el("a", { href: "/openapi.json" }, "openapi.json"), ", ", el("a", { href: "/metrics" }, "metrics"), ", ", el("a", { href: "/health" }, "health"), ". Images that you search by are not kept on the server."));
}

function indexCard(card) {
  const rows = Object.entries(LABELS).filter(([key]) => card[key] !== undefined);
  return el("section", {}, el("h3", {}, card.name),
    el("dl", {}, rows.map(([key, label]) => [el("dt", {}, label), el("dd", {}, written(key, card[key]))])));
}

function written(key, value) {
  if (key === "bytes") return value > 1e6 ? `${(value / 1e6).toFixed(1)} MB` : `${Math.ceil(value / 1e3)} kB`;
  if (Array.isArray(value)) return value.join(", ");
  if (value && typeof value === "object") return Object.entries(value).filter(([name, each]) => each !== null && name !== "wanted").map(([name, each]) => (name === "kind" ? each : `${name} ${each}`)).join(", ");
  return typeof value === "number" ? value.toLocaleString("en") : String(value);
}

/** What the keyboard does. */
export function showKeys() {
  show("Keys", el("dl", { class: "keys" }, KEYS.map(([key, text]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, text)])));
}
