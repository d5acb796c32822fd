"""Haystack's embedders and ranker: the same vectors and scores as ours, prompts, saved as YAML, awaited."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.docpages import run_page

pytest.importorskip("haystack", exc_type=ImportError)

from haystack import Document, Pipeline
from haystack.core.component import Component

from edge_embed import Embedder, Reranker, TruncationWarning
from edge_embed.errors import InputError
from edge_embed.integrations.haystack import EdgeDocumentEmbedder, EdgeRanker, EdgeTextEmbedder

pytestmark = pytest.mark.frameworks

ONE_THREAD: dict[str, Any] = {"threads": 1}
TEXTS = ["the river bank", "the dog is in the garden", "a red cat"]
DOCUMENTS = [Document(content=text, meta={"title": f"title {i}", "n": i}) for i, text in enumerate(TEXTS)]


def again(component: Component) -> Any:
    """A component out of the YAML of a pipeline."""
    pipeline = Pipeline()
    pipeline.add_component("one", component)
    return Pipeline.loads(pipeline.dumps()).get_component("one")


def test_texts(prompted: Embedder) -> None:
    """The vector is that of the role "query", in floats of Python."""
    embedder = EdgeTextEmbedder(prompted.path, embedder_options=ONE_THREAD)
    for one in (embedder, again(embedder)):
        one.warm_up()
        found = one.run("the river bank")["embedding"]
        assert found == prompted.encode_query(["the river bank"])[0].tolist()
        assert found != prompted.encode_document(["the river bank"])[0].tolist()
        assert asyncio.run(one.run_async("the river bank"))["embedding"] == found
    around = EdgeTextEmbedder(prompted.path, prefix="a ", suffix=" at night", prompt="", embedder_options=ONE_THREAD)
    assert again(around).run("cat")["embedding"] == prompted.encode(["a cat at night"], prompt="")[0].tolist()
    for wrong in (DOCUMENTS, None, 3):
        with pytest.raises(TypeError, match="takes a text"):
            embedder.run(wrong)  # type: ignore[arg-type]


def test_documents(prompted: Embedder) -> None:
    """Copies with the vectors of the role "document"; what they had stays, and what was given, too."""
    embedder = EdgeDocumentEmbedder(prompted.path, embedder_options=ONE_THREAD)
    for one in (embedder, again(embedder)):
        found = one.run(DOCUMENTS)["documents"]
        assert np.array([document.embedding for document in found]).tolist() == prompted.encode_document(TEXTS).tolist()
        assert [(d.id, d.content, d.meta) for d in found] == [(d.id, d.content, d.meta) for d in DOCUMENTS]
        assert asyncio.run(one.run_async(DOCUMENTS))["documents"] == found
    assert all(document.embedding is None for document in DOCUMENTS)
    titled = EdgeDocumentEmbedder(prompted.path, meta_fields_to_embed=["title", "none"], embedding_separator=": ")
    expected = prompted.encode_document([f"title {i}: {text}" for i, text in enumerate(TEXTS)])
    assert [d.embedding for d in again(titled).run(DOCUMENTS)["documents"]] == expected.tolist()
    assert embedder.run([]) == {"documents": []}
    for wrong in (TEXTS, "text", None, [None]):
        with pytest.raises(TypeError, match="takes a list of Documents"):
            embedder.run(wrong)  # type: ignore[arg-type]


def test_documents_without_text_and_long_ones(prompted: Embedder) -> None:
    """One has no vector, the other a warning."""
    embedder = EdgeDocumentEmbedder(prompted.path, embedder_options=ONE_THREAD)
    empty = Document(content=None, meta={"file": "a.png"})
    found = embedder.run([empty, DOCUMENTS[0], Document(content="  ")])["documents"]
    assert [document.embedding is None for document in found] == [True, False, True]
    assert found[0] == empty
    long = [Document(content="the cat " * 500)]
    with pytest.warns(TruncationWarning):
        embedder.run(long)
    with pytest.raises(InputError):
        EdgeDocumentEmbedder(prompted.path, on_truncation="error", embedder_options=ONE_THREAD).run(long)


def test_the_ranker(reranker: Reranker) -> None:
    """The order and the scores are the Reranker's; of documents with one id the first counts."""
    ranker = EdgeRanker(reranker.path, threads=1)
    expected = reranker.rerank("a red cat at night", TEXTS)
    for one in (ranker, again(ranker)):
        one.warm_up()
        found = one.run("a red cat at night", [*DOCUMENTS, DOCUMENTS[0]])["documents"]
        assert [(d.content, d.score) for d in found] == [(TEXTS[r.index], r.score) for r in expected]
        assert asyncio.run(one.run_async("a red cat at night", DOCUMENTS))["documents"] == found
    assert all(document.score is None for document in DOCUMENTS)
    assert len(ranker.run("cat", DOCUMENTS, top_k=2)["documents"]) == 2
    least = expected[1].score
    assert len(ranker.run("a red cat at night", DOCUMENTS, score_threshold=least)["documents"]) == 2
    titled = again(EdgeRanker(reranker.path, meta_fields_to_embed=["title"], top_k=1, threads=1))
    best = reranker.rerank("cat", [f"title {i}\n{text}" for i, text in enumerate(TEXTS)])[0]
    assert [d.content for d in titled.run("cat", DOCUMENTS)["documents"]] == [TEXTS[best.index]]
    assert ranker.run("cat", []) == {"documents": []}
    with pytest.raises(InputError, match="top_k"):
        ranker.run("cat", DOCUMENTS, top_k=0)
    with pytest.raises(InputError, match="scores no pairs"):
        EdgeRanker("static").run("cat", DOCUMENTS)


def test_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of docs/haystack.md, in order."""
    assert run_page("haystack.md", tmp_path, monkeypatch) >= 4
