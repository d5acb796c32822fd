"""Search over codes in C: each array is checked here before its pointer is handed on. Import it where `library.native`
gives a library; what it computes, `vectors` computes in numpy too, with the same results."""

import ctypes
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.native.library import Native

# As in runtime/native/search.h.
BLOCK, TABLE = 2048, 2048

Words = NDArray[np.uint64]
Floats = NDArray[np.float32]
Places = NDArray[np.int64]
Distances = NDArray[np.uint16]


class Found(NamedTuple):
    """What a scan in C finds: places [n] and distances [n]; the largest of these, and the part that was taken of all
    codes with that one."""

    places: Places
    distances: Distances
    last: int
    part: float


class Codes(ctypes.Structure):
    """EdgeCodes. `array` keeps the memory."""

    _fields_ = (
        ("words", ctypes.c_void_p),
        ("stride", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("width", ctypes.c_int64),
    )

    def __init__(self, array: Words) -> None:
        """array: [words, n], the codes of each word next to each other."""
        _check(array, np.uint64, 2, 1)
        stride = array.strides[0] // 8 if len(array) > 1 else array.shape[1]
        if array.strides[0] % 8 or stride < array.shape[1]:
            raise ValueError(f"codes have the strides {array.strides}")
        super().__init__(array.ctypes.data, stride, array.shape[1], array.shape[0])
        self.array = array


class Cut(ctypes.Structure):
    """EdgeCut."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("last", "taken", "equal"))


class Search:
    """The functions of search.h.

    Codes are [words, n] uint64, queries [words]; places are int64, 0 or more, ascending for `nearest`. Raises
    ValueError for arrays of another type, shape or order, and for places where there is no code.
    """

    def __init__(self, native: Native) -> None:
        functions, self._isa = native.functions, native.isa
        isa, number, pointer, codes = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p, ctypes.POINTER(Codes)
        self._distances = functions.edge_distances
        self._distances.argtypes = (isa, codes, pointer, pointer)
        self._distances_at = functions.edge_distances_at
        self._distances_at.argtypes = (isa, codes, pointer, number, pointer, pointer)
        self._nearest = functions.edge_nearest
        self._nearest.argtypes = (
            *(isa, codes, pointer, number, pointer, number, pointer, pointer, number),
            ctypes.POINTER(Cut),
        )
        self._signs = functions.edge_signs
        self._signs.argtypes = (isa, codes, pointer, number, pointer, number, pointer, pointer)
        self._int8_scores = functions.edge_int8_scores
        self._int8_scores.argtypes = (
            *(isa, pointer, number, number, number, pointer, pointer),
            *(ctypes.c_double, pointer),
        )

    def distances(self, words: Words, query: Words, places: Places | None = None) -> Distances:
        """Bits in which codes, all or those at some places, differ from a query."""
        codes, asked = Codes(words), _query(words, query)
        if places is None:
            found = np.empty(codes.count, np.uint16)
            _done(self._distances(self._isa, codes, asked, found.ctypes.data))
            return found
        at, found = _places(places), np.empty(len(places), np.uint16)
        _done(self._distances_at(self._isa, codes, at.ctypes.data, len(at), asked, found.ctypes.data))
        return found

    def nearest(self, words: Words, query: Words, count: int, places: Places | None = None) -> Found:
        """The `count` codes, of more, that differ least from a query; places ascend."""
        codes, asked, cut = Codes(words), _query(words, query), Cut()
        total = codes.count if places is None else len(places)
        if not 1 <= count < total:
            raise ValueError(f"{count} of {total} codes")
        room = min(total, 2 * count + 2 * BLOCK)
        found, distances = np.empty(room, np.int64), np.empty(room, np.uint16)
        at = None if places is None else _places(places)
        given = codes, None if at is None else at.ctypes.data, total, asked, count
        _done(self._nearest(self._isa, *given, _new(found), _new(distances), room, cut))
        return Found(found[:count], distances[:count], cut.last, cut.taken / cut.equal)

    def signs(self, words: Words, query: NDArray[np.int16], places: Places | None = None) -> NDArray[np.int32]:
        """Sums of a query's numbers [dim], each with the sign that its bit of a code says, of all codes or some."""
        codes = Codes(words)
        _check(query, np.int16, 1, 0)
        count = codes.count if places is None else len(places)
        table, sums = np.empty(TABLE * codes.width, np.int16), np.empty(count, np.int32)
        at = None if places is None else _places(places)
        given = codes, None if at is None else at.ctypes.data, count, query.ctypes.data, len(query)
        _done(self._signs(self._isa, *given, table.ctypes.data, sums.ctypes.data))
        return sums

    def int8_scores(self, codes: NDArray[np.int8], scales: Floats, query: NDArray[np.float64], step: float) -> Floats:
        """Dot products of a query [dim] of whole numbers with codes [n, dim], times scales [n] and a step."""
        _check(codes, np.int8, 2, 1)
        _check(scales, np.float32, 1, 0)
        _check(query, np.float64, 1, 0)
        (count, dim), scores = codes.shape, np.empty(len(codes), np.float32)
        if len(scales) != count or len(query) != dim or (count > 1 and codes.strides[0] < dim):
            raise ValueError(f"{len(scales)} scales and {len(query)} numbers for codes {codes.shape}")
        stride = codes.strides[0] if count > 1 else dim
        given = codes.ctypes.data, stride, count, dim, scales.ctypes.data, query.ctypes.data
        _done(self._int8_scores(self._isa, *given, step, scores.ctypes.data))
        return scores


def _check(array: NDArray[Any], dtype: Any, dimensions: int, dense: int) -> None:
    """Raise ValueError for an array of another type or shape, or whose numbers do not follow each other along the
    dimension `dense`."""
    if array.dtype != dtype or array.ndim != dimensions or not array.flags.aligned:
        raise ValueError(f"expected {dimensions} dimensions of {np.dtype(dtype)}, got {array.ndim} of {array.dtype}")
    if array.size and array.shape[dense] > 1 and array.strides[dense] != array.itemsize:
        raise ValueError(f"the numbers of an array {array.shape} do not follow each other")


def _new(array: NDArray[Any]) -> int:
    """The address of an array that was made here and is not empty; four times as fast as `array.ctypes`."""
    return ctypes.addressof(ctypes.c_char.from_buffer(array.data))


def _query(words: Words, query: Words) -> int:
    """The address of a query as wide as codes."""
    _check(query, np.uint64, 1, 0)
    if len(query) != len(words):
        raise ValueError(f"a query of {len(query)} words for codes of {len(words)}")
    return query.ctypes.data


def _places(places: Places) -> Places:
    """Places as they are, or a copy that C can read."""
    at = np.ascontiguousarray(places, np.int64)
    _check(at, np.int64, 1, 0)
    return at


def _done(status: int) -> None:
    if status != 0:
        raise ValueError(f"the native library refused codes or places: error {status}")
