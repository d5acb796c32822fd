"""Static bundles beside model2vec, in one process: python bench/static.py DATA BUNDLE... [--model2vec FOLDER]

DATA holds stsb/test.tsv and the judged sets scifact and cranfield, as bench/stsb.py and `edge-embed eval` read them.
FOLDER is a model that model2vec has saved, or a checkpoint that it distils first, with its own defaults (its extra
`distill`). Prints Spearman's correlation, nDCG@10 by cosine alone, and texts per CPU second of the first bundle and of
model2vec, interleaved, one thread each. Padding in model2vec's tokenizer is switched off: it would count as tokens.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
from numpy.typing import NDArray
from stsb import spearman  # type: ignore[import-not-found]

from edge_embed import Embedder
from edge_embed.evaluate import read_judged_set
from edge_embed_quantize.receipt import score
from edge_embed_runtime.extras import require

Encode = Callable[[list[str]], NDArray[np.float32]]
ROUNDS = 5
DEPTH = 10


def model2vec(folder: Path) -> Encode:
    library = require("model2vec", "bench")
    if (folder / "modules.json").is_file() and "model2vec" not in (folder / "config.json").read_text("utf-8"):
        model = require("model2vec.distill", "bench").distill(str(folder), device="cpu")
    else:
        model = library.StaticModel.from_pretrained(str(folder))
    model.tokenizer.no_padding()

    def encode(texts: list[str]) -> NDArray[np.float32]:
        vectors = np.asarray(model.encode(texts, use_multiprocessing=False), np.float32)
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)

    return encode


def quality(encode: Encode, data: Path) -> dict[str, float]:
    rows = [line.split("\t") for line in (data / "stsb" / "test.tsv").read_text("utf-8").splitlines()]
    left, right = (encode([row[i] for row in rows]) for i in (1, 2))
    gold = np.array([float(row[0]) for row in rows])
    figures = {"stsb": spearman(gold, (left * right).sum(axis=1).astype(np.float64))}
    for name in ("scifact", "cranfield"):
        judged = read_judged_set(data / name)
        keys = list(judged.documents)
        similar = encode(list(judged.queries.values())) @ encode(list(judged.documents.values())).T
        best = np.argsort(-similar, axis=1, kind="stable")[:, :DEPTH]
        ranked = {query: [keys[i] for i in row] for query, row in zip(judged.queries, best, strict=True)}
        figures[name] = score(ranked, judged.judgements)["ndcg@10"]
    return figures


def speed(encoders: dict[str, Encode], data: Path) -> None:
    lines = (data / "stsb" / "test.tsv").read_text("utf-8").splitlines()
    sets = {
        "stsb sentences": [text for line in lines for text in line.split("\t")[1:]],
        "scifact documents": list(read_judged_set(data / "scifact").documents.values())[:1000],
    }
    for name, texts in sets.items():
        seconds: dict[str, list[float]] = {encoder: [] for encoder in encoders}
        for _ in range(ROUNDS):
            for encoder, encode in encoders.items():
                start = time.process_time()
                encode(texts)
                seconds[encoder].append(time.process_time() - start)
        rates = {encoder: len(texts) / statistics.median(found) for encoder, found in seconds.items()}
        first, *others = rates
        ratios = ", ".join(f"{rates[first] / rates[other]:.1f} x {other}" for other in others)
        print(f"{name}: " + ", ".join(f"{encoder} {rate:.0f}" for encoder, rate in rates.items()), ratios, sep="; ")


def main() -> None:
    parser = argparse.ArgumentParser(description="Static bundles beside model2vec")
    parser.add_argument("data", type=Path)
    parser.add_argument("bundles", nargs="+")
    parser.add_argument("--model2vec", type=Path)
    options = parser.parse_args()
    encoders: dict[str, Encode] = {bundle: Embedder(bundle, threads=1).encode for bundle in options.bundles}
    if options.model2vec is not None:
        encoders["model2vec"] = model2vec(options.model2vec)
    for name, encode in encoders.items():
        figures = quality(encode, options.data)
        print(f"{name}: " + ", ".join(f"{figure} {value:.4f}" for figure, value in figures.items()), flush=True)
    print(f"texts per CPU second, load average {os.getloadavg()[0]:.1f}:")
    speed(
        {name: encoders[name] for name in [options.bundles[0], *(n for n in encoders if n == "model2vec")]},
        options.data,
    )


if __name__ == "__main__":
    main()
