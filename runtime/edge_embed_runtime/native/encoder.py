"""The native encoder: token ids to vectors, by functions of the library (see runtime/native/encoder.h).

What it multiplies with are arrays that lie in the model's file. All memory of the library is that of arrays made here.
"""

from collections.abc import Mapping, Sequence
from ctypes import POINTER, Structure, byref, c_float, c_int32, c_int64, c_void_p, cast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.errors import EdgeEmbedError

if TYPE_CHECKING:
    from ctypes import CDLL

    from edge_embed_runtime.native.library import Native

    Vectors = NDArray[np.float32]

Tensors = Mapping[str, NDArray[Any]]

MODEL_VERSION = 1
ALIGNMENT = 64
POOLINGS = {"mean": 0, "cls": 1}
BAD_ISA, STOPPED = -102, -110
# What the library returns that is below 0.
ERRORS = {
    -101: "the library knows another form of models",
    BAD_ISA: "the library has no encoder for this CPU",
    -103: "a size is out of bounds or no multiple of 16, or sizes do not fit each other",
    -104: "a tensor is missing, or has another number of bytes than the shape says",
    -105: "a scale, factor or table is not finite, or a scale is not above 0",
    -106: "a weight is -128, or two neighbouring ones add up to more than 128",
    -107: "memory is too small or not aligned",
    -108: "a text has no tokens, or more than the model has positions",
    -109: "a token id is not in the vocabulary",
    STOPPED: "it was ended",
    -111: "a vector has a number that is not finite",
}
LINEAR, NORM = ("smooth", "weight", "scale", "bias"), ("weight", "bias")
# The order of a layer's tensors, and of the values that are quantized.
PARTS = ("query", "key", "value", "out", "attention_norm", "up", "down", "output_norm")
SITES = ("query", "out", "up", "down")
PROJECT, RELATIVE = "embedding.project", "positions.all"


class _Tensor(Structure):
    _fields_ = [("data", c_void_p), ("bytes", c_int64)]


class _Site(Structure):
    _fields_ = [("scale", c_float), ("zero_point", c_int32)]


class _Model(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("version", "isa", "layers", "hidden", "embedding", "heads", "head_size")),
        *((name, c_int32) for name in ("vocabulary", "positions", "pooling")),
        ("epsilon", c_float),
        *((name, c_int32) for name in ("tensor_count", "site_count", "reserved")),
        ("intermediate", POINTER(c_int32)),
        ("tensors", POINTER(_Tensor)),
        ("sites", POINTER(_Site)),
    ]


class NativeError(EdgeEmbedError):
    """What the library refuses; `number` is that of encoder.h."""

    def __init__(self, number: int) -> None:
        super().__init__(ERRORS.get(number, f"error {number}"))
        self.number = number


class Site(NamedTuple):
    """How a value becomes uint8 codes."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Shape:
    """Sizes of a model. intermediate: of each layer; embedding: numbers in a row of the tables; relative: whether
    scores have a bias by the offset of key from query"""

    hidden: int
    embedding: int
    heads: int
    head_size: int
    vocabulary: int
    positions: int
    pooling: str
    epsilon: float
    intermediate: tuple[int, ...]
    relative: bool = False


def tensor_names(layers: int) -> list[str]:
    """The names of all tensors in the library's order; of the ones that may be missing too."""
    names = ["embedding.word", "embedding.scale", "embedding.position", "embedding.position.scale"]
    names += [f"embedding.norm.{part}" for part in NORM] + _linear(PROJECT) + [RELATIVE]
    for i in range(layers):
        for part in PARTS:
            name = f"layers.{i}.{part}"
            names += [f"{name}.{one}" for one in NORM] if part.endswith("norm") else _linear(name)
    return names


def _linear(name: str) -> list[str]:
    return [f"{name}.input.smooth", *(f"{name}.{part}" for part in LINEAR[1:])]


def site_names(layers: int) -> list[str]:
    """The names of the values that are quantized, in the library's order."""
    return [f"{PROJECT}.input", *(f"layers.{i}.{part}.input" for i in range(layers) for part in SITES)]


class Encoder:
    """A model that the library has prepared. Threads may share it.

    tensors: arrays by name (see `tensor_names`), which stay where they are as long as this lives
    sites:   by name

    Raises NativeError for what the library refuses.
    """

    def __init__(self, native: "Native", shape: Shape, tensors: Tensors, sites: Mapping[str, Site]) -> None:
        library = native.functions
        self._library, self.shape = library, shape
        _declare(library)
        layers = len(shape.intermediate)
        self._kept = [_aligned(tensors[name]) if name in tensors else None for name in tensor_names(layers)]
        model = _model(native.isa, shape, self._kept, [sites.get(name) for name in site_names(layers)])
        self._prepared = aligned_bytes(_checked(library.edge_encoder_size(byref(model))))
        _checked(library.edge_encoder_prepare(byref(model), self._prepared.ctypes.data, self._prepared.size))
        self._address: int = self._prepared.ctypes.data
        self.tokens = self.workspace_bytes = 0
        self._free: list[NDArray[np.uint8]] = []

    def reserve(self, tokens: int) -> None:
        """Calls will have so many tokens at most; each thread gets `workspace_bytes` when it first calls. Raises
        NativeError for more than the library can."""
        size = _checked(self._library.edge_encoder_workspace(self._address, tokens))
        self.tokens, self.workspace_bytes, self._free = tokens, size, []

    @property
    def prepared_bytes(self) -> int:
        """Bytes besides the tensors and workspaces."""
        return self._prepared.size

    def run(self, ids: NDArray[np.int32], lengths: NDArray[np.int32], stop: "Stop") -> "Vectors":
        """Vectors [texts, hidden] of length 1.

        ids:  of all texts, one after the other, at most `tokens`
        stop: ends the call early, by a NativeError with the number STOPPED

        Raises ValueError for other arrays than these, which C would read wrongly.
        """
        vectors: Vectors = np.empty((len(lengths), self.shape.hidden), np.float32)
        for array in (ids, lengths):
            if array.dtype != np.int32 or array.ndim != 1 or not array.flags.c_contiguous or not array.flags.aligned:
                raise ValueError(f"expected int32 numbers that follow each other, got {array.dtype} {array.shape}")
        if not ids.size == lengths.sum(dtype=np.int64) <= self.tokens:
            raise ValueError(f"{ids.size} ids for texts of {lengths.sum()} tokens, at most {self.tokens}")
        free = self._free  # `reserve` begins another list: what is in this one may be too small then
        try:
            workspace = free.pop()
        except IndexError:
            workspace = aligned_bytes(self.workspace_bytes)
        try:
            found = self._library.edge_encoder_run(
                *(self._address, ids.ctypes.data, lengths.ctypes.data, len(lengths)),
                *(vectors.ctypes.data, workspace.ctypes.data, workspace.size, stop.address),
            )
        finally:
            free.append(workspace)
        _checked(found)
        return vectors


class Stop:
    """What a running call looks at: `set` ends it early."""

    def __init__(self) -> None:
        self._flag = np.zeros(1, np.int32)
        self.address: int = self._flag.ctypes.data

    @property
    def is_set(self) -> bool:
        return bool(self._flag[0])

    def set(self) -> None:
        self._flag[0] = 1


def _declare(library: "CDLL") -> None:
    """Types of the functions' arguments and results."""
    pointer, size = c_void_p, c_int64
    for name, result, arguments in (
        ("edge_encoder_size", size, [POINTER(_Model)]),
        ("edge_encoder_prepare", c_int32, [POINTER(_Model), pointer, size]),
        ("edge_encoder_workspace", size, [pointer, size]),
        ("edge_encoder_run", c_int32, [pointer, pointer, pointer, size, pointer, pointer, size, pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments


def _model(isa: int, shape: Shape, tensors: Sequence[NDArray[Any] | None], sites: Sequence[Site | None]) -> _Model:
    layers = len(shape.intermediate)
    places = (_Tensor * len(tensors))(*(_place(one) for one in tensors))
    codes = (_Site * len(sites))(*(_Site(0.0, 0) if one is None else _Site(*one) for one in sites))
    intermediate = (c_int32 * layers)(*shape.intermediate)
    return _Model(
        *(MODEL_VERSION, isa, layers, shape.hidden, shape.embedding, shape.heads, shape.head_size),
        *(shape.vocabulary, shape.positions, POOLINGS[shape.pooling], shape.epsilon, len(tensors), len(sites), 0),
        *(cast(intermediate, POINTER(c_int32)), cast(places, POINTER(_Tensor)), cast(codes, POINTER(_Site))),
    )


def _place(array: NDArray[Any] | None) -> _Tensor:
    return _Tensor(None, 0) if array is None else _Tensor(array.ctypes.data, array.nbytes)


def _aligned(array: NDArray[Any]) -> NDArray[Any]:
    """The array itself where its numbers lie one behind the other, at addresses that fit their size; else a copy."""
    return np.require(array, requirements=["C_CONTIGUOUS", "ALIGNED"])


def aligned_bytes(size: int) -> NDArray[np.uint8]:
    """So many bytes from an address that is a multiple of ALIGNMENT. Pages are there once they are written to."""
    whole: NDArray[np.uint8] = np.empty(size + ALIGNMENT, np.uint8)
    start = -whole.ctypes.data % ALIGNMENT
    return whole[start : start + size]


def _checked(found: int) -> int:
    """Raises NativeError for a number below 0."""
    if found < 0:
        raise NativeError(int(found))
    return int(found)
