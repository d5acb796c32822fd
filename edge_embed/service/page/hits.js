// The list of hits.

import { named } from "./sample.js";
import { element, excerpt, find, grouped, marked, plain } from "./elements.js";

// Characters of a passage, about six lines.
const passageLength = () => (matchMedia("(max-width: 52rem)").matches ? 280 : 480);
const FIELDS = 6;

// A title of its own, or the key.
export function titleOf(hit) {
  const { title } = hit.metadata;
  return typeof title === "string" && title.trim() ? title : hit.key;
}

// hits: of a search, or documents of a list, which have no score. actions: {open, like, filter}
export function drawHits(hits, asked, actions) {
  find("#hits").replaceChildren(...hits.map((hit) => element("li", { class: "hit" }, drawHit(hit, asked, actions))));
}

function drawHit(hit, asked, actions) {
  const title = titleOf(hit);
  const open = element("button", { type: "button", class: "open", onclick: () => actions.open(hit) },
    element("bdi", {}, plain(title, 160)));
  const foot = element("div", { class: "foot" }, ...fields(hit, actions));
  if (actions.like) {
    foot.append(element("button", {
      type: "button", class: "plain like", "aria-label": `More like ${plain(title, 80)}`, onclick: () => actions.like(hit),
    }, "More like this"));
  }
  const words = element("article", {}, element("h2", {}, open), place(hit, title, asked), passage(hit), foot);
  const picture = shown(hit);
  return picture ? element("div", { class: "with-picture" }, picture, words) : words;
}

// The small copy of a picture, or a sign of a sound. A picture without a copy shows nothing.
export function shown(hit) {
  if (hit.kind === "audio") return element("div", { class: "small sound", role: "img", "aria-label": "Sound" }, "♪");
  if (hit.kind !== "image") return null;
  const box = element("div", { class: "small" });
  const said = hit.text.trim() ? plain(hit.text.trim(), 200) : plain(titleOf(hit), 160);
  box.append(element("img", {
    src: `index/thumbnail?key=${encodeURIComponent(hit.key)}`, alt: said, loading: "lazy", decoding: "async",
    onerror: () => box.remove(),
  }));
  return box;
}

// Where the passage lies: its place, the key where the title is another, characters, score. A passage without any word
// of the query says that it was found by its meaning.
function place(hit, title, asked) {
  const parts = [];
  const inside = hit.place === title ? "" : hit.place?.replace(`${title} > `, ""); // headings begin with the title
  if (inside) parts.push(element("strong", {}, element("bdi", {}, plain(inside, 160))));
  if (title !== hit.key) parts.push(element("bdi", {}, plain(hit.key, 120)));
  if (hit.start > 0 || hit.end < hit.characters) parts.push(`characters ${grouped(hit.start)} to ${grouped(hit.end)}`);
  if (hit.score !== undefined) parts.push(element("span", { class: "score" }, `score ${hit.score.toPrecision(3)}`));
  if (hit.kind === "image" || hit.kind === "audio") parts.push(named(hit.kind));
  if (asked.q && hit.marks?.length === 0 && hit.text) {
    parts.push(element("span", { class: "note", title: "It has none of your words, but for very common ones." }, "found by meaning"));
  }
  const line = element("p", { class: "place" });
  parts.forEach((part, number) => line.append(...(number ? [" · ", part] : [part])));
  return parts.length ? line : null;
}

function passage(hit) {
  if (!hit.text) return null; // a picture or a sound without a caption
  const marks = hit.marks ?? [];
  const length = Array.from(hit.text).length;
  const [from, to] = excerpt(hit.text, marks, passageLength());
  const more = hit.score === undefined && hit.characters > hit.end;
  const text = element("p", { class: "passage", dir: "auto" });
  text.append(from > 0 ? "… " : "", marked(hit.text, marks, from, to), to < length || more ? " …" : "");
  return text;
}

// The fields of a hit that fit on a line; those that can be filtered by are buttons.
function fields(hit, actions) {
  const found = Object.entries(hit.metadata).filter(([name]) => name !== "title");
  const usable = found.filter(([, value]) => value !== null && typeof value !== "object" && String(value).length <= 80);
  return usable.slice(0, FIELDS).map(([name, value]) => {
    const text = `${plain(name, 30)}: ${plain(value, 50)}`;
    if (!actions.canFilter(name)) return element("span", { class: "field" }, element("bdi", {}, text));
    return element("button", {
      type: "button", class: "field", "aria-label": `Only ${text}`, onclick: () => actions.filter(name, value),
    }, element("bdi", {}, text));
  });
}

// Up and down move through the hits; up from the first goes back to the search field.
export function moveThroughHits(event) {
  if (!["ArrowDown", "ArrowUp"].includes(event.key) || event.altKey || event.ctrlKey || event.metaKey) return;
  const query = find("#query");
  const titles = Array.from(document.querySelectorAll("#hits .open"));
  const inside = document.activeElement.closest?.(".hit");
  if (!titles.length || (!inside && document.activeElement !== query && document.activeElement !== document.body)) return;
  const now = inside ? titles.indexOf(find(".open", inside)) : -1;
  const next = now + (event.key === "ArrowDown" ? 1 : -1);
  event.preventDefault();
  if (next < 0) query.focus();
  else titles[Math.min(next, titles.length - 1)].focus();
}
