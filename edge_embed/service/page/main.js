// The page: what is typed or chosen becomes the state, the state becomes a request, the answer is drawn.

import { prepareAdding } from "./adding.js";
import { bytes, count, element, find, grouped, milliseconds, plain } from "./elements.js";
import { canFilter, changed, drawActive, drawFilters, filterOf } from "./filters.js";
import { drawHits, moveThroughHits, titleOf } from "./hits.js";
import { onDrop } from "./dropping.js";
import { openDocument, prepareReader } from "./reader.js";
import { drawSample, forget, named, prepareSamples, sampleOf, searchable, searchBy } from "./sample.js";
import { ask } from "./service.js";
import * as address from "./state.js";
import { drawOffer, drawWelcome } from "./welcome.js";

const PAUSE = 120; // ms without a key before a search is sent
const PAGE = 10;
const MOST = 100;
const KINDS = { "": "All", text: "Texts", image: "Pictures", audio: "Sounds" };
const MODES = { hybrid: "Both", vector: "Meaning", text: "Words", sparse: "Sparse", multi: "Multi-vector" };

let info = null;
let state = address.read();
let shown = PAGE;
let sample = null; // a picture or a sound that is searched by
let running = null;
let timer = 0;
const titles = new Map(); // of documents seen, by key

// --- asking

function change(part, { keep = true, wait = 0 } = {}) {
  state = { ...state, ...part };
  shown = PAGE;
  address.save(state, keep);
  clearTimeout(timer);
  document.body.setAttribute("aria-busy", "true");
  timer = setTimeout(refresh, wait);
}

// Ask for what the state says. A newer call ends an older one, whose answer is then never drawn.
async function refresh() {
  clearTimeout(timer);
  running?.abort();
  const mine = new AbortController();
  running = mine;
  drawSettings();
  document.body.setAttribute("aria-busy", "true");
  const started = performance.now();
  try {
    const answer = await request(mine.signal);
    if (running === mine) draw(answer, performance.now() - started);
  } catch (error) {
    if (running !== mine || error.name === "AbortError") return;
    find("#hits").replaceChildren(); // they answered another question
    find("#more").hidden = true;
    drawProblem(error);
  } finally {
    if (running === mine) document.body.removeAttribute("aria-busy");
  }
}

async function request(signal) {
  const where = address.where(state.filters);
  const query = state.q.trim();
  if (isBrowsing()) {
    const body = { where, limit: shown, start: 0, end: 1000 };
    const { documents, total, ...answer } = await ask("index/find", { body, signal });
    return { ...answer, hits: documents, total, browsing: true };
  }
  const body = { k: Math.min(shown, info.limits.hits), where, marks: true };
  if (query) body.query = query;
  if (state.like.length) body.like = state.like;
  const mode = modeAsked();
  const alone = !state.like.length && !sample;
  if (query && (alone || ["vector", "hybrid"].includes(mode))) body.mode = mode; // what examples can be joined with
  if (kindAsked()) body.kind = kindAsked();
  if (query && state.rerank && info.rerank) body.rerank = true;
  return sample ? searchBy(sample, body, signal) : ask("index/search", { body, signal });
}

// An index of vectors from elsewhere, for example, can only be searched by words.
const modeAsked = () => (info.modes.includes(state.mode) ? state.mode : info.modes[0]);

const isBrowsing = () => !state.q.trim() && !state.like.length && !sample;

// Kinds of documents that the index has, where there are several.
const kindsHere = () => Object.keys(info.kinds ?? {}).filter((kind) => info.kinds[kind] > 0);
const kindAsked = () => (kindsHere().length > 1 && kindsHere().includes(state.kind) ? state.kind : "");

// Search by one of these files.
async function use(files) {
  try {
    const found = await sampleOf(searchable(files, info.takes) ?? files[0], info);
    forget(sample);
    sample = found;
  } catch (error) {
    drawProblem(error);
    return;
  }
  shown = PAGE;
  await refresh();
}

function dropSample() {
  forget(sample);
  sample = null;
  find("#query").focus();
  refresh();
}

// --- drawing

function draw(answer, milli) {
  find("#problem").hidden = true;
  for (const hit of answer.hits) titles.set(hit.key, titleOf(hit));
  drawHits(answer.hits, state, {
    open: (hit) => openDocument(hit).catch(drawProblem),
    like: info.dim ? showLike : null,
    canFilter,
    filter: (name, value) => addFilter(name, value),
  });
  find("#status").textContent = said(answer);
  const more = answer.browsing ? answer.total > answer.hits.length : answer.hits.length === shown;
  find("#more").hidden = !more || shown >= Math.min(MOST, info.limits.hits);
  const empty = answer.browsing && info.documents === 0;
  drawWelcome(empty ? info : null);
  drawTiming(answer, milli);
}

function said({ hits, total, damaged, browsing }) {
  const filtered = Object.keys(state.filters).length > 0;
  if (browsing) {
    if (info.documents === 0) return "The index is empty.";
    if (!hits.length) return "No document fits these filters.";
    return `${count(total, "document")}${filtered ? " with these filters" : ""}`;
  }
  const left = damaged ? ` ${count(damaged, "damaged passage")} of the index cannot be found.` : "";
  if (hits.length) return count(hits.length, "hit") + left;
  const words = modeAsked() === "text" ? " No document has a word of your query." : "";
  return `Nothing found.${words}${filtered ? " Try it without a filter." : ""}${left}`;
}

function drawTiming({ seconds, memory_bytes: memory }, milli) {
  find("#timing").textContent = `${milliseconds(seconds * 1000)} in the service, ${milliseconds(milli)} in all`;
  info.memory_bytes = memory ?? info.memory_bytes;
  drawAbout();
}

function drawProblem(error) {
  if (error.name === "AbortError") return;
  const problem = find("#problem");
  problem.hidden = false;
  problem.replaceChildren(element("p", {}, plain(error.message, 600)));
  problem.append(element("button", { type: "button", onclick: start }, "Try again"));
  find("#status").textContent = "";
}

function drawSettings() {
  for (const box of document.querySelectorAll("#modes input")) {
    box.checked = box.value === modeAsked();
  }
  find("#kinds").hidden = kindsHere().length < 2 || isBrowsing(); // a list of documents has all of them
  for (const box of document.querySelectorAll("#kinds input")) box.checked = box.value === kindAsked();
  drawSample(sample, dropSample);
  find("#rerank").checked = state.rerank;
  const query = find("#query");
  if (document.activeElement !== query) query.value = state.q;
  drawFilters(info.fields, state, (filters) => change({ filters }));
  drawActive(state, (key) => titles.get(key) ?? key, (part) => change(part));
  document.title = state.q ? `${plain(state.q, 60)} · edge_embed` : "Search · edge_embed";
}

function showLike(hit) {
  change({ like: [hit.key], q: "" });
  find("#results").focus({ preventScroll: true }); // the button goes away with its hit
  scrollTo(0, 0);
}

function addFilter(name, value) {
  const filter = filterOf(state.filters, name);
  change({ filters: changed(state.filters, name, { ...filter, in: [value] }) });
}

// --- what the index is

async function start() {
  find("#problem").hidden = true;
  try {
    info = { fields: [], ...await ask("index?fields=false") };
  } catch (error) {
    if (error.code === "no_index") drawOffer().catch(drawProblem);
    else drawProblem(error);
    return;
  }
  drawIndex();
  await Promise.all([refresh(), loadFields()]);
}

// What filters are made of; it takes seconds in a very large index.
async function loadFields() {
  try {
    info = await ask("index");
    drawAbout();
    drawSettings();
  } catch (error) {
    drawProblem(error);
  }
}

function drawIndex() {
  const query = find("#query");
  query.disabled = false;
  query.value = state.q;
  find("#side").hidden = false;
  find("#modes").hidden = info.modes.length < 2;
  find("#modes .segments").replaceChildren(...info.modes.map((mode) => element("label", {},
    element("input", { type: "radio", name: "mode", value: mode, onchange: () => change({ mode }) }),
    element("span", {}, MODES[mode] ?? mode))));
  drawKinds();
  find("#rerank-switch").hidden = !info.rerank;
  drawAbout();
  if (info.takes?.length && find("#by-file").hidden) {
    prepareSamples(info.takes, use);
    onDrop("search", use);
  }
  if (info.writable && find("#add").hidden) prepareAdding(info.limits, reload);
  const wide = matchMedia("(min-width: 52rem)").matches;
  find("#filters").open = wide;
  if (wide) query.focus();
}

function drawKinds() {
  const kinds = kindsHere();
  find("#kinds .segments").replaceChildren(...["", ...kinds].map((kind) => element("label", {},
    element("input", { type: "radio", name: "kind", value: kind, onchange: () => change({ kind }) }),
    element("span", {}, KINDS[kind]))));
}

function drawAbout() {
  const kinds = kindsHere().filter((kind) => kind !== "text");
  const rows = {
    documents: grouped(info.documents),
    ...Object.fromEntries(kinds.map((kind) => [`${named(kind)}s`, grouped(info.kinds[kind])])),
    passages: grouped(info.passages), "on disk": bytes(info.bytes),
    "made by": `${info.bundle}, ${info.dim} numbers`, words: info.words,
    fields: info.fields.map((field) => field.name).join(", ") || "none", memory: bytes(info.memory_bytes),
  };
  find("#about dl").replaceChildren(...Object.entries(rows).flatMap(([name, value]) => [
    element("dt", {}, name), element("dd", {}, element("bdi", {}, plain(value, 300))),
  ]));
}

// Something was added.
async function reload() {
  info = { ...info, ...await ask("index?fields=false") };
  drawKinds();
  await Promise.all([refresh(), loadFields()]);
}

// --- events

function prepareQuery() {
  const query = find("#query");
  let composing = false;
  let begun = false; // whether a step was kept for what is being typed; further letters replace it
  const typed = () => {
    change({ q: query.value }, { keep: !begun, wait: PAUSE });
    begun = true;
  };
  query.addEventListener("compositionstart", () => { composing = true; });
  query.addEventListener("compositionend", () => { composing = false; typed(); });
  query.addEventListener("input", () => { if (!composing) typed(); });
  query.addEventListener("focus", () => { begun = false; });
  query.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    change({ q: query.value });
    begun = false;
  });
}

function keys(event) {
  const query = find("#query");
  const inDialog = find("dialog[open]") !== null;
  if (inDialog || event.isComposing) return;
  const typing = ["INPUT", "TEXTAREA"].includes(document.activeElement.tagName)
    && !["checkbox", "radio"].includes(document.activeElement.type);
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    query.focus();
    query.select();
  } else if (event.key === "Escape") {
    if (document.activeElement === query && query.value) {
      query.value = "";
      change({ q: "" }, { keep: false });
    } else {
      query.focus();
    }
    event.preventDefault();
  } else {
    moveThroughHits(event);
  }
}

function moved() {
  if (info === null) return;
  state = address.read();
  shown = PAGE;
  find("#query").value = state.q;
  refresh();
}

prepareQuery();
prepareReader();
document.addEventListener("keydown", keys);
window.addEventListener("popstate", moved);
find("#rerank").addEventListener("change", (event) => change({ rerank: event.target.checked }));
find("#more").addEventListener("click", () => {
  shown = Math.min(shown * 2, MOST);
  refresh();
});
start();
