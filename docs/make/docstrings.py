"""Docstrings as Markdown, for the API reference.

This project describes parameters as `name:   what it is`, continued on indented lines; Markdown would run such lines
together. Each becomes an entry of a list:

    k:     number of hits        ->     - `k`: number of hits,
           that are returned                 that are returned
"""

import inspect
import re
from importlib import import_module
from typing import Any

import griffe

ENTRY = re.compile(r"^([a-z]\w*(?:, [a-z]\w*)*): +(\S.*)$")


def listed(text: str) -> str:
    """A docstring whose descriptions of parameters are entries of a list."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        found = ENTRY.match(line)
        if found:
            if not inside and lines and lines[-1]:
                lines.append("")
            names = ", ".join(f"`{name}`" for name in found[1].split(", "))
            lines.append(f"- {names}: {found[2]}")
        elif inside and line.startswith(" "):
            lines.append(f"    {line.strip()}")
        else:
            lines.append(line)
        inside = bool(found) or (inside and line.startswith(" "))
    return "\n".join(lines)


class Lists(griffe.Extension):  # type: ignore[misc]  # not installed where types are checked
    """Applies `listed` to every docstring; one that is put together when its class is made is taken from there."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        door = obj.path.startswith("edge_embed.integrations.")  # not on the page; what it imports may not be installed
        if obj.is_class and not obj.docstring and not door and not obj.name.startswith("_"):
            text = inspect.getdoc(getattr(import_module(obj.module.path), obj.name))
            obj.docstring = griffe.Docstring(text or "", parent=obj)
        if obj.docstring:
            obj.docstring.value = listed(inspect.cleandoc(obj.docstring.value))
