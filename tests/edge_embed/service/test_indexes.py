"""The index that is served: replaced, deleted, damaged, locked, and written by two services."""

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_embed import Document, Embedder, Index
from edge_embed.errors import BundleMismatchError, EdgeEmbedError, IndexFileError, IndexReadOnlyError, InputError
from edge_embed.service import indexes
from edge_embed.service.indexes import IndexOptions, ServedIndex
from edge_embed.service.limits import Limits
from edge_embed.service.refusals import Refusal, problem_of
from edge_embed.service.service import Service


@pytest.fixture(scope="module")
def static() -> Embedder:
    return Embedder("static", threads=1)


def made(path: Path, embedder: Embedder, *texts: str) -> Path:
    with Index.open(path, embedder) as index:
        index.add([Document(f"{path.stem}{i}", text) for i, text in enumerate(texts)])
    return path


class Asked:
    """A service, asked from outside its event loop."""

    def __init__(
        self, path: Path, embedders: dict[str, Embedder], limits: Limits | None = None, **options: Any
    ) -> None:
        self.service = Service(
            embedders, index=ServedIndex(path, embedders, IndexOptions(**options)), limits=limits or Limits()
        )

    def hits(self, query: str = "a cat", **options: Any) -> list[str]:
        return [hit.key for hit in asyncio.run(self.service.search(query, 10, **options))]

    def add(self, key: str, text: str) -> int:
        return asyncio.run(self.service.write(lambda index: index.upsert([Document(key, text)])))

    def status(self, call: Callable[[], object]) -> tuple[int, str]:
        """What a client would get."""
        with pytest.raises((EdgeEmbedError, Refusal)) as raised:
            call()
        problem = problem_of(raised.value)
        return problem.status, problem.code


@pytest.fixture
def asked(tmp_path: Path, static: Embedder) -> Iterator[Asked]:
    found = Asked(made(tmp_path / "old.db", static, "a cat", "a house"), {"s": static})
    yield found
    found.service.close()


def test_searches_and_writes(asked: Asked) -> None:
    """What is written is found by the next search; a k over the limit is refused."""
    assert asked.hits() == ["old0", "old1"]
    assert asked.add("new", "a cat on the mat") == 1
    assert "new" in asked.hits()
    assert asked.status(lambda: asyncio.run(asked.service.search("a", 1001))) == (400, "invalid_input")


@pytest.mark.parametrize("written", [False, True])
def test_replaced(asked: Asked, tmp_path: Path, static: Embedder, written: bool) -> None:
    """Another index in the same place is opened by the next request, and written, also where the old one has a log."""
    if written:
        asked.add("new", "a dog")
    path = made(tmp_path / "other.db", static, "a cat elsewhere")
    path.replace(tmp_path / "old.db")
    assert asked.hits() == ["other0"]
    assert asked.add("new", "a dog") == 1
    with Index.open(tmp_path / "old.db", static, read_only=True) as index:
        assert list(index.keys()) == ["new", "other0"]


def test_deleted(asked: Asked, tmp_path: Path) -> None:
    """While the file is away searches and writes say so, and nothing is made in its place; later it is served again."""
    (tmp_path / "old.db").rename(tmp_path / "away.db")
    for _ in range(2):
        assert asked.status(asked.hits) == (503, "index_missing")
        assert asked.status(lambda: asked.add("new", "a")) == (503, "index_missing")
    assert not (tmp_path / "old.db").exists()
    (tmp_path / "away.db").rename(tmp_path / "old.db")
    assert asked.hits() == ["old0", "old1"]


def test_replaced_by_what_cannot_be_served(asked: Asked, tmp_path: Path, embedder: Embedder, static: Embedder) -> None:
    """Rubbish, and an index of another bundle: each request says so, until there is a good one again."""
    path = tmp_path / "old.db"
    shutil.copy(path, tmp_path / "good.db")
    (tmp_path / "rubbish").write_bytes(b"rubbish" * 1000)
    (tmp_path / "rubbish").replace(path)
    for _ in range(2):
        assert asked.status(asked.hits) == (503, "index_format")
    made(tmp_path / "minilm.db", embedder, "a cat").replace(path)
    for _ in range(2):
        assert asked.status(asked.hits) == (503, "bundle_mismatch")
    (tmp_path / "good.db").replace(path)
    assert asked.hits() == ["old0", "old1"]


def test_cut_off(asked: Asked, tmp_path: Path) -> None:
    """An index that is damaged under the service is an error of the index, not of the service."""
    path = tmp_path / "old.db"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(b"\x55" * size)
    status, code = asked.status(lambda: (asked.hits(), asked.add("new", "b")))
    assert status == 503
    assert code.startswith("index_")


def test_two_services(asked: Asked, tmp_path: Path, static: Embedder) -> None:
    """Two services on one index write by turns, and each finds what the other wrote."""
    other = Asked(tmp_path / "old.db", {"s": static})
    for i in range(6):
        writer, reader = (asked, other) if i % 2 else (other, asked)
        assert writer.add(f"k{i}", f"a cat number {i}") == 1
        assert f"k{i}" in reader.hits()
    other.service.close()


def test_locked(asked: Asked, tmp_path: Path, static: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another program holds the index for writing, writes are refused for the moment, and searches go on."""
    monkeypatch.setattr(indexes, "WAIT", 0.05)
    patient = Asked(tmp_path / "old.db", {"s": static})
    with Index.open(tmp_path / "old.db", static) as index:
        assert patient.status(lambda: patient.add("new", "a")) == (503, "index_locked")
        with pytest.raises(IndexFileError) as raised:
            patient.add("new", "a")
        assert problem_of(raised.value).retry_after == 1
        assert "pid" not in problem_of(raised.value).more
        index.add([Document("theirs", "a cat of others")])
        assert "theirs" in patient.hits()
    assert patient.add("new", "a") == 1
    patient.service.close()


def test_read_only(tmp_path: Path, static: Embedder) -> None:
    """With --read-only nothing is written, and nothing is made."""
    found = Asked(made(tmp_path / "a.db", static, "a cat"), {"s": static}, read_only=True)
    assert found.hits() == ["a0"]
    with pytest.raises(IndexReadOnlyError, match="--read-only"):
        found.add("new", "a")
    found.service.close()
    with pytest.raises(EdgeEmbedError):
        Asked(tmp_path / "missing.db", {"s": static}, read_only=True)
    assert not (tmp_path / "missing.db").exists()


def test_new(tmp_path: Path, static: Embedder) -> None:
    """An index that is missing at the start is made, of the default bundle."""
    found = Asked(tmp_path / "new.db", {"s": static})
    assert found.hits() == []
    assert found.add("a", "a cat") == 1
    assert found.hits() == ["a"]
    found.service.close()


def test_embedder_by_fingerprint(tmp_path: Path, embedder: Embedder, static: Embedder) -> None:
    """Of several bundles the index is asked with its own; where that is not served, the error names it."""
    path = made(tmp_path / "a.db", static, "a cat")
    found = Asked(path, {"m": embedder, "s": static})
    assert found.hits(mode="vector") == ["a0"]
    found.service.close()
    with pytest.raises(BundleMismatchError, match=static.name):
        Asked(path, {"m": embedder})


def test_given_vectors(tmp_path: Path, static: Embedder) -> None:
    """An index of vectors from elsewhere is searched by words and by vector, not by meaning."""
    with Index.create(tmp_path / "v.db", space="theirs", dim=3) as index:
        index.add_vectors([Document("a", "a cat")], np.eye(1, 3, dtype=np.float32))
    found = Asked(tmp_path / "v.db", {"s": static})
    assert found.hits("cat", mode="text") == ["a"]
    assert found.hits(None, vector=[1, 0, 0]) == ["a"]
    with pytest.raises(InputError, match="vector"):
        found.hits("cat", mode="vector")
    found.service.close()


def test_full_queue(tmp_path: Path, static: Embedder) -> None:
    """More calls than may wait for the index are refused with 429."""
    path = made(tmp_path / "a.db", static, "a cat")
    found = Asked(path, {"s": static}, Limits(calls=1))
    gate = threading.Event()

    async def main() -> None:
        running = [asyncio.create_task(found.service.read(lambda _: gate.wait(30))) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refused:
            await found.service.read(len)
        assert (refused.value.status, refused.value.retry_after) == (429, 1)
        gate.set()
        assert await asyncio.gather(*running) == [True] * 3
        assert await found.service.read(len) == 1

    asyncio.run(main())
    found.service.close()


def test_no_index(static: Embedder) -> None:
    """A service of models alone says so."""
    service = Service({"s": static})
    with pytest.raises(Refusal, match="edge-embed serve INDEX") as refused:
        asyncio.run(service.read(len))
    assert refused.value.status == 404
    with pytest.raises(Refusal) as refused:
        asyncio.run(service.embed(["a"], "unknown"))
    assert refused.value.status == 404
    with pytest.raises(Refusal) as refused:
        asyncio.run(service.rerank("a", ["b"]))
    assert refused.value.status == 404
    service.close()
