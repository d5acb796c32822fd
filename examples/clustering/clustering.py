"""Clusters with labels: python clustering.py [INDEX] [--clusters 12]

Spherical k-means on the vectors of an index, each document by the mean of its passages. A label is the words that are
frequent in a cluster and in few others (TF-IDF of clusters), and the text that is nearest to its centre.
"""

import argparse
import gzip
import json
import math
import re
import sys
from collections import Counter
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_embed import Document, EdgeEmbedError, Embedder, Index, InputError

Vectors = NDArray[np.float32]
Clustering = tuple[NDArray[np.intp], Vectors]  # the cluster of each vector, and the centres [count, dim]
WORD = re.compile(r"[^\W\d_]{3,}")
ROUNDS, RUNS = 100, 10


def unit(vectors: Vectors) -> Vectors:
    found: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return found


def seeds(vectors: Vectors, count: int, random: np.random.Generator) -> Vectors:
    """k-means++: each next centre is a vector, chosen by its squared distance to those before it."""
    chosen = [int(random.integers(len(vectors)))]
    far = np.full(len(vectors), np.inf)
    while len(chosen) < count:
        far = np.minimum(far, np.maximum(2 - 2 * vectors @ vectors[chosen[-1]], 0))
        total = far.sum()
        chosen.append(int(random.choice(len(vectors), p=far / total if total > 0 else None)))
    return vectors[chosen]


def settled(vectors: Vectors, centres: Vectors) -> Clustering:
    """Centres moved to the middle of their vectors until they stay."""
    for _ in range(ROUNDS):
        cluster = (vectors @ centres.T).argmax(axis=1)
        sums = (cluster == np.arange(len(centres))[:, None]).astype(np.float32) @ vectors
        moved = np.where(np.any(sums, axis=1, keepdims=True), unit(sums), centres)  # an empty one stays
        if np.array_equal(moved, centres):
            break
        centres = moved
    return cluster, centres


def k_means(vectors: Vectors, count: int, seed: int = 0) -> Clustering:
    """The best of several runs, by the sum of cosines."""
    random = np.random.default_rng(seed)
    runs = [settled(vectors, seeds(vectors, count, random)) for _ in range(RUNS)]
    return max(runs, key=lambda run: float((vectors * run[1][run[0]]).sum()))


def words_of(texts: list[str], cluster: NDArray[np.intp], count: int) -> list[list[str]]:
    """For each cluster the four words with the highest TF-IDF, where a cluster counts as one document."""
    words = [Counter[str]() for _ in range(count)]
    for text, place in zip(texts, cluster, strict=True):
        words[place].update({*WORD.findall(text.casefold())})
    spread = Counter(word for counter in words for word in counter)  # in how many clusters a word is
    scores = [{word: n * math.log(count / spread[word]) for word, n in counter.items()} for counter in words]
    return [sorted(score, key=lambda word: (-score[word], word))[:4] for score in scores]


class Cluster(NamedTuple):
    words: list[str]
    nearest: str  # the text nearest to the centre; of a picture its key
    keys: list[str]  # the nearest first


def clusters(index: Index, count: int) -> list[Cluster]:
    """What is in each cluster, the largest first."""
    vectors = index.vectors(index.keys())
    documents = [document for document in index if len(vectors[document.key])]
    if not documents:
        raise InputError("the index has no document with a vector")
    if not 1 <= count <= len(documents):
        raise InputError(f"--clusters {count}: expected 1 to {len(documents)}, the number of documents")
    means = unit(np.stack([vectors[document.key].mean(axis=0) for document in documents]))
    cluster, centres = k_means(means, count)
    words = words_of([document.text for document in documents], cluster, count)
    found = []
    for place in range(count):
        members = np.flatnonzero(cluster == place)
        if len(members):
            near = members[np.argsort(-(means[members] @ centres[place]), kind="stable")]
            first = documents[near[0]]
            found.append(
                Cluster(words[place], " ".join(first.text.split()) or first.key, [documents[i].key for i in near])
            )
    return sorted(found, key=lambda entry: -len(entry.keys))


def demo(path: Path) -> None:
    """An index of the questions that come with edge_embed."""
    lines = gzip.decompress((files("edge_embed") / "data" / "demo.jsonl.gz").read_bytes()).decode().splitlines()
    with Index.open(path, Embedder()) as index:
        index.add(Document(row["key"], row["text"], {"topic": row["topic"]}) for row in map(json.loads, lines))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", nargs="?", type=Path, help="made by edge-embed add; without it the demo's questions")
    parser.add_argument("--clusters", type=int, default=12, help="[%(default)s]")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    try:
        with TemporaryDirectory() as folder:
            path = options.index or Path(folder) / "demo.db"
            if options.index is None:
                demo(path)
            with Index.open(path, read_only=True) as index:
                found = clusters(index, options.clusters)
    except EdgeEmbedError as error:
        print(f"clustering: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps([entry._asdict() for entry in found], ensure_ascii=False))
    for entry in () if options.json else found:
        print(f"{len(entry.keys):5}  {', '.join(entry.words):44}  {entry.nearest:.60}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
