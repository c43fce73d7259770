/** The server's API. */

import { digestOf, find } from "./images.js";

const RETRIES = 4;
const spent = new Map(); // seconds that an image took when it was told, shown with its first search
const known = new Set(); // what the server has embedded: needs not be sent again

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Ask for a path; waits and tries again where the server is busy. */
export async function ask(path, options = {}, tries = RETRIES) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server does not answer. Is it still running?");
  }
  if (response.status === 503 && tries > 0) {
    const seconds = Number(response.headers.get("Retry-After")) || 1;
    await new Promise((resolve) => setTimeout(resolve, 1000 * Math.min(seconds, 5)));
    return ask(path, options, tries - 1);
  }
  if (!response.ok) throw new ApiError(response.status, await reason(response));
  return response;
}

async function reason(response) {
  try {
    return (await response.json()).error ?? response.statusText;
  } catch {
    return `The server answered ${response.status}.`;
  }
}

export const json = async (path, options) => (await ask(path, options)).json();

/** The query string of a search in one index, without what is the default. */
export function parameters(state, index, more = {}) {
  const found = new URLSearchParams();
  if (index) found.set("index", index);
  for (const name of ["positive", "negative", "only"]) {
    for (const value of state[name] ?? []) found.append(name, value);
  }
  if (state.where) found.set("where", state.where);
  if (state.positive?.length) {
    if (state.threshold > -1) found.set("threshold", state.threshold);
    if (state.fold) found.set("fold", "true");
  }
  for (const [name, value] of Object.entries(more)) found.set(name, value);
  return found;
}

/** Search, or browse where nothing is searched for. Images go along only where they are needed. */
export async function list(state, index, more, signal) {
  if (!state.positive.length) {
    return json(`/items?${parameters(state, index, { order: "mixed", ...more })}`, { signal });
  }
  const references = [...state.positive, ...state.negative];
  const path = `/search?${parameters(state, index, more)}`;
  const found = await (await withImages(path, references, index, signal)).json();
  for (const reference of references) addSpent(found.seconds, `${index} ${reference}`);
  return found;
}

function addSpent(seconds, key) {
  for (const step of ["decoding", "embedding"]) seconds[step] += spent.get(key)?.[step] ?? 0;
  spent.delete(key);
}

/** Ask for a path whose query names these references. */
export async function withImages(path, references, index, signal) {
  const sent = references.filter(digestOf);
  const key = (reference) => `${index} ${reference}`;
  const isRegions = path.startsWith("/regions");
  if (!isRegions && sent.every((reference) => known.has(key(reference)))) {
    try {
      return await ask(path, { signal });
    } catch (error) {
      if (error.status !== 410) throw error;
    }
  }
  const response = sent.length
    ? await ask(path, { method: "POST", body: await form(sent), signal })
    : await ask(path, { signal });
  if (!isRegions) for (const reference of sent) known.add(key(reference));
  return response;
}

/** Tell the server an image; returns its reference. */
export async function tell(file, index) {
  const body = new FormData();
  body.append("file", file, file.name || "image.png");
  const found = await json(`/search?${new URLSearchParams({ index, k: 0 })}`, { method: "POST", body });
  const [reference] = found.positive;
  known.add(`${index} ${reference}`);
  spent.set(`${index} ${reference}`, found.seconds);
  return reference;
}

async function form(references) {
  const body = new FormData();
  for (const digest of new Set(references.map(digestOf))) {
    const image = await find(digest);
    if (!image) throw new ApiError(410, "The image of this search is on another device. Choose it again.");
    body.append("file", image.file, image.name);
  }
  return body;
}

/** Where the picture of a reference is, no larger than a size. */
export async function picture(reference, size) {
  const digest = digestOf(reference);
  if (!digest) return `/thumbnails/${reference}?size=${size}`;
  const image = await find(digest);
  return image ? URL.createObjectURL(image.file) : null;
}
