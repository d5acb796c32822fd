"""The result as a bar chart."""

from typing import Any

from bench.common import OURS
from bench.svg import BAR, HEADING, MARGIN, OUR_BAR, ROW, page, text

WIDTH, LABELS, NUMBERS = 760, 210, 190
BAR_HEIGHT = 16
LENGTH = "40-64"
PANEL_BATCHES = (16, 1)


def svg(result: dict[str, Any]) -> str:
    """Tokens per CPU second by candidate with cosine to float32, one panel for each of two batch sizes."""
    panels = choose_rows(result)
    top, parts = MARGIN, []
    longest = max((c["tokens_per_cpu_second"] for row in panels for c in row["candidates"].values()), default=1.0)
    for row in panels:
        parts += _panel(row, result["candidates"], top, (WIDTH - LABELS - NUMBERS) / longest)
        top += HEADING + ROW * len(row["candidates"]) + MARGIN
    source = f"{result['machine']['cpu']}, {result['date'][:10]}, `python -m bench.encode`"
    return page(f"Tokens per CPU second: {result['model']['bundle']}", parts, WIDTH, top, source)


def choose_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The cases to draw: 40-64 tokens at batch 16 and 1 with the fewest threads, or what there is instead."""
    if not result["results"]:
        return []
    threads = min(row["threads"] for row in result["results"])
    rows = [row for row in result["results"] if row["threads"] == threads]
    length = LENGTH if any(row["length"] == LENGTH for row in rows) else rows[0]["length"]
    rows = [row for row in rows if row["length"] == length]
    return [row for batch in PANEL_BATCHES for row in rows if row["batch"] == batch] or rows[:2]


def _panel(row: dict[str, Any], facts: dict[str, Any], top: float, scale: float) -> list[str]:
    threads = f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}"
    title = f"{row['length']} tokens, batch {row['batch']}, {threads}: tokens per CPU second (cosine to float32)"
    parts = [text(0, top + 14, title, bold=True)]
    ranked = sorted(row["candidates"].items(), key=lambda item: -item[1]["tokens_per_cpu_second"])
    for i, (name, figures) in enumerate(ranked):
        y = top + HEADING - 12 + ROW * i
        rate, cosine = figures["tokens_per_cpu_second"], figures.get("cosine_mean")
        ours = name == OURS
        label = f"{rate:,.0f}" + (f"  ({cosine:.4f})" if cosine is not None else "")
        parts += [
            text(LABELS - 8, y + 13, facts[name]["title"], anchor="end", bold=ours),
            f'<rect x="{LABELS}" y="{y}" width="{rate * scale:.1f}" height="{BAR_HEIGHT}" rx="2" '
            f'fill="{OUR_BAR if ours else BAR}"/>',
            text(LABELS + rate * scale + 8, y + 13, label, bold=ours),
        ]
    return parts
