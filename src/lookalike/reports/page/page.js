"use strict";
// Tables: sorted by a click on a heading (numbers by value, blanks last).
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  for (const button of table.querySelectorAll("th button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const numeric = head.classList.contains("number");
      const before = head.getAttribute("aria-sort");
      const direction = before ? (before === "ascending" ? -1 : 1) : (numeric ? -1 : 1);
      for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      const keyed = Array.from(body.rows, row => {
        const cell = row.cells[head.cellIndex];
        const text = cell.dataset.v ?? cell.textContent;
        return [numeric && text !== "" ? Number(text) : text, row];
      });
      const order = new Intl.Collator(undefined, { numeric: true }).compare;
      keyed.sort(([a], [b]) =>
        a === "" || b === "" ? (a === "") - (b === "") : direction * (numeric ? a - b : order(a, b)));
      body.append(...keyed.map(([, row]) => row));
    });
  }
}
// The filter: runs are found by words; what is tied to runs is shown with some or with every of them.
const search = document.getElementById("filter");
search?.addEventListener("input", () => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = Array.from(document.querySelectorAll("tr[data-words]"));
  const found = rows.filter(row => words.every(word => row.dataset.words.includes(word)));
  const shown = new Set(found.map(row => row.dataset.some));
  for (const how of ["some", "every"])
    for (const part of document.querySelectorAll(`[data-${how}]`))
      part.toggleAttribute("hidden", !part.dataset[how].split(" ")[how](run => shown.has(run)));
  document.getElementById("shown").textContent = `${found.length} of ${rows.length} runs`;
});

// The difference of two runs.
const diff = document.getElementById("diff");
if (diff) {
  const { keys, runs } = JSON.parse(document.getElementById("configs").textContent);
  const [first, second] = diff.querySelectorAll("select");
  for (const select of [first, second])
    runs.forEach((run, index) => select.add(new Option(run.name, index)));
  second.selectedIndex = Math.min(1, runs.length - 1);
  const compare = () => {
    const [a, b] = [first, second].map(select => runs[select.value].values);
    const body = diff.querySelector("tbody");
    body.replaceChildren();
    keys.forEach((key, index) => {
      if (a[index] === b[index]) return;
      const row = body.insertRow();
      for (const text of [key, a[index], b[index]]) row.insertCell().textContent = text;
    });
    if (!body.rows.length) {
      const cell = body.insertRow().insertCell();
      cell.colSpan = 3;
      cell.textContent = "The two do not differ.";
    }
  };
  first.addEventListener("change", compare);
  second.addEventListener("change", compare);
  compare();
}

// Maps: a picture beside the pointer, and the other images of its class.
const hint = document.getElementById("hint");
for (const map of document.querySelectorAll("svg.map")) {
  const names = JSON.parse(map.dataset.names);
  const side = Number(map.dataset.side), columns = Number(map.dataset.columns);
  const like = map.getElementsByClassName("like");
  const leave = () => {
    hint.hidden = true;
    map.classList.remove("pointing");
    for (const point of Array.from(like)) point.classList.remove("like");
  };
  map.addEventListener("pointerover", event => {
    const point = event.target.closest("path[data-i]");
    leave();
    if (!point) return;
    const { i, c } = point.dataset;
    for (const other of map.querySelectorAll(`path[data-c="${c}"]`)) other.classList.add("like");
    map.classList.add("pointing");
    const picture = hint.querySelector("i");
    picture.className = map.dataset.sheet;
    picture.style.cssText = `width:${side}px;height:${side}px;zoom:2;background-position:` +
      `${-(i % columns) * side}px ${-Math.floor(i / columns) * side}px`;
    hint.querySelector("span").textContent = names[c] + (point.classList.contains("wrong") ? " ✗ nearest is another class" : "");
    hint.hidden = false;
    const box = hint.getBoundingClientRect();
    hint.style.left = `${Math.min(event.clientX + 12, innerWidth - box.width - 6)}px`;
    hint.style.top = `${Math.min(event.clientY + 12, innerHeight - box.height - 6)}px`;
  });
  map.addEventListener("pointerleave", leave);
  map.closest("figure").querySelector(".only-wrong").addEventListener("change", event =>
    map.classList.toggle("wrong-only", event.target.checked));
}
