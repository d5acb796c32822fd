// Elements and texts. Everything that comes from the index goes through textContent, never through HTML.

// element("p", {class: "note", title: "x"}, "text", child) -> <p class="note" title="x">text<child></p>
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

export const find = (selector, root = document) => root.querySelector(selector);

// Control characters, and those that turn the direction of what follows, as U+FFFD: one for one, so that places in
// the text stay right.
export function visible(text) {
  return text.replace(/[\u0000-\u0008\u000b-\u000c\u000e-\u001f\u007f-\u009f\u202d\u202e]/g, "\ufffd");
}

// A text in which ranges are marked. Ranges count characters as Python does; JavaScript counts UTF-16 units.
export function marked(text, ranges, first = 0, last = Infinity) {
  const characters = Array.from(text);
  const parts = document.createDocumentFragment();
  const end = Math.min(last, characters.length);
  const piece = (from, to) => visible(characters.slice(from, to).join(""));
  let place = first;
  for (const [from, to] of ranges) {
    const start = Math.max(from, place);
    const stop = Math.min(to, end);
    if (start >= stop) continue;
    parts.append(piece(place, start), element("mark", {}, piece(start, stop)));
    place = stop;
  }
  parts.append(piece(place, end));
  return parts;
}

// Where to show a long passage: about `size` characters around the part with the most marks, cut between words.
export function excerpt(text, ranges, size) {
  const characters = Array.from(text);
  if (characters.length <= size * 1.25) return [0, characters.length];
  let best = 0;
  let most = 0;
  for (const [start] of ranges) {
    const inside = ranges.filter(([from, to]) => from >= start && to <= start + size * 0.8).length;
    if (inside > most) [best, most] = [start, inside];
  }
  const from = Math.max(0, Math.min(best - Math.round(size * 0.15), characters.length - size));
  return [border(characters, from, 0), border(characters, from + size, characters.length)];
}

// The next place behind a space, at most 40 characters on; texts without spaces are cut where they are.
function border(characters, place, edge) {
  if (place <= 0 || place >= characters.length) return edge;
  for (let next = place; next < Math.min(place + 40, characters.length); next += 1) {
    if (/\s/.test(characters[next])) return next + 1;
  }
  return place;
}

const numbers = new Intl.NumberFormat("en");
export const count = (number, one, many = `${one}s`) => `${numbers.format(number)} ${number === 1 ? one : many}`;
export const grouped = (number) => numbers.format(number);

// 1234567 -> "1.2 MB"
export function bytes(size) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let left = size;
  while (left >= 1000 && unit < units.length - 1) [left, unit] = [left / 1000, unit + 1];
  return `${unit && left < 100 ? left.toFixed(1) : Math.round(left)} ${units[unit]}`;
}

export const milliseconds = (time) => (time < 10 ? `${time.toFixed(1)} ms` : `${Math.round(time)} ms`);

// A value of metadata as text: "en" -> en, 2020 -> 2020, ["a", 1] -> a, 1, {"a": [1]} -> {"a":[1]}
export function plain(value, most = 200) {
  const list = Array.isArray(value) && value.every((member) => member === null || typeof member !== "object");
  const text = list ? value.join(", ") : typeof value === "string" ? value : JSON.stringify(value);
  const shown = Array.from(text).slice(0, most + 1);
  return visible(shown.length > most ? `${shown.slice(0, most).join("")}…` : text);
}
