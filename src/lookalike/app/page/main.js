/** The page: state in the address -> query, results, filters. */

import { showAbout, showKeys } from "./about.js";
import { json } from "./api.js";
import { prepareDialog } from "./dialog.js";
import { byId, el } from "./dom.js";
import { drawFacets } from "./facets.js";
import { drawFilters, prepareFilters } from "./filters.js";
import { prepareIntake } from "./intake.js";
import { drawCount, showMarks } from "./marks.js";
import { choose, drawQuery } from "./query.js";
import { drawResults } from "./results.js";
import { askForToken, openSession } from "./session.js";
import { current, go, isSearch, watch } from "./state.js";
import { prepareTheme } from "./theme.js";

let cards = [];
let drawing = 0;

/** Draw everything for a state. */
async function draw(state) {
  const number = ++drawing;
  const names = chosen(state);
  drawIndexes(state, names);
  drawFilters(state);
  document.title = isSearch(state) ? "Search · lookalike" : "lookalike";
  document.body.classList.toggle("searching", isSearch(state));
  byId("results").setAttribute("aria-busy", "true");
  byId("results").dataset.first = names[0];
  try {
    await drawQuery(state);
    const answers = await drawResults(state, names);
    if (number === drawing) drawFacets(answers[0].facets);
    tell("");
  } catch (error) {
    if (error.name !== "AbortError" && number === drawing) tell(error.message);
  }
  if (number === drawing) byId("results").removeAttribute("aria-busy");
}

/** The names of the indexes that a state asks for; the first one by default. */
function chosen(state) {
  const known = state.index.filter((name) => cards.some((card) => card.name === name));
  return known.length ? known.slice(0, 2) : [cards[0].name];
}

/** One button for each index, and one that shows the first two beside each other. */
function drawIndexes(state, names) {
  const button = (text, index) =>
    el("button", { "aria-pressed": String(String(index) === String(names)), on: { click: () => go({ index }) } }, text);
  const single = cards.map((card) => button(card.name, [card.name]));
  const pair = names.length > 1 ? names : [names[0], cards.find((card) => card.name !== names[0])?.name];
  const both = cards.length > 1 ? [button("Side by side", pair)] : [];
  byId("indexes").replaceChildren(...(cards.length > 1 ? [...single, ...both] : [el("span", {}, cards[0].name)]));
}

/** Show a problem above the results; an empty text takes it away. */
export function tell(text) {
  byId("problem").hidden = !text;
  byId("problem").textContent = text;
}

function prepareKeys() {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea") || byId("dialog").open) return;
    const action = {
      "/": () => {
        byId("filters").open = true;
        byId("where").focus();
      },
      "?": showKeys,
      u: () => choose("file"),
      ArrowDown: () => event.target === document.body && document.querySelector(".card .open")?.focus(),
    }[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}

/** Links to a state are followed without loading the page again. */
function prepareLinks() {
  addEventListener("click", (event) => {
    const link = event.target.closest("a[data-go]");
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    history.pushState(null, "", link.href);
    scrollTo({ top: 0 });
    draw(current());
  });
}

async function readCards() {
  try {
    await openSession();
    cards = await json("/indexes");
  } catch (error) {
    if (error.status !== 401) throw error;
    await askForToken();
    cards = await json("/indexes");
  }
}

async function start() {
  prepareTheme();
  prepareDialog();
  prepareIntake(tell);
  prepareFilters();
  prepareKeys();
  prepareLinks();
  byId("open-about").addEventListener("click", () => showAbout(cards));
  byId("open-keys").addEventListener("click", showKeys);
  byId("open-marks").addEventListener("click", showMarks);
  drawCount();
  try {
    await readCards();
  } catch (error) {
    return tell(error.message);
  }
  watch(draw);
  await draw(current());
}

start();
