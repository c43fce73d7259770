/** Why a hit was found: the regions of query and hit that match. */

import { withImages } from "./api.js";
import { show } from "./dialog.js";
import { el, svg } from "./dom.js";
import { current } from "./state.js";

/** Open the dialog for a hit. */
export async function showWhy(hit, index) {
  const content = el("div", { class: "comparison" }, el("p", { class: "muted" }, "Comparing regions …"));
  show("Why was this found?", content).classList.add("wide");
  const reference = current().positive[0];
  try {
    const path = `/regions?${new URLSearchParams({ query: reference, id: hit.id, index })}`;
    const found = await (await withImages(path, [reference], index)).json();
    content.replaceChildren(...(found.why_not ? [el("p", {}, found.why_not)] : compared(found, hit)));
  } catch (error) {
    content.replaceChildren(el("p", { class: "problem" }, error.message));
  }
}

function compared(found, hit) {
  const sides = [side(found, 0, "Query"), side(found, 1, `Rank ${hit.rank}`)];
  const transposed = found.similarity[0].map((_, column) => found.similarity.map((row) => row[column]));
  const tables = [found.similarity, transposed];
  const point = (from, position) => {
    sides[from].only(position);
    sides[1 - from].heat(tables[from][position]);
  };
  const rest = () => sides.forEach((each) => each.rest());
  sides.forEach((each, number) => each.listen((position) => point(number, position), rest));
  const regions = found.pairs.map(([query, other], number) =>
    el("li", {}, el("button", { class: "region", on: { focus: () => point(0, query), mouseenter: () => point(0, query), blur: rest, mouseleave: rest } },
      el("i", { class: `number n${number}` }, number + 1), `similarity ${found.similarity[query][other].toFixed(2)}`)));
  return [
    el("div", { class: "pair" }, sides.map((each) => each.figure)),
    el("ol", { class: "regions", "aria-label": "Regions that match best" }, regions),
    el("p", { class: "muted" }, "The numbered regions match best; those that add most to the similarity come first. Point at any region of one image: the other one shows where it finds the same. Both are shown as the network sees them."),
  ];
}

/** One picture with the grid of its feature map over it. */
function side(found, which, name) {
  const [rows, columns] = found.shape;
  const cells = Array.from({ length: rows * columns }, (_, position) =>
    svg("rect", { x: position % columns, y: Math.floor(position / columns), width: 1, height: 1, class: "cell" }));
  const numbers = found.pairs.map((pair, number) => {
    const [x, y] = [pair[which] % columns, Math.floor(pair[which] / columns)];
    return svg("g", { class: `match n${number}` },
      svg("rect", { x: x + 0.04, y: y + 0.04, width: 0.92, height: 0.92, rx: 0.12 }),
      svg("text", { x: x + 0.5, y: y + 0.5, "font-size": 0.5 }, number + 1));
  });
  const grid = svg("svg", { viewBox: `0 0 ${columns} ${rows}`, preserveAspectRatio: "none", "aria-hidden": "true" }, cells, numbers);
  const figure = el("figure", {},
    el("div", { class: "seen" }, el("img", { src: found.views[which], alt: `${name}, as the network sees it` }), grid),
    el("figcaption", {}, name));
  const place = (event) => {
    const area = grid.getBoundingClientRect();
    const column = Math.floor(((event.clientX - area.left) / area.width) * columns);
    const row = Math.floor(((event.clientY - area.top) / area.height) * rows);
    return row >= 0 && row < rows && column >= 0 && column < columns ? row * columns + column : null;
  };
  return {
    figure,
    rest: () => {
      grid.classList.remove("asked");
      cells.forEach((cell) => cell.setAttribute("class", "cell"));
    },
    only: (position) => {
      grid.classList.add("asked");
      cells.forEach((cell, number) => {
        cell.setAttribute("class", number === position ? "cell chosen" : "cell");
        cell.removeAttribute("fill-opacity");
      });
    },
    heat: (values) => {
      const [low, high] = [Math.min(...values), Math.max(...values)];
      grid.classList.add("asked");
      cells.forEach((cell, number) => {
        cell.setAttribute("class", "cell hot");
        cell.setAttribute("fill-opacity", (0.72 * ((values[number] - low) / (high - low || 1)) ** 2).toFixed(3));
      });
    },
    listen: (point, rest) => {
      grid.addEventListener("pointermove", (event) => place(event) !== null && point(place(event)));
      grid.addEventListener("pointerdown", (event) => place(event) !== null && point(place(event)));
      grid.addEventListener("pointerleave", rest);
    },
  };
}
