/** A picture from which a part can be cut: with mouse, finger or arrow keys. */

import { el, later } from "./dom.js";

const LEAST = 0.04; // side of a box, as a part of the picture's
const STEP = 0.02; // of an arrow key
const CORNERS = ["nw", "ne", "sw", "se"];

/** A stage with the picture; `tell` gets four edges in 0..1, or null for the whole picture. */
export function cropper(source, name, box, tell) {
  const image = el("img", { src: source, alt: `Query: ${name}`, draggable: "false" });
  const frame = el("div", { class: "frame", tabindex: 0, role: "group", "aria-label": "Part that is searched. Arrow keys move it, with Shift they resize it, Escape takes the whole image." });
  const shades = ["top", "right", "bottom", "left"].map((side) => el("span", { class: `shade ${side}` }));
  frame.append(...CORNERS.map((corner) => el("span", { class: `corner ${corner}`, data: { corner } })));
  const surface = el("div", { class: "surface" }, image, shades, frame);
  const hint = el("p", { class: "hint" });
  const whole = el("button", { class: "quiet", on: { click: () => settle(null) } }, "Whole image");
  const touch = el("button", { class: "quiet only-touch", "aria-pressed": "false", on: { click: toggleTouch } }, "Crop");
  const stage = el("div", { class: "stage" }, surface, el("div", { class: "stage-foot" }, hint, touch, whole));
  let edges = box;
  let byTouch = false;
  show();

  function toggleTouch() {
    byTouch = !byTouch;
    touch.setAttribute("aria-pressed", String(byTouch));
    surface.classList.toggle("by-touch", byTouch);
    if (byTouch && !edges) {
      edges = [0.15, 0.15, 0.85, 0.85];
      show();
    }
  }

  function settle(next) {
    edges = next;
    show();
    tell(edges);
  }

  function show() {
    const [left, top, right, bottom] = edges ?? [0, 0, 1, 1];
    surface.classList.toggle("cut", Boolean(edges));
    for (const [property, value] of Object.entries({ left, top, right, bottom })) {
      surface.style.setProperty(`--${property}`, value);
    }
    whole.hidden = !edges;
    hint.textContent = edges ? "Searching this part." : "Drag to search a part.";
  }

  const point = (event) => {
    const area = image.getBoundingClientRect();
    const within = (value) => Math.min(1, Math.max(0, value));
    return [within((event.clientX - area.left) / area.width), within((event.clientY - area.top) / area.height)];
  };

  surface.addEventListener("pointerdown", (event) => {
    if (event.button || (event.pointerType === "touch" && !byTouch)) return;
    event.preventDefault();
    const start = point(event);
    const before = edges;
    const corner = event.target.dataset.corner;
    const drag = corner ? resizing(before ?? [0, 0, 1, 1], corner) : inside(start, before) ? moving(before, start) : drawing(start);
    surface.setPointerCapture(event.pointerId);
    const move = (moved) => {
      edges = drag(point(moved));
      show();
    };
    const end = (ended) => {
      surface.removeEventListener("pointermove", move);
      for (const name of ["pointerup", "pointercancel"]) surface.removeEventListener(name, end);
      const next = drag(point(ended));
      const large = next[2] - next[0] >= LEAST && next[3] - next[1] >= LEAST;
      if (!large || ended.type === "pointercancel") {
        edges = before;
        return show();
      }
      if (String(next) !== String(before)) settle(next);
    };
    surface.addEventListener("pointermove", move);
    for (const name of ["pointerup", "pointercancel"]) surface.addEventListener(name, end);
  });

  const told = later(500, () => tell(edges));
  frame.addEventListener("keydown", (event) => {
    const direction = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
    if (event.key === "Escape" && edges) return settle(null);
    if (!direction) return;
    event.preventDefault();
    event.stopPropagation();
    edges = byKey(edges ?? [0.1, 0.1, 0.9, 0.9], direction, event.shiftKey);
    show();
    told();
  });
  return stage;
}

const inside = ([x, y], box) => box && x > box[0] && x < box[2] && y > box[1] && y < box[3];

const drawing = ([x, y]) => ([nextX, nextY]) => [Math.min(x, nextX), Math.min(y, nextY), Math.max(x, nextX), Math.max(y, nextY)];

function moving([left, top, right, bottom], [x, y]) {
  return ([nextX, nextY]) => {
    const across = Math.min(1 - right, Math.max(-left, nextX - x));
    const down = Math.min(1 - bottom, Math.max(-top, nextY - y));
    return [left + across, top + down, right + across, bottom + down];
  };
}

function resizing([left, top, right, bottom], corner) {
  const fixed = [corner.includes("w") ? right : left, corner.includes("n") ? bottom : top];
  return drawing(fixed);
}

function byKey([left, top, right, bottom], [across, down], resizes) {
  if (!resizes) return moving([left, top, right, bottom], [0, 0])([across, down]);
  return [left, top, Math.min(1, Math.max(left + LEAST, right + across)), Math.min(1, Math.max(top + LEAST, bottom + down))];
}
