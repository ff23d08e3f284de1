// A click on a column's head (or Enter on it) sorts a table by it; numbers as numbers. Tables of more
// than a few rows have a search box: rows with all of its words stay. A link to a row opens the
// disclosure that it lies in.
"use strict";

const SEARCHED = 10; // rows from which on a table has a search box

for (const table of document.querySelectorAll("table.data")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const body = table.tBodies[0];
      const keyed = [...body.rows].map((row) => [key(row.cells[column].textContent), row]);
      keyed.sort(([a], [b]) => (falling ? -1 : 1) * compare(a, b));
      body.append(...keyed.map(([, row]) => row));
    });
  });
}

for (const table of document.querySelectorAll("table.data")) {
  const rows = [...table.tBodies[0].rows];
  if (rows.length < SEARCHED) continue;
  const box = document.createElement("input");
  const count = document.createElement("output");
  box.type = "search";
  box.placeholder = "words or numbers in a row";
  box.setAttribute("aria-label", `Search in ${table.parentElement.getAttribute("aria-label")}`);
  const texts = rows.map((row) => [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase());
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((row, i) => (row.hidden = !words.every((word) => texts[i].includes(word))));
    count.textContent = words.length ? `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows` : "";
  });
  const line = document.createElement("p");
  line.className = "find";
  line.append(box, " ", count);
  table.parentElement.before(line);
}

function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const closed = target?.closest("details:not([open])");
  if (!closed) return;
  closed.open = true;
  target.scrollIntoView();
}

addEventListener("hashchange", reveal);
reveal();

function key(text) {
  const number = Number.parseFloat(text.replaceAll(",", ""));
  return Number.isNaN(number) ? text : number;
}

function compare(a, b) {
  if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
  return typeof a === "number" ? -1 : 1;
}
