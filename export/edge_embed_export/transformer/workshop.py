"""Where a bundle too large for memory is put together: a hidden folder next to its target, removed in the end."""

import errno
import mmap
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.transformer import builder as graph
from edge_embed_runtime.bundle.bundle import Content
from edge_embed_runtime.bundle.manifest import WEIGHTS
from edge_embed_runtime.errors import StorageError

# Where weights begin in their file: pages of memory are the smallest part that can be mapped.
ALIGNMENT = 4096
PART_BYTES = 2**28
# Bytes of a model that is written to a file before it is loaded.
MAPPED_BYTES = 2**26
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Workshop:
    """Folders in the file system of `target`, so that what is made in them is only renamed."""

    def __init__(self, target: Path) -> None:
        self._target = target.absolute()
        self._folder: Path | None = None

    def folder(self) -> Path:
        """A new one, empty. Raises StorageError where there can be none."""
        try:
            if self._folder is None:
                parent = next(path for path in self._target.parents if path.is_dir())
                self._folder = Path(tempfile.mkdtemp(prefix=f".{self._target.name}.", dir=parent))
            return Path(tempfile.mkdtemp(dir=self._folder))
        except OSError as error:
            raise self.error(error) from error

    def error(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self._target} could not be written: {error.strerror}; nothing was changed",
            path=self._target,
            cause=error,
        )

    def remove(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def workshop(target: Path) -> Iterator[Workshop]:
    """A Workshop, gone at the end of the block whatever happens. Raises StorageError where the disk is full."""
    made = Workshop(target)
    try:
        yield made
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise made.error(error) from error
    finally:
        made.remove()


class WeightsFile:
    """Takes the large weights of a model that its own file could not hold (see `builder.Apart`): a file of a folder.

    A weight is stored once, under its name; `used` says whether a model took any from here.
    """

    def __init__(self, folder: Path, name: str = WEIGHTS) -> None:
        self.path = folder / name
        self.least: int = graph.LARGEST
        self.used = False
        self._places: dict[str, tuple[int, int]] = {}
        self._maps: list[mmap.mmap] = []

    @property
    def bytes(self) -> int:
        """Of all weights."""
        return sum(length for _, length in self._places.values())

    def __call__(self, name: str, array: NDArray[Any]) -> dict[str, str]:
        self.used = True
        if name not in self._places:
            self._places[name] = self._write(array)
        offset, length = self._places[name]
        return {"location": self.path.name, "offset": str(offset), "length": str(length)}

    def keep(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """Store a weight now, and give it as it lies in the file: mapped."""
        self._places[name] = offset, length = self._write(array)
        before = offset % mmap.ALLOCATIONGRANULARITY
        with self.path.open("rb") as file:
            lying = mmap.mmap(file.fileno(), before + length, access=mmap.ACCESS_READ, offset=offset - before)
        self._maps.append(lying)
        return np.frombuffer(lying, array.dtype, array.size, before).reshape(array.shape)

    def let_go(self) -> None:
        """Let the system have the pages of what `keep` gave: where they are needed again it reads them again."""
        for lying in self._maps if hasattr(mmap, "MADV_DONTNEED") else ():
            lying.madvise(mmap.MADV_DONTNEED)

    def _write(self, array: NDArray[Any]) -> tuple[int, int]:
        rows = max(1, PART_BYTES // max(1, array.nbytes // len(array)))
        with self.path.open("ab") as file:
            file.write(bytes(-file.tell() % ALIGNMENT))
            offset = file.tell()
            for start in range(0, len(array), rows):  # what lies in a checkpoint becomes float part by part
                file.write(np.ascontiguousarray(array[start : start + rows]).data)
            return offset, file.tell() - offset


def beside(weights: WeightsFile, model: bytes, name: str) -> Content:
    """A model that reads these weights, as it is loaded: a file of this name where it is large, or reads any."""
    if not weights.used and len(model) <= MAPPED_BYTES:
        return model
    path = weights.path.with_name(name)  # of a file onnxruntime holds what it needs
    path.write_bytes(model)
    return path
