"""What came of the runs: bounds, and a table."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOOR = 0.999  # of the cosine of a text's vectors on two supported CPUs
COLUMNS = ("CPU", "found in", "Python", "form", "golden", "to the host: min", "mean", "to float32: min", "mean",
           "one vector", "index", "demo", "native packages", "instruction sets", "sha256 of vectors",
           "M instructions per query", "in onnxruntime")  # fmt: skip


@dataclass
class Row:
    """A device and what it did; None is what was not asked of it."""

    cpu: str
    found_in: str
    python: str
    architecture: str
    form: str | None = None
    processor: str | None = None
    bundle: str | None = None
    texts: int = 0
    golden: float | None = None
    to_host: tuple[float, float] | None = None
    to_float32: tuple[float, float] | None = None
    one_vector: bool | None = None
    index: list[str] | None = None
    demo: bool | None = None
    natives: dict[str, str] = field(default_factory=dict)
    # Of many texts: by instruction set, how many and their vectors' sha256. "onnxruntime" where there is no library.
    bits: dict[str, tuple[int, str]] = field(default_factory=dict)
    instructions: float | None = None
    instructions_onnxruntime: float | None = None
    notes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def judge(self) -> list[str]:
        """What broke a promise; a run that did not come to its end is one in `broken`."""
        wrong = list(self.broken)
        wrong += [f"{name} stopped by {how}" for name, how in self.natives.items() if how != "ok"]
        if self.golden is not None and not self.golden >= FLOOR:
            wrong.append(f"golden texts have cosine {self.golden:.5f} to the bundle's vectors, expected {FLOOR}")
        if self.to_host is not None and not self.to_host[0] >= FLOOR:
            wrong.append(f"a text has cosine {self.to_host[0]:.5f} to the host's vector, expected {FLOOR}")
        if self.one_vector is False:
            wrong.append("a text has another vector in a batch than alone")
        wrong += [f"index: {step} went wrong" for step in self.index or []]
        if self.demo is False:
            wrong.append("the demo failed")
        return wrong


def compare_bits(rows: Sequence[Row]) -> None:
    """All devices and instruction sets must have the vectors of the first row's first, for as many texts."""
    for row in rows:
        for isa, (count, digest) in row.bits.items():
            expected = next((one for first in rows for n, one in first.bits.values() if n == count), digest)
            if digest != expected:
                row.broken.append(
                    f"{isa}: vectors of {count} texts have sha256 {digest[:12]}, expected {expected[:12]}"
                )


def cosines(one: NDArray[Any], other: NDArray[Any]) -> tuple[float, float]:
    """The lowest and the mean cosine of two sets of vectors [n, dim], row by row; rows need not have length 1."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    found = (one * other).sum(axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
    return float(found.min()), float(found.mean())


def cells(row: Row) -> list[str]:
    """A row of the table; "–" is what was not measured."""

    def pair(values: tuple[float, float] | None) -> list[str]:
        return ["–", "–"] if values is None else [f"{value:.5f}" for value in values]

    def yes(value: bool | None, good: str = "yes", bad: str = "NO") -> str:
        return "–" if value is None else good if value else bad

    failed = [f"{name}: {how}" for name, how in row.natives.items() if how != "ok"]
    return [
        row.cpu,
        row.found_in,
        row.python,
        row.form or "–",
        "–" if row.golden is None else f"{row.golden:.5f}",
        *pair(row.to_host),
        *pair(row.to_float32),
        yes(row.one_vector),
        yes(None if row.index is None else not row.index, "ok"),
        yes(row.demo, "ok"),
        ", ".join(failed) or (f"{len(row.natives)} ok" if row.natives else "–"),
        ", ".join(row.bits) or "–",
        ", ".join(sorted({f"{digest[:12]} ({count})" for count, digest in row.bits.values()})) or "–",
        *("–" if n is None else f"{n / 1e6:.1f}" for n in (row.instructions, row.instructions_onnxruntime)),
    ]


def markdown(rows: Sequence[Row]) -> str:
    lines = [list(COLUMNS), ["---"] * len(COLUMNS), *map(cells, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(rows: Sequence[Row]) -> str:
    """The same, aligned for a terminal: a device is a block, because fourteen columns are too wide."""
    blocks = []
    for row in rows:
        shown = [(name, cell) for name, cell in zip(COLUMNS[3:], cells(row)[3:], strict=True) if cell != "–"]
        values = ", ".join(f"{name} {cell}" for name, cell in shown)
        blocks.append(f"{row.cpu:<12} Python {row.python:<5} {row.found_in}\n    {values or 'nothing was measured'}")
    return "\n".join(blocks)


def as_json(rows: Iterable[Row]) -> str:
    return json.dumps([{**asdict(row), "wrong": row.judge()} for row in rows], indent=1)
