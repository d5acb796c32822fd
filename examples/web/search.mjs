/* Searches a few texts in Node: node search.mjs BUNDLE QUERY */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import { dot, load } from "./edge-embed.js";
import { TEXTS } from "./texts.js";

const [bundle, query] = process.argv.slice(2);
if (!query) {
  console.error("usage: node search.mjs BUNDLE QUERY");
  process.exit(2);
}
const options = { intraOpNumThreads: 1, executionMode: "sequential" };
const model = await load(ort, (name) => readFile(join(bundle, name)), options).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
const vectors = await model.encode(TEXTS, { role: "document" });
const start = performance.now();
const [asked] = await model.encode([query], { role: "query" });
const took = performance.now() - start;
const hits = TEXTS.map((text, i) => ({ text, score: dot(asked, vectors[i]) })).sort((a, b) => b.score - a.score);
for (const { text, score } of hits.slice(0, 3)) console.log(`${score.toFixed(3)}  ${text}`);
console.log(`${took.toFixed(1)} ms for the query; golden texts: lowest cosine ${model.cosine.toFixed(5)}`);
