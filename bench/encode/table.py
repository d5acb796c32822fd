"""The result as text: candidates are rows, ours first; cases are columns."""

from collections.abc import Iterator
from typing import Any

from bench.common import OURS
from bench.encode.measure import times_as_fast
from bench.encode.peers import OWN
from bench.report import head, number, table

YES_OR_NO = {True: "yes", False: "no", None: "-"}
Rows = list[dict[str, Any]]


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The tables of a run, its notes, and what was left out."""
    yield from head(result)
    for threads in dict.fromkeys(row["threads"] for row in result["results"]):
        yield from _speed([row for row in result["results"] if row["threads"] == threads], result)
    yield ""
    yield from _facts(result)
    left_out = {facts["title"]: facts["reason"] for facts in result["candidates"].values() if "reason" in facts}
    if left_out or result["notes"]:
        yield ""
    for title, reason in left_out.items():
        yield f"{title}: {reason}"
    yield from result["notes"]


def _speed(rows: Rows, result: dict[str, Any]) -> Iterator[str]:
    """One number of threads: tokens per CPU second, ratios, share of the peak; milliseconds; CPU seconds."""
    threads = rows[0]["threads"]
    ratios = [["ours / best peer", *(number(row["ratio_to_best_peer"], ".2f") for row in rows)]]
    for name in OWN:
        if name != OURS and any(name in row["candidates"] for row in rows):
            found = [times_as_fast(row["candidates"], name) for row in rows]
            ratios.append([f"ours / {OWN[name].title}", *(number(each, ".2f") for each in found)])
    if peak := result["peak_operations_per_cpu_second"].get(str(threads)):
        label = f"share of int8 peak {peak / 1e9:,.0f} GOP/s"
        ratios.append([label, *(number(row["share_of_integer_peak"], ".0%") for row in rows)])
    cases = [f"{row['length']}\nbatch {row['batch']}" for row in rows]
    first = f"{threads} thread{'s' if threads > 1 else ''}, length in tokens"
    for figure, title, form, more in (
        ("tokens_per_cpu_second", "tokens per CPU second", ",.0f", ratios),
        ("ms_per_text", "ms per text", ".2f", []),
        ("cpu_seconds_per_1000_texts", "CPU seconds per 1,000 texts", ".2f", []),
    ):
        yield ""
        yield from table([f"{first}\n{title}", *cases], [*_block(rows, result, figure, form), *more])


def _block(rows: Rows, result: dict[str, Any], figure: str, form: str) -> Iterator[list[str]]:
    for name, facts in result["candidates"].items():
        if any(name in row["candidates"] for row in rows):
            yield [facts["title"], *(number(row["candidates"].get(name, {}).get(figure), form) for row in rows)]


def _facts(result: dict[str, Any]) -> Iterator[str]:
    """Fidelity and memory by candidate."""
    reference = result["candidates"].get(result["reference"] or "", {}).get("title", result["reference"])
    rows = []
    for name, facts in result["candidates"].items():
        if "reason" in facts and "batches" not in facts:
            continue
        mean, lowest = cosines(result, name)
        rows.append([
            facts["title"],
            number(mean, ".4f"),
            number(lowest, ".4f"),
            YES_OR_NO[facts.get("same_bits")],
            number(facts.get("lowest_cosine_alone_to_batch"), ".4f"),
            number(facts.get("peak_rss_mb"), ".0f"),
            number(facts.get("private_mb"), ".0f"),
            number(facts.get("seconds_to_first_vectors"), ".2f"),
            number(facts.get("idle_cores"), ".2f"),
        ])  # fmt: skip
    headings = ["cosine\nmean", "lowest\ncosine", "batches\nsame bits", "alone\nto batch"]
    headings += ["peak\nRSS MB", "private\nMB", "first\nvector s", "idle\ncores"]
    yield from table([f"\nagainst {reference}" if reference else "", *headings], rows)


def cosines(result: dict[str, Any], name: str) -> tuple[float | None, float | None]:
    """Mean over the cases' means, and the lowest of all texts, to the float32 reference."""
    found = [row["candidates"][name] for row in result["results"] if name in row["candidates"]]
    found = [figures for figures in found if "cosine_mean" in figures]
    if not found:
        return None, None
    return sum(f["cosine_mean"] for f in found) / len(found), min(f["cosine_min"] for f in found)
