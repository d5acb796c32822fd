"""Figures of docs/examples.md that the examples do not print themselves.

    python -m bench.examples intents
    python -m bench.examples codegrep DATA/cosqa
    python -m bench.examples duplicates DATA/stsb
    python -m bench.examples lines LINES.jsonl
    python -m bench.examples clustering DATA/banking77/test.tsv

intents: accuracy on the even lines of sentences.tsv (the odd ones chose the threshold), and milliseconds of a command
on one thread. codegrep: each function of the judged set as a file, searched as the example does. duplicates: pairs of
sentences at several thresholds; choose on dev. lines: seconds for a file of rows, with the static bundle.
clustering: agreement with the labels of the file. Each with both embedded bundles where that says something.
"""

import argparse
import gzip
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from edge_embed import Document, Embedder, Index
from examples.classifier.classifier import read
from examples.clustering.clustering import k_means
from examples.codegrep import codegrep
from examples.duplicates.duplicates import find_groups
from examples.intents.intents import THRESHOLDS, Matcher

HOME = Path(__file__).parents[1] / "examples" / "intents"
BUNDLES = ("minilm", "static")
NONE = "-"


def intents() -> None:
    rows = [line.split("\t") for line in (HOME / "sentences.tsv").read_text("utf-8").splitlines()]
    home = json.loads((HOME / "home.json").read_text("utf-8"))
    for bundle in BUNDLES:
        matcher = Matcher(home, Embedder(bundle, threads=1), THRESHOLDS[bundle])
        times: list[float] = []
        right = wrong = 0
        commands = [row for row in rows[1::2] if row[0] != NONE]
        others = [row for row in rows[1::2] if row[0] == NONE]
        for wanted, command in commands:
            found = matcher.match(command).intent
            right, wrong = right + (found == wanted), wrong + (found not in (wanted, None))
        refused = sum(matcher.match(command).intent is None for _, command in others)
        for _ in range(5):
            for _, command in rows:
                began = time.perf_counter()
                matcher.match(command)
                times.append(1e3 * (time.perf_counter() - began))
        said = f"right {right}, wrong {wrong} of {len(commands)}; refused {refused} of {len(others)} others"
        p50, p99 = np.percentile(times, [50, 99])
        print(f"{bundle}: {said}; {p50:.2f} ms a command, p99 {p99:.2f}, longest {max(times):.2f}")


def code(folder: Path) -> None:
    rows = [json.loads(line) for line in gzip.decompress((folder / "corpus.jsonl.gz").read_bytes()).splitlines()]
    questions = [json.loads(line) for line in (folder / "queries.jsonl").read_text("utf-8").splitlines()]
    judged = [line.split("\t") for line in (folder / "qrels.tsv").read_text("utf-8").splitlines()[1:]]
    relevant = {(query, document) for query, document, score in judged if float(score) > 0}
    for bundle in BUNDLES:
        with TemporaryDirectory() as work:
            for row in rows:
                (Path(work) / f"{row['_id']}.py").write_text(f"{row['title']}\n{row['text']}".strip(), "utf-8")
            began = time.perf_counter()
            with Index.open(Path(work) / ".codegrep.db", Embedder(bundle), fields=["file"]) as index:
                codegrep.update(index, Path(work))
                seconds = time.perf_counter() - began
                ranks = []
                for question in questions:
                    hits = index.search(question["text"], k=30)
                    names = list(dict.fromkeys(Path(hit.metadata["file"]).stem for hit in hits))[:10]
                    found = [rank for rank, name in enumerate(names, 1) if (question["_id"], name) in relevant]
                    ranks.append(found[0] if found else np.inf)
        places = np.array(ranks)
        recalls = ", ".join(f"recall@{k} {np.mean(places <= k):.3f}" for k in (1, 5, 10))
        print(f"{bundle}: {len(rows)} functions read in {seconds:.0f} s; {recalls}, MRR@10 {np.mean(1 / places):.3f}")


def thresholds(folder: Path) -> None:
    for split in ("dev", "test"):
        rows = [line.split("\t") for line in (folder / f"{split}.tsv").read_text("utf-8").splitlines()]
        scores = np.array([float(row[0]) for row in rows])
        for bundle in BUNDLES:
            embedder = Embedder(bundle)
            first, second = embedder.encode([row[1] for row in rows]), embedder.encode([row[2] for row in rows])
            cosines = (first * second).sum(axis=1)
            for threshold in (0.8, 0.85, 0.9, 0.95):
                found = cosines >= threshold
                same, kept = (scores[found] >= 4).mean(), found[scores >= 4.5].mean()
                print(
                    f"{split}, {bundle}, {threshold}: {found.sum()} pairs, {same:.0%} of them alike; {kept:.0%} found"
                )


def lines(path: Path) -> None:
    with TemporaryDirectory() as work, Index.open(Path(work) / "lines.db", Embedder("static")) as index:
        rows = path.read_text("utf-8").splitlines()
        began, busy = time.perf_counter(), time.process_time()
        for start in range(0, len(rows), 10_000):
            part = enumerate(rows[start : start + 10_000], start)
            index.add(Document(str(number), json.loads(row)["text"]) for number, row in part)
        print(f"{len(index)} lines stored in {_took(began, busy)}")
        began, busy = time.perf_counter(), time.process_time()
        groups = find_groups(index, 0.95)
        print(f"{len(groups)} groups found in {_took(began, busy)}")


def _took(began: float, busy: float) -> str:
    return f"{time.perf_counter() - began:.0f} s ({time.process_time() - busy:.0f} s of CPU)"


def agreement(one: NDArray[np.intp], other: NDArray[np.intp]) -> float:
    """Normalised mutual information (arithmetic mean): 0 by chance, 1 where both say the same."""
    table = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(table, (one, other), 1 / len(one))
    rows, columns = table.sum(axis=1), table.sum(axis=0)

    def entropy(shares: NDArray[np.float64]) -> float:
        return -float((shares[shares > 0] * np.log(shares[shares > 0])).sum())

    return 2 * (entropy(rows) + entropy(columns) - entropy(table.ravel())) / (entropy(rows) + entropy(columns))


def clustering(path: Path) -> None:
    labels, texts = zip(*read(path), strict=True)
    truth = np.unique(labels, return_inverse=True)[1]
    for bundle in BUNDLES:
        vectors = Embedder(bundle).encode(texts)
        began = time.perf_counter()
        found = k_means(vectors, int(truth.max()) + 1)[0]
        seconds = time.perf_counter() - began
        what = f"{len(texts)} texts, {truth.max() + 1} clusters"
        print(f"{bundle}: {what}: NMI {agreement(found, truth):.3f}, {seconds:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["intents", "codegrep", "duplicates", "lines", "clustering"])
    parser.add_argument("path", nargs="?", type=Path)
    options = parser.parse_args()
    if options.what == "intents":
        intents()
    elif options.path is None:
        parser.error("give the path of the data")
    else:
        calls = {"codegrep": code, "duplicates": thresholds, "lines": lines, "clustering": clustering}
        calls[options.what](options.path)


if __name__ == "__main__":
    main()
