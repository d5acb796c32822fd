"""The result as text: candidates are rows, ours first; a table for each size."""

from collections.abc import Iterator
from typing import Any

from bench.report import head, number, table

HEADINGS = (
    "",
    "\nsetting",
    "recall\n@{k}",
    "p50\nms",
    "p99\nms",
    "CPU\nms",
    "file\nB/vector",
    "with text\nB/vector",
    "RSS\nMB",
    "private\nMB",
    "build\ns",
    "kill -9\nsurvived",
)
REMARKS = (
    "One thread, one query after the other; each hit's text is read, by all candidates. Memory: what opening and one",
    "search added to the libraries. File: without texts, which are in SQLite for indexes of vectors alone. Setting: ef",
    "of graphs, candidates where bits are rescored; the first of a list that reaches our recall.",
)


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The tables of a run, ratios, what kills left behind, and what was left out."""
    yield from head(result)
    data = result["data"]
    where = ", ".join(data["folders"]) or "texts of the package"
    yield f"{data['texts']:,} texts and {data['queries']:,} queries of {where}; sigma of the growth {data['sigma']}"
    k = result["settings"]["k"]
    for name, each in data["cosines"].items():
        yield f"{name.replace('_', ' ')}: {each['vectors']:,} vectors, {_neighbours(each, k)}"
    for row in result["results"]:
        yield ""
        yield f"{row['vectors']:,} vectors, {_neighbours(row, k)}"
        yield from _size(row, result)
    yield ""
    yield from REMARKS
    yield from _left(result)


def _neighbours(each: dict[str, Any], k: int) -> str:
    return f"mean cosine of a query's nearest {each['first']:.3f}, of neighbour {k} {each['last']:.3f}"


def _size(row: dict[str, Any], result: dict[str, Any]) -> Iterator[str]:
    facts = result["candidates"]
    timed = {name: each for name, each in row["candidates"].items() if "p50_ms" in each}
    headings = [heading.format(k=result["settings"]["k"]) for heading in HEADINGS]
    yield from table(headings, [[facts[name]["title"], *_cells(each, facts[name])] for name, each in timed.items()])
    if not all(each["equal_recall"] for each in timed.values()):
        yield f"* less than {row['target_recall']:.3f} at the best setting tried"
    for family, ratio in row["ratios"].items():
        title = facts[ratio["candidate"]]["title"]
        yield f"ours / {family} at equal recall: p50 {ratio['p50']:.2f}, p99 {ratio['p99']:.2f} ({title})"
    for name, each in row["candidates"].items():
        if "reason" in each:
            yield f"{facts[name]['title']}: {each['reason']}"


def _cells(each: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    return [
        str(each["setting"] or "-"),
        f"{each['recall']:.3f}" + ("" if each["equal_recall"] else "*"),
        f"{each['p50_ms']:.2f}",
        f"{each['p99_ms']:.2f}",
        f"{each['cpu_ms']:.2f}",
        f"{each['bytes_per_vector']:,.0f}",
        f"{each['bytes_per_vector_with_text']:,.0f}",
        *(number(size and size / 1e6, ",.0f") for size in (each["open_rss_bytes"], each["open_private_bytes"])),
        f"{each['build_seconds']:,.1f}",
        survived(facts),
    ]


def survived(facts: dict[str, Any]) -> str:
    """{"kills": 10, "survived": 9} -> "9/10"."""
    found = facts.get("durability", {})
    return f"{found['survived']}/{found['kills']}" if "kills" in found else "-"


def _left(result: dict[str, Any]) -> Iterator[str]:
    """What kill -9 left, a line for each family, and candidates that were not measured at all."""
    families = {facts["family"]: facts for facts in result["candidates"].values() if "durability" in facts}
    if families:
        yield ""
        yield "killed while it wrote:"
    for family, facts in families.items():
        found = facts["durability"]
        seen = found.get("reason") or "; ".join(f"{what} ({times})" for what, times in found["seen"].items())
        yield f"{family} {survived(facts)}: {seen}"
    for facts in result["candidates"].values():
        if "reason" in facts:
            yield f"{facts['title']}: {facts['reason']}"
