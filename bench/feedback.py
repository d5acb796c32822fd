"""What likes, sessions and diversity do to hits, on judged data: python -m bench.feedback --data FOLDER [--quick]

FOLDER/banking77: train.tsv and test.tsv, label TAB text: 77 topics. The index holds the training texts. A user likes
three random texts of one topic, and asks the test texts of this topic, or of another one. Counted is P@10: the part of
the first ten hits that are of the query's topic, liked texts left out in each row.

FOLDER/NAME: corpus.jsonl.gz, queries.jsonl and qrels.tsv (BEIR's layout). Of each query with four relevant documents or
more the user likes three; counted is nDCG@10 over the others (residual ranking: the liked ones are left out in each
row). Then a user who likes three documents that are relevant to other queries asks this one.

What it does not measure: people. Likes here are always right, and a topic is what a label says.
"""

import argparse
import gzip
import json
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from math import log2
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed import Document, Embedder, Hits, Index

LIKES, TOP = 3, 10
MODES = ("vector", "hybrid")
# Half-lives after which a session is asked.
AGES = (0, 2, 4)
DAY = 86400.0


class Clock:
    """A session's time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def ways(index: Index, mode: Any, liked: Sequence[str]) -> dict[str, Callable[[str], Hits]]:
    """Ways to search for a user who liked these documents; each gives enough hits to leave the liked ones out."""
    k = TOP + len(liked)
    clock = Clock()
    session = index.session(clock=clock)
    session.liked(liked)

    def aged(age: int) -> Callable[[str], Hits]:
        def search(query: str) -> Hits:
            clock.now = age * DAY
            return session.search(query, k, mode=mode, remember=False)

        return search

    return {
        "plain": lambda query: index.search(query, k, mode=mode),
        "like": lambda query: index.search(query, k, mode=mode, like=liked),
        **{f"session, {age} half-lives": aged(age) for age in AGES},
    }


def keys(hits: Hits, liked: Sequence[str]) -> list[str]:
    return [hit.key for hit in hits if hit.key not in liked][:TOP]


def banking(folder: Path, embedder: Embedder, work: Path, each: int) -> None:
    texts = {part: [line.split("\t") for line in (folder / f"{part}.tsv").read_text("utf-8").splitlines() if line]
             for part in ("train", "test")}  # fmt: skip
    asked: dict[str, list[str]] = defaultdict(list)
    for label, text in texts["test"]:
        asked[label].append(text)
    topics = sorted(asked)
    with Index.open(work / "banking.db", embedder) as index:
        documents = [Document(str(i), text, {"topic": label}) for i, (label, text) in enumerate(texts["train"])]
        index.add(documents)
        topic_of = {document.key: str(document.metadata["topic"]) for document in documents}
        of_topic: dict[str, list[str]] = defaultdict(list)
        for key, topic in topic_of.items():
            of_topic[topic].append(key)
        choice = random.Random(7)  # noqa: S311 - a sample
        alone: list[float] = []
        found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        for topic in topics:
            liked = choice.sample(of_topic[topic], LIKES)
            alone.append(share(keys(index.search(like=liked, k=TOP), liked), topic, topic_of))
            other = choice.choice([name for name in topics if name != topic])
            for whose, subject in (("own topic", topic), ("another topic", other)):
                for query in choice.sample(asked[subject], each):
                    for mode in MODES:
                        for name, search in ways(index, mode, liked).items():
                            value = share(keys(search(query), liked), subject, topic_of)
                            found[mode, whose, name].append(value)
        print(f"banking77: {len(documents)} texts, {len(topics)} topics, {each} queries each; P@10")
        print(f"  likes alone, no query: {np.mean(alone):.3f} (chance {1 / len(topics):.3f})")
        table(found)
        diversity(index, [text for topic in topics for text in asked[topic][:each]], topic_of)


def share(found: Sequence[str], topic: str, topic_of: dict[str, str]) -> float:
    return sum(topic_of[key] == topic for key in found) / TOP


def diversity(index: Index, queries: Sequence[str], topic_of: dict[str, str]) -> None:
    """How many topics the first ten hits have, how alike they are, and what a search takes."""
    print("  mmr: topics among 10 hits, mean cosine between hits, mean cosine to the query, ms a search (median)")
    index.search(queries[0])
    for mmr in (None, 1.0, 0.7, 0.5, 0.3, 0.0):
        topics, cosines, scores, times = [], [], [], []
        for query in queries:
            started = time.perf_counter()
            hits = index.search(query, TOP, mode="vector", mmr=mmr)
            times.append(time.perf_counter() - started)
            topics.append(len({topic_of[hit.key] for hit in hits}))
            rows = np.concatenate(list(index.vectors([hit.key for hit in hits]).values()))
            pairs = (rows @ rows.T)[np.triu_indices(len(rows), 1)]
            cosines.append(float(pairs.mean()))
            scores.append(float(np.mean([hit.score for hit in hits])))
        numbers = f"{np.mean(topics):5.2f}  {np.mean(cosines):.3f}  {np.mean(scores):.3f}"
        print(f"  {'plain' if mmr is None else mmr!s:>6}  {numbers}  {1000 * np.median(times):.2f}")


def judged(folder: Path, embedder: Embedder, work: Path, most: int) -> None:
    """A set in BEIR's layout."""
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    queries = {
        row["_id"]: row["text"] for row in map(json.loads, (folder / "queries.jsonl").read_text("utf-8").splitlines())
    }
    relevant: dict[str, set[str]] = defaultdict(set)
    for line in (folder / "qrels.tsv").read_text("utf-8").splitlines()[1:]:
        query, document, score = line.split("\t")
        if int(score) > 0:
            relevant[query].add(document)
    choice = random.Random(7)  # noqa: S311 - a sample
    names = [query for query in queries if relevant[query]]
    choice.shuffle(names)
    rich = [query for query in names if len(relevant[query]) > LIKES][:most]
    with Index.open(work / f"{folder.name}.db", embedder) as index:
        texts = ((row["_id"], f"{row['title']} {row['text']}".strip()) for row in rows)
        index.add([Document(key, text) for key, text in texts if text])
        stored = set(index.keys())
        found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        for query in rich:
            liked = choice.sample(sorted(relevant[query] & stored), LIKES)
            compare(index, queries[query], liked, relevant[query], "own subject", found)
        pool = sorted({key for query in names for key in relevant[query] & stored})
        for query in names[:most]:
            liked = choice.sample([key for key in pool if key not in relevant[query]], LIKES)
            compare(index, queries[query], liked, relevant[query], "another subject", found)
    print(f"{folder.name}: {len(stored)} documents; nDCG@10 of {len(rich)} queries with likes of their own subject, "
          f"{len(names[:most])} with likes of others")  # fmt: skip
    table(found)


def compare(index: Index, query: str, liked: Sequence[str], relevant: set[str], whose: str, found: Any) -> None:
    for mode in MODES:
        for name, search in ways(index, mode, liked).items():
            found[mode, whose, name].append(ndcg(keys(search(query), liked), relevant - set(liked)))


def ndcg(found: Sequence[str], relevant: set[str]) -> float:
    gain = sum(1 / log2(rank + 2) for rank, key in enumerate(found) if key in relevant)
    return gain / sum(1 / log2(rank + 2) for rank in range(min(TOP, len(relevant))))


def table(found: dict[tuple[str, str, str], list[float]]) -> None:
    for (mode, whose, name), values in found.items():
        plain = np.array(found[mode, whose, "plain"])
        better, worse = (float(np.mean(part)) for part in (np.array(values) > plain, np.array(values) < plain))
        print(f"  {mode:6}  {whose:15}  {name:22}  {np.mean(values):.3f}  better {better:.2f}  worse {worse:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--sets", default="banking77,cranfield,scifact", help="which of them, with commas between")
    parser.add_argument("--quick", action="store_true", help="fewer queries")
    options = parser.parse_args()
    embedder = Embedder()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.sets.split(","):
            if name == "banking77":
                banking(options.data / name, embedder, Path(folder), 2 if options.quick else 10)
            else:
                judged(options.data / name, embedder, Path(folder), 50 if options.quick else 300)


if __name__ == "__main__":
    main()
