"""Sessions: a vector of what one user liked and searched, which fades, moves searches, and is kept only as `state`."""

import json
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.shortnotes import NOTES, make_notes

from edge_embed import Document, Embedder, Index, Session, reembed_index
from edge_embed.errors import BundleMismatchError, IndexClosedError, InputError


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now: Any = 1000.0

    def __call__(self) -> float:
        return self.now  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Path:
    return make_notes(tmp_path_factory.mktemp("index") / "docs.db", embedder)


@pytest.fixture
def index(path: Path, embedder: Embedder) -> Iterator[Index]:
    with Index.open(path, embedder, read_only=True) as index:
        yield index


@pytest.fixture
def clock() -> Clock:
    return Clock()


def vector(session: Session) -> Any:
    found = session.vector
    assert found is not None
    assert found.dtype == np.float32
    return found


def own(index: Index, key: str) -> Any:
    return index.vectors(key)[key][0]


def test_fresh_likes_are_the_same_as_like(index: Index, clock: Clock) -> None:
    """A session without other events: hits and scores of `search(query, like=...)`, the liked ones among them."""
    session = index.session(clock=clock)
    assert session.vector is None
    session.liked(["bread", "train"])
    assert vector(session) == pytest.approx((own(index, "bread") + own(index, "train")) / 2, abs=1e-6)
    hits = [hit for hit in session.search("what is near", mode="vector") if hit.key not in ("bread", "train")]
    expected = index.search("what is near", mode="vector", like=["bread", "train"])
    assert [hit.key for hit in hits] == [hit.key for hit in expected]
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-6)


def test_an_empty_session_changes_nothing(index: Index, clock: Clock) -> None:
    session = index.session(clock=clock)
    assert session.search("bread", remember=False) == index.search("bread")
    assert session.vector is None
    with pytest.raises(InputError, match="give a query"):
        session.search()
    idle = index.session(weight=0, clock=clock)
    idle.liked("train")
    assert idle.search("bread") == index.search("bread")


def test_a_session_alone_finds_what_is_alike(index: Index, clock: Clock) -> None:
    """Without a query: near to what was liked, far from what was disliked, and neither of them among the hits."""
    session = index.session(clock=clock)
    session.liked("train")
    session.disliked("snow")
    hits = session.search(k=6)
    assert hits[0].key == "tram"
    assert {hit.key for hit in hits} == NOTES.keys() - {"train", "snow"}
    expected = (own(index, "train") - 0.2 * own(index, "snow")) / 1.2
    assert vector(session) == pytest.approx(expected, abs=1e-6)
    assert len(session.search(where={"length": {"$gt": 40}}, mmr=0.5, k=2)) == 2


def test_searches_count_a_fifth_of_a_like(index: Index, embedder: Embedder, clock: Clock) -> None:
    session = index.session(clock=clock)
    session.search("trains", remember=False)
    assert session.vector is None
    session.search("trains")
    query = embedder.encode_query(["trains"])[0]
    assert vector(session) == pytest.approx(0.2 * query, abs=1e-6)
    session.liked("bread")
    assert vector(session) == pytest.approx((own(index, "bread") + 0.2 * query) / 1.2, abs=1e-6)


def test_it_fades(index: Index, clock: Clock) -> None:
    """Half of it after each half-life; what comes later weighs more; a clock that is set back changes nothing."""
    session = index.session(half_life=60, clock=clock)
    session.liked("bread")
    first = vector(session)
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-3)
    clock.now += 60
    assert vector(session) == pytest.approx(first / 2, abs=1e-6)
    session.liked("train")
    assert vector(session) == pytest.approx((own(index, "train") + first / 2) / 1.5, abs=1e-5)
    clock.now -= 1000
    assert vector(session) == pytest.approx((own(index, "train") + first / 2) / 1.5, abs=1e-5)
    clock.now += 1000 + 60 * 12
    assert session.vector is None
    with pytest.raises(InputError, match="give a query"):
        session.search()
    assert session.search("bread") == index.search("bread")


def test_a_state_restores_it(index: Index, path: Path, clock: Clock) -> None:
    """Through JSON, in another process as it were: same vector, same hits, settings and keys that are left out."""
    session = index.session(half_life=60, weight=0.5, clock=clock)
    session.liked(["bread", "train"])
    session.search("mountains")
    state = json.loads(json.dumps(session.state()))
    assert len(json.dumps(state)) < 3000
    clock.now += 30
    with Index.open(path, read_only=True) as other:  # no embedder is needed
        restored = other.session(state=state, clock=clock)
        assert (restored.half_life, restored.weight) == (60, 0.5)
        assert vector(restored) == pytest.approx(vector(session), abs=1e-6)
        assert restored.search() == session.search()
        assert {hit.key for hit in restored.search()} == NOTES.keys() - {"bread", "train"}
        assert other.session(state=state, weight=0.1, clock=clock).weight == 0.1


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"dim": "x"},
        {"total": "no base64!"},
        {"total": "AAAA"},
        {"half_life": None},
        {"mass": float("nan")},
        {"mass": 0.0},
        {"keys": "bread"},
        {"keys": [1]},
        {"keys": [["bread"]]},
        {"keys": [str(i) for i in range(101)]},
    ],
)
def test_what_is_no_state_is_refused(index: Index, clock: Clock, change: dict[str, Any]) -> None:
    session = index.session(clock=clock)
    session.liked("bread")
    with pytest.raises(InputError, match=r"state is not what Session.state\(\) gives"):
        index.session(state={**session.state(), **change})
    for other in ({}, [], "state", 7):
        with pytest.raises(InputError, match=r"state is not what Session.state\(\) gives"):
            index.session(state=other)  # type: ignore[arg-type]


def test_a_state_of_other_vectors_is_refused(index: Index, tmp_path: Path, clock: Clock) -> None:
    session = index.session(clock=clock)
    session.liked("bread")
    with (
        Index.create(tmp_path / "v.db", space="other", dim=384) as other,
        pytest.raises(BundleMismatchError, match="the session's state is of other vectors"),
    ):
        other.session(state=session.state())


def test_an_index_that_is_embedded_again(path: Path, tmp_path: Path, embedder: Embedder, clock: Clock) -> None:
    """The session of the open index, and its state, are refused rather than compared with other vectors."""
    copy, shorter = tmp_path / "copy.db", Embedder(truncate_dim=64, threads=1)
    copy.write_bytes(path.read_bytes())
    with Index.open(copy, embedder, read_only=True) as index:
        session = index.session(clock=clock)
        session.liked("bread")
        reembed_index(copy, shorter)
        for call in (lambda: session.search("x"), session.search, lambda: session.liked("train")):
            with pytest.raises(BundleMismatchError, match="embedded again"):
                call()
        state = session.state()
    with Index.open(copy, shorter, read_only=True) as index, pytest.raises(BundleMismatchError, match="of other vec"):
        index.session(state=state)


def test_deleted_documents(path: Path, tmp_path: Path, embedder: Embedder, clock: Clock) -> None:
    """What a deleted document said stays; its key is no error; to like it is one, which changes nothing."""
    copy = tmp_path / "copy.db"
    copy.write_bytes(path.read_bytes())
    with Index.open(copy, embedder) as index:
        session = index.session(clock=clock)
        session.liked("train")
        before = vector(session)
        index.delete("train")
        assert session.search(k=1)[0].key == "tram"
        for call in (session.liked, session.disliked):
            with pytest.raises(InputError, match="not in the index: 'train'"):
                call(["bread", "train"])
        assert vector(session).tolist() == before.tolist()
    with pytest.raises(IndexClosedError):
        session.search("x")


def test_the_last_hundred_documents_are_remembered(tmp_path: Path, clock: Clock) -> None:
    with Index.create(tmp_path / "v.db", space="s", dim=2) as index:
        index.add_vectors([Document(str(i), "") for i in range(120)], [[1, i / 120] for i in range(120)])
        session = index.session(clock=clock)
        for i in range(110):
            session.liked(str(i))
        session.liked("3")
        assert session.state()["keys"] == [*map(str, range(11, 110)), "3"]
        found = {hit.key for hit in session.search(k=120)}
        assert found == {*map(str, range(11)), *map(str, range(110, 120))} - {"3"}


def test_threads_lose_no_event(index: Index, clock: Clock) -> None:
    session = index.session(clock=clock)

    def like() -> None:
        for _ in range(20):
            session.liked("bread")
            session.search("station", k=1)

    threads = [threading.Thread(target=like) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert session.state()["mass"] == pytest.approx(80 * 1.2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"half_life": 0}, "half_life is 0, expected a number over 0"),
        ({"half_life": float("inf")}, "half_life is inf"),
        ({"half_life": "1"}, "half_life is '1'"),
        ({"weight": -1}, "weight is -1, expected a number from 0 to 100"),
        ({"weight": True}, "weight is True"),
    ],
)
def test_settings_that_cannot_be_used(index: Index, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        index.session(**options)


def test_what_a_session_refuses(index: Index, clock: Clock) -> None:
    session = index.session(clock=clock)
    with pytest.raises(InputError, match="a session moves a dense vector, which mode 'text' does not compare"):
        session.search("bread", mode="text")
    with pytest.raises(InputError, match="cannot be pickled or copied: keep its state"):
        pickle.dumps(session)
    clock.now = float("nan")
    with pytest.raises(InputError, match="the session's clock is nan"):
        session.search("bread")
