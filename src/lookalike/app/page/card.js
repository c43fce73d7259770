/** One image of the results or of the gallery. */

import { el, plural } from "./dom.js";
import { markOf, setMark } from "./marks.js";
import { search } from "./query.js";
import { address, changed, current } from "./state.js";
import { showWhy } from "./why.js";

/** A list item for an item of the gallery, or for a hit, which has a rank and a score. */
export function card(hit, index, shown) {
  const state = current();
  const link = el("a", {
    class: "open", href: address(changed({ positive: [hit.reference], negative: [] })), data: { go: "" },
    "aria-keyshortcuts": "+ - R W Y",
  }, picture(hit), hit.rank ? el("span", { class: "rank", "aria-hidden": "true" }, hit.rank) : null);
  const item = el("li", { class: "card", data: { reference: hit.reference } }, link, words(hit), tools(hit, index, state));
  item.hit = hit;
  item.index = index;
  if (hit.copies?.length) item.append(copies(hit, item, shown));
  showMark(item);
  link.addEventListener("keydown", (event) => keys(event, item));
  return item;
}

function picture(hit) {
  return el("img", { src: `${hit.thumbnail}?size=320`, alt: description(hit), loading: "lazy", decoding: "async", width: 320, height: 320, on: { error: broken } });
}

function broken(event) {
  event.target.closest(".card")?.classList.add("broken");
}

const fileOf = (hit) => hit.path.split("/").pop();

function description(hit) {
  const what = [hit.class_name, fileOf(hit)].filter(Boolean).join(", ");
  return hit.rank ? `Rank ${hit.rank}, similarity ${hit.score.toFixed(3)}: ${what}` : what;
}

function words(hit) {
  const columns = Object.entries(hit.columns).filter(([, value]) => value !== null);
  const every = columns.map(([name, value]) => `${name}: ${value}`).join("\n");
  const about = columns.map(short).filter(Boolean).join(" · ");
  const score = hit.rank ? el("span", { class: "score", title: "Cosine similarity" }, hit.score.toFixed(3)) : null;
  const bar = hit.rank ? el("meter", { class: "bar", min: 0, max: 1, value: Math.max(0, hit.score), "aria-hidden": "true" }) : null;
  return el("div", { class: "words" },
    el("p", { class: "name" }, el("b", { title: hit.path }, hit.class_name || fileOf(hit)), score), bar,
    el("p", { class: "more", title: `${hit.path}\n${every}` }, about || fileOf(hit)));
}

/** A column in a few letters: texts alone, numbers and what is true with their names. */
function short([name, value]) {
  if (typeof value === "boolean") return value ? name.replaceAll("_", " ") : "";
  return typeof value === "number" ? `${name} ${value}` : String(value);
}

function tools(hit, index, state) {
  const tool = (name, sign, label, action) => el("button", { class: `tool ${name}`, title: label, "aria-label": `${label}: ${description(hit)}`, tabindex: -1, on: { click: action } }, sign);
  const row = el("div", { class: "tools", role: "group", "aria-label": "Actions" });
  if (!hit.rank) return row;
  const itemOf = (event) => event.target.closest(".card");
  row.append(
    tool("plus", "+", "More like this", () => search(hit.reference, "positive", false)),
    tool("minus", "−", "Less like this", () => search(hit.reference, "negative", false)),
    tool("right", "✓", "Right", (event) => mark(itemOf(event), "right")),
    tool("wrong", "✗", "Wrong", (event) => mark(itemOf(event), "wrong")),
    tool("why", "Why", "Why was this found", () => showWhy(hit, index)));
  return row;
}

function mark(item, value) {
  setMark(item.hit, item.index, markOf(item.hit, item.index) === value ? null : value);
  showMark(item);
}

function showMark(item) {
  const value = markOf(item.hit, item.index);
  for (const name of ["right", "wrong"]) {
    item.classList.toggle(`is-${name}`, value === name);
    item.querySelector(`.tool.${name}`)?.setAttribute("aria-pressed", String(value === name));
  }
}

/** A button that shows or hides the near-duplicates of a hit. */
function copies(hit, item, shown) {
  const name = plural(hit.copies.length, "near-duplicate");
  const toggle = () => {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    shown(item, hit, !open);
  };
  const button = el("button", { class: "copies", title: `${name}: show or hide`, "aria-label": `${name} of ${description(hit)}`, "aria-expanded": "false", on: { click: toggle } }, `+${hit.copies.length}`);
  return button;
}

function keys(event, item) {
  if (event.ctrlKey || event.metaKey || event.altKey || !item.hit.rank) return;
  const action = {
    "+": () => search(item.hit.reference, "positive", false),
    "-": () => search(item.hit.reference, "negative", false),
    r: () => mark(item, "right"),
    w: () => mark(item, "wrong"),
    y: () => showWhy(item.hit, item.index),
  }[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
}
