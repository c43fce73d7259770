/** What the user marked as right or wrong, kept in this browser, and its export as a table. */

import { byId, download, el, plural } from "./dom.js";
import { show } from "./dialog.js";
import { current } from "./state.js";

const KEY = "lookalike.marks";
const COLUMNS = ["positive", "negative", "index", "id", "path", "class", "rank", "score", "mark", "time"];
let marks = read();

function read() {
  try {
    return new Map(JSON.parse(localStorage.getItem(KEY) ?? "[]"));
  } catch {
    return new Map();
  }
}

const keyOf = (hit) => {
  const state = current();
  return JSON.stringify([state.positive, state.negative, hit.reference]);
};

/** "right", "wrong", or null for a hit of the present query. */
export const markOf = (hit) => marks.get(keyOf(hit))?.mark ?? null;

/** Mark a hit of the present query; null takes the mark away. */
export function setMark(hit, index, mark) {
  const { positive, negative } = current();
  if (mark) {
    marks.set(keyOf(hit), {
      positive: positive.join(" "), negative: negative.join(" "), index, id: hit.id, path: hit.path,
      class: hit.class_name, rank: hit.rank, score: hit.score, mark, time: new Date().toISOString(),
    });
  } else marks.delete(keyOf(hit));
  save();
}

function save() {
  localStorage.setItem(KEY, JSON.stringify([...marks]));
  drawCount();
}

/** The button that opens the marks, with how many there are. */
export function drawCount() {
  byId("open-marks").hidden = !marks.size;
  byId("mark-count").textContent = marks.size;
}

/** The marks of the present query in a sentence; empty where there are none. */
export function summary(index) {
  const { positive, negative } = current();
  const own = [...marks.values()].filter((each) => each.index === index && each.positive === positive.join(" ") && each.negative === negative.join(" "));
  const right = own.filter((each) => each.mark === "right").length;
  return own.length ? `${right} of ${own.length} marked right` : "";
}

/** All marks as CSV. */
export function table() {
  const quoted = (value) => (/[",\n\r]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  const rows = [...marks.values()].map((each) => COLUMNS.map((name) => quoted(each[name] ?? "")).join(","));
  return [COLUMNS.join(","), ...rows, ""].join("\n");
}

/** The dialog with all marks. */
export function showMarks() {
  const queries = new Set([...marks.values()].map((each) => `${each.positive} ${each.negative}`));
  const right = [...marks.values()].filter((each) => each.mark === "right").length;
  show("Marks",
    el("p", {}, `${plural(marks.size, "hit")} of ${plural(queries.size, "query", "queries")}: ${right} right, ${marks.size - right} wrong.`),
    el("div", { class: "row" },
      el("button", { class: "primary", on: { click: () => download("marks.csv", table(), "text/csv") } }, "Download as CSV"),
      el("button", { on: { click: forget } }, "Remove all marks")));
}

function forget() {
  marks = new Map();
  save();
  byId("dialog").close();
  dispatchEvent(new PopStateEvent("popstate"));
}
