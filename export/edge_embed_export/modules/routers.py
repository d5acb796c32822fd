"""Routers of sentence-transformers (Asym in releases before 5): modules that a text goes through by its role.

What a bundle can do is done: sides that are the same are one, and sides that differ in their Dense layers alone become
one bundle, whose roles choose. Of others, one side at a time is exported (`export_model`'s `side`).
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_embed_export.files.accounting import refuse_unknown
from edge_embed_export.files.reading import is_there, read_json, sha256_of
from edge_embed_export.modules.classes import module_class
from edge_embed_export.options import SIDES, Side
from edge_embed_runtime.errors import ExportError, InputError

ROUTERS = ("Router", "Asym")
# What models call their routes, besides our names.
ROUTES = {"query": ("query",), "document": ("document", "doc", "passage", "corpus")}
# Modules whose weights may differ from side to side in one bundle, and those that have a table in place of a network.
SIDED, TABLES = "Dense", "SparseStaticEmbedding"

Entry = dict[str, Any]


@dataclass(frozen=True)
class Router:
    """The routes of texts, by role.

    query, document: entries as modules.json has them, their paths from the model's folder
    default:         the role whose route a text without a role takes
    """

    path: Path
    query: list[Entry]
    document: list[Entry]
    default: Side


def kind_of(entry: Mapping[str, Any]) -> str:
    """The class that an entry of modules.json names; its whole name where that is code of somebody's own."""
    return module_class(str(entry["type"])) or str(entry["type"])


def expanded(folder: Path, entries: Sequence[Entry], side: Side | None) -> list[Entry]:
    """The entries of modules.json with those of a Router's routes in its place.

    An entry with `sides` stands for two modules of one shape: their paths by role, and the `default` role.

    side: whose route is taken; None means both, where one bundle can hold them

    Raises ExportError for routes that no bundle can hold together, InputError for a side of a model without sides.
    """
    found: list[Entry] = []
    sided = False
    for entry in entries:
        if kind_of(entry) not in ROUTERS:
            found.append(entry)
            continue
        router = read_router(folder, str(entry["path"]))
        same = _same_route(folder, router.query, router.document)
        sided = sided or not same
        if side is not None:
            found += getattr(router, side)
        else:
            found += router.document if same else _together(folder, router)
    if side is not None and not sided:
        raise InputError(f"{folder}: queries and documents go through the same modules: there is no use for a side")
    return found


def read_router(folder: Path, base: str) -> Router:
    """The Router at a path of the folder. Raises ExportError for routes that are not those of queries and documents."""
    path = folder / base / "router_config.json"
    if not is_there(path):
        path = folder / base / "config.json"  # as Asym wrote it
    config = read_json(path)
    refuse_unknown(path, config, ("types", "structure", "parameters"))
    try:
        ways = {str(way): [str(name) for name in names] for way, names in config["structure"].items()}
        types = {str(name): str(kind) for name, kind in config["types"].items()}
        settings = dict(config.get("parameters") or {})
        mappings = {_mapped(key): str(way) for key, way in (settings.pop("route_mappings", None) or {}).items()}
        entries = {
            way: [{"type": types[name], "path": f"{base}/{name}" if base else name} for name in names]
            for way, names in ways.items()
        }
    except (KeyError, TypeError, AttributeError, ValueError, SyntaxError) as error:
        raise ExportError(f"{path}: not a Router's: {error!r}") from error
    for name in types:
        if not (folder / base / name).resolve().is_relative_to(folder.resolve()):
            raise ExportError(f"{path}: {name!r:.60} is not in the folder")
    default, first = settings.pop("default_route", None), settings.pop("allow_empty_key", True)
    if settings:
        raise ExportError(f"{path}: the parameter {next(iter(settings))!r} of a Router is not known")
    names = {side: _route(path, list(ways), mappings, side) for side in SIDES}
    default = next(iter(ways)) if default is None and first else default
    if default is not None and default not in ways:
        raise ExportError(f"{path}: default_route is {default!r:.60}, which is none of {sorted(ways)}")
    usual: Side = "query" if default == names["query"] != names["document"] else "document"
    return Router(path, entries[names["query"]], entries[names["document"]], usual)


def _mapped(key: str) -> tuple[Any, Any]:
    """ "('query', 'text')" -> ("query", "text")."""
    task, modality = ast.literal_eval(key)
    return task, modality


def _route(path: Path, ways: list[str], mappings: Mapping[tuple[Any, Any], str], side: Side) -> str:
    """The route of texts of a role, in the order in which the library looks for it."""
    keys = [(side, "text"), (side, None), (None, "text"), (None, None)]
    found = [mappings[key] for key in keys if key in mappings]
    found += [name for name in (*ROUTES[side], "text") if name in ways]
    if not found and len(ways) == 1:
        found = ways
    if not found or found[0] not in ways:
        raise ExportError(f"{path}: structure has the routes {ways}, and none for {side!r}")
    return found[0]


def _together(folder: Path, router: Router) -> list[Entry]:
    """The modules of both routes as one, where they differ in no more than Dense layers, or queries have a table."""
    if all(kind_of(entry) == TABLES for entry in router.query):
        return [*router.document, *router.query]
    if len(router.query) == len(router.document):
        pairs = list(zip(router.query, router.document, strict=True))
        if all(_same_module(folder, a, b) or kind_of(a) == kind_of(b) == SIDED for a, b in pairs):
            return [
                {**a, "sides": {"query": a["path"], "document": b["path"]}, "default": router.default}
                if not _same_module(folder, a, b)
                else b
                for a, b in pairs
            ]
    lists = [", ".join(map(kind_of, entries)) or "none" for entries in (router.query, router.document)]
    raise ExportError(
        f"{router.path}: structure sends queries through modules of their own ({lists[0]}) and documents through "
        f"others ({lists[1]}), which one bundle cannot hold: export each side to a bundle of its own, with "
        "--side query and --side document"
    )


def _same_route(folder: Path, first: Sequence[Entry], second: Sequence[Entry]) -> bool:
    return len(first) == len(second) and all(_same_module(folder, a, b) for a, b in zip(first, second, strict=True))


def _same_module(folder: Path, first: Entry, second: Entry) -> bool:
    """Whether two modules are one: older releases save a module that both routes share once for each."""
    if first["path"] == second["path"]:
        return True
    return kind_of(first) == kind_of(second) and _files(folder / first["path"]) == _files(folder / second["path"])


def _files(folder: Path) -> dict[str, str]:
    """The hash of each file of a module's folder."""
    paths = sorted(path for path in folder.rglob("*") if not path.is_dir() and path.name != "README.md")
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths}
