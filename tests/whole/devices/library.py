"""A device's native library, and the packages of this checkout with it in place of the host's.

The library is compiled anew where a source has changed: by the system's compiler for this machine's kind of CPU, by zig
for another one.
"""

import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

from bed import ROOT, Bed, MissingError, run

SOURCES = ROOT / "runtime" / "native"
PACKAGE = ROOT / "runtime" / "edge_embed_runtime"
# The oldest C library that it runs with, as the wheels have it.
TARGETS = {"aarch64": "aarch64-linux-gnu.2.17", "x86_64": "x86_64-linux-gnu.2.17"}


def packages(bed: Bed, architecture: str) -> Path:
    """A folder for PYTHONPATH in which edge_embed_runtime has the library for a kind of CPU; all else are links.

    Raises MissingError where no compiler can be had.
    """

    def make(part: Path) -> None:
        native = part / PACKAGE.name / "native"
        native.mkdir(parents=True)
        for path in PACKAGE.iterdir():
            if path.name != native.name:
                (native.parent / path.name).symlink_to(path)
        for path in (PACKAGE / native.name).glob("*.py"):
            (native / path.name).symlink_to(path)
        _compile(bed, architecture, native)

    return bed.part(f"packages-{architecture}-{_fingerprint()}", make)


def _fingerprint() -> str:
    """Of the library's sources, and of the names of the package's files, which are linked to."""
    kept = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        if path.suffix in (".c", ".h", ".py"):
            kept.update(path.name.encode() + path.read_bytes())
    names = sorted(path.name for folder in (PACKAGE, PACKAGE / "native") for path in folder.iterdir())
    kept.update(f"{PACKAGE} {names}".encode())
    return kept.hexdigest()[:12]


def _compile(bed: Bed, architecture: str, folder: Path) -> None:
    command = [sys.executable, SOURCES / "build.py", "--output", folder]
    environment = {key: value for key, value in os.environ.items() if key not in ("EDGE_EMBED_NATIVE", "EDGE_EMBED_CC")}
    if architecture != platform.machine():
        command += ["--target", TARGETS[architecture]]
        environment["EDGE_EMBED_CC"] = f"{_zig(bed)} -m ziglang cc"
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise MissingError((done.stderr.strip().splitlines() or ["the library was not built"])[-1])


def _zig(bed: Bed) -> Path:
    """A Python with ziglang: a cross-compiler from the package index, in an environment of the bed."""

    def make(part: Path) -> None:
        run([sys.executable, "-m", "venv", part])
        run([part / "bin/python", "-m", "pip", "install", "-q", "ziglang"])

    return bed.part("zig", make) / "bin/python"
