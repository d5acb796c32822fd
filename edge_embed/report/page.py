"""The HTML around a report's figures. All text is escaped here, so that what documents say stays text."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from edge_embed.report.svg import COLOURS
from edge_embed.report.text import escape, shown

# Nothing is loaded or run, whatever a text of the page holds.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
NUMBER, LONG_TEXT = ' class="number"', ' class="long"'
ICON = '<svg viewBox="0 0 12 12" aria-hidden="true"><circle class="g{}" cx="6" cy="6" r="5"/></svg>'
# A text of so many characters gets a wider column.
LONG = 40


def page(title: str, about: str, sections: Iterable[str]) -> str:
    css = (files("edge_embed") / "report" / "page.css").read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{css}</style></head>\n<body><main>"
        f'<h1>{escape(title)}</h1><p class="quiet">{escape(about)}</p>\n'
        + "\n".join(sections)
        + "\n</main></body></html>\n"
    )


def section(title: str, said: str, *parts: str) -> str:
    """said: a sentence under the title, or nothing. Where all parts are empty there is no section."""
    text = f'<p class="quiet">{escape(said)}</p>' if said else ""
    return f"<section><h2>{escape(title)}</h2>{text}{''.join(parts)}</section>" if any(parts) else ""


def facts(values: Mapping[str, Any]) -> str:
    """Names and values, what is nested in a value spelled out in its name. Empty ones are left out."""
    given = [(name, value) for name, value in flat(values) if value not in (None, [], {}, "")]
    rows = "".join(f'<tr><th scope="row">{escape(name)}</th>{_cell(value, "")}</tr>' for name, value in given)
    return f'<table class="facts"><tbody>{rows}</tbody></table>' if rows else ""


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Numbers stand at the right."""
    rows = list(rows)
    body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    numbers = [all(_is_number(row[column]) for row in rows) for column in range(len(head))]
    titles = "".join(
        f'<th scope="col"{NUMBER if number else ""}>{escape(name)}</th>'
        for name, number in zip(head, numbers, strict=True)
    )
    head_row = f"<thead><tr>{titles}</tr></thead>"
    return f'<div class="wide" tabindex="0"><table>{head_row}<tbody>{body}</tbody></table></div>' if body else ""


def bars(rows: Sequence[tuple[str, float, str]]) -> str:
    """One bar a row: its name, its length, and what is written behind it."""
    most = max((length for _, length, _ in rows), default=0) or 1
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="number">{escape(said)}</td>'
        f'<td><div class="bar" style="width: {max(0.5, 100 * length / most):.1f}%"></div></td></tr>'
        for name, length, said in rows
    )
    return f'<table class="bars"><tbody>{body}</tbody></table>' if rows else ""


def key(names: Sequence[str]) -> str:
    """What the colours of a plot stand for."""
    icons = (ICON.format(min(i, COLOURS - 1)) for i in range(len(names)))
    entries = (
        f'<span class="key">{icon}<bdi>{escape(name)}</bdi></span>' for icon, name in zip(icons, names, strict=True)
    )
    return f"<p>{''.join(entries)}</p>" if names else ""


def flat(values: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    """{"a": {"b": 1}} -> ("a, b", 1)."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{above}{name}, ")
        else:
            yield f"{above}{name}", value


def _cell(value: Any, number: str = NUMBER) -> str:
    if _is_number(value):
        return f"<td{number}>{f'{value:,}' if isinstance(value, int) else shown(value)}</td>"
    if isinstance(value, bool):
        said = "yes" if value else "no"
    else:
        said = ", ".join(map(str, value)) if isinstance(value, list | tuple) else "" if value is None else str(value)
    return f'<td dir="auto"{LONG_TEXT if len(said) > LONG else ""}>{escape(said)}</td>'


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
