"""The index of the MCP server, without the protocol."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from builders.mcpclient import document, notebook

from edge_embed import (
    BundleMismatchError,
    Document,
    DuplicateKeyError,
    Embedder,
    FilterError,
    Index,
    IndexFileError,
    IndexLockedError,
    IndexReadOnlyError,
    InputError,
)
from edge_embed.integrations.mcp.fitting import Fitting
from edge_embed.integrations.mcp.limits import Limits
from edge_embed.integrations.mcp.notebook import Notebook
from edge_embed.integrations.mcp.resources import START, address, cursor, key_before, key_of, mime_type
from edge_embed.integrations.mcp.tools import tools

BOATS = document("notes/boats.md", "The ferry to the island leaves at nine.", topic="boats", year=2026)
CATS = document("cats", "A cat sleeps on the sofa.", topic="cats")
STRANGE = ["..", ".", "a/b", "/etc/passwd", "é ü 漢字 🐈", "100%", "a?b#c&d=e", "a b\tc", "%2e%2e", "x" * 2048, "C:\\x"]


@pytest.fixture(scope="module")
def static() -> Embedder:
    return Embedder("static", threads=1)


def test_made_with_the_first_document(tmp_path: Path, static: Embedder) -> None:
    """An index that is not there is empty, and made with the first document; the model is loaded then, once."""
    loads = []

    def models(path: Path) -> dict[str, Embedder]:
        loads.append(path)
        return {"embedder": static}

    notes = Notebook(tmp_path / "n.db", models)
    assert notes.search("boats", 5, None, None) == {"hits": [], "note": "there are no documents yet"}
    assert notes.find(None, 20, 0, True)["total"] == 0
    assert notes.forget(["cats", "cats"])["unknown"] == ["cats"]
    with pytest.raises(InputError, match="no document 'cats'"):
        notes.read("cats", 0, 100)
    assert not loads
    assert not list(tmp_path.iterdir())
    assert notes.add([BOATS, CATS], False) == {"stored": 2, "unchanged": 0, "documents": 2}
    found = notes.search("when does the ship go?", 1, None, None)
    assert [hit["key"] for hit in found["hits"]] == ["notes/boats.md"]
    assert found["hits"][0]["metadata"] == {"topic": "boats", "year": 2026}
    assert loads == [tmp_path / "n.db"]


def test_added_again(tmp_path: Path, static: Embedder) -> None:
    """What is there just so is no error; another text under its key is one, unless it is to be replaced."""
    notes = notebook(tmp_path / "n.db", static)
    notes.add([BOATS], False)
    assert notes.add([BOATS, CATS], False) == {"stored": 1, "unchanged": 1, "documents": 2}
    changed = {**CATS, "text": "The cat is awake."}
    with pytest.raises(DuplicateKeyError, match="replace=true"):
        notes.add([changed, document("new", "new")], False)
    assert notes.find(None, 20, 0, False)["total"] == 2
    with pytest.raises(DuplicateKeyError, match="twice"):
        notes.add([changed, changed], False)
    assert notes.add([changed], True) == {"stored": 1, "unchanged": 0, "documents": 2}
    assert notes.read("cats", 0, 100)["text"] == "The cat is awake."


def test_filters_modes_and_forgetting(tmp_path: Path, static: Embedder) -> None:
    notes = notebook(tmp_path / "n.db", static)
    notes.add([BOATS, CATS], False)
    for mode in (None, "hybrid", "vector", "text"):
        found = notes.search("cat", 5, {"topic": "cats"}, mode)
        assert [hit["key"] for hit in found["hits"]] == ["cats"]
    with pytest.raises(InputError, match="sparse"):
        notes.search("cat", 5, None, "sparse")
    with pytest.raises(FilterError, match="fields: topic, year"):
        notes.search("cat", 5, {"tpoic": "cats"}, None)
    listed = notes.find({"year": {"$gte": 2000}}, 20, 0, True)
    assert (listed["total"], [one["key"] for one in listed["documents"]]) == (1, ["notes/boats.md"])
    assert {"name": "topic", "documents": 2, "values": ["boats", "cats"]} in listed["fields"]
    assert notes.forget(["cats", "dogs"]) == {"forgotten": 1, "unknown": ["dogs"], "documents": 1}


def test_words_alone_load_no_model(tmp_path: Path, static: Embedder) -> None:
    """Mode "text", lists and reading need no model; an index of given vectors is searched by its words."""
    notebook(tmp_path / "n.db", static).add([BOATS], False)

    def fails(path: Path) -> dict[str, Embedder]:
        raise AssertionError(path)

    notes = Notebook(tmp_path / "n.db", fails)
    assert notes.search("ferry", 5, None, "text")["hits"][0]["key"] == "notes/boats.md"
    assert notes.read("notes/boats.md", 4, 5) == {
        "key": "notes/boats.md", "text": "ferry", "start": 4, "end": 9, "next": 9, "characters": 39, "kind": "text",
        "metadata": {"topic": "boats", "year": 2026},
    }  # fmt: skip
    assert notes.forget(["notes/boats.md"])["documents"] == 0
    with Index.create(tmp_path / "given.db", space="a", dim=8) as given:
        given.add_vectors([Document("a", "the ferry")], np.eye(1, 8))
    assert notebook(tmp_path / "given.db", None).search("ferry", 5, None, None)["hits"][0]["key"] == "a"


def test_answers_are_cut(tmp_path: Path, static: Embedder) -> None:
    """What does not fit in an answer is named, and nothing is lost by going on."""
    notes = notebook(tmp_path / "n.db", static, characters=4000)
    given = [document(f"k{n:02}", f"number {n} " + "word " * 200, long="x" * 3000, short=n) for n in range(8)]
    notes.add(given, False)
    found = notes.search("number", 8, None, None)
    assert len(json.dumps(found)) < 6000
    assert 1 <= len(found["hits"]) < 8
    assert "did not fit" in found["note"]
    assert any("metadata.long" in hit.get("cut", ()) for hit in found["hits"])
    assert all(hit["text"] for hit in found["hits"])
    keys, offset = [], 0
    while offset is not None:
        page = notes.find(None, 20, offset, False)
        assert len(json.dumps(page)) < 6000
        keys += [one["key"] for one in page["documents"]]
        offset = page.get("next")
    assert keys == [one["key"] for one in given]
    notes.add([document("big", "0123456789" * 1000, huge="y" * 100_000)], False)
    text, start = "", 0
    while start is not None:
        part = notes.read("big", start, notes.limits.read)
        assert part["cut"] == ["metadata.huge"]
        text += part["text"]
        start = part.get("next")
    assert text == "0123456789" * 1000
    assert notes.read("big", 10**9, 100)["text"] == ""


@pytest.mark.parametrize("seed", range(20))
def test_fitting_keeps_to_its_characters(seed: int) -> None:
    """Whatever the documents are, all that is shown has about the characters that were allowed."""
    random = np.random.default_rng(seed)
    fitting, shown = Fitting(5000, 500), []
    for n in range(30):
        text = "t" * int(random.integers(0, 2000))
        metadata = {f"f{i}" * int(random.integers(1, 9)): "v" * int(random.integers(0, 900)) for i in range(5)}
        whole = fitting.document(f"key {n}", text, metadata, begins=200)
        if whole is not None:
            shown.append(whole)
            assert text.startswith(whole["text"])
            assert whole["text"] or not text
            lost = {f"metadata.{name}" for name in metadata.keys() - whole["metadata"].keys()}
            assert lost <= set(whole.get("cut", ())), (lost, whole.get("cut"))
            assert ("text" in whole.get("cut", ())) == (whole["text"] != text)
    assert shown
    assert len(shown) + fitting.left_out == 30
    assert len(json.dumps(shown)) < 8000
    assert (fitting.note() is None) == (len(shown) == 30 and not any("cut" in one for one in shown))


@pytest.mark.parametrize("key", STRANGE)
def test_strange_keys(tmp_path: Path, static: Embedder, key: str) -> None:
    """Keys that look like paths, or hold what addresses use, are keys: of documents, and of resources."""
    notes = notebook(tmp_path / "n.db", static)
    notes.add([document(key, "A text.")], False)
    assert notes.read(key, 0, 100)["text"] == "A text."
    uri = address(key)
    assert uri.isascii()
    assert uri.startswith(START)
    assert key_of(uri) == key
    assert key_before(cursor(key)) == key
    found = notes.document(key)
    assert found is not None
    assert mime_type(found[0]) == "text/plain"
    assert notes.keys(key[:1], 5) == [key]
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("n.db")] == []


def test_addresses_of_something_else() -> None:
    for uri in ("file:///etc/passwd", "edge-embed:other/x", "", START + "%ff"):
        with pytest.raises(InputError):
            key_of(uri)
    with pytest.raises(InputError):
        key_before("%ff")


def test_pages_of_resources(tmp_path: Path, static: Embedder) -> None:
    """All documents come once, in the order of their keys, also where one is deleted between two pages."""
    notes = notebook(tmp_path / "n.db", static, resources=3)
    notes.add([document(f"k{n}", f"text {n}") for n in range(8)], False)
    page, more = notes.page("")
    assert ([one.key for one in page], more) == (["k0", "k1", "k2"], True)
    notes.forget(["k0", "k4"])
    page, more = notes.page("k2")
    assert ([one.key for one in page], more) == (["k3", "k5", "k6"], True)
    page, more = notes.page("k6")
    assert ([one.key for one in page], more) == (["k7"], False)


def test_read_only(tmp_path: Path, static: Embedder) -> None:
    """Nothing is made and nothing written; the tools that would are not there."""
    with pytest.raises(IndexFileError, match="does not exist") as failed:
        notebook(tmp_path / "n.db", static, read_only=True)
    assert failed.value.code == "index_missing"
    for place in (tmp_path / "none" / "n.db", tmp_path):
        with pytest.raises(IndexFileError, match=r"does not exist|is a folder"):
            notebook(place, static)
    notebook(tmp_path / "n.db", static).add([BOATS], False)
    notes = notebook(tmp_path / "n.db", static, read_only=True)
    assert notes.search("ship", 5, None, None)["hits"]
    for change in (lambda: notes.add([CATS], False), lambda: notes.forget(["cats"])):
        with pytest.raises(IndexReadOnlyError):
            change()
    assert list(tools(Limits(), read_only=True)) == ["search", "read", "list"]


def test_file_that_goes_away_or_is_damaged(tmp_path: Path, static: Embedder) -> None:
    """A file that was there is never made again by itself; one that is put in its place is the index from then on."""
    notes = notebook(tmp_path / "n.db", static)
    notes.add([BOATS], False)
    other = notebook(tmp_path / "other.db", static)
    other.add([CATS], False)
    (tmp_path / "n.db").rename(tmp_path / "moved.db")
    for call in (lambda: notes.search("cat", 5, None, None), lambda: notes.add([CATS], False)):
        with pytest.raises(IndexFileError, match="moved or deleted") as failed:
            call()
        assert failed.value.code == "index_missing"
    assert not (tmp_path / "n.db").exists()
    shutil.copy(tmp_path / "other.db", tmp_path / "n.db")
    assert notes.read("cats", 0, 100)["kind"] == "text"
    for content in (b"", b"no index at all", (tmp_path / "moved.db").read_bytes()[:5000]):
        (tmp_path / "n.db").write_bytes(content)
        with pytest.raises(IndexFileError):
            notes.add([BOATS], False)
        assert (tmp_path / "n.db").read_bytes() == content
        if len(content) < 100:  # the third is looked at for a second: another process may be writing it
            with pytest.raises(IndexFileError):
                notes.search("cat", 5, None, None)
    shutil.copy(tmp_path / "moved.db", tmp_path / "n.db")
    assert notes.add([CATS], False)["documents"] == 2


def test_index_of_another_bundle(tmp_path: Path, static: Embedder, tiny_bundle: Path) -> None:
    """The models follow an index that is put in place of another; one that they do not fit is refused."""
    models = iter([static, Embedder(tiny_bundle, threads=1), static, static])
    notes = Notebook(tmp_path / "n.db", lambda _: {"embedder": next(models)})
    notes.add([BOATS], False)
    with Index.open(tmp_path / "tiny.db", Embedder(tiny_bundle, threads=1)) as other:
        other.add([Document("cats", "a cat")])
    shutil.copy(tmp_path / "tiny.db", tmp_path / "new.db")
    (tmp_path / "new.db").replace(tmp_path / "n.db")
    assert [hit["key"] for hit in notes.search("cat", 5, None, None)["hits"]] == ["cats"]
    refused = Notebook(tmp_path / "n.db", lambda _: {"embedder": static})
    with pytest.raises(BundleMismatchError):
        refused.search("cat", 5, None, None)
    assert refused.search("cat", 5, None, "text")["hits"]


def test_while_others_write(tmp_path: Path, static: Embedder) -> None:
    """Another object that holds the lock: reading goes on, writing waits, and says so after a while."""
    notes = notebook(tmp_path / "n.db", static, seconds=0.0)
    notes.add([BOATS], False)
    with Index.open(tmp_path / "n.db", static) as other:
        other.add([Document("other", "another process")])
        assert notes.find(None, 20, 0, False)["total"] == 2
        with pytest.raises(IndexLockedError):
            notes.add([CATS], False)
    assert notes.add([CATS], False)["documents"] == 3


def test_arguments_are_checked() -> None:
    """What does not fit is named, in a message that does not grow with it; null is the same as nothing."""
    every = tools(Limits())
    assert every["search"].arguments({"query": "x", "k": None}) == {"query": "x", "k": 5}
    wrong = [
        ("search", {}, "query is missing"),
        ("search", {"query": None}, "query is None"),
        ("search", {"query": ["x"]}, "query is"),
        ("search", {"query": ""}, "at least 1"),
        ("search", {"query": "x" * 10_000_000}, "at most 20000"),
        ("search", {"query": "x", "k": 10**30}, "at most 100"),
        ("search", {"query": "x", "k": True}, "a whole number"),
        ("search", {"query": "x", "mode": "best"}, "one of hybrid"),
        ("search", {"query": "x", "where": "lang=en"}, "an object"),
        ("search", {"query": "x", "wher": {}}, "'wher' is unknown"),
        ("read", {"key": "x" * 3000}, "at most 2048"),
        ("list", {"offset": -1}, "at least 0"),
        ("list", {"offset": 2**60}, "at most"),
        ("add", {"documents": []}, "at least 1"),
        ("add", {"documents": [{"key": "a"}]}, r"documents\[0\].text is missing"),
        ("add", {"documents": [{"key": "a", "text": "b", "metadata": []}]}, r"documents\[0\].metadata"),
        ("add", {"documents": [document("a", "x" * 10_000_000)]}, "at most 200000"),
        ("add", {"documents": [document(str(n), "x") for n in range(101)]}, "at most 100"),
        ("forget", {"keys": "a"}, "a list"),
        ("forget", {"keys": [7]}, r"keys\[0\] is 7"),
    ]
    for name, given, message in wrong:
        with pytest.raises(InputError, match=message) as failed:
            every[name].arguments(given)
        assert len(str(failed.value)) < 400
