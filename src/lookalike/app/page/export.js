/** What is shown, for other programs: JSON, CSV, and the command that asks for it. */

import { parameters, withImages } from "./api.js";
import { show } from "./dialog.js";
import { download, el } from "./dom.js";
import { digestOf, find } from "./images.js";
import { parts, readable, withBox } from "./state.js";

const MOST = 1000; // hits that one answer has

/** Three buttons for the list of an index. */
export function exportButtons(state, index) {
  const button = (text, label, action) => el("button", { class: "quiet", title: label, "aria-label": label, on: { click: action } }, text);
  return el("div", { class: "exports" },
    button("JSON", "Download all hits as JSON", () => save(state, index, "json")),
    button("CSV", "Download all hits as CSV", () => save(state, index, "csv")),
    button("curl", "Show the command that gives these hits", () => showCommand(state, index)));
}

async function save(state, index, format) {
  const path = `/search?${parameters(state, index, { k: MOST, format })}`;
  const response = await withImages(path, [...state.positive, ...state.negative], index);
  const type = format === "json" ? "application/json" : "text/csv";
  download(`hits-${index}.${format}`, await response.text(), type);
}

/** The command line; an image of the user's is named by its file. */
export async function command(state, index) {
  const files = [];
  const named = (reference) => {
    const digest = digestOf(reference);
    if (!digest) return reference;
    if (!files.includes(digest)) files.push(digest);
    return withBox(`file:${files.indexOf(digest)}`, parts(reference).box);
  };
  const asked = { ...state, positive: state.positive.map(named), negative: state.negative.map(named) };
  const images = await Promise.all(files.map(find));
  const attached = images.map((image) => `-F ${quoted(`file=@${image?.name ?? "photo.jpg"}`)} `);
  const text = readable(parameters(asked, index, { k: 20 }));
  return `curl ${attached.join("")}${quoted(`${location.origin}/search?${text}`)}`;
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

async function showCommand(state, index) {
  const text = await command(state, index);
  const box = el("textarea", { readonly: true, rows: 5, "aria-label": "Command", spellcheck: "false" });
  box.value = text;
  const copied = el("button", { class: "primary", on: { click: copy } }, "Copy");
  async function copy() {
    box.select();
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      document.execCommand("copy"); // pages without https have no clipboard
    }
    copied.textContent = "Copied";
  }
  show("Ask from a terminal", box, el("div", { class: "row" }, copied),
    el("p", { class: "muted" }, "The whole API is described in ", el("a", { href: "/openapi.json" }, "openapi.json"), ". A server with a token needs -H 'Authorization: Bearer TOKEN', too."));
}
