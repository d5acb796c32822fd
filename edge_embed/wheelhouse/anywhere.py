"""A wheel of edge_embed without its native library, for devices that the library is not for: numpy and onnxruntime do
its work there."""

import csv
import io
import json
import zipfile
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from edge_embed.wheelhouse.platforms import Target
from edge_embed.wheelhouse.wheelfile import digest, write
from edge_embed_runtime.native.library import FACTS

FOLDER = "edge_embed_runtime/native/"
LIBRARY = FOLDER + FACTS.removesuffix("json")
REASON = "its wheel was put together on another kind of machine, without --wheel"


def runs_on(wheel: Path, target: Target) -> bool:
    """Whether the device can install it, going by its name."""
    try:
        tags = parse_wheel_filename(wheel.name)[3]
    except InvalidWheelFilename:
        return False
    return any(target.takes(tag.platform) for tag in tags)


def without_library(wheel: Path) -> Path:
    """Write the same wheel for all systems beside it, delete it, and return the new one's path."""
    name, release = wheel.name.split("-")[:2]
    made = wheel.parent / f"{name}-{release}-py3-none-any.whl"
    info = f"{name}-{release}.dist-info/"
    rows = []
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as target:
        for path in source.namelist():
            if path == f"{info}RECORD" or (path.startswith(LIBRARY) and path != FOLDER + FACTS):
                continue
            content = source.read(path)
            if path == FOLDER + FACTS:
                content = json.dumps({"reason": REASON}).encode()
            elif path == f"{info}WHEEL":
                content = _for_all(content.decode()).encode()
            write(target, path, content)
            rows.append((path, f"sha256={digest(content)}", str(len(content))))
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([*rows, (f"{info}RECORD", "", "")])
        write(target, f"{info}RECORD", table.getvalue().encode())
    wheel.unlink()
    return made


def _for_all(fields: str) -> str:
    """The WHEEL file with the tag of a wheel without compiled files."""
    kept = [line for line in fields.splitlines() if line and not line.startswith(("Tag:", "Root-Is-Purelib:"))]
    return "\n".join([*kept, "Root-Is-Purelib: true", "Tag: py3-none-any", ""])
