"""Search in C against plain Python and numpy, on each instruction set that this CPU has: equal to the bit."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.compilers import build_script, c_compiler

from edge_embed import Document, Index
from edge_embed_runtime.native import library, search
from edge_embed_runtime.native.hamming import BLOCK, Codes, Cut, Search
from edge_embed_runtime.native.library import Loader, Native
from edge_embed_runtime.search.streamed import StreamedCodes
from edge_embed_runtime.system.headroom import Room
from edge_embed_runtime.vectors import hamming
from edge_embed_runtime.vectors.bits import binarize, signs_dot
from edge_embed_runtime.vectors.int8 import quantize_int8
from edge_embed_runtime.vectors.scores import exact_scores
from edge_embed_runtime.vectors.whole import for_int8, for_signs

WIDTHS = (1, 2, 6, 30, 31, 32, 62, 63, 64)
COUNTS = (1, 2, 7, 17, 33, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5)
# Instruction sets with loops of their own; "" is the best that this CPU has.
NAMES = ("baseline", "avx2", "neon", "")


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Native:
    """The package's library; one that is built for these tests where it has none."""
    found = library.native()
    if found is None:
        c_compiler()
        made = build_script()
        folder = made.build(tmp_path_factory.mktemp("native"), made.find_compiler()).parent
        found = Loader(folder).native()
    assert found is not None
    return found


def levels(native: Native) -> Iterator[Native]:
    """The library as it is used on CPUs of this kind with less."""
    known = {native.functions.edge_isa(name.encode()) for name in NAMES}
    for isa in sorted(number for number in known if number >= 0):
        yield replace(native, isa=isa)


def drawn(width: int, count: int) -> Iterator[tuple[Any, Any]]:
    """Codes [width, count] with a query: even ones, many ties, all equal, opposites."""
    random = np.random.default_rng(width * count)
    yield random.integers(0, 2**64, (width, count), np.uint64), random.integers(0, 2**64, width, np.uint64)
    yield random.integers(0, 3, (width, count), np.uint64), np.ones(width, np.uint64)
    yield np.full((width, count), 5, np.uint64), np.zeros(width, np.uint64)
    yield np.full((width, count), 2**64 - 1, np.uint64), np.zeros(width, np.uint64)


def counted(words: Any, query: Any) -> Any:
    return np.bitwise_count(words ^ query[:, None]).sum(axis=0, dtype=np.uint16)


@pytest.mark.parametrize("width", WIDTHS)
def test_distances_and_the_nearest(native: Native, width: int) -> None:
    """Of all codes and of some places: every distance, and the places that a stable sort has first."""
    for level in levels(native):
        scan = Search(level)
        for count in COUNTS if width == 6 else (1, 33, BLOCK + 1):
            for words, query in drawn(width, count):
                expected = counted(words, query)
                assert np.array_equal(scan.distances(words, query), expected)
                some = np.arange(0, count, 3)[::-1]
                assert np.array_equal(scan.distances(words, query, some), expected[some])
                check_nearest(scan, words, query, None)
                check_nearest(scan, words, query, np.arange(count // 3, count))


def check_nearest(scan: Search, words: Any, query: Any, places: Any) -> None:
    allowed = np.arange(words.shape[1]) if places is None else places
    differing = counted(words, query)[allowed]
    for wanted in {1, 2, len(allowed) // 2, len(allowed) - 1} - {0, len(allowed)}:
        if not 0 < wanted < len(allowed):
            continue
        found = scan.nearest(words, query, wanted, places)
        order = np.sort(np.argsort(differing, kind="stable")[:wanted])
        assert np.array_equal(found.places, allowed[order])
        assert np.array_equal(found.distances, differing[order])
        assert found.last == differing[order].max()
        assert found.part == (found.distances == found.last).sum() / (differing == found.last).sum()


def test_codes_with_room_behind_them(native: Native) -> None:
    """Codes in memory have slack at the end of each word, which is no code."""
    words, query = next(drawn(6, 1000))
    roomy = np.zeros((6, 1500), np.uint64)
    roomy[:] = query[:, None]  # nearest of all, were they codes
    roomy[:, :1000] = words
    scan = Search(native)
    assert np.array_equal(scan.distances(roomy[:, :1000], query), counted(words, query))
    assert scan.nearest(roomy[:, :1000], query, 10).places.max() < 1000


def test_nearest_of_an_order_that_gets_better(native: Native) -> None:
    """Each code is nearer than those before it: nothing can be left out early, and the result is the same."""
    count = 5 * BLOCK
    words = np.array([[(1 << (64 - i * 64 // count)) - 1 for i in range(count)]], np.uint64)
    for level in levels(native):
        check_nearest(Search(level), words, np.zeros(1, np.uint64), None)


@pytest.mark.parametrize("dim", [1, 8, 63, 64, 100, 384, 1000, 4096])
def test_signs_and_int8_scores(native: Native, dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What numpy gives, to the bit, of any query: of vectors, of one number alone, of tiny numbers."""
    random = np.random.default_rng(dim)
    vectors = random.standard_normal((300, dim)).astype(np.float32)
    words = np.ascontiguousarray(binarize(vectors).T)
    codes, scales = quantize_int8(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    stored = np.concatenate([np.zeros((300, 4), np.int8), codes], axis=1)[:, 4:]  # as rows of the file are read
    places = random.permutation(300)[:77]
    one = np.zeros(dim, np.float32)
    one[dim // 2] = -1
    for query in (vectors[3] / np.linalg.norm(vectors[3]), one, vectors[5] * np.float32(1e-30)):
        signed, numbers = for_signs(query), for_int8(query)
        with monkeypatch.context() as off:
            off.setattr(search, "loaded_search", lambda: None)
            expected = signs_dot(words, signed), signs_dot(words, signed, places), exact_scores(codes, scales, numbers)
        signs = np.where(np.unpackbits(words.T.copy().view(np.uint8), axis=1, bitorder="little")[:, :dim] > 0, 1, -1)
        assert np.array_equal(expected[0], (signs @ signed.numbers * signed.step).astype(np.float32))
        for level in levels(native):
            scan = Search(level)
            with monkeypatch.context() as on:
                on.setattr(search, "loaded_search", lambda scan=scan: scan)
                assert np.array_equal(signs_dot(words, signed), expected[0])
                assert np.array_equal(signs_dot(words, signed, places), expected[1])
                for given in (codes, stored):
                    assert np.array_equal(exact_scores(given, scales, numbers), expected[2])


def test_nothing_gives_nothing(native: Native) -> None:
    """No codes, no places: empty results; vectors too long for the library are numpy's."""
    scan = Search(native)
    empty, none = np.empty((6, 0), np.uint64), np.empty(0, np.int64)
    query = np.zeros(6, np.uint64)
    assert len(scan.distances(empty, query)) == 0
    assert len(scan.distances(np.zeros((6, 9), np.uint64), query, none)) == 0
    assert len(scan.signs(np.zeros((6, 9), np.uint64), np.zeros(384, np.int16), none)) == 0
    assert len(scan.int8_scores(np.empty((0, 8), np.int8), np.empty(0, np.float32), np.zeros(8), 1.0)) == 0
    assert search.native_search(4097) is None
    assert search.native_search(0) is None
    wide = np.full((70, 20), 2**64 - 1, np.uint64)
    assert hamming.distances(wide, np.zeros(70, np.uint64)).tolist() == [70 * 64] * 20


def test_arrays_that_are_refused(native: Native) -> None:
    """Another type, shape or order, too many places or numbers: ValueError before C reads a byte, or by C."""
    scan, words, query = Search(native), np.zeros((6, 100), np.uint64), np.zeros(6, np.uint64)
    for wrong in (words.astype(np.int64), words[0], words[:, ::2], words[::-1], np.zeros((100, 6), np.uint64).T):
        with pytest.raises(ValueError, match=r"codes|expected|follow"):
            scan.distances(wrong, query)
    for wrong in (query[:5], query.astype(np.float64), np.zeros(12, np.uint64)[::2], query[None]):
        with pytest.raises(ValueError, match=r"query|expected|follow"):
            scan.nearest(words, wrong, 3)
    for places in ([100], [-1], [2**62], [-(2**63)], [0, 5, 100]):
        for call in (
            lambda at: scan.distances(words, query, at),
            lambda at: scan.signs(words, np.zeros(384, np.int16), at),
            lambda at: scan.nearest(words, query, 1, np.append(at, 0)),
        ):
            with pytest.raises(ValueError, match="error -102"):
                call(np.array(places, np.int64))
    for count in (0, -1, 100, 2**62):
        with pytest.raises(ValueError, match="of 100 codes"):
            scan.nearest(words, query, count)
    with pytest.raises(ValueError, match="error -101"):
        scan.signs(words, np.zeros(385, np.int16))
    with pytest.raises(ValueError, match="error -101"):
        scan.signs(words, np.full(8, 5000, np.int16))  # a sum of eight does not fit
    codes, scales = np.zeros((5, 8), np.int8), np.ones(5, np.float32)
    for numbers, factors in ((np.zeros(7), scales), (np.zeros(8, np.float32), scales), (np.zeros(8), scales[:4])):
        with pytest.raises(ValueError, match=r"scales|expected"):
            scan.int8_scores(codes, factors, numbers, 1.0)
    for wrong in (codes[:, ::2], codes.astype(np.uint8), np.broadcast_to(codes[0], (5, 8))):
        with pytest.raises(ValueError, match=r"scales|expected|follow"):
            scan.int8_scores(wrong, scales, np.zeros(wrong.shape[1]), 1.0)


def test_c_checks_what_it_is_given(native: Native) -> None:
    """NULL, sizes outside their limits, too little room: an error of its own, whatever calls it."""
    Search(native)  # sets the types of arguments
    functions, isa = native.functions, native.isa
    words, query = np.zeros((2, 50), np.uint64), np.zeros(2, np.uint64)
    found, distances, cut = np.zeros(50, np.int64), np.zeros(50, np.uint16), Cut()
    q, f, d = query.ctypes.data, found.ctypes.data, distances.ctypes.data

    def codes(**changes: int | None) -> Codes:
        made = Codes(words)
        for name, value in changes.items():
            setattr(made, name, value)
        return made

    for wrong in (
        *(codes(width=width) for width in (0, -1, 65, 2**62)),
        *(codes(count=count) for count in (-1, 51, 2**62)),
        codes(words=None),
        codes(stride=2**62, count=2**61),
    ):
        assert functions.edge_distances(isa, wrong, q, d) == -101
        assert functions.edge_nearest(isa, wrong, None, wrong.count, q, 1, f, d, 50, cut) == -101
    good = codes()
    assert functions.edge_distances(isa, good, None, d) == -101
    assert functions.edge_distances(isa, good, q, None) == -101
    assert functions.edge_distances_at(isa, good, f, -1, q, d) == -101
    for wanted, count, room, error in ((0, 50, 50, -101), (50, 50, 50, -101), (9, 49, 50, -101), (9, 50, 49, -103)):
        assert functions.edge_nearest(isa, good, None, count, q, wanted, f, d, room, cut) == error
    assert functions.edge_nearest(isa, good, None, 50, q, 9, f, d, 50, cut) == 0
    for other in (-1, 77, 255, 0x7FFFFFFF & ~0x100):  # numbers of no CPU: what every one has
        assert functions.edge_distances(other, good, q, d) == 0
    eight = np.zeros(8)
    for dim, stride, count in ((0, 8, 1), (8, 7, 1), (20_000, 20_000, 1), (8, 8, -1), (8, 2**40, 1)):
        given = d, stride, count, dim, f, eight.ctypes.data, ctypes.c_double(1), f
        assert functions.edge_int8_scores(isa, *given) == -101


def sets() -> Iterator[tuple[str, Any]]:
    """Vectors of an index: even, in a cone, many ties, all equal, one, none."""
    random = np.random.default_rng(1)
    even = random.standard_normal((1500, 96))
    yield "even", even
    yield "cone", even + 4 * np.ones(96)
    yield "ties", random.choice([-1.0, 1.0], (900, 6)) @ random.standard_normal((6, 70))
    yield "equal", np.ones((300, 40))
    yield "one", even[:1]
    yield "none", even[:0]


@pytest.mark.parametrize("name", [name for name, _ in sets()])
def test_searches_are_the_same_either_way(
    native: Native, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hits and scores, with C and without: of any k and recall, with filters, with codes that stay in the file."""
    vectors = dict(sets())[name]
    with Index.create(tmp_path / "i.db", space="s", dim=vectors.shape[1]) as index:
        index.add_vectors([Document(str(i), "", {"m": i % 7}) for i in range(len(vectors))], vectors)
    queries = [*vectors[: len(vectors) // 2 : 300], np.random.default_rng(2).standard_normal(vectors.shape[1])]
    found = {}
    scans: dict[str, Search | None] = {level.isa_name + str(level.isa): Search(level) for level in levels(native)}
    for way, scan in {"numpy": None, **scans}.items():
        for streamed in (False, True):
            with monkeypatch.context() as patch:
                patch.setattr(search, "loaded_search", lambda scan=scan: scan)
                if streamed:
                    patch.setattr(Room, "for_codes", lambda *_: False)
                with Index.open(tmp_path / "i.db", read_only=True, max_rss_mb=100_000) as index:
                    found[way, streamed] = [answers(index, query) for query in queries]
                    assert isinstance(index._search.dense.codes, StreamedCodes) == streamed
    first = found.pop(("numpy", False))
    assert all(answer == first for answer in found.values())


def answers(index: Index, query: Any) -> list[Any]:
    asked: list[dict[str, Any]] = [{"k": 10}, {"k": 100}, {"recall": 1.0}, {"recall": 0.6}]
    asked += [{"where": {"m": 3}}] if len(index) > 10 else []
    return [[(hit.key, hit.score) for hit in index.search(vector=query, **options)] for options in asked]


def test_switched_off_by_the_environment() -> None:
    """EDGE_EMBED_NATIVE=0: numpy does it, in a process of its own."""
    code = "from edge_embed_runtime.native.search import native_search; print(native_search(384))"
    env = {**os.environ, "EDGE_EMBED_NATIVE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("None", "")
