"""What a wheel requires on another machine: requirements whose markers are evaluated for a device, not for this one.

pip evaluates markers for the machine it runs on, also where it downloads for another.
https://packaging.python.org/en/latest/specifications/dependency-specifiers/
"""

import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from email.parser import BytesParser
from importlib.resources import files
from pathlib import Path

from packaging.markers import Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement

from edge_embed_runtime.errors import EdgeEmbedError, SourceError

# What nobody knows of a device: packaging would take it from this machine.
UNKNOWN = re.compile(r"\bplatform_(release|version)\b")


def parse(line: str) -> Requirement:
    """'httpx[http2]>=0.23; python_version < "3.13"' -> name, extras, specifier and marker.

    Raises EdgeEmbedError for a requirement that has a URL, or that cannot be read.
    """
    try:
        found = Requirement(line)
    except InvalidRequirement as error:
        raise EdgeEmbedError(f"the requirement {line.strip()!r} cannot be read: {error}") from error
    if found.url:
        raise EdgeEmbedError(f"the requirement {line.strip()!r} is not from a package index")
    return found


def holds(marker: Marker | None, environment: Mapping[str, str], extras: Sequence[str] = ()) -> bool:
    """Whether a marker is true for a device, with one of the extras or without; also True where that is unknown: one
    wheel too many is better than one too few."""
    if marker is None or UNKNOWN.search(str(marker)):
        return True
    try:
        return any(marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras))
    except (UndefinedComparison, UndefinedEnvironmentName):
        return True


def requirements_of(wheel: Path, extras: Sequence[str], environment: Mapping[str, str]) -> Iterator[Requirement]:
    """What a wheel with these extras requires on a device. Raises SourceError for a damaged wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
            lines = BytesParser().parsebytes(archive.read(name)).get_all("Requires-Dist") or []
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise SourceError(f"{wheel}: not a whole wheel ({error}); delete it and run this again", path=wheel) from error
    yield from (requirement for requirement in map(parse, lines) if holds(requirement.marker, environment, extras))


def listed_requirements(name: str, environment: Mapping[str, str]) -> list[Requirement]:
    """What edge_embed imports on a device, from data/lean.txt or data/static.txt. name: "lean" or "static"."""
    lines = (files("edge_embed") / "data" / f"{name}.txt").read_text("utf-8").splitlines()
    found = [parse(line) for line in lines if line.strip() and not line.startswith("#")]
    return [requirement for requirement in found if holds(requirement.marker, environment)]
