"""One text at a time in the static bundle, and in model2vec with the same table: microseconds of CPU, one thread.

    python -m bench.onetext

Needs model2vec (no torch). Real texts in English (XQuAD): each is measured once, after half of its kind and all of the
other kinds, so that most of its words were seen before, as in a service that has run for a while. Both get the texts in
turns in one process; of model2vec the faster of `encode(text)` and `encode([text])` counts. A line is one length: ours,
theirs, how many times as fast, and the lowest cosine between the two (theirs in float32).
"""

import argparse
import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed.embedder import Embedder, bundle_path
from edge_embed_runtime.extras import require
from edge_embed_runtime.model.static import read_table

JUDGED = Path(__file__).parents[1] / "export" / "edge_embed_export" / "data" / "judged.jsonl.gz"
# Characters of a sentence.
LEAST, MOST = 60, 240
LENGTHS = ("query", "sentence", "passage")
# Texts between two looks at the clock: what the other left in the caches is soon gone.
SLICE = 50


def texts_of(length: str) -> list[str]:
    """Real texts of one length, none twice: questions, sentences and paragraphs."""
    rows = [json.loads(line) for line in gzip.decompress(JUDGED.read_bytes()).splitlines()]
    questions = [row["text"] for row in rows if "relevant" in row]
    passages = [row["text"] for row in rows if "relevant" not in row]
    sentences = [part for text in passages for part in text.split(". ") if LEAST < len(part) < MOST]
    return list(dict.fromkeys({"query": questions, "sentence": sentences, "passage": passages}[length]))


def model2vec_of(bundle: str) -> Any:
    """The bundle's table, in float32, as a model of model2vec."""
    tokenizers, library = require("tokenizers", "bench"), require("model2vec", "bench")
    folder = bundle_path(bundle)
    table = read_table(folder / "table.safetensors", "the table")
    vectors = table["rows"][:-1].astype(np.float32) * table["scale"]
    place = table.get("place")
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    return library.StaticModel(
        vectors, tokenizer, normalize=True, token_mapping=None if place is None else np.array(place)
    )


def measure(calls: dict[str, Callable[[str], Any]], texts: list[str], others: list[str]) -> dict[str, float]:
    """Microseconds of CPU of each call, the median of slices in turns. No text is given twice to one of them."""
    half = len(texts) // 2
    for call in calls.values():
        for text in others + texts[:half]:
            call(text)
    found: dict[str, list[float]] = {name: [] for name in calls}
    for start in range(half, len(texts) - SLICE + 1, SLICE):
        for name, call in calls.items():
            before = time.process_time_ns()
            for text in texts[start : start + SLICE]:
                call(text)
            found[name].append((time.process_time_ns() - before) / SLICE / 1000)
    return {name: float(np.median(times)) for name, times in found.items()}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    ours, theirs = Embedder("static", threads=1), model2vec_of("static")
    calls: dict[str, Callable[[str], Any]] = {
        "encode": lambda text: ours.encode([text]),
        "encode_query": lambda text: ours.encode_query([text]),
        "model2vec text": theirs.encode,
        "model2vec list": lambda text: theirs.encode([text]),
    }
    print("text      encode  encode_query  model2vec  times  cosine")
    for length in LENGTHS:
        texts = texts_of(length)
        us = measure(calls, texts, [text for other in LENGTHS if other != length for text in texts_of(other)])
        peer = min(us["model2vec text"], us["model2vec list"])
        cosine = min(float(ours.encode([text])[0] @ theirs.encode(text)) for text in texts)
        slower = max(us["encode"], us["encode_query"])
        print(
            f"{length:<8}{us['encode']:8.1f}{us['encode_query']:14.1f}{peer:11.1f}{peer / slower:7.2f}{cosine:8.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
