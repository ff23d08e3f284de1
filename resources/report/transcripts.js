// The transcript browser: an index of all trials in memory, texts in chunks loaded when opened.
//
// What models wrote is only ever set as text (textContent), never read as HTML. All state is in the
// address (#model=...&open=...), so that a view can be sent to somebody.
"use strict";

const ROW = 58; // height of a row of the list (px), as in the style sheet
const SPARE = 6; // rows kept beyond either end of what is seen
const CHOICES = {
  attempts: { 1: "one", "2+": "two or more", "3+": "three or more", none: "none scored" },
  change: { up: "better", "up20": "better by 20 or more", same: "the same", down: "worse" },
  flag: { restart_detected: "restart phrase", degraded: "degraded", traced: "activations read" },
};

const find = (id) => document.getElementById(id);
const filters = find("filters");
const list = find("list");
const reader = find("reader");
const waiting = new Map(); // chunks on their way: number -> {resolve, reject}
const chunks = new Map(); // number -> promise of its rows

let index; // what esrIndex was given
let matches = []; // rows that pass the filters
let chosen = -1; // position in `matches`
let search = 0; // number of the latest search through texts, so that an older one stops
let heat = "detector"; // whose activations are drawn under the text
let siblings; // trials by what a replayed trial shares with the original
let names; // rows by model/arm/trial

// ---------------------------------------------------------------- data

globalThis.esrIndex = (data) => {
  index = data;
  fillChoices();
  restore();
};

globalThis.esrChunk = (number, rows) => {
  waiting.get(number)?.resolve(rows);
  waiting.delete(number);
};

function load(path) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = path;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${path} cannot be loaded`));
    document.head.append(script);
  });
}

function textOf(row) {
  const number = Math.floor(row / index.chunk);
  if (!chunks.has(number)) {
    const rows = new Promise((resolve, reject) => waiting.set(number, { resolve, reject }));
    load(`data/chunk-${number}.js`).catch((error) => waiting.get(number)?.reject(error));
    chunks.set(number, rows);
  }
  return chunks.get(number).then((rows) => rows[row % index.chunk]);
}

const value = (column, row) => index.columns[column][row];
const named = (column, row) => index.texts[column][value(column, row)] ?? "";
const nameOf = (row) => `${named("model", row)}/${named("arm", row)}/${value("id", row)}`;
const flagged = (row, flag) => (value("flags", row) & index.flags[flag]) !== 0;

function change(row) {
  const [first, last] = [value("first", row), value("last", row)];
  return first === null || last === null ? null : last - first;
}

// ---------------------------------------------------------------- filters

function fillChoices() {
  const pairs = (texts) => texts.map((text, i) => [String(i), text]);
  fill("model", pairs(index.labels));
  for (const name of ["arm", "status", "prompt"]) fill(name, pairs(index.texts[name]));
  for (const [name, choices] of Object.entries(CHOICES)) fill(name, Object.entries(choices));
  find("labels").replaceChildren(...index.texts.label.map((text) => new Option(text, text)));
}

function fill(name, choices) {
  const options = choices.map(([key, text]) => new Option(text, key));
  filters.elements[name].replaceChildren(new Option("any", ""), ...options);
}

// One test a filter that is set; each takes a row.
function tests(set) {
  const found = [];
  for (const name of ["model", "arm", "status", "prompt"]) {
    if (set[name]) found.push((row) => value(name, row) === Number(set[name]));
  }
  if (set.label) found.push(inTexts("label", set.label.toLowerCase()));
  for (const word of set.texts ? [] : set.q.toLowerCase().split(/\s+/).filter(Boolean)) {
    const [label, prompt] = [inTexts("label", word), inTexts("prompt", word)];
    const number = (row) => String(value("latent", row)) === word || String(value("seed", row)) === word;
    found.push((row) => label(row) || prompt(row) || number(row) || value("id", row) === word);
  }
  if (set.attempts) found.push(attemptsTest(set.attempts));
  if (set.change) found.push(changeTest(set.change));
  if (set.flag) found.push((row) => flagged(row, set.flag));
  return found;
}

function inTexts(column, word) {
  const hits = index.texts[column].map((text) => text.toLowerCase().includes(word));
  return (row) => hits[value(column, row)] ?? false;
}

function attemptsTest(wanted) {
  if (wanted === "none") return (row) => value("attempts", row) === null;
  const least = Number.parseInt(wanted, 10);
  if (wanted.endsWith("+")) return (row) => value("attempts", row) >= least;
  return (row) => value("attempts", row) === least;
}

function changeTest(wanted) {
  const rules = { up: (d) => d > 0, up20: (d) => d >= 20, same: (d) => d === 0, down: (d) => d < 0 };
  return (row) => change(row) !== null && rules[wanted](change(row));
}

function settings() {
  const set = [...new FormData(filters)].map(([name, text]) => [name, text.trim()]);
  return { texts: "", ...Object.fromEntries(set) };
}

function applyFilters() {
  const set = settings();
  const all = tests(set);
  const passed = [];
  for (let row = 0; row < index.count; row += 1) {
    if (all.every((test) => test(row))) passed.push(row);
  }
  search += 1;
  if (set.texts && set.q) searchTexts(passed, set.q.toLowerCase(), search);
  else show(passed);
}

// Chunk after chunk, so that the page answers meanwhile and another search can take over.
async function searchTexts(rows, words, mine) {
  const found = [];
  show([]);
  for (const [at, row] of rows.entries()) {
    const text = await textOf(row);
    if (mine !== search) return;
    if (text.response?.toLowerCase().includes(words)) found.push(row);
    if (at % index.chunk === 0) {
      find("count").textContent = `Searching … ${Math.floor((100 * at) / rows.length)} %`;
    }
  }
  show(found);
}

function show(rows) {
  matches = rows;
  const shown = matches.length.toLocaleString("en");
  find("count").textContent = `${shown} of ${index.count.toLocaleString("en")} trials`;
  find("rows").style.height = `${matches.length * ROW}px`;
  list.scrollTop = 0;
  drawList();
}

// ---------------------------------------------------------------- list: only what is seen is drawn

function drawList() {
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - SPARE);
  const count = Math.ceil(list.clientHeight / ROW) + 2 * SPARE;
  const last = Math.min(matches.length, first + count);
  const rows = [];
  for (let at = first; at < last; at += 1) rows.push(drawRow(at));
  find("rows").replaceChildren(...rows);
  if (chosen >= first && chosen < last) list.setAttribute("aria-activedescendant", `row-${chosen}`);
  else list.removeAttribute("aria-activedescendant");
}

function drawRow(at) {
  const row = matches[at];
  const item = element("div", "trial");
  item.id = `row-${at}`;
  item.style.top = `${at * ROW}px`;
  item.setAttribute("role", "option");
  item.setAttribute("aria-selected", String(at === chosen));
  item.setAttribute("aria-posinset", String(at + 1));
  item.setAttribute("aria-setsize", String(matches.length));
  item.append(
    element("span", "label", named("label", row) || latentText(row) || "no latent"),
    element("span", "scores", scoreText(row)),
    element("span", "where", [modelLabel(row), armText(row), named("prompt", row)].join(" · ")),
  );
  item.addEventListener("click", () => {
    choose(at);
    openChosen(true);
  });
  return item;
}

const modelLabel = (row) => index.labels[value("model", row)];
const latentText = (row) => (value("latent", row) === null ? "" : `latent ${value("latent", row)}`);

function armText(row) {
  const level = value("sweep_level", row);
  return named("arm", row) + (level === null ? "" : ` at ${signed(level)} sd`);
}

function scoreText(row) {
  const attempts = value("attempts", row);
  if (attempts === null) return named("status", row);
  const [first, last] = [value("first", row), value("last", row)].map(Math.round);
  return attempts === 1 ? `${first}` : `${first} → ${last} (${attempts})`;
}

function signed(number) {
  const text = String(Math.round(100 * Math.abs(number)) / 100);
  return number === 0 ? "0" : (number < 0 ? "−" : "+") + text;
}

function choose(at) {
  chosen = Math.max(0, Math.min(matches.length - 1, at));
  const top = chosen * ROW;
  if (top < list.scrollTop) list.scrollTop = top;
  if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  drawList();
}

// ---------------------------------------------------------------- one transcript, or two

function openChosen(focus = false) {
  if (chosen < 0 || matches.length === 0) return;
  open(matches[chosen], null, focus);
}

async function open(row, beside, focus) {
  document.body.classList.add("reading");
  remember({ open: nameOf(row), with: beside === null ? "" : nameOf(beside) });
  const shown = beside === null ? [row] : [row, beside];
  let texts;
  try {
    texts = await Promise.all(shown.map(textOf));
  } catch (error) {
    reader.replaceChildren(element("p", "hint", `${error.message}. Is the folder complete?`));
    return;
  }
  const pair = element("div", "pair");
  shown.forEach((each, i) => pair.append(drawTrial(each, texts[i])));
  reader.replaceChildren(drawTools(row, beside, texts), drawPrompt(row, texts[0]), pair);
  reader.scrollTop = 0;
  if (focus) reader.focus();
}

function drawTools(row, beside, texts) {
  const back = element("button", "back", "← Trials");
  back.type = "button";
  back.addEventListener("click", close);
  const choice = document.createElement("select");
  choice.name = "beside";
  choice.append(new Option("nothing", ""));
  for (const other of alike(row)) choice.append(new Option(armText(other), String(other)));
  choice.value = beside === null ? "" : String(beside);
  choice.addEventListener("change", () => {
    open(row, choice.value === "" ? null : Number(choice.value), false);
  });
  const tools = element("div", "tools");
  tools.append(back, labelled("Compare with", choice));
  if (texts.some((text) => Object.keys(text.heat).length)) {
    const kinds = document.createElement("select");
    kinds.name = "heat";
    kinds.append(new Option("off-topic detectors", "detector"));
    kinds.append(new Option("backtracking latents", "backtracking"), new Option("nothing", ""));
    kinds.value = heat;
    kinds.addEventListener("change", () => {
      heat = kinds.value;
      open(row, beside, false);
    });
    tools.append(labelled("Under the text", kinds));
  }
  return tools;
}

function labelled(text, control) {
  const label = element("label", "", `${text} `);
  label.append(control);
  return label;
}

// Trials of the same latent, prompt and seed under other conditions.
function alike(row) {
  const key = (each) => ["model", "latent", "prompt", "seed"].map((c) => value(c, each)).join(" ");
  if (!siblings) {
    siblings = new Map();
    for (let each = 0; each < index.count; each += 1) {
      const found = siblings.get(key(each));
      if (found) found.push(each);
      else siblings.set(key(each), [each]);
    }
  }
  return siblings.get(key(row)).filter((each) => each !== row);
}

function drawPrompt(row, text) {
  const head = element("header", "prompt");
  const title = element("h2", "", text.prompt);
  const latent = named("label", row);
  const about = value("latent", row) === null ? "no latent" : `${latentText(row)}${latent ? `: ${latent}` : ""}`;
  const hint = element("p", "hint", `${modelLabel(row)} · ${about} · seed ${value("seed", row)}`);
  const page = latentPage(row, text);
  if (page) hint.append(" · ", page);
  head.append(title, hint);
  return head;
}

// Link to the public page of the steered latent; nothing is loaded from there unless it is followed.
function latentPage(row, text) {
  const pages = index.pages[named("model", row)];
  if (!pages || text.directions !== null || value("latent", row) === null) return null;
  const link = element("a", "", "Neuronpedia");
  link.href = `${pages}/${value("latent", row)}`;
  link.rel = "noreferrer external";
  return link;
}

function drawTrial(row, text) {
  const article = element("article", "transcript");
  article.append(element("h3", "", armText(row)), drawFacts(row, text));
  if (text.response === null) {
    article.append(element("p", "hint", `No response: ${named("status", row)}`));
    return article;
  }
  const response = element("div", "response");
  response.append(...drawResponse(row, text));
  article.append(response);
  const strip = text.heat[heat];
  if (strip) {
    const most = index.scales[named("model", row)]?.[heat];
    const kind = heat === "detector" ? "off-topic detectors" : "backtracking latents";
    article.append(element("p", "note", `Bars: summed activation of the ${kind} at each token; a full bar is ${most} SAE units or more, as at one token in 50.`));
  }
  return article;
}

function ablation(text) {
  if (text.clamped) return `${text.ablated.length} latents, each set to an activation`;
  const share = text.strength === null ? "" : `, ${Math.round(100 * text.strength)} % of their contribution`;
  return `${text.ablated.length} latents${share}`;
}

// The beginning of a response that was given to the model, up to the first character of its own.
function continued([end, where, cut]) {
  if (end === null) return null;
  const kinds = { off_topic: "an off-topic text", correction: "a correction", on_topic: "an on-topic text" };
  const asked = cut === null ? "" : ` of at most ${cut}`;
  return `${kinds[where] ?? "a text"}: ${end}${asked} characters, in grey`;
}

// Tokens are counted from the first one of the response.
function steeredTokens([start, stop]) {
  if (start === null && stop === null) return null;
  const from = start === null ? "the first of the prompt" : start;
  return stop === null ? `from ${from} on` : `from ${from} until before ${stop}`;
}

function drawFacts(row, text) {
  const difference = change(row);
  const facts = [
    ["status", named("status", row)],
    ["attempts", value("attempts", row)],
    ["score change", difference === null ? null : signed(difference)],
    ["boost", value("boost", row)],
    ["along", text.directions === null ? null : `the set ${text.directions}`],
    ["ablated", text.ablated.length ? ablation(text) : null],
    ["steered tokens", steeredTokens(text.window)],
    ["steered layers", text.layers.length ? text.layers.join(", ") : null],
    ["continues", continued(text.prefix)],
    ["meta-prompt", text.meta],
    ["begun for it", text.prefill || null],
    ["ended by", text.finish],
    ["degraded", flagged(row, "degraded") ? "yes" : null],
  ];
  const box = element("dl", "about");
  for (const [name, said] of facts) {
    if (said === null || said === "") continue;
    const fact = element("div", "");
    fact.append(element("dt", "", name), element("dd", "", String(said)));
    box.append(fact);
  }
  return box;
}

// The response as blocks: attempts with their scores, and whatever lies between them.
function drawResponse(row, text) {
  const letters = Array.from(text.response); // offsets count characters, not UTF-16 units
  const blocks = [];
  let at = 0;
  const cut = (from, to) => drawText(row, text, letters, from, to);
  text.attempts.forEach(([start, end, score], i) => {
    const points = score === null ? "no score" : `${Math.round(score)} points`;
    const given = start !== null && text.prefix[0] !== null && start < text.prefix[0];
    const tag = `Attempt ${i + 1} · ${points}${given ? " · begins in the given text" : ""}`;
    if (start === null || end === null) {
      blocks.push(element("p", "note", `${tag}: not located in the response`));
      return;
    }
    const from = Math.max(start, at);
    if (letters.slice(at, from).join("").trim()) blocks.push(wrap("gap", cut(at, from)));
    const block = wrap(`attempt ${grade(score)}`, cut(from, end));
    block.prepend(element("p", "tag", tag));
    blocks.push(block);
    at = Math.max(at, end);
  });
  if (letters.slice(at).join("").trim()) blocks.push(wrap("gap", cut(at, letters.length)));
  return blocks;
}

function grade(score) {
  if (score === null) return "unscored";
  return score < 34 ? "low" : score < 67 ? "middle" : "high";
}

// Characters from..to as spans, cut wherever a restart phrase, a token or the prefix begins or ends.
function drawText(row, text, letters, from, to) {
  const tokens = text.heat[heat] ?? [];
  const most = index.scales[named("model", row)]?.[heat] || 1;
  const ends = [...text.restarts, ...tokens].flatMap(([start, end]) => [start, end]);
  const given = text.prefix[0] ?? 0;
  ends.push(given);
  const cuts = [...new Set([from, to, ...ends.filter((at) => at > from && at < to)])];
  cuts.sort((a, b) => a - b);
  return cuts.slice(0, -1).map((start, i) => {
    const inside = ([first, last]) => first <= start && start < last;
    const node = element(text.restarts.some(inside) ? "mark" : "span", "", "");
    node.textContent = letters.slice(start, cuts[i + 1]).join("");
    if (start < given) node.classList.add("given");
    else if (start === given && given > 0) node.classList.add("own");
    const token = tokens.find(inside);
    if (token) {
      node.classList.add("token");
      node.style.setProperty("--heat", String(Math.min(1, Math.max(0, token[2] / most)).toFixed(3)));
      node.title = `${token[2]} SAE units`;
    }
    return node;
  });
}

function wrap(className, nodes) {
  const block = element("div", className);
  const body = element("div", "words");
  body.append(...nodes);
  block.append(body);
  return block;
}

function element(tag, className, text = "") {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

function close() {
  document.body.classList.remove("reading");
  remember({ open: "", with: "" });
  drawList();
  list.focus();
}

// ---------------------------------------------------------------- address

function remember(more) {
  const state = new URLSearchParams(location.hash.slice(1));
  for (const [name, set] of Object.entries({ ...settings(), ...more })) {
    if (set) state.set(name, symbolic(name, set));
    else state.delete(name);
  }
  history.replaceState(null, "", `#${state}`);
}

// In the address a model, arm, prompt or status is its text: numbers change between reports.
function symbolic(name, set) {
  return index.texts[name] && name !== "label" ? index.texts[name][Number(set)] : set;
}

function restore() {
  const state = new URLSearchParams(location.hash.slice(1));
  for (const control of filters.elements) {
    if (!control.name) continue;
    const set = state.get(control.name) ?? "";
    if (control.type === "checkbox") {
      control.checked = set !== "";
      continue;
    }
    const known = index.texts[control.name];
    const code = known && control.name !== "label" ? known.indexOf(set) : -1;
    control.value = code >= 0 ? String(code) : known && control.name !== "label" ? "" : set;
  }
  applyFilters();
  const [row, beside] = ["open", "with"].map((name) => byName(state.get(name)));
  if (row === null) return;
  chosen = matches.indexOf(row);
  if (chosen >= 0) choose(chosen);
  open(row, beside, false);
}

function byName(name) {
  if (!name) return null;
  if (!names) {
    names = new Map();
    for (let row = 0; row < index.count; row += 1) names.set(nameOf(row), row);
  }
  return names.get(name) ?? null;
}

// ---------------------------------------------------------------- keyboard and other events

const MOVES = {
  ArrowDown: () => chosen + 1,
  ArrowUp: () => chosen - 1,
  PageDown: () => chosen + Math.floor(list.clientHeight / ROW),
  PageUp: () => chosen - Math.floor(list.clientHeight / ROW),
  Home: () => 0,
  End: () => matches.length - 1,
};

list.addEventListener("keydown", (event) => {
  if (matches.length === 0) return;
  if (event.key in MOVES) {
    event.preventDefault();
    choose(MOVES[event.key]());
    if (matchMedia("(min-width: 56rem)").matches) openChosen();
  } else if (event.key === "Enter") {
    event.preventDefault();
    if (chosen < 0) choose(0);
    openChosen(true);
  }
});

list.addEventListener("scroll", drawList, { passive: true });
new ResizeObserver(() => index && drawList()).observe(list);

filters.addEventListener("input", () => {
  chosen = -1;
  applyFilters();
  remember({});
});
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.tagName === "INPUT") list.focus();
});
filters.addEventListener("reset", () => setTimeout(() => filters.dispatchEvent(new Event("input"))));

document.addEventListener("keydown", (event) => {
  const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(document.activeElement?.tagName ?? "");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    filters.elements.q.focus();
  } else if (event.key === "Escape") {
    if (reader.contains(document.activeElement)) close();
    else list.focus();
  }
});

addEventListener("hashchange", restore);
load("data/index.js").catch((error) => {
  find("count").textContent = `${error.message}. Is the folder complete?`;
});
