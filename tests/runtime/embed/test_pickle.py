"""Embedders in other processes, copies, tasks: path and options travel, an Index does not."""

import asyncio
import copy
import multiprocessing
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_embed import ComposedEmbedder, Document, Embedder, Index
from edge_embed.errors import BundleError, InputError
from edge_embed_runtime.embed import embedder as runtime

TEXTS = ["the ferry", "a river bank", ""]


def again(pickled: bytes) -> Any:
    return pickle.loads(pickled)  # noqa: S301 - made in the test


def encode(embedder: Any) -> tuple[Any, int]:
    """Runs in another process."""
    return embedder.encode(TEXTS), embedder.dim


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_embedders_go_to_other_processes(method: str, embedder: Embedder) -> None:
    """Of each kind; the vectors are the same bits."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    static = Embedder("static", truncate_dim=64)
    both = ComposedEmbedder([(embedder, 1.0), (static, 2.0)])
    with multiprocessing.get_context(method).Pool(1) as pool:
        for one in (embedder, static, both):
            vectors, dim = pool.apply(encode, (one,))
            assert dim == one.dim
            assert np.array_equal(vectors, one.encode(TEXTS))


def test_options_are_kept(bundle: Path) -> None:
    """All of them, and threads as they were set later; a pickle is small."""
    embedder = Embedder(threads=3, truncate_dim=100, exact=True, max_rss_mb=4000, adapter="base")
    embedder.threads = 2
    pickled = pickle.dumps(embedder)
    assert len(pickled) < 1000
    loaded = again(pickled)
    assert type(loaded) is Embedder
    assert (loaded.threads, loaded.dim, loaded.exact) == (2, 100, embedder.exact)
    assert loaded.predicted_peak > 0
    assert loaded.fingerprint == embedder.fingerprint
    assert loaded._options == embedder._options
    assert again(pickle.dumps(Embedder("static", background=True))).background
    plain = again(pickle.dumps(runtime.Embedder(bundle)))
    assert type(plain) is runtime.Embedder
    assert plain.path == bundle.resolve()


def test_embedded_bundles_keep_their_names() -> None:
    """So that another install finds its own."""
    assert b"minilm" in pickle.dumps(Embedder())
    static = pickle.dumps(Embedder("static"))
    assert b"static-minilm" not in static
    assert b"static" in static


def test_copies_are_embedders_of_their_own() -> None:
    """Shallow and deep ones; parts that a ComposedEmbedder shares are shared in its copy."""
    static = Embedder("static")
    for made in (copy.copy(static), copy.deepcopy(static)):
        assert made is not static
        assert np.array_equal(made.encode(TEXTS), static.encode(TEXTS))
    composed = copy.deepcopy(ComposedEmbedder([(static, 1.0), (static, 2.0)]))
    assert composed._parts[0].embedder is composed._parts[1].embedder
    assert composed.fingerprint == ComposedEmbedder([(static, 1.0), (static, 2.0)]).fingerprint


def test_a_bundle_that_is_gone_or_another_is_refused(tmp_path: Path) -> None:
    """With an error that names it."""
    folder = shutil.copytree(Embedder("static").path, tmp_path / "own")
    pickled = pickle.dumps(Embedder(folder))
    assert again(pickled).path == folder.resolve()
    other = pickled.replace(Embedder(folder).manifest.fingerprint.encode(), b"0" * 32)
    with pytest.raises(BundleError, match="is another here"):
        again(other)
    shutil.rmtree(folder)
    with pytest.raises(BundleError, match="own does not exist"):
        again(pickled)


def test_a_relative_path_is_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process may have another working directory."""
    shutil.copytree(Embedder("static").path, tmp_path / "own")
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(Embedder("./own"))
    monkeypatch.chdir("/")
    assert again(pickled).path == (tmp_path / "own").resolve()


def test_an_index_is_not_pickled(tmp_path: Path) -> None:
    """Nor copied: the error says what to do."""
    with Index.open(tmp_path / "x.db", Embedder("static")) as index:
        for use in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(InputError, match=r"cannot be pickled or copied.*open .*x\.db there"):
                use(index)
        index.add([Document("a", "the ferry", {"n": 1})])
        hits = index.search("ferry")
        hits.shortfall = "one"
        other = again(pickle.dumps(hits))
        assert (list(other), other.shortfall) == (list(hits), "one")


def test_tasks_share_an_embedder_and_an_index(tmp_path: Path) -> None:
    """In threads of asyncio; a task that is cancelled leaves both usable."""
    embedder = Embedder("static")

    async def work(index: Index, number: int) -> int:
        await asyncio.to_thread(index.add, [Document(f"d{number}", f"ferry {number}")])
        vectors = await asyncio.to_thread(embedder.encode, TEXTS)
        hits = await asyncio.to_thread(index.search, f"ferry {number}", mode="text")
        assert np.array_equal(vectors, embedder.encode(TEXTS))
        return next(int(hit.metadata.get("n", number)) for hit in hits if hit.key == f"d{number}")

    async def run() -> None:
        with Index.open(tmp_path / "x.db", embedder) as index:
            assert await asyncio.gather(*(work(index, n) for n in range(8))) == list(range(8))
            late = asyncio.create_task(asyncio.to_thread(index.search, "ferry"))
            await asyncio.sleep(0)
            late.cancel()
            with pytest.raises(asyncio.CancelledError):
                await late
            assert len(await asyncio.to_thread(index.search, "ferry", k=20)) == 8
            assert await asyncio.to_thread(len, index) == 8

    asyncio.run(run())
