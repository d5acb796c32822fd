"""`like` and `unlike`: Rocchio's formula over stored vectors, with a query and without, and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.commands import run, run_json
from builders.files import alter
from builders.shortnotes import make_notes

from edge_embed import Document, Embedder, Index
from edge_embed.errors import IndexDamagedError, InputError
from edge_embed_runtime.search.feedback import LIKED, UNLIKED
from edge_embed_runtime.search.query import MAX_EXAMPLES

LONG = "Dough rests for an hour. " * 120 + "The oven is hot. " * 120


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Path:
    return make_notes(tmp_path_factory.mktemp("index") / "docs.db", embedder, long=LONG)


@pytest.fixture
def index(path: Path, embedder: Embedder) -> Iterator[Index]:
    with Index.open(path, embedder, read_only=True) as index:
        yield index


def mean(index: Index, keys: list[str]) -> Any:
    """The mean of documents' vectors, each the mean of its passages, of length 1."""
    each = [index.vectors(key)[key].astype(np.float64).sum(axis=0) for key in keys]
    return np.mean([vector / np.linalg.norm(vector) for vector in each], axis=0)


@pytest.mark.parametrize("query", [None, "the oven at the station"])
@pytest.mark.parametrize("unlike", [[], ["train"], ["train", "rain"]])
@pytest.mark.parametrize("like", [["cake"], ["cake", "long"]])
def test_the_vector_is_rocchio(
    index: Index, embedder: Embedder, query: str | None, like: list[str], unlike: list[str]
) -> None:
    """The hits and scores are those of the vector that the formula gives, without the examples."""
    vector = LIKED * mean(index, like)
    vector = vector - UNLIKED * mean(index, unlike) if unlike else vector
    vector = vector + embedder.encode_query([query])[0] if query else vector
    hits = index.search(query, mode="vector", like=like, unlike=unlike)
    expected = [hit for hit in index.search(vector=vector) if hit.key not in (*like, *unlike)]
    assert [hit.key for hit in hits] == [hit.key for hit in expected]
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-6)
    assert hits.shortfall is not None
    assert f"{len(like + unlike)} that were given as examples were left out" in hits.shortfall


def test_likes_bring_what_is_alike(index: Index) -> None:
    assert index.search(like="train", k=1)[0].key == "tram"
    assert index.search("what is baked", like=["bread"], k=1)[0].key == "cake"
    assert index.search("station", unlike=["tram"], k=1, mode="hybrid")[0].key == "train"


def test_as_many_hits_as_asked_for(index: Index) -> None:
    """What is left out makes room for others; `where`, `mmr` and the mode hold."""
    for mode in ("vector", "hybrid"):
        hits = index.search("station", k=4, mode=mode, like=["train", "rain"], unlike=["snow"])  # type: ignore[arg-type]
        assert len(hits) == 4
        assert not {"train", "rain", "snow"} & {hit.key for hit in hits}
    hits = index.search(like="bread", where={"length": {"$lt": 100}}, mmr=0.5, k=3)
    assert len(hits) == 3
    assert "long" not in {hit.key for hit in hits}
    assert hits[0] == index.search(like="bread", where={"length": {"$lt": 100}}, k=1)[0]


def test_a_budget_changes_nothing(path: Path, embedder: Embedder, index: Index) -> None:
    with Index.open(path, embedder, read_only=True, max_rss_mb=3000) as bounded:
        expected = index.search("station", like=["long", "rain"], unlike="snow")
        assert bounded.search("station", like=["long", "rain"], unlike="snow") == expected


def test_no_embedder_is_needed_without_a_query(path: Path) -> None:
    with Index.open(path, read_only=True) as index:
        assert index.search(like="bread", k=1)[0].key == "cake"
        with pytest.raises(InputError, match="cannot embed the query"):
            index.search("dough", like="bread")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"like": ["nothing", "bread", "gone"]}, r"like: not in the index: 'nothing', 'gone'"),
        ({"query": "x", "unlike": "gone"}, "unlike: not in the index: 'gone'"),
        ({"unlike": ["bread"]}, "give a query"),
        ({"like": ["bread"], "unlike": ["bread"]}, "the key 'bread' is in both like and unlike"),
        ({"like": 7}, "like is 7, expected a key or a list of keys"),
        ({"like": [7]}, "like is int, expected str"),
        ({"like": [""]}, "like '' cannot be used"),
        ({"like": b"bread"}, "like is b'bread', expected"),
        ({"like": [str(i) for i in range(MAX_EXAMPLES + 1)]}, "like has 1001 keys, expected at most 1000"),
        ({"query": "x", "like": "bread", "mode": "text"}, "move a dense vector, which mode 'text' does not compare"),
        ({"like": "bread", "mode": "hybrid"}, "there is no query; mode 'hybrid' needs a text"),
    ],
)
def test_what_cannot_be_an_example(index: Index, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        index.search(**asked)


def test_unknown_keys_are_named_in_the_error(index: Index) -> None:
    with pytest.raises(InputError) as caught:
        index.search(like=["nothing", "bread"])
    assert (caught.value.keys, caught.value.option) == (("nothing",), "like")


def test_examples_that_cancel_each_other(tmp_path: Path) -> None:
    with Index.create(tmp_path / "v.db", space="s", dim=2) as index:
        index.add_vectors([Document("a", ""), Document("b", "")], [[1, 0], [-1, 0]])
        with pytest.raises(InputError, match="cancel each other"):
            index.search(like=["a", "b"])
        assert index.search(like="a")[0].key == "b"


def test_an_example_without_a_vector_is_an_error(tmp_path: Path) -> None:
    with Index.create(tmp_path / "v.db", space="s", dim=2) as index:
        index.add_vectors([Document("a", "bread"), Document("b", "bread")], [[1, 0], None])
        for call in (lambda: index.search(like="b"), lambda: index.session().liked(["a", "b"])):
            with pytest.raises(InputError, match="the document 'b' has no vector") as caught:
                call()
            assert caught.value.keys == ("b",)


def test_a_damaged_example_is_an_error(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(path.read_bytes())
    alter(copy, "UPDATE vec SET crc = 1 WHERE doc = (SELECT id FROM doc WHERE key = 'bread')")
    with Index.open(copy, read_only=True) as index, pytest.raises(IndexDamagedError, match="document 'bread'"):
        index.search(like="bread")


def test_the_command(path: Path) -> None:
    found = run_json("search", path, "--like", "train", "--unlike", "rain", "-k", "2")
    assert found["hits"][0]["key"] == "tram"
    found = run_json("search", path, "what is baked", "--like", "bread", "--mmr", "0.5", "-k", "2")
    assert found["hits"][0]["key"] == "cake"
    assert "'--vector' or '--like'" in run("search", path, "--unlike", "rain").stderr
    assert "like: not in the index: 'gone'" in run("search", path, "--like", "gone").stderr
    assert "mmr is 2.0, expected a number from 0 to 1" in run("search", path, "bread", "--mmr", "2").stderr
