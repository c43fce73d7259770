/** What is shown, as the address has it: so reload, back, forward and a copied link all work. */

export const ALL = -1; // threshold that lets everything pass

const empty = { index: [], positive: [], negative: [], only: [], where: "", threshold: ALL, fold: true };

const watchers = [];

/** The state in the address. */
export function current() {
  const found = new URLSearchParams(location.search);
  const threshold = Number.parseFloat(found.get("threshold") ?? ALL);
  return {
    index: found.getAll("index"),
    positive: found.getAll("positive"),
    negative: found.getAll("negative"),
    only: found.getAll("only"),
    where: found.get("where") ?? "",
    threshold: Number.isFinite(threshold) ? Math.min(1, Math.max(-1, threshold)) : ALL,
    fold: found.get("fold") !== "false",
  };
}

/** The address of a state. */
export function address(state) {
  const parts = new URLSearchParams();
  for (const name of ["index", "positive", "negative", "only"]) {
    for (const value of state[name]) parts.append(name, value);
  }
  if (state.where) parts.set("where", state.where);
  if (state.threshold !== ALL) parts.set("threshold", state.threshold);
  if (!state.fold) parts.set("fold", "false");
  const text = readable(parts);
  return text ? `/?${text}` : "/";
}

/** A query string in which the signs of references are not escaped. */
export function readable(parameters) {
  const signs = { "%2F": "/", "%3A": ":", "%40": "@", "%2C": "," };
  return parameters.toString().replace(/%(2F|3A|40|2C)/g, (escaped) => signs[escaped]);
}

/** Another state: `change` is laid over the present one. */
export const changed = (change) => ({ ...empty, ...current(), ...change });

/** Go to another state. A step that is `replaced` leaves no entry in the history. */
export function go(change, replaced = false) {
  const next = address(changed(change));
  if (next === location.pathname + location.search) return;
  if (replaced) history.replaceState(null, "", next);
  else history.pushState(null, "", next);
  for (const watcher of watchers) watcher(current());
}

/** Call a function with every new state, the user's steps back and forward included. */
export function watch(watcher) {
  watchers.push(watcher);
  if (watchers.length === 1) addEventListener("popstate", () => watchers.forEach((each) => each(current())));
}

/** Whether something is searched; otherwise the gallery is shown. */
export const isSearch = (state) => state.positive.length > 0;

/** A reference without its box, and the box as four numbers or null. */
export function parts(reference) {
  const [image, box] = reference.split("@");
  return { image, box: box ? box.split(",").map(Number) : null };
}

export const withBox = (image, box) =>
  box ? `${image}@${box.map((edge) => +edge.toFixed(3)).join(",")}` : image;
