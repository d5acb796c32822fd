"""Drawings by hand, readable on light and dark pages."""

from html import escape

# Greys and colours with a contrast of at least 3 to both white and #0d1117.
TEXT, BAR, OUR_BAR = "#7d8590", "#6e7f96", "#2f81f7"
ROW, HEADING, MARGIN = 26, 40, 16


def text(x: float, y: float, content: str, *, size: int = 13, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{TEXT}" text-anchor="{anchor}"{weight}>'
        f"{escape(content)}</text>"
    )


def page(title: str, parts: list[str], width: int, height: int, source: str) -> str:
    """A whole drawing; `source` stands below its parts, which end at `height`."""
    whole = height + MARGIN
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{whole}" viewBox="0 0 {width} {whole}" '
        f'font-family="system-ui, sans-serif" role="img">',
        f"<title>{escape(title)}</title>",
        *parts,
        text(0, height, source, size=11),
        "</svg>\n",
    ])  # fmt: skip
