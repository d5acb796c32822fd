/* A bundle of edge_embed in JavaScript: what Python exported gives the same vectors in a browser and in Node.

   import * as ort from "onnxruntime-web/wasm";            // or "onnxruntime-node"
   const model = await load(ort, readerOf("bundles/all-minilm-l6-v2"));
   const [query] = await model.encode(["where is the cat?"], { role: "query" });   // Float32Array of length model.dim
*/
import { Tokenizer } from "@huggingface/tokenizers";
import "./charsmap.js";

// A text is first cut to so many characters a token, and up to so many where that did not fill the model.
const FIRST_CUT = 8, LAST_CUT = 128, WORD = 128;
// The lowest cosine with a golden vector; of a bundle whose golden vectors another engine made.
const GOLDEN_COSINE = 0.999, OTHER_ENGINE_COSINE = 0.998;
// Ideographs beyond U+FFFF, each a word to BERT's normalizer; the JavaScript library separates those below alone.
const FAR_IDEOGRAPHS = /[\u{20000}-\u{2A6DF}\u{2A700}-\u{2B81F}\u{2B920}-\u{2CEAF}\u{2F800}-\u{2FA1F}]/gu;
// The inputs of a graph that this module fills.
const INPUTS = ["attention_mask", "input_ids"];
// What a bundle for texts may consist of, besides its manifest.
const FILES = ["model.onnx", "model.weights", "table.safetensors", "tokenizer.json"];
// The newest form of manifest.json that this module knows.
const SCHEMA = 4;

/** Reads files of a bundle by their names: (name) => Uint8Array. base: an address that ends with the folder's name. */
export function readerOf(base) {
  return async (name) => {
    const answer = await fetch(`${base}/${name}`);
    if (!answer.ok) throw new Error(`${base}/${name}: the server says ${answer.status}`);
    return new Uint8Array(await answer.arrayBuffer());
  };
}

/** Loads a bundle, checks its files' hashes, and that its golden texts get their vectors here.

    ort:     the module of onnxruntime-web or onnxruntime-node; a static bundle needs none (null)
    read:    (name) => Promise<Uint8Array>, as `readerOf` makes it
    options: of the session (https://onnxruntime.ai/docs/api/js/interfaces/InferenceSession.SessionOptions.html) */
export async function load(ort, read, options = {}) {
  const manifest = parsed(await read("manifest.json"), "manifest.json");
  checkKnown(manifest);
  const files = {};
  for (const name of FILES.filter((name) => name in manifest.files)) { // others are models of pictures and sounds
    files[name] = await read(name);
    if (await sha256(files[name]) !== manifest.files[name].sha256) throw new Error(`${name} is damaged: its sha256 differs`);
  }
  const texts = new Texts(parsed(files["tokenizer.json"], "tokenizer.json"), manifest.max_tokens);
  const network = "table.safetensors" in files
    ? new Table(files["table.safetensors"])
    : await Network.load(ort, files, options);
  const model = new Model(manifest, texts, network);
  model.cosine = await model.golden();
  const lowest = manifest.engine === "native" ? OTHER_ENGINE_COSINE : GOLDEN_COSINE;
  if (!(model.cosine >= lowest)) throw new Error(`golden texts have a cosine of ${model.cosine} here, not ${lowest}`);
  return model;
}

/** A bundle that is ready. dim: of its vectors; cosine: the lowest of a golden text with its vector in the manifest */
class Model {
  constructor(manifest, texts, network) {
    Object.assign(this, { manifest, texts, network, dim: manifest.dim, cosine: NaN });
  }

  /** A Float32Array of length 1 for each text of an array.

      role: "query", "document" or null, whose prompt comes before a text */
  async encode(texts, { role = null } = {}) {
    if (!Array.isArray(texts)) throw new TypeError("texts must be an array of strings");
    const { prompts, default_role, side } = this.manifest;
    const known = new Map(Object.entries({ query: "", document: "", ...prompts }));
    const named = role ?? default_role ?? "";
    if (named && !known.has(named)) throw new Error(`the bundle has no role ${named}`);
    if (side && role && role !== side) throw new Error(`the bundle is for the role ${side} alone`);
    return this.plain(texts, known.get(named));
  }

  async plain(texts, prompt = "") {
    const vectors = [];
    for (const text of texts) vectors.push(await this.network.vector(this.texts.encode(text, prompt)));
    return vectors;
  }

  async golden() {
    const found = await this.plain(this.manifest.golden.map(({ text }) => text));
    return Math.min(...this.manifest.golden.map(({ vector }, i) => cosine(vector, found[i])));
  }

  async release() {
    await this.network.release();
  }
}

/** Texts to token ids, as edge_embed does it: special tokens that a person types are plain text, and a text is cut. */
export class Texts {
  constructor(definition, maxTokens) {
    checkTokenizer(definition);
    this.maxTokens = maxTokens;
    const added = definition.added_tokens ?? [];
    this.content = new Tokenizer({ ...definition, added_tokens: added.filter((token) => !token.special) }, {});
    const whole = new Tokenizer(definition, {}).encode("a").ids, content = this.plain("a"); // [101, 1037, 102], [1037]
    const starts = [...whole.keys()].filter((i) => content.length && content.every((id, j) => whole[i + j] === id));
    if (starts.length !== 1) throw new Error("tokenizer.json: special tokens do not surround a text");
    this.before = whole.slice(0, starts[0]);
    this.behind = whole.slice(starts[0] + content.length);
    const { type, handle_chinese_chars: apart } = definition.normalizer ?? {};
    this.ideographs = type === "BertNormalizer" && apart;
    this.most = maxTokens - this.before.length - this.behind.length;
  }

  plain(text) {
    if (this.ideographs) text = text.replace(FAR_IDEOGRAPHS, " $& ");
    return text === "" ? [] : this.content.encode(text, { add_special_tokens: false }).ids;
  }

  /** At most maxTokens ids; characters that cannot matter are never looked at. */
  encode(text, prompt = "") {
    if (typeof text !== "string") throw new TypeError(`a text must be a string, not ${text}`);
    text = prompt + text;
    if (!text.isWellFormed()) throw new Error("a text has half a surrogate pair");
    for (let cut = FIRST_CUT * this.maxTokens; ; cut *= 4) {
      const part = characters(text, cut);
      const ids = this.plain(part);
      if (part.length === text.length || ids.length >= this.most + WORD || cut >= LAST_CUT * this.maxTokens) {
        return [...this.before, ...ids.slice(0, this.most), ...this.behind];
      }
    }
  }
}

/** The graph of a bundle: ids to the finished vector. Pooling and normalisation are in it. */
class Network {
  static async load(ort, files, options) {
    const weights = "model.weights" in files ? [{ path: "model.weights", data: files["model.weights"] }] : [];
    const session = await ort.InferenceSession.create(files["model.onnx"], { externalData: weights, ...options });
    const unknown = session.inputNames.filter((name) => !INPUTS.includes(name));
    if (unknown.length) throw new Error(`the model wants ${unknown}, which this module does not give`);
    return Object.assign(new Network(), { ort, session });
  }

  async vector(ids) {
    const tensor = (numbers) => new this.ort.Tensor("int64", BigInt64Array.from(numbers, BigInt), [1, numbers.length]);
    const feeds = { input_ids: tensor(ids), attention_mask: tensor(ids.map(() => 1)) };
    const { embedding } = await this.session.run(feeds);
    return Float32Array.from(embedding.data);
  }

  async release() {
    await this.session.release();
  }
}

/** The table of a static bundle: a text's vector is the normalised sum of its tokens' rows. */
class Table {
  constructor(file) {
    const bytes = new Uint8Array(file); // a copy, at an address that arrays of numbers may begin at
    const end = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, end)));
    const kinds = { I8: Int8Array, I32: Int32Array, F32: Float32Array };
    for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(header)) {
      const kind = kinds[dtype];
      if (!kind) throw new Error(`table.safetensors has numbers of the type ${dtype}, which this module does not know`);
      this[name] = new kind(bytes.buffer, end + from, (to - from) / kind.BYTES_PER_ELEMENT);
      this.dim = shape.at(-1); // `rows` come last
    }
  }

  async vector(ids) {
    const { dim, rows, scale, place } = this;
    let sums = new Float64Array(dim);
    for (const id of ids) {
      const start = dim * (place ? place[id] : id);
      for (let i = 0; i < dim; i++) sums[i] += rows[start + i];
    }
    if (sums.every((sum) => sum === 0)) sums = Float64Array.from(rows.subarray(rows.length - dim));
    const vector = sums.map((sum, i) => sum * scale[i]);
    const length = Math.sqrt(vector.reduce((total, x) => total + x * x, 0));
    return Float32Array.from(vector, (x) => x / length);
  }

  async release() {}
}

/** Refuses by name what this module does not know, rather than give other vectors than Python. */
function checkKnown(manifest) {
  if (!(manifest.schema <= SCHEMA)) {
    throw new Error(`manifest.json has schema version ${manifest.schema}; this module reads up to ${SCHEMA}`);
  }
  const unknown = {
    kind: manifest.kind && manifest.kind !== "dense",
    adapters: manifest.adapters?.length,
    left_out: manifest.left_out,
    inputs: manifest.inputs,
    "no model for texts": !("tokenizer.json" in manifest.files),
  };
  const found = Object.keys(unknown).filter((name) => unknown[name]);
  if (found.length) throw new Error(`this module embeds dense vectors of texts; the bundle has ${found.join(", ")}`);
}

/** Refuses by name the parts of a tokenizer that the JavaScript library reads otherwise than Python's. */
function checkTokenizer({ model, pre_tokenizer }) {
  const otherwise = {
    WordLevel: () => true,
    Whitespace: () => true,
    Punctuation: ({ behavior }) => behavior !== "Contiguous",
    // Gemma's, at spaces, finds none: its normalizer has replaced them
    Split: ({ behavior, pattern }) => !["Isolated", "Removed"].includes(behavior) && pattern.String !== " ",
  };
  const parts = [model, ...(pre_tokenizer?.pretokenizers ?? [pre_tokenizer ?? {}])];
  const found = parts.find((part) => otherwise[part.type]?.(part));
  if (found) throw new Error(`this module does not read tokenizers with ${found.type} ${found.behavior ?? ""}`.trim());
}

/** The first characters of a text, none cut in two. */
function characters(text, most) {
  if (text.length <= most) return text;
  const part = Array.from(text.slice(0, 2 * most)).slice(0, most);
  return part.join("");
}

function parsed(bytes, name) {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    throw new Error(`${name} is not JSON: ${error.message}`);
  }
}

async function sha256(bytes) {
  if (!globalThis.crypto?.subtle) throw new Error("files can be checked in pages of https or of localhost alone");
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

export function cosine(a, b) {
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}
