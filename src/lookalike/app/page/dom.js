/** Short ways to make and find elements. Text is always set as text, never parsed as HTML. */

export const byId = (id) => document.getElementById(id);

/** el("a", {href: "/", class: "x", on: {click: f}, data: {id: 1}}, "text", child): an element. */
export function el(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

/** The same for SVG. */
export function svg(tag, properties = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);
}

function filled(element, { on = {}, data = {}, ...attributes }, children) {
  for (const [name, handler] of Object.entries(on)) element.addEventListener(name, handler);
  for (const [name, value] of Object.entries(data)) element.dataset[name] = value;
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== false));
  return element;
}

/** Calls a function once nothing has called for it during some milliseconds. */
export function later(milliseconds, callee) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => callee(...given), milliseconds);
  };
}

/** Offers text or a blob as a file. */
export function download(name, content, type) {
  const link = el("a", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
