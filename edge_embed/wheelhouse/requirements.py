"""What a wheel requires on another machine: requirements and their markers, evaluated for a device, not for this one.

pip evaluates markers for the machine it runs on, also where it downloads for another.
https://packaging.python.org/en/latest/specifications/dependency-specifiers/
"""

import ast
import operator
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.parser import BytesParser
from importlib.resources import files
from pathlib import Path
from typing import Any

from edge_embed_runtime.errors import EdgeEmbedError, SourceError

# name, [extras], version specifier, marker
REQUIREMENT = re.compile(r"^([A-Za-z0-9][\w.-]*)\s*(?:\[([^\]]*)\])?\s*\(?([^;()@]*)\)?\s*(?:;(.*))?$")
VERSIONS = {"python_version", "python_full_version", "implementation_version"}
OPERATORS: dict[type[ast.cmpop], Any] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda part, whole: part in whole,
    ast.NotIn: lambda part, whole: part not in whole,
}


@dataclass(frozen=True)
class Requirement:
    """`httpx[http2]>=0.23; python_version < "3.13"`: name "httpx", extras ("http2",), specifier ">=0.23"."""

    name: str
    extras: tuple[str, ...]
    specifier: str
    marker: str


def normalized(name: str) -> str:
    """Huggingface_Hub -> huggingface-hub."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse(line: str) -> Requirement:
    """Raises EdgeEmbedError for a requirement with a URL, or none at all."""
    found = REQUIREMENT.match(line.strip())
    if found is None:
        raise EdgeEmbedError(f"the requirement {line.strip()!r} cannot be read, or is not from a package index")
    name, extras, specifier, marker = found.groups(default="")
    wanted = tuple(sorted(normalized(extra.strip()) for extra in extras.split(",") if extra.strip()))
    return Requirement(normalized(name), wanted, specifier.replace(" ", ""), marker.strip())


def holds(marker: str, environment: Mapping[str, str]) -> bool:
    """Whether a marker is true of a device; also where it cannot be told: rather a wheel too many than one too few.

    marker: 'python_version < "3.13" and sys_platform == "win32"'; they have the grammar of Python's comparisons
    """
    if not marker:
        return True
    try:
        return _evaluate(ast.parse(marker, mode="eval").body, environment)
    except (SyntaxError, ValueError, KeyError):
        return True


def _evaluate(node: ast.expr, environment: Mapping[str, str]) -> bool:
    match node:
        case ast.BoolOp(op=joined, values=parts):
            found = [_evaluate(part, environment) for part in parts]
            return all(found) if isinstance(joined, ast.And) else any(found)
        case ast.Compare(left=left, ops=[comparison], comparators=[right]):
            compare, sides = OPERATORS[type(comparison)], (left, right)
            values: list[Any] = [_value(side, environment) for side in sides]
            versions = any(isinstance(side, ast.Name) and side.id in VERSIONS for side in sides)
            if versions and not isinstance(comparison, ast.In | ast.NotIn):
                values = [version_parts(value) for value in values]
            return bool(compare(*values))
    raise ValueError("not a comparison")


def _value(node: ast.expr, environment: Mapping[str, str]) -> str:
    if isinstance(node, ast.Name):
        return environment[node.id]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise ValueError("neither a name nor a string")


def version_parts(version: str) -> tuple[int, ...]:
    """3.11.0 -> (3, 11). Raises ValueError for other than numbers."""
    parts = [int(part) for part in version.split(".")]
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def requirements_of(wheel: Path, extras: tuple[str, ...], environment: Mapping[str, str]) -> Iterator[Requirement]:
    """What a wheel with these extras requires on a device. Raises SourceError for a damaged one."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
            lines = BytesParser().parsebytes(archive.read(name)).get_all("Requires-Dist") or []
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise SourceError(f"{wheel}: not a whole wheel ({error}); delete it and run this again", path=wheel) from error
    for requirement in map(parse, lines):
        if any(holds(requirement.marker, {**environment, "extra": extra}) for extra in ("", *extras)):
            yield requirement


def listed_requirements(name: str, environment: Mapping[str, str]) -> list[Requirement]:
    """What data/lean.txt or data/static.txt says that edge_embed imports on a device. name: "lean" or "static"."""
    lines = (files("edge_embed") / "data" / f"{name}.txt").read_text("utf-8").splitlines()
    found = [parse(line) for line in lines if line.strip() and not line.startswith("#")]
    return [requirement for requirement in found if holds(requirement.marker, environment)]
