"""The index behind a framework's store."""

import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
from builders.architectures import MODELS, write
from builders.commands import run

from edge_embed import BundleMismatchError, Document, Embedder, FilterError, Index, IndexFileError, InputError
from edge_embed.cli import options
from edge_embed.embedder import BUNDLE_VARIABLE, bundle_path, own_embedder
from edge_embed.errors import BundleFormatError
from edge_embed.integrations.stores import (
    StoreIndex,
    nearest_vectors,
    space_of,
    unless_unknown,
    with_documents,
)
from edge_embed_export import export_model

DOCUMENTS = [Document("cat", "The cat sleeps on the sofa.", {"lang": "en"}), Document("dog", "A dog barks.")]


@pytest.fixture
def static_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line's default bundle is the small one."""
    monkeypatch.setenv(BUNDLE_VARIABLE, "static")


@pytest.fixture(scope="module")
def static() -> Embedder:
    return Embedder("static")


def test_one_name_for_the_default() -> None:
    """The command line, whose help loads no bundle, has the variable's name of its own."""
    assert options.BUNDLE_VARIABLE == BUNDLE_VARIABLE


def test_own_embedder(tmp_path: Path, static: Embedder, static_default: None) -> None:
    """A new file is of the command line's bundle, one that is there of the bundle that made it."""
    assert own_embedder(tmp_path / "new.db").fingerprint == static.fingerprint  # type: ignore[union-attr]
    short = Embedder(truncate_dim=64, threads=1)
    Index.open(tmp_path / "short.db", short).close()
    found = own_embedder(tmp_path / "short.db")
    assert found is not None
    assert (found.fingerprint, found.dim) == (short.fingerprint, 64)
    Index.create(tmp_path / "given.db", space="a", dim=3).close()
    assert own_embedder(tmp_path / "given.db") is None


def test_bundle_elsewhere(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle that does not come with the package is found where the environment names it."""
    Index.open(tmp_path / "tiny.db", Embedder(tiny_bundle)).close()
    with pytest.raises(BundleMismatchError, match="does not come with edge_embed"):
        StoreIndex(tmp_path / "tiny.db")
    monkeypatch.setenv(BUNDLE_VARIABLE, str(tiny_bundle))
    assert own_embedder(tmp_path / "tiny.db").path == tiny_bundle  # type: ignore[union-attr]


def test_what_is_no_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Index.open(tmp_path / "a.db", Embedder("static")).close()
    monkeypatch.setenv(BUNDLE_VARIABLE, str(tmp_path / "none"))
    for name in ("a.db", "new.db"):
        with pytest.raises(BundleFormatError, match="none does not exist; a bundle is a folder"):
            own_embedder(tmp_path / name)


def test_adapter_of_an_index(tmp_path: Path, short_receipt: None) -> None:
    """The bundle's adapter that made the vectors makes the next ones, too."""
    source = write(MODELS["jina_v3"](), tmp_path / "source")
    export_model(source, tmp_path / "bundle", precision="fp32", task="all", verify="skip")
    for adapter in (None, "base", *Embedder(tmp_path / "bundle").adapters):
        made = Embedder(tmp_path / "bundle", adapter=adapter, threads=1)
        path = tmp_path / f"{adapter}.db"
        Index.open(path, made).close()
        found = own_embedder(path, str(tmp_path / "bundle"), threads=1)
        assert found is not None
        assert found.fingerprint == made.fingerprint
        assert (found.encode(["the river"]) == made.encode(["the river"])).all()


def test_command_line_and_store(tmp_path: Path, static_default: None) -> None:
    """A store opens what `edge-embed add` made, and `edge-embed search` what a store made."""
    (tmp_path / "a.txt").write_text("The cat sleeps on the sofa.")
    assert run("add", tmp_path / "a.db", tmp_path / "a.txt", "--bundle", "static").exit_code == 0
    store = StoreIndex(tmp_path / "a.db")
    assert store.index is not None
    assert [hit.key for hit in store.index.search("a sleeping cat")] == ["a.txt"]
    assert store.upsert(DOCUMENTS) == 2
    found = run("search", tmp_path / "a.db", "a barking dog", "-k", 1)  # while the store has it open
    assert found.exit_code == 0
    assert "1. dog" in found.stdout
    store.close()


def test_two_stores_in_turns(tmp_path: Path, static: Embedder) -> None:
    """Two stores of one file write at the same time, and each sees what the other has written."""
    one, two = StoreIndex(tmp_path / "a.db", static), StoreIndex(tmp_path / "a.db", static)

    def add(store: StoreIndex, name: str) -> None:
        for i in range(10):
            store.upsert([Document(f"{name}{i}", f"number {i} of {name}")])

    threads = [threading.Thread(target=add, args=pair) for pair in ((one, "one"), (two, "two"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in (one, two):
        assert store.index is not None
        assert len(store.index) == 20
        store.close()


def test_given_vectors(tmp_path: Path) -> None:
    """The file is made with the first vectors; another store finds it; other spaces and other numbers are refused."""
    path = tmp_path / "given.db"
    store, other = StoreIndex(path, space="api one"), StoreIndex(path, space="api one")
    assert store.index is None
    assert other.index is None
    assert store.upsert([], []) == 0
    assert not path.exists()
    assert store.upsert(DOCUMENTS, [[1, 0, 0], [0, 1, 0]]) == 2
    assert other.index is not None
    assert other.index.search(vector=[0, 1, 0.1], k=1)[0].key == "dog"
    assert other.upsert(DOCUMENTS[:1], [[0, 0, 1]]) == 1
    with pytest.raises(InputError, match="shape"):
        other.upsert(DOCUMENTS[:1], [[0, 0, 1, 1]])
    with pytest.raises(InputError, match="give one for each document"):
        other.upsert(DOCUMENTS)
    with pytest.raises(BundleMismatchError, match="vectors of 'api one', those given come from 'api two'"):
        StoreIndex(path, space="api two")
    store.close()
    other.close()


def test_made_by_another_meanwhile(tmp_path: Path) -> None:
    """Of two stores that store their first vectors at once, the second opens the file of the first."""
    stores = [StoreIndex(tmp_path / "given.db", space="a") for _ in range(4)]
    barrier = threading.Barrier(4)

    def add(number: int) -> None:
        barrier.wait()
        stores[number].upsert([Document(f"{number}", "text")], [[number, 1]])

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stores[0].index is not None
    assert sorted(stores[0].index.keys()) == ["0", "1", "2", "3"]
    for store in stores:
        store.close()


def test_bundles_are_no_spaces(tmp_path: Path, static: Embedder) -> None:
    """Vectors of others do not get into an index of a bundle."""
    StoreIndex(tmp_path / "a.db", static).close()
    with pytest.raises(BundleMismatchError, match="open it without embeddings of others"):
        StoreIndex(tmp_path / "a.db", space="api")


def test_options(tmp_path: Path, static: Embedder) -> None:
    """Those of Index.open; unknown ones are refused before anything is made; read_only makes nothing."""
    with pytest.raises(InputError, match="unknown options: colour; known: fields"):
        StoreIndex(tmp_path / "a.db", static, colour="red")
    assert not list(tmp_path.iterdir())
    store = StoreIndex(tmp_path / "a.db", static, fields=["lang"], words="plain")
    assert store.index is not None
    assert store.index.stats()["fields"] == ["lang"]
    store.close()
    reading = StoreIndex(tmp_path / "a.db", read_only=True)
    assert reading.embedder is not None
    assert reading.embedder.fingerprint == static.fingerprint
    reading.close()
    with pytest.raises(IndexFileError, match="does not exist"):
        StoreIndex(tmp_path / "none.db", space="a", read_only=True).upsert(DOCUMENTS[:1], [[1.0]])


def test_pickled(tmp_path: Path, static: Embedder) -> None:
    """A copy opens the same file."""
    with_model, without = StoreIndex(tmp_path / "a.db", static), StoreIndex(tmp_path / "b.db", space="b", words="plain")
    with_model.upsert(DOCUMENTS)
    copy, other = pickle.loads(pickle.dumps((with_model, without)))  # noqa: S301 - our own
    assert len(copy.index) == 2
    assert other.index is None
    other.upsert(DOCUMENTS[:1], [[1, 2]])
    assert other.index.stats()["words"] == "plain"
    for store in (with_model, copy, without, other):
        store.close()


def test_unknown_fields(tmp_path: Path, static: Embedder) -> None:
    """A field that no document has fits nothing; a condition that is none stays an error."""
    with Index.open(tmp_path / "a.db", static) as index:
        index.add(DOCUMENTS)
        where = {"colour": "red"}
        assert unless_unknown(where, lambda: index.count(where), 0) == 0
        known = {"lang": "en"}
        assert unless_unknown(known, lambda: index.count(known), 0) == 1
        bad = {"colour": {"$like": "red"}}
        with pytest.raises(FilterError, match="is no operator"):
            unless_unknown(bad, lambda: index.count(bad), 0)


def test_whole_documents_and_vectors(tmp_path: Path, static: Embedder) -> None:
    """Of hits the whole documents, and of each document the vector of its nearest passage."""
    long = " ".join(["Nothing happens here."] * 200) + " The treasure is under the oak."
    with Index.open(tmp_path / "a.db", static) as index:
        index.add([*DOCUMENTS, Document("novel", long)])
        hits = index.search("the treasure under the oak", k=2, mode="vector")
        assert hits[0].key == "novel"
        assert len(hits[0].text) < len(long)
        index.delete(hits[1].key)
        (pair,) = with_documents(index, hits)
        assert pair == (hits[0], Document("novel", long))
        vector = static.encode_query(["the treasure under the oak"])[0]
        nearest, cosines = nearest_vectors(index, ["novel", "gone"], 3 * vector)
        assert nearest.shape == (2, static.dim)
        assert cosines == pytest.approx([hits[0].score, 0], abs=1e-3)
        assert np.linalg.norm(nearest, axis=1) == pytest.approx([1, 0])


def test_names_of_spaces(tmp_path: Path) -> None:
    """A class and, where it says so, its model; of a folder the name alone."""

    class Remote:
        model = "text-embedding-3\nsmall"

    assert space_of(Remote()) == "Remote text-embedding-3small"
    folder = Remote()
    folder.model = str(tmp_path / "my-model")
    assert space_of(folder) == "Remote my-model"
    assert space_of(3) == "int"
    assert bundle_path("static").name == "static-minilm-l6-v2"
