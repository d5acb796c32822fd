/* The page: ranks a few texts by their similarity to what is typed. ?bundle=... names another folder than bundle/. */
import * as ort from "onnxruntime-web/wasm";
import { dot, load, readerOf } from "./edge-embed.js";
import { TEXTS } from "./texts.js";

const at = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search);
// threads need memory that they share, which a page has only with the headers that serve.py sends
const most = crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
ort.env.wasm.numThreads = Number(asked.get("threads") ?? most);
ort.env.wasm.wasmPaths = new URL("./node_modules/onnxruntime-web/dist/", location.href).href;

const failed = (error) => { at("status").textContent = `It failed: ${error.message}`; };

async function start() {
  const model = await load(ort, readerOf(asked.get("bundle") ?? "bundle"), { executionProviders: ["wasm"] });
  const vectors = await model.encode(TEXTS, { role: "document" });
  at("status").textContent = `${model.manifest.name}, ${ort.env.wasm.numThreads} threads; golden texts reproduced, `
    + `lowest cosine ${model.cosine.toFixed(5)}`;
  let newest = 0; // of two searches under way only the one that was asked last is shown
  const search = async () => {
    const number = ++newest, began = performance.now();
    const [query] = await model.encode([at("query").value], { role: "query" });
    const took = performance.now() - began;
    if (number !== newest) return;
    const hits = TEXTS.map((text, i) => ({ text, score: dot(query, vectors[i]) })).sort((a, b) => b.score - a.score);
    at("hits").replaceChildren(...hits.slice(0, 5).map(({ text, score }) => {
      const line = document.createElement("li");
      line.textContent = `${text} (${score.toFixed(3)})`;
      return line;
    }));
    at("took").textContent = `${took.toFixed(1)} ms for the query`;
  };
  at("query").disabled = false;
  at("query").addEventListener("input", () => search().catch(failed));
  await search();
  return model;
}

/** What tests and consoles use: the model, once it is loaded. */
globalThis.ready = start();
globalThis.ready.catch(failed);
