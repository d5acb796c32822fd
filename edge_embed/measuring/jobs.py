"""`python -m edge_embed.measuring.jobs JOB`: one figure of `edge-embed bench`, in a process of its own.

JOB is JSON: {"do": a name of JOBS, "bundle", "threads", "max_rss_mb", "engine", "seconds", "documents", "folder"}.
Every line written is JSON: {"ready": true} at the first vector, and {"result": ...} or {"failed": why} at the end.
"""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_embed.measuring.children import Say, answering
from edge_embed_runtime.errors import EdgeEmbedError
from edge_embed_runtime.system.memory import peak_rss_bytes

if TYPE_CHECKING:
    from edge_embed.embedder import Embedder
    from edge_embed_runtime.embed.reranker import Reranker

INDEX = "index.db"
FIRST_TEXT = "where is my card?"
# Calls that are not counted, and the fewest that are.
WARM_UP, LEAST_CALLS, LEAST_PASSES = 3, 20, 2
# Documents that are stored at a time.
BATCH = 1000
HITS = 10


def start(job: dict[str, Any], say: Say) -> dict[str, Any]:
    """The first vector of a process; who started it looks at the clock."""
    from edge_embed.measuring.speed import encoder

    embedder = _model(job)
    encoder(embedder)([FIRST_TEXT])
    say({"ready": True})
    cpu = time.process_time()
    return {"cpu": cpu, "threads": embedder.threads, "exact": embedder.exact, "engine": embedder.engine}


def query(job: dict[str, Any], _: Say) -> dict[str, Any]:
    """One short text at a time."""
    from edge_embed.measuring.speed import encoder, texts_for, timed

    embedder = _model(job)
    texts, encode = texts_for(embedder), encoder(embedder)

    def ask(i: int) -> None:
        encode([texts[i % len(texts)]])

    timed(ask, 0, WARM_UP)
    return {"query": vars(timed(ask, job["seconds"], LEAST_CALLS))}


def batch(job: dict[str, Any], _: Say) -> dict[str, Any]:
    """Many texts at a time: as many for each thread, short ones and then paragraphs."""
    from edge_embed.measuring.speed import PASSAGE_TOKENS, QUERY_TOKENS, encoder, texts_for, timed

    embedder = _model(job)

    def rate(length: tuple[int, int]) -> dict[str, Any]:
        rows, encode = texts_for(embedder, length) * embedder.threads, encoder(embedder)
        timed(lambda _: encode(rows), 0, 1)
        measured = timed(lambda _: encode(rows), job["seconds"], LEAST_PASSES)
        return {**vars(measured), "texts": len(rows) * len(measured.seconds)}

    return {"texts": rate(QUERY_TOKENS), "passages": rate(PASSAGE_TOKENS)}


def build(job: dict[str, Any], _: Say) -> dict[str, Any]:
    """An index of vectors grown from those of the packaged texts; each document's text is two of these."""
    import random

    from edge_embed.corpus import demo_documents
    from edge_embed.measuring.vectors import grown
    from edge_embed_runtime.index.index import Index
    from edge_embed_runtime.storage.documents import Document

    embedder = _embedder(job)
    texts = [document.text for document in demo_documents()]
    base = embedder.encode_document(texts)
    pick, path, stored, seconds = random.Random(0), Path(job["folder"]) / INDEX, 0, 0.0  # noqa: S311 - no secret
    with Index.create(path, space="bench", dim=embedder.dim, max_rss_mb=job["max_rss_mb"]) as index:
        for vectors in grown(base, job["documents"]):
            for first in range(0, len(vectors), BATCH):
                part = vectors[first : first + BATCH]
                documents = [
                    Document(str(stored + i), f"{texts[(stored + i) % len(texts)]} {pick.choice(texts)}")
                    for i in range(len(part))
                ]
                began = time.perf_counter()
                index.add_vectors(documents, part)
                seconds += time.perf_counter() - began
                stored += len(part)
    return {"seconds": seconds, "bytes": sum(file.stat().st_size for file in path.parent.iterdir())}


def search(job: dict[str, Any], _: Say) -> dict[str, Any]:
    """Questions as an application asks them, by meaning and by words; and the index alone, by vectors."""
    from edge_embed.measuring.speed import texts_for, timed
    from edge_embed_runtime.index.index import Index

    embedder = _embedder(job)
    questions = texts_for(embedder)
    with Index.open(Path(job["folder"]) / INDEX, read_only=True, max_rss_mb=job["max_rss_mb"]) as index:

        def ask(i: int) -> None:
            question = questions[i % len(questions)]
            index.search(question, HITS, mode="hybrid", vector=embedder.encode_query([question])[0])

        def look(i: int) -> None:
            index.search(k=HITS, vector=vectors[i % len(vectors)])

        timed(ask, 0, WARM_UP)
        asked = timed(ask, job["seconds"], LEAST_CALLS)
        peak, vectors = peak_rss_bytes(), embedder.encode_query(questions)
        timed(look, 0, WARM_UP)
        return {"search": vars(asked), "peak": peak, "index": vars(timed(look, job["seconds"], LEAST_CALLS))}


def _model(job: dict[str, Any]) -> "Embedder | Reranker":
    """Of any kind."""
    from edge_embed.embedder import load_any

    return load_any(job["bundle"], threads=job["threads"], max_rss_mb=job["max_rss_mb"], engine=job.get("engine"))


def _embedder(job: dict[str, Any]) -> "Embedder":
    from edge_embed.embedder import Embedder

    return Embedder(job["bundle"], threads=job["threads"], max_rss_mb=job["max_rss_mb"], engine=job.get("engine"))


JOBS = {each.__name__: each for each in (start, query, batch, build, search)}


def main() -> None:
    job = json.loads(sys.argv[1])
    with answering() as say:
        say({"stage": "measuring"})
        try:
            found = JOBS[job["do"]](job, say)
            say({"result": {"peak": peak_rss_bytes(), **found}})
        except EdgeEmbedError as error:
            say({"failed": str(error)})


if __name__ == "__main__":
    main()
