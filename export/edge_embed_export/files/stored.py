"""Numbers that stay in the file they come from until they are asked for: arrays of float32 that take no memory."""

import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.extras import require
from edge_embed_runtime.system.files import open_regular

Array = NDArray[np.float32]
Step = Callable[[Array], Array]

# Types of safetensors that are read -> numpy's names; ml_dtypes gives it the last.
KINDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "bfloat16"}
# For fewer bytes a call to the system costs more than it saves.
LET_GO_BYTES = 2**20


class MappedFile:
    """A file in memory, page by page as it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_regular(path) as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._bytes = np.frombuffer(self._map, np.uint8)

    def raw(self, kind: str, start: int, shape: tuple[int, ...]) -> NDArray[Any]:
        """The numbers of a tensor as they lie in the file."""
        dtype = np.dtype(require("ml_dtypes", "export").bfloat16 if kind == "BF16" else KINDS[kind])
        size = int(np.prod(shape)) * dtype.itemsize
        if start % dtype.itemsize:  # numpy reads such numbers, but slower
            return self._bytes[start : start + size].copy().view(dtype).reshape(shape)
        return self._bytes[start : start + size].view(dtype).reshape(shape)

    def let_go(self, part: NDArray[Any]) -> None:
        """Let the system have the pages of an array of this file: where they are needed again it reads them again."""
        if part.nbytes < LET_GO_BYTES or not hasattr(mmap, "MADV_DONTNEED"):
            return
        first = byte_bounds(self._bytes)[0]
        low, high = (bound - first for bound in byte_bounds(part))
        if low >= 0 and high <= len(self._bytes):
            start = low - low % mmap.PAGESIZE
            self._map.madvise(mmap.MADV_DONTNEED, start, high - start)


class Stored(NDArrayOperatorsMixin):
    """A tensor of a file, or a view of one. Slices, other orders of dimensions and products with a number read nothing.

    To all else that numpy can do it is the float32 array [shape], read again each time; nothing is computed in 16 bits.

    name: of the tensor, for errors
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self,
        file: MappedFile,
        name: str,
        raw: NDArray[Any],
        *,
        factor: np.float32 | None = None,
        steps: tuple[Step, ...] = (),
        shape: tuple[int, ...] | None = None,
    ) -> None:
        self._file, self._name, self._raw = file, name, raw
        self._factor, self._steps = factor, steps
        self.shape: tuple[int, ...] = raw.shape if shape is None else shape

    # what is known without reading

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        return 4 * self.size

    def __len__(self) -> int:
        return self.shape[0]

    # views

    def _view(self, see: Callable[[NDArray[Any]], NDArray[Any]]) -> Any:
        if self._steps:
            shape = see(np.broadcast_to(np.float32(0), self.shape)).shape
            return self._later(see, shape)
        raw = np.asarray(see(self._raw))
        if not np.may_share_memory(raw, self._raw):
            self._file.let_go(self._raw)
        return Stored(self._file, self._name, raw, factor=self._factor)

    def __getitem__(self, key: Any) -> Any:
        found = self._view(lambda array: array[key])
        return found if found.shape else np.asarray(found)[()]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    @property
    def T(self) -> Any:
        return self.transpose()

    def transpose(self, *axes: Any) -> Any:
        return self._view(lambda array: array.transpose(*axes))

    def swapaxes(self, first: int, second: int) -> Any:
        return self._view(lambda array: array.swapaxes(first, second))

    def reshape(self, *shape: Any) -> Any:
        return self._view(lambda array: array.reshape(*shape))

    def then(self, step: Step) -> Any:
        """The same shape, with what `step` makes of the numbers when they are asked for."""
        return self._later(step, self.shape)

    def _later(self, step: Step, shape: tuple[int, ...]) -> "Stored":
        steps = (*self._steps, step)
        return Stored(self._file, self._name, self._raw, factor=self._factor, steps=steps, shape=shape)

    # numbers

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        found = self._read()
        return np.array(found, dtype) if copy or (dtype is not None and dtype != found.dtype) else found

    def _read(self) -> Array:
        """Contiguous numbers, none of them those of the file, which is let go of."""
        found = np.array(self._raw, np.float32, order="C")
        self._file.let_go(self._raw)
        # NaN would come out of both; an array of truth values would take a quarter of the numbers more
        if found.size and not (np.isfinite(found.min()) and np.isfinite(found.max())):
            raise ExportError(f"{self._file.path}: tensor {self._name!r} holds NaN or infinity")
        if self._factor is not None:
            found = found * self._factor
        for step in self._steps:
            found = step(found)
        return np.ascontiguousarray(found).reshape(self.shape)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if any(one is self for one in options.get("out", ())):  # `x *= 2` gives x another value
            options.pop("out")
        if ufunc is np.multiply and method == "__call__" and not options and self._factor is None and not self._steps:
            other = inputs[1] if inputs[0] is self else inputs[0]
            if isinstance(other, float | np.float32) and not isinstance(other, np.float64):
                return Stored(self._file, self._name, self._raw, factor=np.float32(other))
        arrays = (np.asarray(one) if isinstance(one, Stored) else one for one in inputs)
        return getattr(ufunc, method)(*arrays, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)


def as_stored(array: object) -> Stored | None:
    """An array that lies in a file; None for any other. To a type checker all arrays are numpy's."""
    return array if isinstance(array, Stored) else None
