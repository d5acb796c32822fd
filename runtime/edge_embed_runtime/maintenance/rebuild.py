"""What follows from the texts and vectors of an index, made again: binary codes and their rotation, the table of words,
and the graph next to the file, where that is faster than the scan."""

import time
from dataclasses import dataclass, replace
from heapq import nlargest
from operator import itemgetter
from typing import Literal

import numpy as np

from edge_embed_runtime.errors import MissingExtraError
from edge_embed_runtime.inputs.words import NORMAL
from edge_embed_runtime.maintenance import learn_rotation
from edge_embed_runtime.maintenance.words import rebuild_words
from edge_embed_runtime.search import hnsw, hnswfile
from edge_embed_runtime.search.hnswfile import Verdict
from edge_embed_runtime.search.query import Query, Wanted
from edge_embed_runtime.search.searcher import Searcher
from edge_embed_runtime.storage.schema import GRAPH
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.system.cpu import cpu_model, default_threads
from edge_embed_runtime.vectors.int8 import dequantize
from edge_embed_runtime.vectors.types import Vectors

GraphChoice = Literal["auto", "always", "never"]

# From this number of codes on a graph is built and compared, which takes many minutes. At a million a graph that finds
# as much takes 1.2 times as long as the scan (measured), and only the scan's time grows with the codes.
GRAPH_CODES = 2_000_000
# How much less a faster graph may find of the nearest.
TOLERANCE = 0.005
# Queries that scan and graph are compared with: each three times, of which the fastest counts.
QUERIES = 200
ROUNDS = 3
HITS = 10
# They are stored vectors, moved by this part of the difference of two others: further from all that is stored than a
# copy, as questions are.
NOISE = 0.6
# What float arithmetic in another order may change in a score.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Rebuilt:
    """What `rebuild` did.

    passages: that have binary codes now
    frame:    how these are rotated: "none", "centre", "rotation" or "centre+rotation"
    frames:   what each of these finds, see `learn_frame`; {} for too few passages, which keep what they had
    graph:    whether there is one now, and why
    verdict:  what was measured, where a graph was built
    """

    passages: int
    frame: str
    frames: dict[str, float]
    graph: str
    verdict: Verdict | None


def rebuild(store: Store, graph: GraphChoice, *, show_progress: bool) -> Rebuilt:
    """See `Index.rebuild`."""
    if graph == "always":
        hnsw.require_usearch()  # says so before the work, not after it
    with store.snapshot():
        rotation, rotations = learn_rotation.learn(store)
    learn_rotation.recode(store, rotation, show_progress=show_progress)
    rebuild_words(store, [], [], NORMAL)
    with store.snapshot():
        passages = store.blocks.count()
    verdict, state = _rebuild_graph(store, graph, passages, show_progress)
    named = [name for name, used in (("centre", rotation.centre is not None), ("rotation", rotation.turned)) if used]
    return Rebuilt(passages, "+".join(named) or "none", rotations, state, verdict)


def _rebuild_graph(store: Store, choice: GraphChoice, passages: int, show_progress: bool) -> tuple[Verdict | None, str]:
    """Builds a graph, or removes the one that is there; gives what was measured, and what was done and why."""
    reason = _no_graph(choice, passages if store.dim else 0, store)
    verdict, kept, state = None, False, f"none: {reason or 'the scan is as good'}"
    if reason is None:
        started = time.perf_counter()
        graph, content = hnsw.build(store, default_threads(), show_progress)
        verdict = _measure(store, graph, time.perf_counter() - started)
        faster = verdict.graph_ms < verdict.exact_ms and verdict.graph_recall >= verdict.exact_recall - TOLERANCE
        kept = faster or choice == "always"
        if kept:
            verdict = replace(verdict, sha256=hnswfile.write(store.path, graph.origin, content))
            state = "used: faster than the scan" if faster else "used: asked for"
    _record(store, verdict)
    if not kept:
        hnswfile.remove(store.path)
    return verdict, state


def _no_graph(choice: GraphChoice, passages: int, store: Store) -> str | None:
    """Why none is to be tried; None where one is."""
    if choice == "never":
        return "not wanted"
    if store.media is not None and store.media.counts():
        return "documents of several kinds are compared kind by kind"
    if passages == 0 or (choice == "auto" and passages < GRAPH_CODES):
        return f"{passages:,} codes are scanned faster; one is tried from {GRAPH_CODES:,} on"
    try:
        hnsw.require_usearch()
    except MissingExtraError as error:
        return str(error)
    return None


def _record(store: Store, verdict: Verdict | None) -> None:
    with store.transaction(deletes=False):
        store.set_note(GRAPH, None if verdict is None else verdict.to_text())


def _measure(store: Store, graph: hnsw.Graph, seconds: float) -> Verdict:
    """Whole searches with and without the graph, on this device."""
    with store.snapshot():
        queries = _queries(store)
        least, counts = _tenth(store, queries)
    searcher = Searcher(store)
    searcher.search(Query(None, queries[0]), "vector", Wanted(HITS))  # loads the codes
    times = np.empty((ROUNDS, len(queries), 2))
    found = np.empty((len(queries), 2))
    for lap in range(ROUNDS):
        for i, query in enumerate(queries):
            for way in (0, 1) if i % 2 else (1, 0):
                searcher.dense.use_graph(graph if way else None)
                started = time.perf_counter()
                hits = searcher.search(Query(None, query), "vector", Wanted(HITS))
                times[lap, i, way] = time.perf_counter() - started
                found[i, way] = sum(hit.score >= least[i] - ROUNDING for hit in hits) / counts[i]
    exact_ms, graph_ms = (round(float(ms), 3) for ms in 1000 * np.median(times.min(axis=0), axis=0))
    exact_recall, graph_recall = (round(float(part), 4) for part in found.mean(axis=0))
    origin, build_seconds = graph.origin, round(seconds, 1)
    return Verdict(
        origin.codes, cpu_model(), exact_ms, graph_ms, exact_recall, graph_recall, build_seconds, origin.size, ""
    )


def _queries(store: Store) -> Vectors:
    """Stored vectors that are moved a little, of length 1 [n, dim]; the same ones of the same index."""
    random = np.random.default_rng(0)
    ids = learn_rotation.passage_ids(store)
    vectors = learn_rotation.vectors_of(store, np.sort(random.choice(ids, min(len(ids), 3 * QUERIES), replace=False)))
    some = vectors[random.permutation(len(vectors))[:QUERIES]]
    one, other = (vectors[random.integers(0, len(vectors), len(some))] for _ in range(2))
    moved = some + NOISE * (one - other) / np.float32(2**0.5)
    queries: Vectors = moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)
    return queries


def _tenth(store: Store, queries: Vectors) -> tuple[list[float], list[int]]:
    """For each query [n, dim], the score of the last of the 10 nearest documents by all int8 codes, and how many there
    are. Reads every passage."""
    best: list[dict[int, float]] = [{} for _ in queries]
    for found in store.all_passages():
        if not len(found.ids):
            continue
        starts = np.flatnonzero(np.diff(found.docs, prepend=-1))
        scores = np.maximum.reduceat(dequantize(found.codes, found.scales) @ queries.T, starts, axis=0)
        docs = found.docs[starts]
        count = min(HITS, len(docs))
        top = np.argpartition(-scores, count - 1, axis=0)[:count]
        for i, places in enumerate(top.T):
            for doc, score in zip(docs[places].tolist(), scores[places, i].tolist(), strict=True):
                best[i][doc] = max(score, best[i].get(doc, -1.0))
            best[i] = dict(nlargest(HITS, best[i].items(), key=itemgetter(1)))
    return [min(one.values()) for one in best], [len(one) for one in best]
