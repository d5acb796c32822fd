"""Static models: a text's vector is the normalised sum of its tokens' rows in a table.

The table is a safetensors file (https://huggingface.co/docs/safetensors), mapped, not read:

    scale  float32 [dim]: what 1 stands for in each column
    place  int32 [vocab]: the row of each token; where it is not there, a token's id is its row
    rows   int8 [n + 1, dim]: n rows, and one for texts whose tokens have none, or cancel each other

How much a token counts lies in its row: one that says little has small numbers. Scales belong to columns, so that a sum
of rows is a sum of whole numbers: it has the same bits in any order, in any batch and on any CPU. A table may hold its
rows in float32, to compare with.
"""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.bundle.bundle import Bundle
from edge_embed_runtime.errors import BundleFormatError, GoldenError, InputError
from edge_embed_runtime.inputs.tokenizer import Tokenizer
from edge_embed_runtime.inputs.whitespace import INPUTS, WhitespaceWords
from edge_embed_runtime.inputs.wordcache import MAX_WORDS
from edge_embed_runtime.model.budget import check_static
from edge_embed_runtime.model.golden import GOLDEN_COSINE, golden_cosine
from edge_embed_runtime.model.options import Call, Loaded, RunOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge_embed_runtime.model.network import Network

    Vectors = NDArray[np.float32]

TYPES: dict[str, np.dtype[Any]] = {"I8": np.dtype(np.int8), "F32": np.dtype("<f4"), "I32": np.dtype("<i4")}
TENSORS = {"scale": ("F32",), "place": ("I32",), "rows": ("I8", "F32")}
MAX_HEADER_BYTES = 4096
# Rows that are summed, and characters of texts that are read, at a time.
BLOCK, TOGETHER = 4096, 2**20
# Rows of int8 whose sums fit int16, in which they are added faster.
SHORT = 2**15 // 2**7 - 1
ALIGNMENT = 8


def write_table(tensors: dict[str, NDArray[Any]]) -> bytes:
    """The bytes of a table file. Tensors lie in it in the order given; rows come last, for the others' alignment."""
    header: dict[str, Any] = {}
    data: list[bytes] = []
    for name, array in tensors.items():
        kind = "I8" if array.dtype == np.int8 else TENSORS[name][-1]
        start = sum(map(len, data))
        data.append(np.ascontiguousarray(array, TYPES[kind]).tobytes())
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [start, start + len(data[-1])]}
    packed = json.dumps(header, separators=(",", ":")).encode()
    packed += b" " * (-len(packed) % ALIGNMENT)
    return b"".join([len(packed).to_bytes(8, "little"), packed, *data])


def read_table(source: Path | bytes, what: str) -> dict[str, NDArray[Any]]:
    """The tensors of a table file; those of a path are mapped. Raises BundleFormatError with `what`."""
    try:
        raw: NDArray[np.uint8] = (
            np.frombuffer(source, np.uint8) if isinstance(source, bytes) else np.memmap(source, np.uint8, "r")
        )
        length = int.from_bytes(raw[:8].tobytes(), "little")
        if not 0 < length <= min(MAX_HEADER_BYTES, len(raw) - 8):
            raise ValueError(f"a header of {length} bytes")
        header = json.loads(raw[8 : 8 + length].tobytes())
        data = raw[8 + length :]
        return _tensors(header, data)
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise BundleFormatError(f"{what} is not a table of token vectors: {error}") from error


def _tensors(header: dict[str, Any], data: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    tensors: dict[str, NDArray[Any]] = {}
    end = 0
    for name, entry in header.items():
        kind, axes = str(entry["dtype"]), 2 if name == "rows" else 1
        shape = [int(length) for length in entry["shape"]]
        if kind not in TENSORS[name] or len(shape) != axes or min(shape) < 1:
            raise ValueError(f"{name} is {kind} {shape}, expected {' or '.join(TENSORS[name])} with {axes} axes")
        size = math.prod(shape) * TYPES[kind].itemsize
        if entry["data_offsets"] != [end, end + size]:
            raise ValueError(f"{name} lies at {entry['data_offsets']}, expected {[end, end + size]}")
        # a memmap looks at each of its parts: a plain array is faster
        tensors[name] = np.asarray(data[end : end + size]).view(TYPES[kind]).reshape(shape)
        end += size
    if end != len(data):
        raise ValueError(f"{len(data)} bytes of numbers, expected {end}")
    if missing := {"rows", "scale"} - tensors.keys():
        raise ValueError(f"{sorted(missing)} missing")
    return tensors


class StaticModel:
    """The table of a bundle with its tokenizer. Raises BundleFormatError when they do not fit each other."""

    def __init__(self, bundle: Bundle, options: RunOptions) -> None:
        manifest = bundle.manifest
        self._path = bundle.path
        what = f"bundle {bundle.path}: {manifest.model_file}"
        tokenizer = Tokenizer(bundle.tokenizer, manifest.max_tokens, MAX_WORDS)
        peak = check_static(options.limit, manifest.name, manifest.files[manifest.model_file].size)
        tensors = read_table(bundle.model, what)
        bundle.check_unchanged()
        self._rows: NDArray[Any] = tensors["rows"]
        self._sum: type = np.int32 if self._rows.dtype == np.int8 else np.float64
        self._scale: NDArray[np.float64] = tensors["scale"].astype(np.float64)
        self._place: NDArray[np.int32] | None = tensors.get("place")
        self.tokenizer = tokenizer
        self.threads: int = options.most_cores  # what the caller gave: one core does it
        self._reader: Tokenizer | WhitespaceWords = tokenizer
        if manifest.inputs == INPUTS:
            lowercase = (tokenizer.settings.get("normalizer") or {}).get("type") == "Lowercase"
            self._reader = WhitespaceWords(tokenizer, lowercase=lowercase)
        self._check(what, manifest.dim)
        dim = options.dim(manifest.dim)
        cosine = golden_cosine(manifest, dim, lambda golden: self.vectors([golden.text], dim))
        if cosine < GOLDEN_COSINE:
            raise GoldenError(
                f"bundle {bundle.path}: this machine does not reproduce the golden vectors: "
                f"cosine {cosine:.4f}, expected at least {GOLDEN_COSINE}",
                path=bundle.path,
                cosine=cosine,
                floor=GOLDEN_COSINE,
            )
        self.loaded: Loaded = Loaded(cosine, peak)

    @property
    def network(self) -> "Network":
        raise InputError(f"bundle {self._path} is static: a table of token vectors, without a network", path=self._path)

    def _check(self, what: str, dim: int) -> None:
        rows, vocab = len(self._rows) - 1, self.tokenizer.largest_id + 1
        tokens = rows if self._place is None else len(self._place)
        if self._rows.shape[1] != dim or self._scale.shape != (dim,):
            raise BundleFormatError(f"{what} has {self._rows.shape[1]} columns, the manifest says dim {dim}")
        if vocab > tokens:
            raise BundleFormatError(f"{what} has {tokens} tokens, tokenizer.json {vocab}")
        if self._place is not None and not 0 <= int(self._place.min()) <= int(self._place.max()) < rows:
            raise BundleFormatError(f"{what} places tokens in rows that it does not have")
        if not (np.isfinite(self._scale).all() and (self._scale > 0).all() and self._rows[-1, 0]):
            raise BundleFormatError(f"{what} has a scale that is no positive number, or no row for texts without any")
        if any(self.tokenizer.around):
            raise BundleFormatError(
                f"{what}: tokenizer.json puts special tokens around a text: a static model has none"
            )

    def encode(self, texts: "Sequence[str]", call: Call) -> "Iterator[tuple[Sequence[int], Vectors]]":
        """Positions of texts and their vectors (see `vectors`). Nothing is padded: batches have no tokens to bound."""
        start = 0
        while start < len(texts):
            stop, characters = start + 1, len(texts[start])
            while stop < len(texts) and characters + len(texts[stop]) <= TOGETHER:
                characters += len(texts[stop])
                stop += 1
            yield range(start, stop), self.vectors(texts[start:stop], call.dim)
            start = stop

    def one(self, text: str, call: Call) -> "Vectors":
        """`vectors` of one text: the same numbers in the same order, by as few calls of numpy as can be."""
        ids = self._reader.encode(text)
        if len(ids) > BLOCK:
            return self.vectors([text], call.dim)
        rows = self._rows.take(ids if self._place is None else self._place[ids], axis=0)
        kind = np.int16 if self._sum is np.int32 and len(ids) <= SHORT else self._sum
        vector: NDArray[np.float64] = np.add.reduce(rows, axis=0, dtype=kind)[: call.dim] * self._scale[: call.dim]
        squares = float(np.add.reduce(vector * vector))
        if squares == 0:
            return self.vectors([text], call.dim)
        vector /= math.sqrt(squares)
        return vector.astype(np.float32).reshape(1, -1)

    def vectors(self, texts: "Sequence[str]", dim: int) -> "Vectors":
        """Vectors [n, dim] of length 1; fewer dimensions than the table has are its first."""
        sums: NDArray[Any] = np.empty((len(texts), self._rows.shape[1]), self._sum)
        for i, ids in enumerate(self._reader.encode_all(texts)):
            placed = ids if self._place is None else self._place[ids]
            # `take` and a sum of numbers this small are the fastest of what numpy has
            np.add.reduce(self._rows.take(placed[:BLOCK], axis=0), axis=0, dtype=self._sum, out=sums[i])
            for first in range(BLOCK, len(placed), BLOCK):
                sums[i] += np.add.reduce(
                    self._rows.take(placed[first : first + BLOCK], axis=0), axis=0, dtype=self._sum
                )
        sums = np.ascontiguousarray(sums[:, :dim])
        sums[~sums.any(axis=1)] = self._rows[-1, :dim]
        vectors = sums * self._scale[:dim]
        vectors /= np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
        return vectors.astype(np.float32)
