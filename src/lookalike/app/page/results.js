/** The lists of results, one for each chosen index: endless, with keyboard and near-duplicates. */

import { json, list } from "./api.js";
import { card } from "./card.js";
import { byId, el, plural } from "./dom.js";
import { exportButtons } from "./export.js";
import { summary } from "./marks.js";
import { isSearch } from "./state.js";

const PAGE = 60;
const MILLISECONDS = { waiting: "waiting", decoding: "decoding", embedding: "embedding", searching: "searching" };
let aborter = new AbortController();

/** Search in every index and draw what is found; returns the first answer of each index. */
export async function drawResults(state, indexes) {
  aborter.abort();
  aborter = new AbortController();
  const lists = indexes.map((index) => new Results(state, index, aborter.signal));
  const answers = await Promise.all(lists.map((each) => each.next()));
  const area = byId("results");
  area.classList.toggle("beside", indexes.length > 1);
  area.replaceChildren(...lists.map((each) => each.element));
  if (lists.length > 1 && isSearch(state)) compare(lists);
  lists.forEach((each) => each.watch());
  byId("status").textContent = lists.map((each) => each.sentence()).join(" ");
  return answers;
}

class Results {
  constructor(state, index, signal) {
    Object.assign(this, { state, index, signal, shown: 0, total: Infinity, busy: false });
    this.grid = el("ul", { class: "grid", "aria-label": isSearch(state) ? `Hits in ${index}` : `Gallery of ${index}` });
    this.title = el("h2", {});
    this.times = el("p", { class: "times" });
    this.more = el("div", { class: "sentinel" });
    const buttons = isSearch(state) ? exportButtons(state, index) : null;
    this.element = el("section", { class: "list", "aria-label": index },
      el("header", { class: "list-head" }, el("div", {}, el("p", { class: "eyebrow" }, index), this.title, this.times), buttons), this.grid, this.more);
    this.grid.addEventListener("keydown", (event) => moveFocus(event, this.grid));
  }

  /** Ask for the next page and draw it. */
  async next() {
    this.busy = true;
    try {
      const answer = await list(this.state, this.index, { offset: this.shown, k: PAGE }, this.signal);
      const found = answer.hits ?? answer.items;
      this.grid.append(...found.map((hit) => card(hit, this.index, (...given) => this.unfold(...given))));
      this.shown += found.length;
      this.total = found.length ? answer.total : this.shown;
      this.answer = answer;
      this.head(answer);
      return answer;
    } finally {
      this.busy = false;
    }
  }

  head(answer) {
    const search = isSearch(this.state);
    const reached = Boolean(answer.more);
    const what = search ? (reached ? `${answer.total.toLocaleString("en")} nearest` : plural(answer.total, "match", "matches")) : plural(answer.total, "image");
    this.title.textContent = what;
    if (answer.seconds) this.times.replaceChildren(times(answer.seconds), ...[summary(this.index)].filter(Boolean).map((text) => el("span", {}, ` · ${text}`)));
    else this.times.textContent = "Click one to search by it.";
    if (!answer.total) this.more.replaceChildren(nothing(this.state));
    else if (this.shown >= this.total) this.more.replaceChildren(el("p", { class: "end" }, reached ? `These are the ${answer.reach.toLocaleString("en")} nearest. Filters find others.` : "That is all."));
  }

  /** Load more whenever the end comes near. */
  watch() {
    if (this.shown >= this.total) return;
    const observer = new IntersectionObserver(async ([entry]) => {
      if (!entry.isIntersecting || this.busy || this.signal.aborted) return;
      observer.disconnect();
      try {
        await this.next();
        this.watch();
      } catch (error) {
        if (error.name !== "AbortError") this.more.replaceChildren(el("p", { class: "problem" }, error.message));
      }
    }, { rootMargin: "900px" });
    observer.observe(this.more);
  }

  sentence() {
    return isSearch(this.state) ? `${plural(this.answer.total, "match", "matches")} in ${this.index}.` : `${plural(this.answer.total, "image")} in ${this.index}.`;
  }

  /** Show or hide the near-duplicates of a hit behind it. */
  async unfold(item, hit, open) {
    for (const copy of this.grid.querySelectorAll(`[data-copy-of="${CSS.escape(hit.reference)}"]`)) copy.remove();
    if (!open) return;
    const items = await Promise.all(hit.copies.map((id) => json(`/items/${this.index}/${id}`)));
    const copies = items.map((each) => card(each, this.index, () => {}));
    for (const copy of copies) {
      copy.classList.add("copy");
      copy.dataset.copyOf = hit.reference;
    }
    item.after(...copies);
  }
}

function times(seconds) {
  const shown = (value) => `${(1000 * value).toFixed(value < 0.01 ? 1 : 0)} ms`;
  const total = Object.values(seconds).reduce((sum, value) => sum + value, 0);
  const steps = Object.entries(MILLISECONDS).map(([key, name]) => `${name} ${shown(seconds[key] ?? 0)}`).join(" · ");
  return el("span", { title: steps }, el("b", {}, shown(total)), el("span", { class: "steps" }, `: ${steps}`));
}

function nothing(state) {
  const filtered = state.only.length || state.where || state.threshold > -1;
  return el("div", { class: "nothing" }, el("h3", {}, "Nothing found"),
    el("p", {}, filtered ? "No image passes all filters. Lower the least similarity, or clear some." : "This index is empty."));
}

/** Says of every hit where the other index ranks it. */
function compare(lists) {
  const [left, right] = lists;
  for (const [own, other, name] of [[left, right, right.index], [right, left, left.index]]) {
    const ranks = new Map([...other.grid.children].map((each) => [each.hit.path, each.hit.rank]));
    for (const item of own.grid.children) {
      const rank = ranks.get(item.hit.path);
      item.classList.toggle("only-here", !rank);
      const text = rank ? `#${rank} there` : "only here";
      item.querySelector(".words").append(el("p", { class: "elsewhere", title: rank ? `Rank ${rank} in ${name}` : `Not among the first ${PAGE} in ${name}` }, text));
    }
  }
}

/** Arrow keys walk through a grid as it is laid out. */
function moveFocus(event, grid) {
  const card = event.target.closest(".card");
  if (!card || event.target.closest(".tools") || !event.key.startsWith("Arrow")) return;
  const cards = [...grid.children];
  const columns = cards.filter((each) => each.offsetTop === cards[0].offsetTop).length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
  const next = cards[cards.indexOf(card) + step];
  if (!next) return;
  event.preventDefault();
  next.querySelector(".open").focus();
}
