"""Results as text."""

from collections.abc import Iterator, Sequence
from typing import Any

from edge_embed_runtime.extras import require

# Tables are as wide as they need to be, whatever the terminal.
WIDTH = 1000


def head(result: dict[str, Any]) -> Iterator[str]:
    """What was measured, when and where."""
    machine, model = result["machine"], result["model"]
    cpu = result.get("cpu", "native")
    name = machine["cpu"] if cpu == "native" else f"{cpu.upper()} (masked on {machine['cpu']})"
    yield f"{model['bundle']} ({model['fingerprint']}), {result['date']}"
    yield f"{name}, cores: {machine['cores']} ({' '.join(machine['flags']) or machine['architecture']})"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a table; a heading may have several lines. The first column is that of names."""
    made = require("rich.table", "bench").Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, heading in enumerate(headings):
        made.add_column(heading, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    console = require("rich.console", "bench").Console(width=WIDTH, markup=False, highlight=False, color_system=None)
    with console.capture() as captured:
        console.print(made)
    yield from (line.rstrip() for line in captured.get().splitlines())


def number(value: float | None, form: str) -> str:
    """(0.5, ".0%") -> "50%"; None -> "-"."""
    return "-" if value is None else format(value, form)
