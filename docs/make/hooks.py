"""Parts of pages that are generated: `<!-- generated: NAME -->` in a page becomes what the function NAME gives.

mkdocs calls `on_page_markdown`; nothing here imports mkdocs, so that tests can call the rest.
"""

import ast
import inspect
import json
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import click
from click.testing import CliRunner

from edge_embed import errors
from edge_embed.cli.main import main
from edge_embed_runtime import errors as tree

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "edge_embed_runtime": "runtime/edge_embed_runtime",
    "edge_embed_export": "export/edge_embed_export",
    "edge_embed": "edge_embed",
}
# What public calls return, and where these classes are looked for.
RESULTS = (
    "TokenVectors",
    "ValueCount",
    "Report",
    "Damage",
    "Repair",
    "Compaction",
    "Rebuilt",
    "Reembedded",
    "Backup",
    "Loaded",
    "Dumped",
    "Merged",
)
RESULT_ROOMS = (
    "edge_embed_runtime.embed",
    "edge_embed_runtime.storage",
    "edge_embed_runtime.maintenance",
    "edge_embed.files",
)
FIELD = re.compile(r"^(\w+): +(.+)$", re.MULTILINE)
MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with its generated parts."""
    return MARK.sub(lambda found: GENERATED[found[1]](), markdown)


def commands() -> str:
    """A section for each command: how it is called, what it does, its options."""
    return "\n".join(
        line for name, command in sorted(main.commands.items()) for line in _command(f"edge-embed {name}", command)
    )


def _command(name: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=name)
    yield f"### {name}\n\n```text\n{' '.join([name, *command.collect_usage_pieces(context)])}\n```\n"
    yield inspect.cleandoc(command.help or "").replace("\b\n", "") + "\n"
    options = [param.get_help_record(context) for param in command.params if isinstance(param, click.Option)]
    if any(options):
        yield "| option | meaning |\n|---|---|"
        yield from (f"| `{_cell(record[0], code=True)}` | {_cell(record[1])} |" for record in options if record)
        yield ""
    if isinstance(command, click.Group):
        for part, subcommand in sorted(command.commands.items()):
            if not subcommand.hidden:
                yield from _command(f"{name} {part}", subcommand)


def families() -> str:
    """The table of `edge-embed export --list`."""
    done = CliRunner().invoke(main, ["export", "--list", "--json"], catch_exceptions=False)
    lines = ["| family | `model_type` in config.json | what its graph is made of | for example |", "|---|---|---|---|"]
    for row in json.loads(done.output)["families"]:
        types, examples = ", ".join(f"`{name}`" for name in row["model_types"]), "; ".join(row["checkpoints"])
        lines.append(f"| {row['family']} | {types} | {row['parts']} | {examples} |")
    return "\n".join(lines)


def error_codes() -> str:
    """A row for each error: its code, its name, what it is a kind of, when it is raised, and the fields it adds."""
    lines = ["| error | `code` | is a kind of | raised for | fields of its own |", "|---|---|---|---|---|"]
    for name in tree.__all__:
        found = getattr(errors, name)
        bases = ", ".join(f"`{base.__name__}`" for base in found.__bases__)
        meaning, _, rest = inspect.cleandoc(found.__doc__ or "").partition("\n\n")
        fields = "; ".join(f"`{field}`: {what}" for field, what in FIELD.findall(rest))
        lines.append(f"| `{name}` | `{found.code}` | {bases} | {_cell(meaning)} | {_cell(fields)} |")
    return "\n".join(lines)


def further_codes() -> str:
    """Codes that say more than the class of their error, with what their comment in the source says."""
    lines = ["| `code` | what it means, or what to do |", "|---|---|"]
    comments = dict(re.findall(r'^    "(\w+)",(?:  # (.+))?$', inspect.getsource(tree), re.MULTILINE))
    usual = {getattr(errors, name).code for name in tree.__all__}
    lines += [f"| `{code}` | {_cell(comments[code])} |" for code in get_args(tree.Code) if code not in usual]
    return "\n".join(lines)


def results() -> str:
    """An entry of the API reference for each class in RESULTS, wherever it is."""
    found: dict[str, str] = {}
    for room in RESULT_ROOMS:
        package = import_module(room)
        for module in pkgutil.iter_modules(package.__path__, f"{room}."):
            held = vars(import_module(module.name))
            found |= {name: module.name for name in RESULTS if getattr(held.get(name), "__module__", "") == module.name}
    return "\n\n".join(f"::: {found[name]}.{name}\n    options: {{show_if_no_docstring: true}}" for name in RESULTS)


def rooms() -> str:
    """A table for each package: its rooms, with the first line of their docstrings."""
    lines = []
    for package, folder in PACKAGES.items():
        found = {path.parent.name: _sentence(path) for path in sorted((ROOT / folder).glob("*/__init__.py"))}
        lines += [f"### {package}", "", "| room | what it is for |", "|---|---|"]
        order = [name for name in _order(package) if name in found]
        lines += [f"| `{name}/` | {_cell(found[name])} |" for name in [*order, *sorted(set(found) - set(order))]]
        lines.append("")
    return "\n".join(lines)


def _sentence(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n")[0]


def _order(package: str) -> list[str]:
    """Rooms from the bottom up, as the contract of imports in pyproject.toml has them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = [layer for found in contracts if found.get("containers") == [package] for layer in found["layers"]]
    return [name.strip() for layer in reversed(layers) for name in re.split("[|:]", layer)]


def _cell(text: str, *, code: bool = False) -> str:
    """One line that a table can hold; in code nothing has a meaning."""
    line = " ".join(text.split())
    return line if code else line.replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")


def systemd_units() -> str:
    """The units in deploy/."""
    return "\n".join(_file(f"deploy/edge-embed.{kind}", "ini") for kind in ("socket", "service"))


def containerfile() -> str:
    return _file("deploy/Containerfile", "dockerfile")


def web_usage() -> str:
    """How edge-embed.js is used: its first comment."""
    comment = (ROOT / "examples/web/edge-embed.js").read_text("utf-8").partition("*/")[0]
    code = [line.strip() for line in comment.splitlines() if line.strip().endswith((";", "dim")) or ";  " in line]
    return "```js\n" + "\n".join(code) + "\n```\n"


def phone_programs() -> str:
    """The programs in examples/phones/, a heading for each language."""
    languages = {"C++": "embed.cpp", "Rust": "embed.rs", "Kotlin": "Embed.kt", "Swift": "Embed.swift"}
    return "\n".join(
        f"### {title}\n\n{_file(f'examples/phones/{name}', name.rpartition('.')[2])}"
        for title, name in languages.items()
    )


def _file(path: str, language: str) -> str:
    return f"`{path}`:\n\n```{language}\n{(ROOT / path).read_text('utf-8')}```\n"


GENERATED = {
    "commands": commands,
    "families": families,
    "error_codes": error_codes,
    "further_codes": further_codes,
    "results": results,
    "rooms": rooms,
    "systemd_units": systemd_units,
    "containerfile": containerfile,
    "phone_programs": phone_programs,
    "web_usage": web_usage,
}
