"use strict";
// One response at a time. Labels are kept in the browser, and saved as the CSV of the sheet.

const sheet = JSON.parse(document.getElementById("sheet").textContent);
const element = (id) => document.getElementById(id);
const KEY = `label-sheet-${sheet.id}`;
const QUOTED = 5; // words that say how an attempt begins, more if they are there before
const labels = new Map(Object.entries(recall()));
let at = 0;
let starts = []; // first characters of the words of the response
let sentences = []; // those that begin a sentence or a line
let cursor = -1; // index in `sentences`

function recall() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) || {};
  } catch {
    return {};
  }
}

function keep() {
  try {
    localStorage.setItem(KEY, JSON.stringify(Object.fromEntries(labels)));
  } catch {
    element("problem").textContent = "This browser keeps no labels: save the CSV before you close the page.";
  }
}

function label(row = sheet.rows[at].row) {
  if (!labels.has(row)) labels.set(row, { none: false, marks: [], scores: [""], remark: "" });
  return labels.get(row);
}

// A whole or decimal number from 0 to 100
const isScore = (text) => /^\d{1,3}(\.\d+)?$/.test(text) && Number(text) <= 100;
const isDone = (one) => one !== undefined && (one.none || one.scores.every(isScore));
function done() {
  return sheet.rows.filter(({ row }) => isDone(labels.get(row))).length;
}

const begun = { time: Date.now(), done: done() };

// The response

function show() {
  const { prompt, response } = sheet.rows[at];
  element("place").textContent = `Response ${at + 1} of ${sheet.rows.length}`;
  element("prompt").textContent = prompt;
  starts = [...response.matchAll(/\S+/g)].map((word) => word.index);
  sentences = starts.filter((start, i) => i > 0 && /[.!?…:]["'”’)\]*]*\s+$|\n\s*$/.test(response.slice(0, start)));
  cursor = -1;
  draw();
  window.scrollTo(0, 0);
}

function draw() {
  const { response } = sheet.rows[at];
  const { marks } = label();
  const box = element("response");
  box.replaceChildren();
  let end = 0;
  for (const word of response.matchAll(/\S+/g)) {
    box.append(response.slice(end, word.index));
    const span = document.createElement("span");
    span.textContent = word[0];
    span.dataset.at = word.index;
    const attempt = marks.indexOf(word.index);
    if (attempt >= 0) {
      span.className = "begin";
      span.dataset.attempt = attempt + 2;
    } else if (marks.some((mark) => mark < word.index)) {
      span.className = "later";
    }
    span.classList.toggle("cursor", word.index === sentences[cursor]);
    box.append(span);
    end = word.index + word[0].length;
  }
  box.append(response.slice(end));
  drawForm();
}

function drawForm() {
  const one = label();
  const rows = one.scores.map((score, i) => {
    const row = document.createElement("div");
    row.className = "attempt";
    const name = document.createElement("label");
    name.textContent = `Attempt ${i + 1}`;
    name.htmlFor = `score_${i + 1}`;
    const input = document.createElement("input");
    Object.assign(input, { id: name.htmlFor, type: "text", inputMode: "decimal", value: score, disabled: one.none });
    input.className = "score";
    input.addEventListener("input", () => enter(i, input));
    row.append(name, input);
    if (i > 0) {
      const quote = document.createElement("q");
      quote.textContent = opening(one.marks[i - 1]);
      const remove = document.createElement("button");
      Object.assign(remove, { type: "button", textContent: "Remove" });
      remove.addEventListener("click", () => toggle(one.marks[i - 1]));
      row.append(quote, remove);
    }
    return row;
  });
  element("attempts").replaceChildren(...rows);
  element("none").checked = one.none;
  element("remark").value = one.remark;
  element("problem").textContent = "";
  focus();
  count();
}

function focus() {
  const fields = [...document.querySelectorAll(".score")];
  (fields.find((field) => !isScore(field.value)) || fields[0]).focus({ preventScroll: true });
}

function count() {
  const number = done();
  const hours = (Date.now() - begun.time) / 3.6e6;
  const pace = number - begun.done >= 5 ? `, ${Math.round((number - begun.done) / hours)} an hour` : "";
  element("count").textContent = `${number} of ${sheet.rows.length} labelled${pace}`;
  Object.assign(element("progress"), { max: sheet.rows.length, value: number });
}

// Labels

function enter(i, input) {
  input.value = input.value.replace(/[^\d.]/g, "").slice(0, 6);
  label().scores[i] = input.value;
  keep();
  count();
}

// First words of an attempt: as many as it takes for the text to be found where it was marked.
function opening(mark) {
  const { response } = sheet.rows[at];
  const before = Math.max(0, ...label().marks.filter((other) => other < mark));
  const words = starts.filter((start) => start >= mark);
  for (let n = QUOTED; n < words.length; n += 1) {
    const text = response.slice(mark, words[n]).trimEnd();
    if (response.indexOf(text, before) === mark) return text;
  }
  return response.slice(mark).trimEnd();
}

function toggle(mark) {
  const one = label();
  if (mark === starts[0] || mark === undefined) return;
  const found = one.marks.indexOf(mark);
  if (found >= 0) {
    one.marks.splice(found, 1);
    one.scores.splice(found + 1, 1);
  } else if (one.marks.length + 1 === sheet.most) {
    element("problem").textContent = `The sheet has room for ${sheet.most} attempts.`;
    return;
  } else {
    one.none = false;
    one.marks = [...one.marks, mark].sort((a, b) => a - b);
    one.scores.splice(one.marks.indexOf(mark) + 1, 0, "");
  }
  keep();
  draw();
}

function setNone(none) {
  const one = label();
  Object.assign(one, { none, marks: [], scores: none ? [""] : one.scores.slice(0, 1) });
  keep();
  draw();
}

function go(to) {
  at = Math.min(Math.max(to, 0), sheet.rows.length - 1);
  show();
}

function goOn() {
  const fields = [...document.querySelectorAll(".score")];
  const wrong = fields.find((field) => !label().none && !isScore(field.value));
  if (wrong !== undefined) {
    wrong.focus();
    element("problem").textContent = "Give points from 0 to 100.";
    return;
  }
  if (at + 1 < sheet.rows.length) go(at + 1);
  else element("problem").textContent = "This is the last response. Save the CSV.";
}

function move(step) {
  if (sentences.length === 0) return;
  cursor = Math.min(Math.max(cursor + step, 0), sentences.length - 1);
  draw();
  document.querySelector(".cursor").scrollIntoView({ block: "nearest" });
}

// The CSV: columns and texts of the sheet unchanged, every cell quoted

function csv() {
  const lines = [sheet.columns];
  for (const { row, prompt, response } of sheet.rows) {
    const cells = Object.fromEntries(sheet.columns.map((name) => [name, ""]));
    Object.assign(cells, { row, prompt, response });
    const one = labels.get(row);
    if (one !== undefined) {
      cells.remark = one.remark;
      if (one.none) cells.score_1 = "none";
      else if (isDone(one)) {
        at = sheet.rows.findIndex((other) => other.row === row);
        starts = [...response.matchAll(/\S+/g)].map((word) => word.index);
        one.scores.forEach((score, i) => (cells[`score_${i + 1}`] = score));
        one.marks.forEach((mark, i) => (cells[`begins_${i + 2}`] = opening(mark)));
      }
    }
    lines.push(sheet.columns.map((name) => cells[name]));
  }
  return lines.map((line) => line.map((cell) => `"${cell.replaceAll('"', '""')}"`).join(",") + "\n").join("");
}

function save() {
  const here = at;
  const text = csv();
  go(here);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = "labels.csv";
  link.click();
  URL.revokeObjectURL(link.href);
}

// Events

element("response").addEventListener("click", (event) => {
  const word = event.target.closest("span");
  if (word) toggle(Number(word.dataset.at));
});
element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  goOn();
});
element("none").addEventListener("change", (event) => setNone(event.target.checked));
element("remark").addEventListener("input", (event) => {
  label().remark = event.target.value;
  keep();
});
element("previous").addEventListener("click", () => go(at - 1));
element("open").addEventListener("click", () => {
  const open = sheet.rows.findIndex(({ row }) => !isDone(labels.get(row)));
  go(open < 0 ? at : open);
});
element("save").addEventListener("click", save);

const KEYS = {
  ArrowLeft: () => go(at - 1),
  ArrowRight: () => go(at + 1),
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  " ": () => toggle(sentences[cursor]),
  n: () => setNone(!label().none),
  u: () => toggle(label().marks.at(-1)),
  r: () => element("remark").focus(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const inRemark = event.target === element("remark");
  if (inRemark && event.key === "Escape") focus();
  const free = !inRemark && !(event.key === " " && event.target.matches("button, summary, [type=checkbox]"));
  if (free && event.key in KEYS) {
    event.preventDefault();
    KEYS[event.key]();
  }
});

const first = sheet.rows.findIndex(({ row }) => !isDone(labels.get(row)));
if (sheet.rows.length > 0) go(first < 0 ? 0 : first);
else element("place").textContent = "The sheet is empty.";
