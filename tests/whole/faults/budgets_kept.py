"""Random work under random memory budgets, in processes whose peak is looked at (see tests/budgets.py)."""

import shutil
from pathlib import Path
from typing import Any

from builders.budgets import check_stored, make_case, make_texts, make_vectors, run_case
from children import in_child
from workload import Bench, Row

MINUTES = 600.0
DIM = 96
LONGEST = 4_000_000
SMALL, LARGE = 3_000, 200_000  # passages of the index of given vectors, in the quick and the full run


def keep_budgets(bench: Bench, row: Row, runs: int) -> None:
    """Done within the budget or refused; what was acknowledged is there."""
    if not Path("/proc/self/status").exists():
        row.skipped = "needs Linux"
        return
    folder = bench.fresh()
    try:
        _run(bench, row, runs, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(bench: Bench, row: Row, runs: int, folder: Path) -> None:
    indexes = {"vectors": folder / "vectors.db", "texts": folder / "texts.db"}
    count = LARGE if runs > 100 else SMALL
    in_child(lambda: make_vectors(indexes["vectors"], 1, count, DIM), MINUTES)
    in_child(lambda: make_texts(indexes["texts"], 1, count // 10), MINUTES)
    done = refused = 0
    nearest: list[Any] = []
    for number in bench.cases(runs):
        case = make_case(bench.rng(row.fault, number), indexes, folder, LONGEST)
        said, wrong = run_case(case, folder)
        for what in [*wrong, *check_stored(case, said)]:
            row.fail("wrong", f"case {number}", what)
        row.runs += 1
        if said:
            done, refused = done + len(said["done"]), refused + len(said["refused"])
            nearest.append(said["peak"] / said["limit"])
    row.notes.append(f"{done} done, {refused} refused; the highest peak is {max(nearest, default=0):.0%} of its budget")
