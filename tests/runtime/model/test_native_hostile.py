"""Bundles for the native engine that somebody has damaged, with hashes that fit: an error or vectors, never a crash."""

import json
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.nativebundles import native_bundle, with_model

from edge_embed import Embedder
from edge_embed.errors import BundleError, EdgeEmbedError
from edge_embed_runtime.bundle.bundle import open_bundle
from edge_embed_runtime.bundle.manifest import MODEL
from edge_embed_runtime.bundle.native import parse_native
from edge_embed_runtime.native.library import reason

pytestmark = pytest.mark.skipif(bool(reason()), reason="needs the native library")

TEXTS = ["a cat", "the river bank " * 5, ""]
ODD = (None, True, -1, 0, 1, 2**31, 2**63, 2**70, 0.5, 1e-45, 1e300, float("nan"), float("inf"), "", "mean", [], {})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return native_bundle(tmp_path_factory.mktemp("native"))


def damaged(whole: bytes, chance: random.Random) -> bytes:
    """A few bits, bytes or stretches are changed, left out, put in, or copied from elsewhere in the file."""
    data = bytearray(whole)
    for _ in range(chance.choice([1, 1, 2, 4])):
        at, many = chance.randrange(len(data)), chance.choice([1, 4, 16, 100])
        how = chance.randrange(5)
        if how == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif how == 1:
            data[at] = chance.choice([0, 1, 127, 128, 255])
        elif how == 2:
            del data[at : at + many]
        elif how == 3:
            data[at:at] = bytes(many)
        else:
            other = chance.randrange(len(data))
            data[at : at + many] = data[other : other + many]
    return bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_bytes_of_the_model(bundle: Path, tmp_path: Path, seed: int) -> None:
    """The bundle is refused as one that is damaged, or gives vectors of length 1."""
    chance, whole = random.Random(seed), (bundle / MODEL).read_bytes()  # noqa: S311 - not a secret
    refused = 0
    for _ in range(25):
        try:
            changed = with_model(bundle, tmp_path / "b", damaged(whole, chance))
            vectors = Embedder(changed, engine="native", threads=1).encode(TEXTS)
        except BundleError:
            refused += 1
        else:
            assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-4)
    assert refused > 5


def test_numbers_of_the_manifest(bundle: Path) -> None:
    """Each value of the block `native` is a number of its kind within its bounds, or the block is refused."""
    original = json.loads((bundle / "manifest.json").read_text())["native"]
    places: list[tuple[Any, ...]] = [(key,) for key in original]
    places += [("inputs", site, key) for site in original["inputs"] for key in ("scale", "zero_point")]
    accepted = []
    for place in places:
        for value in ODD:
            content = json.loads(json.dumps(original))
            target = content
            for key in place[:-1]:
                target = target[key]
            if target[place[-1]] == value and type(target[place[-1]]) is type(value):
                continue
            target[place[-1]] = value
            try:
                parse_native(content)
            except (ValueError, TypeError):
                continue
            accepted.append((place[-1], value))
    assert {(key, value) for key, value in accepted} == {
        ("heads", 1),
        ("eps", 0.5),
        ("scale", 0.5),
        ("zero_point", 0),
        ("zero_point", 1),
    }


def test_a_bundle_that_is_replaced(bundle: Path, tmp_path: Path) -> None:
    """Who has it open goes on with the old weights; who opens it next has the new ones, which are checked."""
    copy = with_model(bundle, tmp_path / "b", (bundle / MODEL).read_bytes())
    embedder = Embedder(copy, threads=1)
    expected = embedder.encode(TEXTS)
    chance = random.Random(1)  # noqa: S311 - not a secret
    (tmp_path / "new").write_bytes(damaged((bundle / MODEL).read_bytes(), chance))
    (tmp_path / "new").replace(copy / MODEL)
    assert np.array_equal(embedder.encode(TEXTS), expected)
    with pytest.raises(BundleError):
        Embedder(copy)
    (copy / MODEL).unlink()
    assert np.array_equal(embedder.encode(TEXTS), expected)


def test_eight_threads_with_different_texts(bundle: Path) -> None:
    """Each text has its own vector, whatever others are computed at the time, some of which are refused."""
    embedder = Embedder(bundle, threads=2)
    texts = ["cat " * n for n in (1, 3, 20, 7, 12, 5, 18, 2)] * 6
    expected = embedder.encode(texts)
    wrong: list[int] = []

    def run(turn: int) -> None:
        for _ in range(10):
            found = embedder.encode(texts[turn:] + texts[:turn])
            if not np.array_equal(np.roll(found, turn, axis=0), expected):
                wrong.append(turn)
            try:
                embedder.encode(["cat", "\ud800"])
            except EdgeEmbedError:
                continue
            wrong.append(-1)

    threads = [threading.Thread(target=run, args=(turn,)) for turn in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_it_was_whole(bundle: Path) -> None:
    """The bundle that these tests damage is one that works."""
    assert open_bundle(bundle).manifest.engine == "native"
    assert Embedder(bundle).engine == "native"
