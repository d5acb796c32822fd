"""A bundle as the function that gives txtai its vectors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.docpages import run_page
from builders.served import prompted_bundle

from edge_embed import Embedder

txtai = pytest.importorskip("txtai")

pytestmark = [
    pytest.mark.frameworks,
    # what faiss's bindings say, and databases that txtai leaves to the garbage collector
    pytest.mark.filterwarnings("ignore:builtin type .* has no __module__ attribute:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
]
TEXTS = {
    "cat": "The cat sleeps on the sofa.",
    "tax": "Tax forms are due at the end of May.",
    "ship": "Ships wait outside the harbour.",
}


def function(embedder: Embedder) -> Callable[[list[str]], Any]:
    """txtai calls what is no plain function, as a method, without arguments."""

    def vectors(texts: list[str]) -> Any:
        return embedder.encode(texts)

    return vectors


def made(embedder: Embedder, **options: Any) -> Any:
    index = txtai.Embeddings(method="external", transform=function(embedder), **options)
    index.index([(key, text, None) for key, text in TEXTS.items()])
    return index


def test_scores_are_cosines_of_the_bundle(embedder: Embedder) -> None:
    """Documents in the order of their cosines, which txtai gives as scores; it leaves out those below 0."""
    index = made(embedder)
    query = "when does a ship with a cat pay tax?"
    found = dict(index.search(query, 3))
    expected = embedder.encode(list(TEXTS.values())) @ embedder.encode([query])[0]
    assert (expected > 0).all()
    assert list(found) == [key for _, key in sorted(zip(expected, TEXTS, strict=True), reverse=True)]
    np.testing.assert_allclose([found[key] for key in TEXTS], expected, atol=1e-5)
    index.close()


def test_saved_loaded_and_changed(embedder: Embedder, tmp_path: Path) -> None:
    made(embedder, content=True).save(str(tmp_path / "index"))
    again = txtai.Embeddings()
    again.load(str(tmp_path / "index"), config={"transform": function(embedder)})
    assert again.search("income tax", 1)[0]["text"] == TEXTS["tax"]
    again.upsert([("new", "A kitten is resting on the couch.", None)])
    assert {hit["id"] for hit in again.search("a sleeping animal", 2)} == {"cat", "new"}
    again.delete(["cat", "new"])
    assert {hit["id"] for hit in again.search("when does a ship with a cat pay tax?", 3)} == {"tax", "ship"}
    again.close()


def test_instructions_are_the_prompts(tmp_path: Path, short_receipt: None) -> None:
    """What the page says for bundles with prompts: the vectors are those of the roles."""
    embedder = Embedder(prompted_bundle(tmp_path), threads=1)
    prompts = embedder.prompts
    index = txtai.Embeddings(
        method="external",
        transform=lambda texts: embedder.encode(texts, prompt=""),
        instructions={"query": prompts["query"], "data": prompts["document"]},
    )
    text = "the boat"
    expected = {"query": embedder.encode_query([text]), "data": embedder.encode_document([text])}
    for role, vectors in expected.items():
        np.testing.assert_allclose(index.batchtransform([text], role), vectors, atol=1e-6)
    assert not np.allclose(expected["query"], expected["data"])


def test_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of docs/txtai.md, in order."""
    assert run_page("txtai.md", tmp_path, monkeypatch) >= 4
