"""The result as text: candidates are rows, ours first; cases are columns."""

from collections.abc import Iterator
from typing import Any

NAME_WIDTH = 36
WIDTH = 10


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The tables of a run, its notes, and what was left out."""
    machine, model = result["machine"], result["model"]
    yield f"{model['bundle']} ({model['fingerprint']}), {result['date']}"
    yield f"{machine['cpu']}, cores: {machine['cores']} ({' '.join(machine['flags']) or machine['architecture']})"
    for threads in dict.fromkeys(row["threads"] for row in result["results"]):
        rows = [row for row in result["results"] if row["threads"] == threads]
        yield ""
        yield from _speed(rows, result)
    yield ""
    yield from _facts(result)
    left_out = {facts["title"]: facts["reason"] for facts in result["candidates"].values() if "reason" in facts}
    if left_out or result["notes"]:
        yield ""
    for title, reason in left_out.items():
        yield f"{title}: {reason}"
    yield from result["notes"]


def _speed(rows: list[dict[str, Any]], result: dict[str, Any]) -> Iterator[str]:
    """One number of threads: tokens per CPU second, ratios, share of the peak, and milliseconds."""
    threads = rows[0]["threads"]
    yield _line(f"{threads} thread{'s' if threads > 1 else ''}, length in tokens", [row["length"] for row in rows])
    yield _line("tokens per CPU second", [f"batch {row['batch']}" for row in rows])
    yield from _block(rows, result, "tokens_per_cpu_second", ",.0f")
    yield _line("ours / best peer", [_number(row["ratio_to_best_peer"], ".2f") for row in rows])
    peak = result["peak_operations_per_cpu_second"].get(str(threads))
    if peak:
        label = f"share of int8 peak {peak / 1e9:,.0f} GOP/s"
        yield _line(label, [_number(row["share_of_integer_peak"], ".0%") for row in rows])
    yield ""
    yield _line("ms per text", [f"batch {row['batch']}" for row in rows])
    yield from _block(rows, result, "ms_per_text", ".2f")
    yield ""
    yield _line("CPU seconds per 1,000 texts", [f"batch {row['batch']}" for row in rows])
    yield from _block(rows, result, "cpu_seconds_per_1000_texts", ".2f")


def _block(rows: list[dict[str, Any]], result: dict[str, Any], figure: str, form: str) -> Iterator[str]:
    for name, facts in result["candidates"].items():
        if any(name in row["candidates"] for row in rows):
            found = [row["candidates"].get(name, {}).get(figure) for row in rows]
            yield _line(facts["title"], [_number(value, form) for value in found])


def _facts(result: dict[str, Any]) -> Iterator[str]:
    """Fidelity and memory by candidate."""
    reference = result["candidates"].get(result["reference"] or "", {}).get("title", result["reference"])
    yield _line("", ["cosine", "lowest", "batches", "alone", "peak", "private", "first", "idle"])
    yield _line(
        f"against {reference}" if reference else "",
        ["mean", "cosine", "same bits", "to batch", "RSS MB", "MB", "vector s", "cores"],
    )
    for name, facts in result["candidates"].items():
        if "reason" in facts and "batches" not in facts:
            continue
        means, lowest = cosines(result, name)
        yield _line(
            facts["title"],
            [
                _number(means, ".4f"),
                _number(lowest, ".4f"),
                {True: "yes", False: "no", None: "-"}[facts.get("same_bits")],
                _number(facts.get("lowest_cosine_alone_to_batch"), ".4f"),
                _number(facts.get("peak_rss_mb"), ".0f"),
                _number(facts.get("private_mb"), ".0f"),
                _number(facts.get("seconds_to_first_vectors"), ".2f"),
                _number(facts.get("idle_cores"), ".2f"),
            ],
        )


def cosines(result: dict[str, Any], name: str) -> tuple[float | None, float | None]:
    """Mean over the cases' means, and the lowest of all texts, to the float32 reference."""
    found = [row["candidates"][name] for row in result["results"] if name in row["candidates"]]
    found = [figures for figures in found if "cosine_mean" in figures]
    if not found:
        return None, None
    return sum(f["cosine_mean"] for f in found) / len(found), min(f["cosine_min"] for f in found)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _line(name: str, cells: list[str]) -> str:
    return (f"{name:<{NAME_WIDTH}}" + "".join(f"{cell:>{max(WIDTH, len(cell) + 1)}}" for cell in cells)).rstrip()
