// What is asked for. It lives in the part of the address behind "#", which browsers never send to a server.

export const EMPTY = { q: "", mode: "", kind: "", rerank: false, like: [], filters: {} };

export function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  return {
    q: given.get("q") ?? "",
    mode: given.get("mode") ?? "",
    kind: given.get("kind") ?? "",
    rerank: given.get("rerank") === "1",
    like: given.getAll("like"),
    filters: readFilters(given.get("filters")),
  };
}

function readFilters(text) {
  try {
    const found = JSON.parse(text ?? "{}");
    const entries = Object.entries(found ?? {}).filter(([, filter]) => filter && typeof filter === "object");
    return Array.isArray(found) ? {} : Object.fromEntries(entries);
  } catch {
    return {};
  }
}

function write({ q, mode, kind, rerank, like, filters }) {
  const written = new URLSearchParams();
  if (q) written.set("q", q);
  if (mode) written.set("mode", mode);
  if (kind) written.set("kind", kind);
  if (rerank) written.set("rerank", "1");
  for (const key of like) written.append("like", key);
  if (Object.keys(filters).length) written.set("filters", JSON.stringify(filters));
  return `#${written}`;
}

// keep: as a step that the browser's "back" undoes; typing replaces the last one
export function save(state, keep) {
  const address = write(state);
  if (address === (location.hash || "#")) return;
  history[keep ? "pushState" : "replaceState"](null, "", address);
}

// Filters as the `where` of a search. A filter of a field is one of
//   {in: [values], list: true where the field holds lists}, {min: 1990, max: 2000}, {has: "part of a text"}
export function where(filters) {
  const all = [];
  for (const [field, filter] of Object.entries(filters)) {
    const parts = [];
    if (Array.isArray(filter.in) && filter.in.length) {
      if (filter.list) parts.push({ $or: filter.in.map((value) => ({ [field]: { $contains: value } })) });
      else parts.push({ [field]: { $in: filter.in } });
    }
    if (typeof filter.min === "number") parts.push({ [field]: { $gte: filter.min } });
    if (typeof filter.max === "number") parts.push({ [field]: { $lte: filter.max } });
    if (typeof filter.has === "string" && filter.has) parts.push({ [field]: { $contains: filter.has } });
    all.push(...parts);
  }
  return all.length > 1 ? { $and: all } : all[0] ?? null;
}
