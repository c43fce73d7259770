/** The query: examples that are wanted and not wanted, the picture to crop, ways to add an image. */

import { picture, tell } from "./api.js";
import { cropper } from "./crop.js";
import { byId, el } from "./dom.js";
import { digestOf, keep } from "./images.js";
import { current, go, parts, withBox } from "./state.js";

let active = 0; // which positive is shown large
let adding = "positive"; // where the next image goes
let replacing = true; // whether it takes the place of the query
let drawn = 0;

/** Draw the panel for a state. */
export async function drawQuery(state) {
  const number = ++drawn;
  active = Math.min(active, Math.max(0, state.positive.length - 1));
  const content = state.positive.length ? await chosen(state) : welcome();
  if (number === drawn) byId("query").replaceChildren(...content);
}

/** Take an image file: the server names it, this browser keeps it, and it is searched. */
export async function take(file, { as = adding, alone = replacing } = {}) {
  const index = byId("results").dataset.first ?? current().index[0] ?? "";
  const busy = byId("query");
  busy.setAttribute("aria-busy", "true");
  try {
    const reference = await tell(file, index);
    await keep(digestOf(reference), file);
    search(reference, as, alone);
  } finally {
    busy.removeAttribute("aria-busy");
    [adding, replacing] = ["positive", true];
  }
}

/** Search by a reference: alone, or beside what is there already. */
export function search(reference, as = "positive", alone = true) {
  if (alone) {
    active = 0;
    return go({ positive: [reference], negative: [] });
  }
  const state = current();
  const other = as === "positive" ? "negative" : "positive";
  const without = (references) => references.filter((each) => parts(each).image !== parts(reference).image);
  go({ [as]: [...without(state[as]), reference], [other]: without(state[other]) });
}

/** Let the user choose a file, or take a photograph. */
export function choose(input, as = "positive", alone = true) {
  [adding, replacing] = [as, alone];
  byId(input).click();
}

function sources() {
  return el("div", { class: "sources" },
    el("button", { class: "primary", on: { click: () => choose("file") } }, "Choose an image"),
    el("button", { class: "only-touch", on: { click: () => choose("camera") } }, "Take a photo"));
}

function welcome() {
  return [el("div", { class: "drop" },
    el("img", { src: "/page/drop.svg", alt: "", width: 72, height: 56 }),
    el("h1", {}, "Search by image"),
    el("p", {}, el("span", { class: "only-desktop" }, "Drop or paste one, choose a file, "), el("span", { class: "only-touch" }, "Choose a file, take a photo, "), "or pick one of the gallery."),
    sources())];
}

async function chosen(state) {
  const reference = state.positive[active];
  const { image, box } = parts(reference);
  const source = await picture(image, 1024);
  const stage = source
    ? cropper(source, nameOf(image), box, (edges) => cut(reference, edges))
    : el("p", { class: "missing" }, "This image is on another device. Choose it again.");
  return [stage, await strip(state), el("div", { class: "sources" },
    el("button", { on: { click: () => choose("file") } }, "New image"),
    el("button", { class: "only-touch", on: { click: () => choose("camera") } }, "Photo"),
    el("button", { class: "quiet", on: { click: () => go({ positive: [], negative: [] }) } }, "Clear"))];
}

function cut(reference, edges) {
  const next = withBox(parts(reference).image, edges);
  go({ positive: current().positive.map((each) => (each === reference ? next : each)) });
}

async function strip(state) {
  const entries = [
    ...state.positive.map((reference, place) => ({ reference, place, as: "positive" })),
    ...state.negative.map((reference, place) => ({ reference, place, as: "negative" })),
  ];
  return el("ul", { class: "strip", "aria-label": "Examples" },
    await Promise.all(entries.map(small)),
    el("li", {}, el("button", { class: "add", title: "Add an image that hits shall look like", "aria-label": "Add a positive example", on: { click: () => choose("file", "positive", false) } }, "+")),
    el("li", {}, el("button", { class: "add minus", title: "Add an image that hits shall not look like", "aria-label": "Add a negative example", on: { click: () => choose("file", "negative", false) } }, "−")));
}

async function small({ reference, place, as }) {
  const { image } = parts(reference);
  const shown = as === "positive" && place === active;
  const show = () => {
    active = place;
    drawQuery(current());
  };
  const remove = () => {
    const left = current()[as].filter((each) => each !== reference);
    go(as === "positive" && !left.length ? { positive: [], negative: [] } : { [as]: left });
  };
  const face = el("img", { src: (await picture(image, 128)) ?? "/page/icon.svg", alt: `${as} example: ${nameOf(image)}` });
  return el("li", { class: as },
    el("button", { class: "face", "aria-pressed": String(shown), disabled: as === "negative", on: { click: show } }, face),
    el("button", { class: "remove", "aria-label": `Remove ${as} example ${place + 1}`, on: { click: remove } }, "×"));
}

export const nameOf = (image) => (digestOf(image) ? "your image" : `item ${image.split("/")[1]} of ${image.split("/")[0]}`);
