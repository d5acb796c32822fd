/* SentencePiece's map of characters, which XLM-RoBERTa's and T5's tokenizers begin with, as Rust's tokenizers applies it.
   The JavaScript library comes near it alone: among others it makes a space of the joiner in emoji.

   precompiled_charsmap is base64 of a number of bytes (uint32, little-endian), a trie of so many bytes, and texts that
   each end with 0. The trie is a double array of uint32 (https://github.com/s-yata/darts-clone) over UTF-8; its values
   are places in the texts. */
import { PrecompiledNormalizer } from "@huggingface/tokenizers";

// What a person sees as one character is looked up as a whole where it has fewer bytes than this, else code by code.
const BYTES = 6;
const GRAPHEMES = new Intl.Segmenter("en", { granularity: "grapheme" });

class CharacterMap {
  constructor(base64) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer), end = 4 + view.getUint32(0, true);
    this.trie = Uint32Array.from({ length: (end - 4) / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
    this.texts = bytes.subarray(end);
  }

  apply(text) {
    let found = "";
    for (const { segment } of GRAPHEMES.segment(text)) {
      const whole = this.found(segment, BYTES);
      if (whole !== undefined) found += whole;
      else for (const character of segment) found += this.found(character) ?? character;
    }
    return found;
  }

  /** What stands for the shortest beginning of a part that the trie has; undefined where it has none. */
  found(part, fewer = Infinity) {
    const bytes = new TextEncoder().encode(part);
    if (bytes.length >= fewer) return undefined;
    let place = offset(this.trie[0]);
    for (const byte of bytes) {
      const unit = this.trie[place ^ byte];
      if (byte === 0 || (unit & 0x800000ff) !== byte) return undefined;
      place ^= byte ^ offset(unit);
      if (unit & 0x100) {
        const start = this.trie[place] & 0x7fffffff;
        return new TextDecoder().decode(this.texts.subarray(start, this.texts.indexOf(0, start)));
      }
    }
    return undefined;
  }
}

function offset(unit) {
  return (unit >>> 10) << ((unit & 0x200) >>> 6);
}

const maps = new WeakMap();

PrecompiledNormalizer.prototype.normalize = function normalize(text) {
  if (!this.charsmap) return text;
  if (!maps.has(this)) maps.set(this, new CharacterMap(this.charsmap));
  return maps.get(this).apply(text);
};
