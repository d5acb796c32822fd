/* Called by test_web.py beside edge-embed.js: node web.mjs ENGINE < {"bundle": folder, "texts": [...], "role": null}
   -> {"vectors": [...], "tokens": [...], "cosine": number, "ms": number}, or {"error": message};
   {"tokenizer": file, "max_tokens": number, "texts": [...]} -> {"tokens": [...]} */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { load, Texts } from "./edge-embed.js";

const ROUNDS = 20;
const ort = await import(process.argv[2]);
if (ort.env.wasm) ort.env.wasm.numThreads = 1;
const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const { bundle, texts, role, tokenizer, max_tokens } = JSON.parse(Buffer.concat(chunks).toString());
const answer = {};
try {
  if (tokenizer) {
    const reader = new Texts(JSON.parse(await readFile(tokenizer)), max_tokens);
    process.stdout.write(JSON.stringify({ tokens: texts.map((text) => reader.encode(text)) }), () => process.exit(0));
    await new Promise(() => {});
  }
  const model = await load(ort, (name) => readFile(join(bundle, name)), { intraOpNumThreads: 1 });
  answer.vectors = (await model.encode(texts, { role })).map((vector) => Array.from(vector));
  answer.tokens = texts.map((text) => model.texts.encode(text));
  answer.cosine = model.cosine;
  const times = [];
  for (let i = 0; i < ROUNDS; i++) {
    const began = performance.now();
    await model.encode(["when do I catch the train?"]);
    times.push(performance.now() - began);
  }
  answer.ms = times.sort((a, b) => a - b)[ROUNDS / 2];
  await model.release();
} catch (error) {
  answer.error = error.message;
}
process.stdout.write(JSON.stringify(answer), () => process.exit(0));
