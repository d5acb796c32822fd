"""`Index.open(..., shared=True)`: writers of several objects and processes take turns."""

import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_embed import Document, Embedder, Index, verify_index
from edge_embed.errors import IndexFileError, IndexLockedError, IndexReadOnlyError, InputError

DIM = 16
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "notes.db"
    Index.create(path, space="test", dim=DIM).close()
    return path


def documents(*keys: str) -> list[Document]:
    return [Document(key, f"the text of {key}", {"letter": key[0]}) for key in keys]


def vectors(count: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, DIM)).astype(np.float32)


def test_two_objects_write_by_turns_and_see_what_the_other_wrote(path: Path) -> None:
    with Index.open(path, shared=True) as one, Index.open(path, shared=True) as other:
        one.add_vectors(documents("a", "b"), vectors(2))
        other.add_vectors(documents("c"), vectors(1))
        assert list(one.keys()) == list(other.keys()) == ["a", "b", "c"]
        assert one.delete(["a", "c"]) == 2
        assert [hit.key for hit in other.search("text", mode="text")] == ["b"]
        assert [hit.key for hit in one.search(vector=vectors(2)[1], mode="vector")] == ["b"]
        other.upsert_vectors(documents("b", "d"), vectors(2))
        assert len(one) == 2
    assert verify_index(path).problems == []


def test_texts_are_embedded_in_a_turn(tmp_path: Path, embedder: Embedder) -> None:
    path = tmp_path / "texts.db"
    with Index.open(path, embedder, shared=True) as one, Index.open(path, embedder, shared=True) as other:
        one.add(documents("a"))
        other.upsert(documents("a", "b"))
        assert one.search("the text of b", k=1)[0].key == "b"


def test_codes_in_memory_follow_what_others_deleted(path: Path) -> None:
    many = documents(*(f"{i:03}" for i in range(300)))
    with Index.open(path, shared=True) as one, Index.open(path, shared=True) as other:
        one.add_vectors(many, vectors(300))
        for start in range(0, 200, 50):  # each deletes what the other has not seen deleted
            for index, more in ((one, 0), (other, 25)):
                index.search(vector=vectors(1)[0], k=3)
                index.delete([d.key for d in many[start + more : start + more + 25]])
                found = {hit.key for hit in index.search(vector=vectors(1)[0], k=300)}
                assert found == {d.key for d in many[start + more + 25 :]}


def test_an_index_that_is_closed_by_its_last_writer_is_one_file(path: Path) -> None:
    one, other = Index.open(path, shared=True), Index.open(path, shared=True)
    one.add_vectors(documents("a"), vectors(1))
    other.add_vectors(documents("b"), vectors(1))
    one.close()
    other.close()
    other.close()
    assert sorted(p.name for p in path.parent.iterdir()) == ["notes.db", "notes.db.lock"]
    with Index.open(path, read_only=True) as index:
        assert len(index) == 2


def test_a_turn_waits_as_long_as_it_may(path: Path) -> None:
    with Index.open(path, shared=True, timeout=0.0) as index:
        index.add_vectors(documents("a"), vectors(1))
        with Index.open(path):  # alone: it holds the lock until it is closed
            with pytest.raises(IndexLockedError) as caught:
                index.add_vectors(documents("b"), vectors(1))
            assert caught.value.pid == os.getpid()
            assert len(index) == 1
            with pytest.raises(IndexLockedError):
                Index.open(path, shared=True, timeout=0.0)
        index.add_vectors(documents("b"), vectors(1))
        with Index.open(path) as alone:
            assert len(alone) == 2


def test_a_turn_comes_when_the_other_has_ended(path: Path) -> None:
    with Index.open(path, shared=True) as index:
        alone = Index.open(path)
        timer = threading.Timer(0.05, alone.close)
        timer.start()
        index.add_vectors(documents("a"), vectors(1))
        timer.join()
        assert len(index) == 1


def test_shared_is_for_writing(path: Path) -> None:
    with pytest.raises(InputError, match="needs no turns"):
        Index.open(path, shared=True, read_only=True)
    with Index.open(path, read_only=True) as index, pytest.raises(IndexReadOnlyError):
        index.delete("a")


def test_a_failed_operation_ends_the_turn(path: Path) -> None:
    with Index.open(path, shared=True, timeout=0.0) as one, Index.open(path, shared=True, timeout=0.0) as other:
        with pytest.raises(InputError):
            one.add_vectors(documents("a"), np.zeros((1, DIM)))
        other.add_vectors(documents("a"), vectors(1))
        one.delete("a")


@pytest.mark.parametrize("how", ["replaced", "deleted"])
def test_an_index_that_is_another_file_now_takes_no_writes(path: Path, how: str) -> None:
    with Index.open(path, shared=True) as index:
        index.add_vectors(documents("a"), vectors(1))
        if how == "replaced":
            Index.create(path.with_name("new.db"), space="test", dim=DIM).close()
            path.with_name("new.db").replace(path)
        else:
            path.unlink()
        with pytest.raises(IndexFileError) as caught:
            index.add_vectors(documents("b"), vectors(1))
        assert caught.value.code == "index_moved"
    assert path.exists() == (how == "replaced")
    if how == "replaced":
        with Index.open(path, read_only=True) as index:
            assert len(index) == 0


def test_threads_of_one_object_take_turns_too(path: Path) -> None:
    def write(name: str) -> None:
        for i in range(10):
            index.add_vectors(documents(f"{name}{i}"), vectors(1))

    with Index.open(path, shared=True) as index:
        threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(index) == 20


def test_a_forked_child_opens_it_itself(path: Path) -> None:
    with Index.open(path, shared=True) as index:
        index.add_vectors(documents("a"), vectors(1))
        child = multiprocessing.get_context("fork").Process(target=_add, args=(path, "b"))
        child.start()
        child.join()
        assert child.exitcode == 0
        assert list(index.keys()) == ["a", "b"]
        index.add_vectors(documents("c"), vectors(1))


def _add(path: Path, key: str) -> None:
    with Index.open(path, shared=True) as index:
        index.add_vectors(documents(key), vectors(1))


def _write_until_killed(path: Path, name: str, log: Path) -> None:
    """Each line of the log is acknowledged: "+" stored, "-" deleted; "?" is about to be deleted."""
    numbers = np.random.default_rng(list(name.encode()))
    with log.open("a", buffering=1) as said, Index.open(path, shared=True) as index:
        said.write("open\n")
        for i in range(10**9):
            batch = documents(*(f"{name}-{i}-{j}" for j in range(3)))
            index.upsert_vectors(batch, numbers.standard_normal((3, DIM)))
            said.write("".join(f"+{document.key}\n" for document in batch))
            if i % 3 == 0:
                said.write(f"?{batch[0].key}\n")
                index.delete(batch[0].key)
                said.write(f"-{batch[0].key}\n")
            if i % 5 == 0:
                index.search(vector=numbers.standard_normal(DIM), k=3)


class Writers:
    """Four processes that write one index by turns."""

    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0
        self.processes: list[Any] = [self._start() for _ in range(4)]

    def _start(self) -> Any:
        self.count += 1
        log = self.path.with_name(f"log{self.count}")
        process = SPAWN.Process(target=_write_until_killed, args=(self.path, f"w{self.count}", log), daemon=True)
        process.start()
        return process

    def kill(self, place: int) -> None:
        process = self.processes[place]
        assert process.is_alive(), "a writer ended by itself"
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL

    def kill_one(self, place: int) -> None:
        self.kill(place)
        self.processes[place] = self._start()

    def acknowledged(self) -> Iterator[str]:
        """Whole lines of what was said."""
        for log in self.path.parent.glob("log*"):
            yield from log.read_text().split("\n")[:-1]


def _wait_for(writers: Writers, lines: int) -> None:
    while sum(1 for _ in writers.acknowledged()) < lines:
        threading.Event().wait(0.01)
        assert all(process.is_alive() for process in writers.processes), "a writer ended by itself"


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize("kills", [6, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_writers_lose_nothing_that_was_acknowledged(path: Path, kills: int) -> None:
    chance = random.Random(kills)  # noqa: S311 - no secret
    writers = Writers(path)
    _wait_for(writers, 20)
    for _ in range(kills):
        threading.Event().wait(chance.uniform(0.02, 0.3))
        writers.kill_one(chance.randrange(4))
    _wait_for(writers, 50)
    for place in range(4):
        writers.kill(place)
    said = list(writers.acknowledged())
    deleted, unsure = ({line[1:] for line in said if line[0] == sign} for sign in "-?")
    stored = {line[1:] for line in said if line[0] == "+"}
    with Index.open(path) as index:
        there = set(index.keys())
    assert stored - unsure <= there
    assert not there & deleted
    report = verify_index(path)
    assert (report.problems, report.damaged) == ([], [])
