"""EdgeDocumentStore beside Haystack's InMemoryDocumentStore on a judged set: quality, milliseconds, bytes.

python -m bench.haystack_store FOLDER [--bundle static]

Documents are embedded once, by the bundle; both stores get the same embeddings. It does not measure embedding. CPU
time of one thread, the median over the queries; searches of the two stores come in turns.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from bench.feedback import ndcg
from edge_embed.measuring.judged import read_judged_set

ENGLISH = {"field": "meta.lang", "operator": "==", "value": "en"}
NESTED = {"field": "meta.at.n", "operator": "<", "value": 100}


def cpu_ms(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    found = call()
    return found, 1000 * (time.process_time() - start)


@click.command()
@click.argument("folder", type=click.Path(exists=True))
@click.option("--bundle", default="static")
def main(folder: str, bundle: str) -> None:
    os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
    from haystack import Document
    from haystack.document_stores.in_memory import InMemoryDocumentStore

    from edge_embed.integrations.haystack import EdgeDocumentEmbedder, EdgeDocumentStore, EdgeTextEmbedder

    judged = read_judged_set(folder)
    documents = [
        Document(id=key, content=text, meta={"lang": "en" if i % 2 else "de", "at": {"n": i}})
        for i, (key, text) in enumerate(judged.documents.items())
    ]
    embedder = EdgeDocumentEmbedder(bundle, on_truncation="ignore")
    embedded = embedder.run(documents)["documents"]
    asker = EdgeTextEmbedder(bundle)
    asked = {key: asker.run(text)["embedding"] for key, text in judged.queries.items()}
    with tempfile.TemporaryDirectory() as temporary:
        stores = {
            "in memory": InMemoryDocumentStore(shared=False, embedding_similarity_function="cosine"),
            "edge, exact": EdgeDocumentStore(Path(temporary) / "exact.db"),
            "edge, int8": EdgeDocumentStore(Path(temporary) / "int8.db", embeddings="int8"),
        }
        for name, store in stores.items():
            _, taken = cpu_ms(partial(store.write_documents, embedded))
            path = getattr(store, "path", None)
            size = "" if path is None else f", {Path(path).stat().st_size:,} bytes"
            sys.stdout.write(f"{name}: {len(embedded)} written in {taken:.0f} ms{size}\n")
        for what, filters in (("no filter", None), ("meta.lang", ENGLISH), ("meta.at.n", NESTED)):
            times: dict[str, list[float]] = {name: [] for name in stores}
            ranked: dict[str, dict[str, list[str]]] = {name: {} for name in stores}
            for key, vector in list(asked.items())[: None if filters is None else 20]:
                for name, store in stores.items():
                    ask = partial(store.embedding_retrieval, vector, filters=filters, top_k=10)
                    found, taken = cpu_ms(ask)
                    times[name].append(taken)
                    ranked[name][key] = [one.id for one in found]
            for name in stores:
                quality = ""
                if filters is None:
                    scores = [
                        ndcg(found, {one for one, grade in judged.judgements[key].items() if grade})
                        for key, found in ranked[name].items()
                    ]
                    quality = f", nDCG@10 {statistics.fmean(scores):.4f}"
                sys.stdout.write(f"{what}, {name}: {statistics.median(times[name]):.2f} ms{quality}\n")


if __name__ == "__main__":
    main()
