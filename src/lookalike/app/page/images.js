/** The user's own images. They stay in this browser (IndexedDB), by the digest that the server gave. */

const MOST = 60; // kept
const opened = new Promise((resolve) => {
  const asked = indexedDB.open("lookalike", 1);
  asked.onupgradeneeded = () => asked.result.createObjectStore("images", { keyPath: "digest" });
  asked.onsuccess = () => resolve(asked.result);
  asked.onerror = () => resolve(null); // private windows: images live as long as the page
});
const memory = new Map();

function done(request) {
  return new Promise((resolve) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => resolve(undefined);
  });
}

async function objects(mode) {
  const database = await opened;
  return database?.transaction("images", mode).objectStore("images");
}

/** Keep an image, with the name of its file. */
export async function keep(digest, file) {
  const entry = { digest, file, name: file.name || "image.png", time: Date.now() };
  memory.set(digest, entry);
  const store = await objects("readwrite");
  if (!store) return;
  await done(store.put(entry));
  const every = (await done((await objects("readonly")).getAll())) ?? [];
  const old = every.sort((a, b) => b.time - a.time).slice(MOST);
  for (const { digest: gone } of old) await done((await objects("readwrite")).delete(gone));
}

/** An image with its name; undefined where this browser does not have it. */
export async function find(digest) {
  if (!memory.has(digest)) {
    const store = await objects("readonly");
    const entry = store && (await done(store.get(digest)));
    if (entry) memory.set(digest, entry);
  }
  return memory.get(digest);
}

/** The digest in a reference such as image:9f86d0...; null for an item of an index. */
export const digestOf = (reference) => /^image:([0-9a-f]{64})/.exec(reference)?.[1] ?? null;
