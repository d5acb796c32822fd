"""Searches over texts, pictures and sounds: each kind ranked by itself, and the rankings fused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.mediaembedders import MediaEmbedder, picture, write_picture

from edge_embed import Document, Embedder, Index, InputError
from edge_embed_runtime.search.kinds import RANK, add_ranks, best_ranks
from edge_embed_runtime.search.query import Ranking

THINGS = ("boat", "dog", "tree", "bread", "train", "snow", "violin", "clock", "river", "bicycle")
TEXTS = [f"All about the {thing}: what a {thing} costs, and where to find one." for thing in THINGS]


@pytest.fixture(scope="module")
def towers() -> MediaEmbedder:
    return MediaEmbedder()


@pytest.fixture
def index(tmp_path: Path, towers: MediaEmbedder) -> Iterator[Index]:
    """Of each thing a text, a picture, a picture with a caption on something else, and of the first three a sound."""
    with Index.open(tmp_path / "docs.db", towers) as made:
        made.add(
            Document(f"text {thing}", text, {"n": i}) for i, (thing, text) in enumerate(zip(THINGS, TEXTS, strict=True))
        )
        made.add(
            Document(f"image {thing}", image=picture(f"a {thing}"), metadata={"n": i}) for i, thing in enumerate(THINGS)
        )
        made.add(Document(f"audio {thing}", audio=picture(f"the sound of a {thing}")) for thing in THINGS[:3])
        yield made


def keys(hits: Any) -> list[str]:
    return [hit.key for hit in hits]


def test_ranks_of_the_parts_of_a_query_are_added() -> None:
    first: Ranking = {1: (0.9, 10), 2: (0.8, 20)}
    second: Ranking = {2: (0.3, 21), 3: (0.2, 30)}
    found = add_ranks([first, second])
    assert list(found) == [2, 1, 3]
    assert found[2] == (1 / (RANK + 2) + 1 / (RANK + 1), 20)
    assert add_ranks([first]) is first


def test_a_document_has_its_best_rank() -> None:
    """Of equal ranks, first what has a good one in another kind, too; then the kind that comes first."""
    found = best_ranks([{1: (0.5, 10), 2: (0.4, 20)}, {2: (0.9, 21), 3: (0.8, 30), 4: (0.1, 40)}], depth=2)
    assert found == {2: (1 / 61, 21), 1: (1 / 61, 10), 3: (1 / 62, 30)}
    assert list(found) == [2, 1, 3]


def test_weak_hits_give_way() -> None:
    """One note says it, ten photos show it: the other notes come behind the photos."""
    notes: Ranking = {1: (0.9, 10), 2: (0.3, 20), 3: (0.2, 30)}
    photos: Ranking = {4: (0.40, 40), 5: (0.39, 50), 6: (0.38, 60), 7: (0.1, 70)}
    found = best_ranks([notes, photos], depth=100)
    assert list(found) == [1, 4, 5, 6, 2, 3, 7]
    assert found[2] == (1 / (RANK + 4), 20)
    assert found[7] == (1 / (RANK + 8), 70)


def test_every_kind_has_its_part(index: Index) -> None:
    """However near texts are to each other, the best picture and the best sound are among the first hits."""
    hits = index.search("where to find a boat", k=3)
    assert set(keys(hits)) == {"text boat", "image boat", "audio boat"}
    assert {hit.kind for hit in hits} == {"text", "image", "audio"}
    assert [hit.score for hit in hits] == [1 / 61] * 3
    assert hits[0].kind == "text"  # the kind of the query


@pytest.mark.parametrize("kind", ["text", "image", "audio"])
@pytest.mark.parametrize("recall", [0.99, 1.0])
@pytest.mark.parametrize("budget", [None, 2000.0])
def test_one_kind(index: Index, towers: MediaEmbedder, kind: Any, recall: float, budget: float | None) -> None:
    """The nearest of the kind by cosine, in order, with and without a budget, and by the exact search."""
    with Index.open(index.path, towers, read_only=True, max_rss_mb=budget) as reader:
        hits = reader.search("a wooden boat", k=20, mode="vector", kind=kind, recall=recall)
        assert {hit.kind for hit in hits} == {kind}
        assert hits.shortfall is not None
        query = towers.encode_query(["a wooden boat"])[0]
        stored = reader.vectors(keys(hits))
        exact = [float((stored[hit.key] @ query).max()) for hit in hits]
        np.testing.assert_allclose([hit.score for hit in hits], exact, atol=2e-3)
        assert len(hits) == {"text": 10, "image": 10, "audio": 3}[kind]
        assert exact == sorted(exact, reverse=True)


def test_conditions(index: Index) -> None:
    """`where` holds for every kind."""
    hits = index.search("a boat", k=20, where={"n": {"$lt": 2}})
    assert set(keys(hits)) == {"text boat", "text dog", "image boat", "image dog"}
    assert keys(index.search("a boat", where={"n": 1}, kind="image")) == ["image dog"]


def test_a_picture_as_the_query(index: Index, tmp_path: Path) -> None:
    """Alone, by path and by bytes, and with a text: then documents near to both come first."""
    file = write_picture(tmp_path / "query.jpg", "a dog")
    hits = index.search(image=file, k=3)
    assert (hits[0].key, set(keys(hits))) == ("image dog", {"image dog", "text dog", "audio dog"})
    assert keys(index.search(image=picture("a dog"), k=1, kind="image")) == ["image dog"]
    assert index.search(audio=picture("the sound of a dog"), k=1)[0].key == "audio dog"
    alone = [index.search(kind="image", **options) for options in ({"query": "a boat"}, {"image": file})]
    both = index.search("a boat", image=file, kind="image", k=4)
    ranks = {key: sum(1 / (RANK + keys(hits).index(key) + 1) for hits in alone) for key in keys(both)}
    assert [hit.score for hit in both] == pytest.approx(list(ranks.values()))
    assert {"image boat", "image dog"} < set(keys(both))
    three = index.search("a boat", image=file, audio=picture("a tree"), kind="image", k=5)
    assert three[0].score > 3 / (RANK + 10)


def test_captions_are_texts(index: Index) -> None:
    """A picture is found by what it shows and by its caption, in words and in meaning; the hit shows the caption."""
    index.add([Document("holiday", "Grandmother at the harbour", image=picture("an old lighthouse"))])
    for found in (
        index.search("grandmother", mode="text")[0],
        index.search("grandmother at the harbour", kind="text")[0],
        index.search("lighthouse", kind="image")[0],
        index.search("grandmother at the harbour")[0],
    ):
        assert (found.key, found.kind, found.text) == ("holiday", "image", "Grandmother at the harbour")
        assert (found.start, found.end) == (0, 26)


def test_texts_alone_are_searched_as_before(tmp_path: Path, towers: MediaEmbedder) -> None:
    """An index that only ever had texts, and one whose pictures are gone, find the same, to the last bit."""
    with Index.open(tmp_path / "texts.db", Embedder("static")) as plain, Index.open(tmp_path / "a.db", towers) as index:
        documents = [Document(thing, text) for thing, text in zip(THINGS, TEXTS, strict=True)]
        plain.add(documents)
        index.add([*documents, Document("photo", image=picture("a boat"))])
        index.delete("photo")
        for options in ({}, {"mode": "vector"}, {"mmr": 0.5}, {"like": "dog"}, {"recall": 1.0}):
            assert index.search("boats on rivers", **options) == plain.search("boats on rivers", **options)


def test_pictures_alone_have_cosines(tmp_path: Path, towers: MediaEmbedder) -> None:
    with Index.open(tmp_path / "photos.db", towers) as index:
        index.add(Document(thing, image=picture(f"a {thing}")) for thing in THINGS)
        hits = index.search("a boat")
        assert hits[0].key == "boat"
        assert hits[0].score > 0.9
        assert hits == index.search("a boat", kind="image")
        assert index.search("a boat", kind="text") == []
        assert index.search("a boat", kind="text").shortfall == "only 0 documents have a text"


def test_an_index_of_texts_has_no_pictures(tmp_path: Path, towers: MediaEmbedder) -> None:
    with Index.open(tmp_path / "texts.db", towers) as index:
        index.add([Document("boat", "All about the boat")])
        found = index.search("a boat", kind="image")
        assert (found, found.shortfall) == ([], "only 0 documents have a picture")


def test_what_follows_commits(index: Index, towers: MediaEmbedder) -> None:
    """A reader that is open finds pictures that others add and no longer those they delete."""
    with Index.open(index.path, towers, read_only=True) as reader:
        assert reader.search("a rocket", kind="image", k=1)[0].key != "image rocket"
        index.add([Document("image rocket", image=picture("a rocket"))])
        assert reader.search("a rocket", kind="image", k=1)[0].key == "image rocket"
        assert index.search("a rocket", kind="image", k=1)[0].key == "image rocket"
        index.delete(["image rocket", "text boat"])
        for searched in (reader, index):
            assert searched.search("a rocket", kind="image", k=1)[0].key != "image rocket"
            assert "text boat" not in keys(searched.search("a boat", k=30))


def test_other_ways_to_search(index: Index) -> None:
    """Examples, diversity and sessions know pictures."""
    assert "image boat" not in keys(index.search("a boat", like="image boat", k=30))
    assert keys(index.search(like="image boat", kind="text", k=1)) == ["text boat"]
    assert set(keys(index.search("a boat", mmr=0.5, k=23))) == set(index.keys())
    session = index.session()
    session.liked("image dog")
    assert session.search(kind="image", k=1)[0].key != "image dog"
    assert session.search(kind="text", k=1)[0].key == "text dog"
    assert session.search(image=picture("a boat"), kind="image", k=1)[0].key == "image boat"
    assert session.vector is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": "a", "kind": "video"}, "kind is 'video', expected one of"),
        ({"query": "a", "mode": "text", "kind": "image"}, "mode 'text' compares texts"),
        ({"query": "a", "mode": "text", "image": picture("a")}, "mode 'text' compares texts"),
        ({"mode": "hybrid", "kind": "image"}, "give a query"),
        ({"image": b"nothing"}, "is no picture"),
    ],
)
def test_bad_questions(index: Index, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        index.search(**options)


def test_streamed_codes(tmp_path: Path, towers: MediaEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a budget has no room for the codes, they are read from the file; kinds are told apart all the same."""
    from edge_embed_runtime.system.headroom import Room

    with Index.open(tmp_path / "many.db", towers) as index:
        index.add(Document(f"{thing} {i}", image=picture(f"{thing} {i}")) for thing in THINGS for i in range(60))
        index.add(Document(f"text {i}", f"{THINGS[i % 10]} number {i}") for i in range(600))
        expected = index.search("boat 7", kind="image", mode="vector"), index.search("boat 7")
    monkeypatch.setattr(Room, "for_codes", lambda *_: False)
    with Index.open(tmp_path / "many.db", towers, max_rss_mb=2000) as index:
        found = index.search("boat 7", kind="image", mode="vector"), index.search("boat 7")
        assert [keys(hits) for hits in found] == [keys(hits) for hits in expected]
        assert type(index._search.dense.codes).__name__ == "StreamedCodes"
