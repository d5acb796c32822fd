// Files that are dropped on the page: to be added to the index, or to search by one.

import { find } from "./elements.js";

const actions = { add: null, search: null };

// name: "add" or "search"; action(files). Where both are possible, each has half of the page.
export function onDrop(name, action) {
  if (!actions.add && !actions.search) listen();
  actions[name] = action;
  find(`#drop [data-drop="${name}"]`).hidden = false;
}

function listen() {
  const drop = find("#drop");
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  let inside = 0;
  const on = (name, action) => document.addEventListener(name, (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    action(event);
    drop.hidden = inside <= 0;
  });
  const aimed = (event) => {
    const chosen = chosenAt(event);
    for (const zone of drop.children) zone.classList.toggle("aimed", zone.dataset.drop === chosen);
  };
  on("dragenter", () => { inside += 1; });
  on("dragleave", () => { inside -= 1; });
  on("dragover", aimed);
  on("drop", (event) => {
    inside = 0;
    actions[chosenAt(event)](Array.from(event.dataTransfer.files));
  });
}

function chosenAt(event) {
  if (!actions.add || !actions.search) return actions.add ? "add" : "search";
  return event.clientX < document.documentElement.clientWidth / 2 ? "search" : "add";
}
