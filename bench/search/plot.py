"""The result as dots on a logarithmic axis of latency."""

import math
from typing import Any

from bench.common import OURS
from bench.svg import BAR, HEADING, MARGIN, OUR_BAR, ROW, TEXT, page, text

WIDTH, LABELS, NUMBERS = 860, 230, 240
RADIUS = 5


def svg(result: dict[str, Any]) -> str:
    """p50 of every candidate with recall and bytes per vector, one panel for each size."""
    times = [each["p50_ms"] for row in result["results"] for each in row["candidates"].values() if "p50_ms" in each]
    lowest = math.floor(math.log10(min(times, default=1.0)))
    highest = max(lowest + 1, math.ceil(math.log10(max(times, default=1.0))))
    parts: list[str] = []
    top = MARGIN
    for row in result["results"]:
        panel, height = _panel(row, result, top, (lowest, highest))
        parts += panel
        top += height
    source = f"{result['machine']['cpu']}, {result['date'][:10]}, `python -m bench.search`"
    return page(f"Latency of vector search: {result['model']['bundle']}", parts, WIDTH, top, source)


def _panel(row: dict[str, Any], result: dict[str, Any], top: int, decades: tuple[int, int]) -> tuple[list[str], int]:
    """One size, fastest first, and its height."""
    k = result["settings"]["k"]
    title = f"{row['vectors']:,} vectors, one thread: p50 in ms (recall@{k}, bytes per vector in the file)"
    timed = [(name, each) for name, each in row["candidates"].items() if "p50_ms" in each]
    first, bottom = top + HEADING, top + HEADING + ROW * len(timed)
    parts = [text(0, top + 14, title, bold=True)]
    for decade in range(decades[0], decades[1] + 1):
        x = _place(10.0**decade, decades)
        parts.append(f'<path d="M{x:.1f} {first}V{bottom}" stroke="{TEXT}" stroke-opacity="0.3"/>')
        parts.append(text(x, bottom + 14, f"{10.0**decade:g}", size=11, anchor="middle"))
    for i, (name, each) in enumerate(sorted(timed, key=lambda item: float(item[1]["p50_ms"]))):
        y, x, ours = first + ROW * i + ROW / 2, _place(each["p50_ms"], decades), name == OURS
        label = f"{each['p50_ms']:.2f}  ({each['recall']:.3f}, {each['bytes_per_vector']:,.0f} B)"
        parts += [
            text(LABELS - 12, y + 4, result["candidates"][name]["title"], anchor="end", bold=ours),
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS}" fill="{OUR_BAR if ours else BAR}"/>',
            text(x + 2 * RADIUS, y + 4, label, bold=ours),
        ]
    return parts, HEADING + ROW * len(timed) + 2 * MARGIN + 8


def _place(milliseconds: float, decades: tuple[int, int]) -> float:
    """Where a latency lies between the labels and the room for numbers."""
    share = (math.log10(milliseconds) - decades[0]) / (decades[1] - decades[0])
    return LABELS + share * (WIDTH - LABELS - NUMBERS)
