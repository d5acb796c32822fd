"""Vectors written to .npz files in the form that arrays.py reads, in bounded memory."""

import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import ArrayLike

from edge_embed.files.arrays import COPY_BYTES, MISSING, NAMES, OFFSETS
from edge_embed.files.columns import Form


class NpzWriter:
    """Writes what NpzFile reads.

    A .npy file begins with its length, which is known only at the end. So the parts of each array are first written to
    unnamed files in `folder`, which needs space for everything twice.
    """

    def __init__(self, file: BinaryIO, folder: Path, form: Form) -> None:
        self._file, self._facts = file, form.facts
        self._waiting = ExitStack()
        self._columns: dict[str, tuple[BinaryIO, str, tuple[int, ...]]] = {}
        more = [*(["place"] if form.places else []), *(["media"] if form.media else [])]
        self._ends = dict.fromkeys(("key", "text", "metadata", *more), 0)
        try:
            for name in self._ends:
                self._begin(folder, NAMES[name], "|u1")
                self._begin(folder, NAMES[name] + OFFSETS, "<i8")
                self._append(NAMES[name] + OFFSETS, [0])
            for name in ("start", "stop"):
                self._begin(folder, NAMES[name], "<i8")
            self._begin(folder, *(("codes", "|i1") if form.codes else ("vectors", "<f4")), (form.dim,))
            if form.codes:
                self._begin(folder, "scales", "<f4")
            if form.gaps:
                self._begin(folder, MISSING, "|b1")
        except BaseException:
            self._waiting.close()
            raise

    def _begin(self, folder: Path, name: str, dtype: str, tail: tuple[int, ...] = ()) -> None:
        file = self._waiting.enter_context(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115 - `close` closes it
        self._columns[name] = (cast(BinaryIO, file), dtype, tail)

    def _append(self, name: str, rows: ArrayLike) -> None:
        file, dtype, _ = self._columns[name]
        file.write(np.ascontiguousarray(rows, dtype).tobytes())

    def write(self, columns: Mapping[str, Any]) -> None:
        """The next rows: lists, and arrays [n] or [n, dim], by name (`key`, ...)."""
        for name, rows in columns.items():
            if name not in self._ends:
                self._append(NAMES[name], rows)
                continue
            texts = [text.encode() for text in rows]
            self._append(NAMES[name], np.frombuffer(b"".join(texts), np.uint8))
            ends = self._ends[name] + np.cumsum([len(text) for text in texts])
            self._append(NAMES[name] + OFFSETS, ends)
            self._ends[name] = int(ends[-1])

    def finish(self) -> None:
        """Write the archive, without compression, as numpy.savez does."""
        archive = zipfile.ZipFile(self._file, "w")
        try:
            self._fill(archive)
            archive.close()
        except BaseException:
            archive.fp = None  # closing what was interrupted would fail, and hide why
            raise

    def _fill(self, archive: zipfile.ZipFile) -> None:
        for name, fact in self._facts.items():
            with _member(archive, name) as member:
                np.lib.format.write_array(member, np.array(fact), version=(1, 0), allow_pickle=False)
        for name, (rows, dtype, tail) in self._columns.items():
            with _member(archive, name) as member:
                row_bytes = np.dtype(dtype).itemsize * int(np.prod(tail))
                header = {"descr": dtype, "fortran_order": False, "shape": (rows.tell() // row_bytes, *tail)}
                np.lib.format.write_array_header_1_0(member, header)
                rows.seek(0)
                shutil.copyfileobj(rows, member, COPY_BYTES)

    def close(self) -> None:
        self._waiting.close()


def _member(archive: zipfile.ZipFile, name: str) -> Any:
    return archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)
