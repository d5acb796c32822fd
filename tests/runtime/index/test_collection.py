"""An index as a collection: documents by condition and by key, values of fields, changes of metadata, deletion."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.files import alter, refused_after_fork

from edge_embed import Document, Index, verify_index
from edge_embed.errors import (
    DocumentError,
    FilterError,
    IndexClosedError,
    IndexDamagedError,
    IndexFileError,
    IndexReadOnlyError,
    InputError,
    MemoryBudgetError,
)
from edge_embed_runtime.index import collection
from edge_embed_runtime.storage import pages

DIM = 8
COUNT = 700  # several pages
LANGUAGES = ("en", "de", "fr")


def document(i: int) -> Document:
    tags = ["all", f"t{i % 7}", f"t{i % 5}", i % 3]
    return Document(f"k{i:04}", f"text number {i}", {"lang": LANGUAGES[i % 3], "n": i, "tags": tags, "odd": i % 2 == 1})


DOCUMENTS = [document(i) for i in range(COUNT)]


def create(path: Path, documents: list[Document], fields: tuple[str, ...] = ()) -> Index:
    index = Index.create(path, space="s", dim=DIM, fields=fields)
    shuffled = random.Random(0).sample(documents, len(documents))  # noqa: S311 - repeatable test data
    index.add_vectors(shuffled, np.random.default_rng(0).standard_normal((len(documents), DIM)))
    return index


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.db"


@pytest.fixture(params=[(), ("lang", "n", "tags", "odd")], ids=["plain", "declared"])
def index(request: pytest.FixtureRequest, path: Path) -> Iterator[Index]:
    with create(path, DOCUMENTS, request.param) as made:
        yield made


CONDITIONS: list[tuple[dict[str, Any], Callable[[Document], bool]]] = [
    ({"lang": "de"}, lambda d: d.metadata["lang"] == "de"),
    ({"n": {"$gte": 650}}, lambda d: d.metadata["n"] >= 650),
    ({"$and": [{"n": {"$lt": 40}}, {"lang": {"$ne": "en"}}]}, lambda d: d.metadata["n"] < 40 and d.metadata["n"] % 3),
    ({"tags": {"$contains": "t4"}}, lambda d: "t4" in d.metadata["tags"]),
    ({"tags": {"$contains": 2}}, lambda d: d.metadata["n"] % 3 == 2),
    ({"$key": {"$prefix": "k01"}}, lambda d: d.key.startswith("k01")),
    ({"$key": {"$in": ["k0001", "k0500", "x"]}}, lambda d: d.key in ("k0001", "k0500")),
    ({"$key": {"$prefix": ""}}, lambda _: True),
    ({"odd": True, "n": {"$gt": 10}}, lambda d: d.metadata["odd"] and d.metadata["n"] > 10),
]


def test_find_gives_what_fits_in_the_order_of_keys(index: Index) -> None:
    """All of it, once, whatever the condition, limit and offset, with and without an index on the fields."""
    assert list(index) == list(index.find()) == DOCUMENTS
    assert index.count() == COUNT == len(index)
    for where, fits in CONDITIONS:
        expected = [d for d in DOCUMENTS if fits(d)]
        assert expected
        assert list(index.find(where)) == expected, where
        assert index.count(where) == len(expected)
        for limit, offset in ((0, 0), (1, 0), (3, 2), (300, 100), (None, 5), (10, len(expected)), (5, 10**6)):
            stop = None if limit is None else offset + limit
            assert list(index.find(where, limit=limit, offset=offset)) == expected[offset:stop], (where, limit, offset)
    assert list(index.find(limit=2, offset=COUNT - 1)) == DOCUMENTS[-1:]


def test_pages_that_are_sorted(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether an index on a field leads to few documents or to many, the same are found."""
    for few in (0, 10, 10_000):
        monkeypatch.setattr(pages, "FEW", few)
        monkeypatch.setattr(pages, "PAGE", 16)
        for where, fits in CONDITIONS:
            expected = [d for d in DOCUMENTS if fits(d)]
            assert list(index.find(where)) == expected
            assert list(index.find(where, limit=40, offset=7)) == expected[7:47]


def test_pages_end_at_large_documents(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page holds about so many characters; documents of any size are found."""
    monkeypatch.setattr(pages, "PAGE_CHARACTERS", 1000)
    documents = [Document(f"k{i}", "x" * (i * 300)) for i in range(10)]
    with create(path, documents) as index:
        assert list(index) == documents


def test_keys_are_ordered_by_code_point(path: Path) -> None:
    """Also beyond the basic plane, where UTF-16 would order otherwise; and next to the end of a page."""
    keys = ["a", "B", "ä", "z\U0001f600", "z\uffff", "\U00010000", "\uffee", "ab", "a b", "%", "_", "''", '"', "\x01"]
    with create(path, [Document(key, "t") for key in keys]) as index:
        assert [d.key for d in index] == sorted(keys)
        assert [d.key for d in index.find(limit=3, offset=4)] == sorted(keys)[4:7]


def test_writing_while_it_is_iterated(path: Path) -> None:
    """A loop may delete, change and add: what stays is given once, in order."""
    with create(path, DOCUMENTS) as index:
        seen = []
        for found in index:
            seen.append(found.key)
            n = int(found.key[1:5]) if len(found.key) == 5 else 0
            if n % 50 == 1:
                index.delete(found.key)
            if n % 50 == 2:
                index.update_metadata(found.key, {"seen": True})
            if n % 50 == 3:
                index.upsert_vectors([Document(f"k{n + 300:04}", "new text", {"n": -1})], np.ones((1, DIM)))
            if n == 400:
                index.add_vectors([Document("a first one", "t"), Document("z last one", "t")], np.ones((2, DIM)))
        assert seen == sorted(seen)
        assert len(set(seen)) == len(seen)
        assert {d.key for d in DOCUMENTS} <= set(seen)
        assert "z last one" in seen
        assert "a first one" not in seen
        assert index.verify().whole


def test_threads_read_and_write_while_another_iterates(path: Path) -> None:
    """An iteration that stands still holds up nobody, and many of them go on at the same time."""
    with create(path, DOCUMENTS) as index:
        iteration = iter(index)
        first = next(iteration)
        found: dict[int, list[str]] = {}

        def work(number: int) -> None:
            index.update_metadata(f"k{number:04}", {"thread": number})
            found[number] = [d.key for d in index.find({"thread": {"$exists": False}}) if d.key > "k0010"]

        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [first.key, *(d.key for d in iteration)] == [d.key for d in DOCUMENTS]
        assert list(found.values()) == [[d.key for d in DOCUMENTS[11:]]] * 6
        assert index.count({"thread": {"$exists": True}}) == 6


def test_another_process_s_writes_are_seen(path: Path) -> None:
    """A reader finds, page by page, what a writer commits meanwhile."""
    with create(path, DOCUMENTS) as writer, Index.open(path, read_only=True) as reader:
        iteration = iter(reader)
        next(iteration)
        writer.delete(where={"n": {"$gte": 600}})
        writer.update_metadata({"n": {"$gte": 500}}, {"lang": "xx"})
        rest = list(iteration)
        assert [d.key for d in rest] == [f"k{i:04}" for i in range(1, 600)]
        assert {d.metadata["lang"] for d in rest[499:]} == {"xx"}
        assert reader.count({"lang": "xx"}) == 100
        with pytest.raises(IndexReadOnlyError):
            reader.delete(where={"lang": "xx"})
        with pytest.raises(IndexReadOnlyError):
            reader.update_metadata({"lang": "xx"}, {"lang": "yy"})


def test_get_many(index: Index) -> None:
    """In the order of the keys, None where there is none, twice where asked twice; one key may be given as it is."""
    assert index.get_many(["k0003", "missing", "k0001", "k0003"]) == [document(3), None, document(1), document(3)]
    assert index.get_many("k0002") == [document(2)]
    assert index.get_many([]) == []
    assert index.get_many(d.key for d in DOCUMENTS) == DOCUMENTS


def test_vectors(path: Path) -> None:
    """They are what was stored, as far as int8 goes, of length 1; unknown keys are left out."""
    given = np.random.default_rng(1).standard_normal((5, 384)).astype(np.float32)
    with Index.create(path, space="s", dim=384) as index:
        index.add_vectors([Document(f"k{i}", "") for i in range(5)], given)
        found = index.vectors(["k3", "missing", "k0", "k3"])
        assert list(found) == ["k3", "k0"]
        for key, vectors in found.items():
            wanted = given[int(key[1])] / np.linalg.norm(given[int(key[1])])
            assert (vectors.shape, vectors.dtype) == ((1, 384), np.dtype("f4"))
            assert np.linalg.norm(vectors[0]) == pytest.approx(1, abs=1e-6)
            assert vectors[0] @ wanted > 0.9998
            # the score of a search is that of these vectors
            assert index.search(vector=given[2], k=5)[0].key == "k2"
        assert index.vectors([]) == {}


def test_vectors_of_several_passages(tmp_path: Path, embedder: Any) -> None:
    """[passages, dim], in the order of the text, near what the embedder makes of each passage."""
    text = " ".join(f"Sentence {i} is about the weather in town {i}." for i in range(90))
    with Index.open(tmp_path / "a.db", embedder) as index:
        index.add([Document("long", text), Document("short", "A cat.")])
        found = index.vectors(["long", "short"])
        spans = index.stats()["passages"]
        assert found["long"].shape == (spans - 1, embedder.dim)
        assert spans > 2
        assert found["short"][0] @ embedder.encode(["A cat."])[0] > 0.999
        hit = index.search(text[-60:], k=1, mode="vector")[0]
        assert found["long"][-1] @ embedder.encode([hit.text])[0] > 0.999


def counted(field: str, documents: list[Document]) -> Counter[tuple[type, Any]]:
    """How many documents have each value, in Python."""
    counts: Counter[tuple[type, Any]] = Counter()
    for found in documents:
        value = found.metadata.get(field, [])
        values = value if isinstance(value, list) else [value]
        counts.update({(kind(one), one) for one in values if not isinstance(one, list | dict)})
    return counts


def kind(value: object) -> type:
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)


ODD: list[Any] = [
    1,
    True,
    1.0,
    "1",
    None,
    False,
    0,
    [1, 1, True],
    ["[x"],
    "[x",
    "{",
    {"a": 1},
    [[1]],
    [],
    "",
    2**70,
    -2.5,
]


def test_field_values_and_ranges(index: Index) -> None:
    """As Python counts them; the most frequent first; with `where` among those that fit."""
    for field in ("lang", "n", "tags", "odd"):
        for where, fits in [(None, lambda _: True), *CONDITIONS]:
            wanted = counted(field, [d for d in DOCUMENTS if fits(d)])
            found = index.field_values(field, where, limit=10_000)
            assert {(kind(value), value): count for value, count in found} == wanted
            assert [count for _, count in found] == sorted(wanted.values(), reverse=True)
    assert index.field_values("tags", limit=2) == [("all", COUNT), (0, 234)]
    assert index.field_values("lang") == [("en", 234), ("de", 233), ("fr", 233)]
    assert index.field_range("n") == (0, COUNT - 1)
    assert index.field_range("n", {"n": {"$gt": 3, "$lt": 9}}) == (4, 8)
    assert index.field_range("lang") == ("de", "fr")
    assert index.field_range("tags") == (0, 2)  # numbers, where there are any
    assert index.field_range("odd") is None
    assert index.field_values("n", {"lang": {"$in": []}}) == []


@pytest.mark.parametrize("fields", [(), ("odd",)])
def test_values_that_look_like_others(path: Path, fields: tuple[str, ...]) -> None:
    """1, 1.0, true, "1", null and absent, lists and texts that look like them: each is told from the others."""
    documents = [Document(f"k{i}", "t", {"odd": value}) for i, value in enumerate(ODD)]
    with create(path, [*documents, Document("z", "t", {"other": 1})], fields) as index:
        found = index.field_values("odd")
        assert {(kind(value), value): count for value, count in found} == counted("odd", documents)
        assert index.field_range("odd") == (-2.5, 2.0**70)
        index.delete(where={"odd": {"$lt": 0}})
        index.delete(where={"odd": {"$gt": 10}})
        assert index.field_range("odd") == (0, 1)
        index.delete(["k7", "k12"])
        index.delete(where={"odd": {"$in": [0, 1]}})
        assert index.field_range("odd") == ("", "{")
        index.delete(where={"odd": {"$gte": ""}})
        assert index.field_range("odd") == ("[x", "[x")


def test_hostile_names_and_values(path: Path) -> None:
    """Characters that SQL, JSON paths and LIKE take for their own are letters here."""
    values = [
        "'",
        '"',
        "%",
        "_",
        "\\",
        "a'b\"c",
        "];--",
        "\u202e",
        "é",
        "É",
        "e\u0301",
        "😀",
        "a\x01b",
        "$",
        "$.a",
        "[0]",
    ]
    field = 'a."$[0]%'
    documents = [Document(f"k{i:02}", "t", {field: f"x{value}y", "list": [value]}) for i, value in enumerate(values)]
    with create(path, documents) as index:
        for value in values:
            wanted = [d.key for d in documents if value in d.metadata[field]]
            assert [d.key for d in index.find({field: {"$contains": value}})] == wanted, value
            assert [d.key for d in index.find({"list": {"$contains": value}})] == [
                d.key for d in documents if d.metadata["list"] == [value]
            ]
        assert len(index.field_values(field)) == len(values)
        assert index.count({field: {"$contains": ""}}) == len(values)
        assert index.count({"list": {"$contains": ""}}) == 0


def test_update_metadata(index: Index, path: Path) -> None:
    """Fields are set and removed, others stay; nothing else of the document changes, and every look-up follows."""
    before, vectors = index.stats(), index.vectors(["k0003"])
    assert index.update_metadata(["k0003", "k0004"], {"lang": "xx", "new": None}, remove=["odd", "absent"]) == 2
    assert index.stats()["generation"] == before["generation"] + 1
    wanted = {"lang": "xx", "n": 3, "tags": DOCUMENTS[3].metadata["tags"], "new": None}
    assert index.get("k0003") == Document("k0003", DOCUMENTS[3].text, wanted)
    assert [d.key for d in index.find({"lang": "xx"})] == ["k0003", "k0004"]
    assert index.count({"lang": "en"}) == 233
    assert index.count({"new": None}) == 2
    assert np.array_equal(index.vectors(["k0003"])["k0003"], vectors["k0003"])
    hits = index.search(vector=vectors["k0003"][0], k=1, where={"lang": "xx"})
    assert (hits[0].key, hits[0].metadata) == ("k0003", wanted)
    assert index.search("number 3", mode="text", where={"lang": "xx"})[0].key == "k0003"
    assert index.update_metadata({"lang": "xx"}, {"tags": ["a", {"b": 1}]}) == 2
    assert index.update_metadata("k0005", {"lang": "fr"}) == 0  # as it is
    assert index.stats()["generation"] == before["generation"] + 2
    assert index.update_metadata({"$key": {"$prefix": ""}}, {"all": 1}) == COUNT
    assert index.verify().whole
    index.close()
    report = verify_index(path)
    assert (report.whole, report.documents) == (True, COUNT)
    with Index.open(path) as again:
        assert again.count({"all": 1, "lang": "xx"}) == 2


def test_delete_by_condition(index: Index, path: Path) -> None:
    """What fits goes, with its words and vectors; nothing else."""
    generation = index.stats()["generation"]
    left = [d for d in DOCUMENTS if d.metadata["lang"] != "de" or d.metadata["n"] < 100]
    assert index.delete(where={"lang": "de", "n": {"$gte": 100}}) == COUNT - len(left)
    assert index.stats()["generation"] == generation + 1
    assert list(index) == left
    assert index.search("number 301", mode="text", k=3, where={"lang": "de"})[0].metadata["n"] < 100
    assert {hit.key for hit in index.search(vector=np.ones(DIM), k=COUNT)} == {d.key for d in left}
    assert index.delete(where={"lang": "de", "n": {"$gte": 100}}) == 0
    assert index.stats()["generation"] == generation + 1
    assert index.verify().whole
    assert index.delete(where={"$key": {"$prefix": ""}}) == len(left)
    assert len(index) == index.count() == 0
    assert index.verify().whole
    assert index.delete(where={"lang": "de"}) == 0  # an empty index has no fields, and none is missed


def test_delete_by_key_as_before(index: Index) -> None:
    """A key, keys, keys that are not there, one that comes twice."""
    assert index.delete("k0001") == 1
    assert index.delete(["k0002", "missing", "k0002", "k0001"]) == 1
    assert index.delete([]) == 0
    assert index.count() == COUNT - 2


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda i: i.find({"nope": 1}), FilterError, "where: no document has the field 'nope'"),
        (lambda i: i.count({"nope": {"$gt": 1}}), FilterError, "no document has the field 'nope'"),
        (lambda i: i.delete(where={"nope": 1}), FilterError, "no document has the field 'nope'"),
        (lambda i: i.update_metadata({"nope": 1}, {"a": 1}), FilterError, "no document has the field 'nope'"),
        (lambda i: i.field_values("nope"), FilterError, "no document has the field 'nope'; fields: "),
        (lambda i: i.field_range("nope"), FilterError, "no document has the field 'nope'"),
        (lambda i: i.field_values("n", {"nope": 1}), FilterError, "where: no document has the field 'nope'"),
        (lambda i: i.field_values("$key"), FilterError, "no field of the metadata"),
        (lambda i: i.field_values(1), FilterError, "field name is int"),
        (lambda i: i.field_values("n", limit=0), InputError, "limit is 0"),
        (lambda i: i.find({}), FilterError, r"where is \{\}"),
        (lambda i: i.find([]), FilterError, r"where is \[\]"),
        (lambda i: i.find("lang"), FilterError, "where is 'lang'"),
        (lambda i: i.find(limit=-1), InputError, "limit is -1"),
        (lambda i: i.find(limit=True), InputError, "limit is True"),
        (lambda i: i.find(offset=-1), InputError, "offset is -1"),
        (lambda i: i.find(offset=1.5), InputError, "offset is 1.5"),
        (lambda i: i.count({}), FilterError, r"where is \{\}"),
        (lambda i: i.delete(), InputError, "either keys or where"),
        (lambda i: i.delete("k0001", where={"n": 1}), InputError, "either keys or where"),
        (lambda i: i.delete(where={}), FilterError, r"where is \{\}"),
        (lambda i: i.delete(where={"$and": []}), FilterError, r"\$and is \[\]"),
        (lambda i: i.delete({"n": 1}), InputError, "a key or a list of keys, got dict"),
        (lambda i: i.delete(5), InputError, "got int"),
        (lambda i: i.delete(["k0001", 5]), DocumentError, "key is int"),
        (lambda i: i.get_many({"k0001": 1}), InputError, "got dict"),
        (lambda i: i.vectors([""]), DocumentError, "cannot be used"),
        (lambda i: i.update_metadata({}, {"a": 1}), FilterError, r"where is \{\}"),
        (lambda i: i.update_metadata(["k0001", "no", "not"], {"a": 1}), InputError, "not in the index: 'no', 'not'"),
        (lambda i: i.update_metadata("k0001", {}), InputError, "nothing is to be changed"),
        (lambda i: i.update_metadata("k0001", {"a": {1}}), DocumentError, "cannot be stored as JSON"),
        (lambda i: i.update_metadata("k0001", {"a": float("nan")}), DocumentError, "cannot be stored as JSON"),
        (lambda i: i.update_metadata("k0001", {1: 1}), DocumentError, "not a name"),
        (lambda i: i.update_metadata("k0001", ["a"]), InputError, "changes is list"),
        (lambda i: i.update_metadata("k0001", {"a": 1}, remove="b"), InputError, "remove is str"),
        (lambda i: i.update_metadata("k0001", {"a": 1}, remove=["a"]), InputError, "set and removed at once: a"),
        (lambda i: i.update_metadata("k0001", {"a": "\ud800"}), DocumentError, "surrogate"),
    ],
)
def test_refusals_change_nothing(
    path: Path, call: Callable[[Any], object], kind: type[Exception], message: str
) -> None:
    """What cannot be meant is refused by name, at the call; the index is as it was."""
    with create(path, DOCUMENTS[:20]) as index:
        generation = index.stats()["generation"]
        with pytest.raises(kind, match=message):
            call(index)
        assert index.stats()["generation"] == generation
        assert list(index) == DOCUMENTS[:20]


def test_unknown_keys_are_in_the_error(path: Path) -> None:
    with create(path, DOCUMENTS[:20]) as index:
        with pytest.raises(InputError) as caught:
            index.update_metadata(["k0001", "x", "y"], {"a": 1})
        assert (caught.value.code, caught.value.keys) == ("key_not_found", ("x", "y"))


CALLS: list[Callable[[Index], object]] = [
    lambda i: i.find(),
    lambda i: i.count({"n": 1}),
    lambda i: i.get_many(["k0001"]),
    lambda i: i.vectors(["k0001"]),
    lambda i: i.field_values("n"),
    lambda i: i.field_range("n"),
    lambda i: i.delete(where={"n": 1}),
    lambda i: i.update_metadata("k0001", {"a": 1}),
]


@pytest.mark.parametrize("call", CALLS)
def test_closed_and_forked(path: Path, call: Callable[[Index], object]) -> None:
    """As of every other method; an iteration that was begun before ends with the error too."""
    index = create(path, DOCUMENTS[:300])
    begun = index.find()
    assert refused_after_fork(lambda: call(index), IndexFileError)
    index.close()
    with pytest.raises(IndexClosedError):
        call(index)
    with pytest.raises(IndexClosedError):
        list(begun)


def test_damaged_documents(path: Path) -> None:
    """They are left out of what goes by condition, and `damaged` says so; by key they are an error, but for delete."""
    create(path, DOCUMENTS[:40]).close()
    alter(path, "UPDATE doc SET text = 'other' WHERE key IN ('k0005', 'k0006')")
    with Index.open(path) as index:
        left = [d for d in DOCUMENTS[:40] if d.key not in ("k0005", "k0006")]
        assert list(index) == left
        assert len(index.damaged) == 2
        assert len(list(index.find(limit=7))) == 7
        for call in (index.get_many, lambda k: index.update_metadata(k, {"a": 1})):
            with pytest.raises(IndexDamagedError, match="k0006") as caught:
                call(["k0001", "k0006"])
            assert caught.value.keys == ("k0006",)
        assert index.update_metadata({"$key": {"$prefix": ""}}, {"a": 1}) == 38
        assert index.delete(where={"n": {"$lt": 10}}) == 8
        assert index.count() == 32
        assert index.delete(["k0005", "k0006"]) == 2
        assert index.verify().damaged == []


def test_damaged_passages(path: Path) -> None:
    create(path, DOCUMENTS[:5]).close()
    alter(path, "UPDATE vec SET code = zeroblob(length(code)) WHERE doc = (SELECT id FROM doc WHERE key = 'k0002')")
    with Index.open(path) as index:
        assert len(list(index)) == 5
        with pytest.raises(IndexDamagedError, match="k0002"):
            index.vectors(["k0001", "k0002"])


def test_damaged_table_of_keys(path: Path) -> None:
    """Keys that are out of order end an iteration with an error, not with a loop or with documents twice."""
    create(path, DOCUMENTS[:40]).close()
    raw, said = path.read_bytes(), []
    for place in (i for i in range(len(raw)) if raw.startswith(b"k0020", i)):  # in the rows, and in the table of keys
        path.write_bytes(raw[:place] + b"k0001" + raw[place + 5 :])
        with Index.open(path, read_only=True) as index:
            try:
                keys = [d.key for d in index]
            except IndexDamagedError as error:
                said.append(str(error))
            else:
                assert keys == sorted(set(keys))
    assert [text for text in said if "its keys are not in order, at 'k0001'" in text]


def test_under_a_memory_budget(path: Path) -> None:
    """The same documents, read in pieces; one that does not fit is refused before it is read."""
    documents = [*DOCUMENTS, Document("large", "x" * 3_000_000, {"big": True})]
    create(path, documents).close()
    with Index.open(path, max_rss_mb=10_000) as index:
        assert list(index.find({"big": {"$exists": False}})) == DOCUMENTS
        assert list(index) == sorted(documents, key=lambda d: d.key)
        assert index.get_many(["large", "k0001", "no"]) == [documents[-1], document(1), None]
        assert index.field_values("lang") == [("en", 234), ("de", 233), ("fr", 233)]
        assert index.vectors("k0001")["k0001"].shape == (1, DIM)
        assert index.update_metadata({"lang": "de"}, {"a": 1}) == 233
        assert index.delete(where={"a": 1}) == 233
        assert index.count() == len(documents) - 233


def test_a_budget_that_is_too_small(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MemoryBudgetError that names the document and what it takes."""
    create(path, [*DOCUMENTS[:5], Document("large", "x" * 3_000_000)]).close()
    with Index.open(path, read_only=True, max_rss_mb=10_000) as index:
        room = index._connections.room
        assert room is not None
        left = room.left()
        monkeypatch.setattr(type(room), "left", lambda *_: 6 << 20)
        assert left > 6 << 20
        assert list(index.find({"n": {"$gte": 0}})) == DOCUMENTS[:5]
        with pytest.raises(MemoryBudgetError, match="'large' has 3,000,000 bytes of text"):
            list(index)
        with pytest.raises(MemoryBudgetError, match="'large'"):
            index.get_many("large")


@pytest.mark.parametrize("shared", [False, True])
def test_secure_delete_of_metadata(path: Path, shared: bool) -> None:
    """What a field held is nowhere in the file or its log any more, nor what was deleted by condition."""
    documents = [Document(f"k{i}", "t", {"secret": f"hidden-{i}-value", "g": i % 2}) for i in range(20)]
    with Index.create(path, space="s", dim=DIM, fields=["secret"]) as index:
        index.add_vectors(documents, np.ones((20, DIM)))
    with Index.open(path, secure_delete=True, shared=shared) as index:
        index.update_metadata(["k3", "k4"], {"secret": "x"})
        index.update_metadata(["k5"], {}, remove=["secret"])
        index.delete(where={"secret": "hidden-6-value"})
        held = b"".join(file.read_bytes() for file in path.parent.glob("index.db*"))
        assert not any(f"hidden-{i}-value".encode() in held for i in (3, 4, 5, 6))
        assert b"hidden-7-value" in held


def test_two_objects_that_take_turns(path: Path) -> None:
    """Each sees what the other changed, at its next call."""
    create(path, DOCUMENTS[:30]).close()
    with Index.open(path, shared=True) as one, Index.open(path, shared=True) as other:
        assert one.update_metadata({"lang": "en"}, {"lang": "xx"}) == 10
        assert other.update_metadata({"lang": "xx"}, {"lang": "yy"}) == 10
        assert one.delete(where={"lang": "yy"}) == 10
        assert other.count() == 20
        assert other.verify().whole


def test_places_stay_with_their_documents(path: Path) -> None:
    """They are given with documents, survive a change of metadata, and go with what is deleted by condition."""
    documents = [
        Document(f"k{i:02}", "page one. page two.", {"g": i % 2}, ((0, "page 1"), (10, "page 2")) if i % 3 else ())
        for i in range(12)
    ]
    with create(path, documents) as index:
        assert list(index) == documents
        assert index.get_many([d.key for d in documents]) == documents
        assert index.update_metadata({"g": 1}, {"h": 1}) == 6
        assert [d.places for d in index] == [d.places for d in documents]
        assert index.delete(where={"g": 0}) == 6
        assert [d.places for d in index] == [d.places for d in documents[1::2]]
        assert index.verify().whole


def test_places_under_a_memory_budget(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They count before they are read."""
    many = Document("many", "x" * 10_000, {}, tuple((i, f"page {i}") for i in range(10_000)))
    create(path, [*DOCUMENTS[:5], many]).close()
    with Index.open(path, read_only=True, max_rss_mb=10_000) as index:
        assert index.get_many(["many", "k0001"]) == [many, document(1)]
        assert list(index)[-1] == many
        room = index._connections.room
        assert room is not None
        monkeypatch.setattr(type(room), "left", lambda *_: 9 << 17)
        monkeypatch.setattr(collection, "READ_BYTES", 1 << 20)
        assert index.get_many(["k0001"]) == [document(1)]
        for call in (list, lambda i: i.get_many("many")):
            with pytest.raises(MemoryBudgetError, match="places"):
                call(index)


def test_damaged_places(path: Path) -> None:
    """Their documents are left out, whole pages of them too; what is behind them is found."""
    documents = [Document(f"k{i:03}", "text", {}, ((0, "page 1"),) if i < 280 else ()) for i in range(300)]
    create(path, documents).close()
    alter(path, "UPDATE place SET label = 'other'")
    with Index.open(path, read_only=True) as index:
        assert list(index) == documents[280:]
        assert len(index.damaged) == 280


def test_find_in_the_order_of_storing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they came, whatever the keys; one that is replaced comes last; pages, limit and offset as for keys."""
    monkeypatch.setattr(pages, "PAGE", 16)
    shuffled = [DOCUMENTS[i * 389 % COUNT] for i in range(COUNT)]
    with Index.create(path, space="s", dim=DIM, fields=["lang", "n"]) as index:
        index.add_vectors(shuffled, np.ones((COUNT, DIM)))
        assert list(index.find(order="stored")) == shuffled
        for few in (0, 10_000):
            monkeypatch.setattr(pages, "FEW", few)
            for where, fits in CONDITIONS:
                expected = [document for document in shuffled if fits(document)]
                assert list(index.find(where, order="stored")) == expected
                assert list(index.find(where, order="stored", limit=40, offset=7)) == expected[7:47]
        index.upsert_vectors([Document(shuffled[3].key, "other")], np.ones((1, DIM)))
        assert [document.key for document in index.find(order="stored")][-2:] == [shuffled[-1].key, shuffled[3].key]
        with pytest.raises(InputError, match="order is 'newest', expected one of key, stored"):
            index.find(order="newest")  # type: ignore[arg-type]
