"""Chroma with our embedding function: collections that are kept, opened again, and asked."""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.docpages import run_page

pytest.importorskip("chromadb", exc_type=ImportError)

import chromadb
from chromadb.config import Settings
from chromadb.utils.embedding_functions import known_embedding_functions

from edge_embed import Embedder, Reranker, TruncationWarning
from edge_embed.errors import BundleFormatError, BundleMismatchError, InputError
from edge_embed.integrations.chroma import EdgeEmbeddingFunction

pytestmark = pytest.mark.frameworks

TEXTS = ["The ferry to the island leaves at nine.", "The cat sleeps on the windowsill.", "the river bank"]
IDS = ["ferry", "cat", "bank"]
OFFLINE = Settings(anonymized_telemetry=False)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Path]:
    """A folder of a database; its clients are forgotten at the end."""
    yield tmp_path / "chroma"
    chromadb.api.shared_system_client.SharedSystemClient.clear_system_cache()


def client(folder: Path) -> Any:
    """Reads what is on disk: no client that was there before is taken."""
    chromadb.api.shared_system_client.SharedSystemClient.clear_system_cache()
    return chromadb.PersistentClient(folder, settings=OFFLINE)


def nearest(collection: Any, text: str) -> list[str]:
    found: list[str] = collection.query(query_texts=[text], n_results=2)["ids"][0]
    return found


def test_vectors_and_roles(kept: Path, prompted: Embedder) -> None:
    """Documents are embedded as documents, queries as queries, and compared by cosine."""
    function = EdgeEmbeddingFunction(str(prompted.path), threads=1)
    collection = client(kept).create_collection("notes", embedding_function=function)
    collection.add(ids=IDS, documents=TEXTS)
    stored = np.array(collection.get(ids=IDS, include=["embeddings"])["embeddings"])
    np.testing.assert_allclose(stored, prompted.encode_document(TEXTS), atol=1e-6)
    found = collection.query(query_texts=["a red cat"], n_results=3)
    asked = prompted.encode_query(["a red cat"])[0]
    expected = 1 - prompted.encode_document(TEXTS) @ asked
    assert found["ids"][0] == [IDS[i] for i in np.argsort(expected)]
    np.testing.assert_allclose(found["distances"][0], np.sort(expected), atol=1e-5)
    assert not np.allclose(asked, prompted.encode_document(["a red cat"])[0])


def test_a_collection_opens_again_by_itself(kept: Path) -> None:
    """In another process, which imports the module and gives no function."""
    notes = client(kept).create_collection("notes", embedding_function=EdgeEmbeddingFunction("static", truncate_dim=64))
    notes.add(ids=IDS, documents=TEXTS)
    code = (
        "import sys, json, chromadb, edge_embed.integrations.chroma\n"
        "from chromadb.config import Settings\n"
        "client = chromadb.PersistentClient(sys.argv[1], settings=Settings(anonymized_telemetry=False))\n"
        "found = client.get_collection('notes')\n"
        "found.add(ids=['new'], documents=['A train goes to the mountains.'])\n"
        "print(json.dumps(found.query(query_texts=['when does the boat go?', 'railway'], n_results=1)['ids']))"
    )
    command = [sys.executable, "-c", code, str(kept)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(found.stdout.splitlines()[-1]) == [["ferry"], ["new"]]
    again = client(kept).get_collection("notes")
    assert nearest(again, "a sleeping animal")[0] == "cat"
    assert again.configuration["embedding_function"].options == {"truncate_dim": 64}
    assert np.array(again.get(ids=["new"], include=["embeddings"])["embeddings"]).shape == (1, 64)


def test_a_bundle_of_one_s_own(kept: Path, prompted: Embedder) -> None:
    """Opens again with the function, and without it once one was made."""
    function = EdgeEmbeddingFunction(str(prompted.path))
    client(kept).create_collection("notes", embedding_function=function).add(ids=IDS, documents=TEXTS)
    assert nearest(client(kept).get_collection("notes", embedding_function=function), "the river bank")
    assert nearest(client(kept).get_collection("notes"), "the river bank")
    del known_embedding_functions[function.name()]
    with pytest.raises(ValueError, match="not found"):
        client(kept).get_collection("notes").query(query_texts=["a"], n_results=1)
    EdgeEmbeddingFunction(str(prompted.path))
    assert nearest(client(kept).get_collection("notes"), "the river bank")


def test_another_bundle_is_refused(kept: Path) -> None:
    """By name, before anything is asked or stored."""
    notes = client(kept).create_collection("notes", embedding_function=EdgeEmbeddingFunction("static"))
    notes.add(ids=IDS, documents=TEXTS)
    for open_again in ("get_collection", "get_or_create_collection"):
        with pytest.raises(
            ValueError, match=r"Embedding function conflict: new: edge_embed-.* vs persisted: edge_embed-"
        ):
            getattr(client(kept), open_again)("notes", embedding_function=EdgeEmbeddingFunction("minilm"))
    assert notes.count() == 3


def test_a_bundle_that_was_replaced_is_refused(
    kept: Path, tmp_path: Path, prompted: Embedder, embedder: Embedder
) -> None:
    """Its folder holds another one when the collection opens, or when the first text is embedded."""
    folder = tmp_path / "bundle"
    shutil.copytree(prompted.path, folder)
    early = EdgeEmbeddingFunction(str(folder))
    client(kept).create_collection("notes", embedding_function=early).add(ids=IDS, documents=TEXTS)
    late = EdgeEmbeddingFunction(str(folder))
    shutil.rmtree(folder)
    shutil.copytree(embedder.path, folder)
    with pytest.raises(ValueError, match=r"Could not build .* embed the documents again, in a new collection"):
        client(kept).get_collection("notes").query(query_texts=["a"], n_results=1)
    with pytest.raises(ValueError, match="Embedding function conflict"):
        client(kept).get_collection("notes", embedding_function=EdgeEmbeddingFunction(str(folder)))
    with pytest.raises(BundleMismatchError, match="embed the documents again"):
        late(["a text"])


def test_configuration() -> None:
    """It comes back as it was; what is none of ours is refused."""
    function = EdgeEmbeddingFunction("static", truncate_dim=32, threads=1)
    config = json.loads(json.dumps(function.get_config()))
    assert set(config) == {"bundle", "fingerprint", "truncate_dim"}  # threads are this machine's
    assert EdgeEmbeddingFunction.build_from_config(config).get_config() == config
    assert not function.is_legacy()
    assert EdgeEmbeddingFunction.name() == "edge_embed"
    assert function.name() == EdgeEmbeddingFunction("static").name() != EdgeEmbeddingFunction().name()
    assert pickle.loads(pickle.dumps(function)).get_config() == config  # noqa: S301 - our own
    with pytest.raises(InputError, match="expected"):
        EdgeEmbeddingFunction.build_from_config({"model": "x"})
    for changed in ({"fingerprint": "0" * 32}, {"truncate_dim": 16}):
        with pytest.raises(BundleMismatchError):
            function.validate_config_update(config, config | changed)
    function.validate_config_update(config, config | {"bundle": "elsewhere"})
    with pytest.raises(BundleMismatchError):
        EdgeEmbeddingFunction.build_from_config(config | {"fingerprint": "0" * 32})


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(BundleFormatError, match=r"manifest\.json"):
            EdgeEmbeddingFunction(folder)


def test_another_kind_of_bundle(reranker: Reranker) -> None:
    """Refused before a collection remembers it."""
    with pytest.raises(InputError, match="EdgeEmbeddingFunction takes bundles of kind 'dense'"):
        EdgeEmbeddingFunction(reranker.path)


def test_long_documents_are_named() -> None:
    with pytest.warns(TruncationWarning, match="text 1"):
        EdgeEmbeddingFunction("static", threads=1)(["short", "word " * 600])


@pytest.mark.parametrize("texts", [[None], [3], [b"bytes"], ["\ud800"], "one text"])
def test_what_is_no_text_is_refused(texts: Any) -> None:
    function = EdgeEmbeddingFunction("static", threads=1)
    for call in (function, function.embed_query):
        with pytest.raises(InputError):
            call(texts)


def test_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of docs/chroma.md, in order."""
    assert run_page("chroma.md", tmp_path, monkeypatch) >= 2
