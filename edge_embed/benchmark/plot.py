"""The result as a bar chart: SVG by hand, readable on light and dark pages."""

from html import escape
from typing import Any

from edge_embed.benchmark.peers import OURS

# Greys and colours with a contrast of at least 3 to both white and #0d1117.
TEXT, BAR, OUR_BAR = "#7d8590", "#6e7f96", "#2f81f7"
WIDTH, LABELS, NUMBERS = 760, 210, 190
ROW, BAR_HEIGHT, HEADING, MARGIN = 26, 16, 40, 16
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
    parts.append(
        _text(0, top, f"{result['machine']['cpu']}, {result['date'][:10]}, `edge-embed bench encode`", size=11)
    )
    height = top + MARGIN
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="system-ui, sans-serif" role="img">',
        f"<title>Tokens per CPU second: {escape(result['model']['bundle'])}</title>",
        *parts,
        "</svg>\n",
    ])  # fmt: skip


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
    parts = [_text(0, top + 14, title, bold=True)]
    ranked = sorted(row["candidates"].items(), key=lambda item: -item[1]["tokens_per_cpu_second"])
    for i, (name, figures) in enumerate(ranked):
        y = top + HEADING - 12 + ROW * i
        rate, cosine = figures["tokens_per_cpu_second"], figures.get("cosine_mean")
        ours = name == OURS
        label = f"{rate:,.0f}" + (f"  ({cosine:.4f})" if cosine is not None else "")
        parts += [
            _text(LABELS - 8, y + 13, facts[name]["title"], anchor="end", bold=ours),
            f'<rect x="{LABELS}" y="{y}" width="{rate * scale:.1f}" height="{BAR_HEIGHT}" rx="2" '
            f'fill="{OUR_BAR if ours else BAR}"/>',
            _text(LABELS + rate * scale + 8, y + 13, label, bold=ours),
        ]
    return parts


def _text(x: float, y: float, text: str, *, size: int = 13, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{TEXT}" text-anchor="{anchor}"{weight}>'
        f"{escape(text)}</text>"
    )
