"""The three figures of the README as one picture, drawn from the tables of figures.md: python docs/make/picture.py"""

import re
from html import escape
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).resolve().parents[1]
PAGE, TARGET = DOCS / "figures.md", DOCS / "pictures" / "three.svg"

# Greys and colours with a contrast of at least 3 to both white and #0d1117.
TEXT, BAR, OUR_BAR = "#7d8590", "#6e7f96", "#2f81f7"
WIDTH, LABELS, NUMBERS, ROW, BAR_HEIGHT, HEADING = 760, 210, 170, 24, 15, 44


class Panel(NamedTuple):
    """title; section: heading in figures.md; header: first cell of its table; column: from 0; rows: those to show;
    note: a column that is shown behind each figure; longest: longer bars are cut"""

    title: str
    section: str
    header: str
    column: int
    rows: tuple[str, ...]
    note: int | None = None
    longest: float = 1e9


OURS = ("edge_embed",)
RUNTIMES = (
    "onnxruntime int8 (optimum)",
    "CTranslate2 int8",
    "OpenVINO int8",
    "fastembed fp32",
    "sentence-transformers fp32",
)
INDEXES = (
    "LanceDB IVF_HNSW_SQ",
    "faiss binary flat, rescored",
    "hnswlib f32 HNSW",
    "usearch i8 HNSW",
    "sqlite-vec int8",
)
PANELS = (
    Panel(
        "Speed: tokens per CPU second, one text of 40-64 tokens at a time (more is better)",
        "Against other runtimes",
        "texts in a call",
        4,
        OURS + RUNTIMES,
    ),
    Panel(
        "Memory: peak of a process that embeds, MB (less is better)",
        "Against other runtimes",
        "",
        3,
        OURS + RUNTIMES,
    ),
    Panel(
        "Search: 100,000 vectors, p50 in ms (less is better); in brackets: survived kill -9 while writing",
        "The index against others",
        "100,000 vectors of 384",
        2,
        OURS + INDEXES,
        7,
        6.0,
    ),
)


def table(page: str, section: str, header: str) -> dict[str, list[str]]:
    """Rows of the table of a section of which a row begins with `header`, by their first cell."""
    body = page.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    for found in re.findall(r"(?:^\|.*\n)+", body, re.MULTILINE):
        rows = [[cell.strip().strip("*") for cell in line.strip("|").split("|")] for line in found.splitlines()]
        if any(row[0] == header for row in rows[:3]):
            return {row[0]: row for row in rows}
    raise ValueError(f"no table {header!r} in {section!r}")


def draw(page: str) -> str:
    """The picture for the tables of figures.md."""
    top, parts = 8, []
    for panel in PANELS:
        rows = table(page, panel.section, panel.header)
        values = {name: float(rows[name][panel.column].replace(",", "")) for name in panel.rows}
        scale = (WIDTH - LABELS - NUMBERS) / min(panel.longest, max(values.values()))
        parts.append(_text(0, top + 18, panel.title, bold=True))
        for place, (name, value) in enumerate(values.items()):
            y, ours = top + HEADING - 12 + ROW * place, name in OURS
            label = rows[name][panel.column] + (f"   ({rows[name][panel.note]})" if panel.note else "")
            length = min(value, panel.longest) * scale
            label += "   bar cut" if value > panel.longest else ""
            parts += [
                _text(LABELS - 8, y + 12, name, anchor="end", bold=ours),
                f'<rect x="{LABELS}" y="{y}" width="{length:.1f}" height="{BAR_HEIGHT}" rx="2" '
                f'fill="{OUR_BAR if ours else BAR}"/>',
                _text(LABELS + length + 8, y + 12, label, bold=ours),
            ]
        top += HEADING + ROW * len(values)
    parts.append(
        _text(0, top + 12, "AMD EPYC (Zen 5), one thread; python -m bench.encode, python -m bench.search", size=11)
    )
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top + 22}" viewBox="0 0 {WIDTH} {top + 22}" '
        f'font-family="system-ui, sans-serif" role="img">',
        "<title>edge_embed next to other runtimes and indexes: speed, memory, search</title>",
        *parts,
        "</svg>\n",
    ])  # fmt: skip


def _text(x: float, y: float, text: str, *, size: int = 13, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{TEXT}" text-anchor="{anchor}"{weight}>'
        f"{escape(text)}</text>"
    )


if __name__ == "__main__":
    TARGET.write_text(draw(PAGE.read_text("utf-8")), encoding="utf-8")
