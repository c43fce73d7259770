/** What narrows a search: least similarity, folding, a condition. */

import { byId, later } from "./dom.js";
import { ALL, current, go, isSearch } from "./state.js";

/** Show a state's filters. */
export function drawFilters(state) {
  const search = isSearch(state);
  byId("threshold-control").hidden = !search;
  byId("fold").closest("label").hidden = !search;
  const slider = byId("threshold");
  if (document.activeElement !== slider) slider.value = Math.max(0, state.threshold);
  drawValue(state.threshold);
  byId("fold").checked = state.fold;
  if (document.activeElement !== byId("where")) byId("where").value = state.where;
  const count = state.only.length + (state.where ? 1 : 0) + (search && state.threshold !== ALL ? 1 : 0);
  byId("filter-count").textContent = count || "";
  byId("clear-filters").hidden = !count;
}

function drawValue(threshold) {
  byId("threshold-value").textContent = threshold === ALL ? "any" : threshold.toFixed(2);
}

/** Let the controls change the state. */
export function prepareFilters() {
  const slider = byId("threshold");
  const value = () => (Number(slider.value) === 0 ? ALL : Number(slider.value));
  const told = later(120, () => go({ threshold: value() }, current().threshold !== ALL));
  slider.addEventListener("input", () => {
    drawValue(value());
    told();
  });
  byId("fold").addEventListener("change", (event) => go({ fold: event.target.checked }));
  byId("where-form").addEventListener("submit", (event) => {
    event.preventDefault();
    go({ where: byId("where").value.trim() });
  });
  byId("where").addEventListener("change", (event) => go({ where: event.target.value.trim() }));
  byId("clear-filters").addEventListener("click", () => go({ only: [], where: "", threshold: ALL }));
  const wide = matchMedia("(min-width: 900px)");
  const follow = () => {
    byId("filters").open = wide.matches;
  };
  wide.addEventListener("change", follow);
  follow();
}
