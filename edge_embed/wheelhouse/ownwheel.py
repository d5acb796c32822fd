"""The wheel of edge_embed itself: given by the user, built from the folder of an editable installation, or made of
the installed files.

A wheel is a zip of the files that RECORD lists, with their hashes
(https://packaging.python.org/en/latest/specifications/binary-distribution-format/).
"""

import csv
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse
from urllib.request import url2pathname

from edge_embed.wheelhouse.wheelfile import digest, write
from edge_embed_runtime.errors import EdgeEmbedError, SourceError

if TYPE_CHECKING:
    from edge_embed.wheelhouse.platforms import Target

NAME = "edge-embed"
# Files that the installer adds; the next one adds its own.
INSTALLERS_OWN = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}

Pip = Callable[[Sequence[str]], None]


def own_wheel(folder: Path, given: Path | None, target: "Target", pip: Pip) -> Path:
    """Put a wheel of edge_embed into `folder`, and return its path. A native library that is not for the target is
    left out of this installation's wheel.

    given: a wheel to copy; None means this installation
    pip:   runs pip with these arguments; only used for an editable installation

    Raises SourceError if `given` is not a wheel of edge_embed, or is for other machines, EdgeEmbedError for an
    installation without RECORD, or whose files differ from it.
    """
    from edge_embed.wheelhouse.anywhere import runs_on, without_library  # they need packaging, which repack does not

    if given is not None:
        if not given.name.startswith("edge_embed-") or not zipfile.is_zipfile(given):
            raise SourceError(
                f"{given}: not a wheel of edge_embed; `pip wheel --no-deps .` in its checkout makes one", path=given
            )
        if not runs_on(given, target):
            raise SourceError(f"{given}: it cannot be installed on {target}, going by its name", path=given)
        return Path(shutil.copy(given, folder))
    distribution = metadata.distribution(NAME)
    checkout = _editable_folder(distribution)
    if checkout is None:
        wheel = repack(distribution, folder)
    else:
        pip(["wheel", "--no-deps", "--wheel-dir", str(folder), str(checkout)])
        (wheel,) = folder.glob("edge_embed-*.whl")
    return wheel if runs_on(wheel, target) else without_library(wheel)


def _editable_folder(distribution: metadata.Distribution) -> Path | None:
    """The checkout of an editable installation, which has no copy of the packages; None for other installations."""
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if not origin.get("dir_info", {}).get("editable"):
        return None
    return Path(url2pathname(urlparse(origin["url"]).path))


def repack(distribution: metadata.Distribution, folder: Path) -> Path:
    """Write the wheel that an installed distribution came from; the same files make the same wheel.

    Raises EdgeEmbedError where files are missing, or differ from what was installed.
    """
    tag = _field(distribution, "Tag")
    name = distribution.metadata["Name"].replace("-", "_")
    wheel = folder / f"{name}-{distribution.version}-{tag}.whl"
    rows = []
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in sorted(_installed(distribution)):
            write(archive, path, content)
            rows.append((path, f"sha256={digest(content)}", str(len(content))))
        record = f"{name}-{distribution.version}.dist-info/RECORD"
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([*rows, (record, "", "")])
        write(archive, record, table.getvalue().encode())
    return wheel


def _installed(distribution: metadata.Distribution) -> Iterator[tuple[str, bytes]]:
    """The files of the wheel, read from where they were installed, checked against RECORD."""
    advice = f"install it again, or give `--wheel` a wheel of {NAME} {distribution.version}"
    if not distribution.files:
        raise EdgeEmbedError(f"{NAME} was installed without a list of its files (RECORD): {advice}")
    for file in distribution.files:
        compiled = "__pycache__" in file.parts
        if file.parts[0] == ".." or file.is_absolute() or compiled or file.name in INSTALLERS_OWN:
            continue  # the script of the command, which the installer makes
        path = Path(str(file.locate()))
        try:
            content = path.read_bytes()
        except OSError as error:
            raise EdgeEmbedError(f"{path} cannot be read ({error.strerror}): {advice}", path=path) from error
        if file.hash is not None and file.hash.mode == "sha256" and file.hash.value != digest(content):
            raise EdgeEmbedError(f"{path} was changed since it was installed: {advice}", path=path)
        yield file.as_posix(), content


def _field(distribution: metadata.Distribution, name: str) -> str:
    """A field of the WHEEL file: "Tag: py3-none-any" -> "py3-none-any"."""
    for line in (distribution.read_text("WHEEL") or "").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    raise EdgeEmbedError(f"{NAME} was not installed from a wheel: give `--wheel` one")
