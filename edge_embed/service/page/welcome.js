// What is shown where there is nothing to search yet.

import { element, find } from "./elements.js";
import { ask } from "./service.js";

// info: of an index without documents; null hides it
export function drawWelcome(info) {
  const welcome = find("#welcome");
  welcome.hidden = info === null;
  if (info === null) return;
  const parts = [element("h2", {}, "Nothing in here yet")];
  if (info.writable) parts.push(element("p", {}, "Drop files anywhere on this page, or press “Add files”."));
  parts.push(element("p", {}, "On the command line: "), element("pre", {}, "edge-embed add INDEX FOLDER"));
  welcome.replaceChildren(...parts);
}

// A service without an index: what it can do.
export async function drawOffer() {
  const { data } = await ask("v1/models");
  const models = data.map(({ id }) => element("li", {}, element("bdi", {}, id)));
  const example = `curl ${location.origin}/v1/embeddings -H 'Content-Type: application/json' \\\n`
    + `  -d '{"model": "${data[0]?.id ?? "MODEL"}", "input": ["a text"]}'`;
  const welcome = find("#welcome");
  welcome.hidden = false;
  find("#query").closest("search").hidden = true;
  find("#keys").hidden = true;
  find("#status").textContent = "This service has no index.";
  welcome.replaceChildren(
    element("h2", {}, "Embeddings on this machine"),
    element("p", {}, "It embeds texts for programs that speak the interfaces of OpenAI, Ollama, "
      + "text-embeddings-inference or Cohere. Its bundles:"),
    element("ul", {}, ...models),
    element("pre", { tabindex: "0" }, example),
    element("p", {}, "With an index, this page searches it:"),
    element("pre", { tabindex: "0" }, "edge-embed serve INDEX"),
  );
}
