/** Facets: values of columns with counts to choose from, ranges of numbers with a small histogram. */

import { byId, el, svg } from "./dom.js";
import { current, go } from "./state.js";

const FEW = 8; // values before "more"
const opened = new Set(); // columns whose values are all shown

/** Draw the facets of an answer. */
export function drawFacets(found) {
  const only = current().only;
  const focused = document.activeElement?.dataset?.facet;
  byId("facets").replaceChildren(...found.map((facet) => (facet.kind === "range" ? range(facet, only) : values(facet, only))));
  if (focused) document.querySelector(`[data-facet="${CSS.escape(focused)}"]`)?.focus();
}

const choices = (only, column) => only.filter((each) => each.startsWith(`${column}=`)).map((each) => each.slice(column.length + 1));

function choose(column, chosen) {
  const others = current().only.filter((each) => !each.startsWith(`${column}=`));
  go({ only: [...others, ...chosen.map((value) => `${column}=${value}`)] });
}

function values(facet, only) {
  const chosen = choices(only, facet.column);
  const missing = chosen.filter((value) => !facet.values.some((each) => each.value === value));
  const every = [...facet.values, ...missing.map((value) => ({ value, count: 0 }))];
  const most = Math.max(1, ...every.map((each) => each.count));
  const all = opened.has(facet.column) || every.length <= FEW + 2;
  const shown = every.filter((each, place) => all || place < FEW || chosen.includes(each.value));
  const more = el("button", { class: "quiet more-values", on: { click: () => {
    opened.add(facet.column);
    more.closest("fieldset").replaceWith(values(facet, current().only));
  } } }, `${every.length - shown.length} more`);
  return el("fieldset", {}, el("legend", {}, facet.column),
    shown.map((each) => value(facet.column, each, chosen, most)),
    every.length > shown.length ? more : null,
    facet.more ? el("p", { class: "muted" }, `and ${facet.more} rarer values`) : null);
}

function value(column, { value: text, count }, chosen, most) {
  const toggle = (event) => choose(column, event.target.checked ? [...chosen, text] : chosen.filter((each) => each !== text));
  return el("label", { class: "value" },
    el("input", { type: "checkbox", checked: chosen.includes(text), data: { facet: `${column}=${text}` }, on: { change: toggle } }),
    el("span", { class: "text" }, text || "(none)"),
    el("meter", { min: 0, max: most, value: count, "aria-hidden": "true" }),
    el("span", { class: "count" }, count.toLocaleString("en")));
}

function range(facet, only) {
  const [chosen] = choices(only, facet.column);
  const [low, high] = chosen ? chosen.split("..") : [facet.low, facet.high];
  const step = facet.whole ? 1 : "any";
  const edge = (name, value) => el("input", { type: "number", min: facet.low, max: facet.high, step, value, "aria-label": `${facet.column}, ${name}`, data: { facet: `${facet.column}:${name}` }, on: { change: told } });
  const inputs = [edge("from", low), edge("to", high)];
  function told() {
    const [from, to] = inputs.map((each, place) => (each.value === "" ? [facet.low, facet.high][place] : Number(each.value)));
    choose(facet.column, from <= facet.low && to >= facet.high ? [] : [`${from}..${to}`]);
  }
  const most = Math.max(1, ...facet.counts);
  const inside = (place) => {
    const width = (facet.high - facet.low) / facet.counts.length;
    return facet.low + (place + 1) * width >= low && facet.low + place * width <= high;
  };
  const bars = facet.counts.map((count, place) => svg("rect", {
    x: place + 0.1, width: 0.8, y: 10 - (9.6 * count) / most, height: (9.6 * count) / most + 0.4, class: inside(place) ? "in" : "out",
  }));
  return el("fieldset", {}, el("legend", {}, facet.column),
    svg("svg", { class: "bins", viewBox: `0 0 ${facet.counts.length} 10.4`, preserveAspectRatio: "none", role: "img", "aria-label": `Histogram of ${facet.column}` }, bars),
    el("div", { class: "edges" }, inputs[0], "to", inputs[1]));
}
