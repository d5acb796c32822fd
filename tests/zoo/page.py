"""docs/models.md: from what was measured, and read again."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zoo.models import ROWS

DOCS = Path(__file__).resolve().parents[2] / "docs" / "models.md"
HEAD = """\
# Public models

Each row is a folder in the layout in which that model is published: the keys of its config.json, its modules, pooling,
prompts, limit and kind of tokenizer, with small random weights and a small vocabulary (`tests/zoo`). Made by
`python tests/zoo measure FILE.json && python tests/zoo table FILE.json`.

Nothing here was measured on the models' own weights: a row says that the exporter computes what the model's code
computes, and no more. The difference is the largest of any number of a vector of length 1 (of a sparse one as it is)
over the texts that `--verify` takes, to {against}; models that are code of their own are
compared with that code written down a second time. The cosine of int8 is the mean over 16 texts, of random weights,
which lose more than trained ones. One vector: the same bits alone and in any batch, in float32 and int8.

| model | its folder holds | family | prompts | pooling | limit | float32 differs by | int8 cosine | one vector |
|---|---|---|---|---|---|---|---|---|
"""


def page(measured: Sequence[dict[str, dict[str, Any]]]) -> str:
    """The page for what one or more environments measured: of each row the worst."""
    libraries = {row["against"] for found in measured for row in found.values() if "by hand" not in row["against"]}
    return HEAD.format(against=" and ".join(sorted(libraries))) + "".join(
        line(name, [found[name] for found in measured if name in found])
        for name in ROWS
        if any(name in found for found in measured)
    )


def line(name: str, rows: Sequence[dict[str, Any]]) -> str:
    first = rows[0]
    difference, int8 = max(row["difference"] for row in rows), min(row["int8"] for row in rows)
    cells = [
        name,
        first["holds"],
        first["family"],
        first["prompts"] or "none",
        first["pooling"],
        str(first["limit"] or "none"),
        f"{difference:.0e}",
        f"{int8:.3f}",
        "yes" if all(row["one_vector"] for row in rows) else "NO",
    ]
    return f"| {' | '.join(cells)} |\n"


def rows_of(text: str) -> Iterator[list[str]]:
    """The cells of every row of the page."""
    for found in re.findall(r"^\| (.*) \|$", text, re.MULTILINE)[1:]:
        yield found.split(" | ")
