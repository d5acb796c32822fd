// Filters, made from the fields that the documents of the index have.

import { count, element, find, grouped, plain } from "./elements.js";

const SHOWN = 6;

export const filterOf = (filters, field) => (Object.hasOwn(filters, field) ? filters[field] : {});

// The filters with one changed; a filter without a condition is left out.
export function changed(filters, field, filter) {
  const others = Object.entries(filters).filter(([name]) => name !== field);
  const empty = !filter.in?.length && filter.min === undefined && filter.max === undefined && !filter.has;
  return Object.fromEntries(empty ? others : [...others, [field, filter]]);
}

// Names of "$" and a letter are operators of `where`.
export const canFilter = (name) => !/^\$[A-Za-z]/.test(name);

// A field with a value of its own for each document, as titles are.
const isUnique = (field) => field.more || field.values.length > field.documents / 2;

let drawn = "";
const unfolded = new Set(); // fields of which all values are shown

// Draw the fields. change(filters): what to do with changed filters
export function drawFilters(fields, state, change) {
  const now = JSON.stringify([fields, state.filters]);
  if (now === drawn) return;
  drawn = now;
  const focused = document.activeElement?.dataset.control;
  const before = new Map(Array.from(document.querySelectorAll("#fields details"), (part) => [part.dataset.field, part.open]));
  const usable = fields.filter((field) => field.values.length > 0 && canFilter(field.name));
  usable.sort((one, other) => isUnique(one) - isUnique(other));
  find("#filters").hidden = usable.length === 0;
  find("#fields").replaceChildren(...usable.map((field, place) => {
    const used = Object.hasOwn(state.filters, field.name);
    const isOpen = before.get(field.name) ?? (used || (place < 3 && !isUnique(field)));
    const set = (filter) => change(changed(state.filters, field.name, filter));
    return element("details", { "data-field": field.name, open: isOpen },
      element("summary", { "data-control": `${field.name} summary` }, element("bdi", {}, plain(field.name, 40))),
      element("fieldset", {}, element("legend", { class: "hidden" }, plain(field.name, 40)),
        ...inputs(field, filterOf(state.filters, field.name), set)));
  }));
  // what had the focus was drawn again
  if (focused) find(`#fields [data-control="${CSS.escape(focused)}"]`)?.focus();
}

function inputs(field, filter, set) {
  if (field.kind === "number" && (field.more || field.values.length > SHOWN)) return [range(field, filter, set)];
  const made = [choices(field, filter, set)];
  if (field.more && field.kind !== "list") made.push(contains(field, filter, set));
  return made;
}

function choices(field, filter, set) {
  const chosen = filter.in ?? [];
  const isChosen = (value) => chosen.includes(value);
  const boxes = field.values.map(({ value, documents }) => {
    const control = `${field.name} ${JSON.stringify(value)}`;
    const box = element("input", { type: "checkbox", checked: isChosen(value), "data-control": control });
    box.addEventListener("change", () => {
      const others = chosen.filter((other) => other !== value);
      set({ ...filter, list: field.kind === "list", in: box.checked ? [...others, value] : others });
    });
    const name = value === "" ? element("i", {}, "empty") : element("bdi", {}, plain(value, 60));
    return element("label", {}, box, name, element("small", {}, grouped(documents)));
  });
  const all = unfolded.has(field.name);
  const first = boxes.filter((_, place) => all || place < SHOWN || isChosen(field.values[place].value));
  const rest = boxes.filter((box) => !first.includes(box));
  const list = element("div", { class: "choices" }, ...first);
  if (rest.length) {
    const more = element("button", { type: "button", class: "plain" }, count(rest.length, "more value"));
    more.addEventListener("click", () => {
      unfolded.add(field.name);
      more.replaceWith(...rest);
      find("input", rest[0]).focus();
    });
    list.append(more);
  }
  return list;
}

function range(field, filter, set) {
  const end = (name, label, limit) => {
    const input = element("input", {
      type: "number", step: "any", placeholder: String(limit), "aria-label": `${label} of ${plain(field.name, 40)}`,
      "data-control": `${field.name} ${name}`,
    });
    input.value = filter[name] ?? "";
    input.addEventListener("change", () => {
      const { [name]: _, ...others } = filter;
      set(Number.isFinite(input.valueAsNumber) ? { ...others, [name]: input.valueAsNumber } : others);
    });
    return input;
  };
  return element("div", { class: "range" }, end("min", "Least", field.min), "to", end("max", "Most", field.max));
}

function contains(field, filter, set) {
  const input = element("input", {
    type: "text", placeholder: "contains", dir: "auto", "aria-label": `${plain(field.name, 40)} contains`,
    "data-control": `${field.name} has`,
  });
  input.value = filter.has ?? "";
  input.addEventListener("change", () => set({ ...filter, has: input.value }));
  return input;
}

// What is filtered by, each with a button that takes it away.
export function drawActive(state, titleOf, change) {
  const chips = state.like.map((key) => ({
    text: `like ${plain(titleOf(key), 40)}`,
    without: { like: state.like.filter((other) => other !== key) },
  }));
  for (const [field, filter] of Object.entries(state.filters)) {
    const remove = (rest) => ({ filters: changed(state.filters, field, rest) });
    for (const value of filter.in ?? []) {
      const others = filter.in.filter((other) => other !== value);
      chips.push({ text: `${plain(field, 40)}: ${plain(value, 40)}`, without: remove({ ...filter, in: others }) });
    }
    for (const [name, sign] of [["min", "≥"], ["max", "≤"], ["has", "contains"]]) {
      if (filter[name] === undefined) continue;
      const { [name]: value, ...others } = filter;
      chips.push({ text: `${plain(field, 40)} ${sign} ${plain(value, 40)}`, without: remove(others) });
    }
  }
  const active = find("#active");
  active.hidden = chips.length === 0;
  active.replaceChildren(...chips.map(({ text, without }) => element(
    "button", { type: "button", "aria-label": `Remove ${text}`, onclick: () => change(without) },
    element("bdi", {}, text), element("span", { "aria-hidden": "true" }, " ×"),
  )));
}
