"""What can be tried of a wheel on this machine: its library loaded and used by Python, or by a C program with musl."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "whole" / "devices"))

from bed import PYTHON, Apt, Bed, MissingError, run  # noqa: E402 - the emulation bed of the device tests

__all__ = ["Bed", "MissingError", "Tries", "wheel"]

# One text embedded, one index searched with the library, and without it: the same hits.
PROGRAM = """
import json, os, sys
import numpy as np
import edge_embed
from edge_embed_runtime.native.library import native, reason
assert edge_embed.__file__.startswith(sys.argv[1]), edge_embed.__file__
assert native() is not None, reason()
vector = edge_embed.Embedder("static").encode(["a ferry to the island"])[0]
rows = np.random.default_rng(0).normal(size=(600, len(vector))).astype(np.float32)
documents = [edge_embed.Document(key=f"d{i}", text=f"t{i}") for i in range(600)]
with edge_embed.Index.create(sys.argv[2], space="s", dim=len(vector)) as index:
    index.add_vectors(documents, rows)
    hits = [hit.key for hit in index.search(vector=vector, k=10)]
print(json.dumps([native().isa_name, hits]))
"""
# Debian's musl, the newest that runs under every kernel of today.
MUSL_SUITE = "bookworm"


class Tries:
    """Runs wheels of targets that this machine can run. folder: for its files."""

    def __init__(self, folder: Path, bed: Bed, compiler: tuple[str, ...]) -> None:
        self.folder, self.bed, self.compiler = folder, bed, compiler

    def run(self, tag: str, site: Path, library: Path) -> str:
        """What ran, and where; "" where nothing can. Raises MissingError with what went wrong.

        tag: the platform of the wheel; site: the folder that the wheel was unpacked into
        """
        machine = tag.split("_", maxsplit=1)[1].removeprefix("1_2_").removeprefix("2_17_")
        ways: dict[str, Callable[[], str]] = {
            "manylinux_2_17_x86_64": lambda: self._python(site, "host", "x86_64"),
            "manylinux_2_17_aarch64": lambda: self._python(site, "cortex-a72", "aarch64"),
            "musllinux_1_2_x86_64": lambda: self._musl(machine, library),
            "musllinux_1_2_aarch64": lambda: self._musl(machine, library),
        }
        if tag not in ways or sys.platform != "linux" or platform.machine() != "x86_64":
            return ""
        return ways[tag]()

    def _python(self, site: Path, cpu: str, architecture: str) -> str:
        command = self.bed.command(cpu, architecture, PYTHON)
        environment = {**self.bed.environment(None), "PYTHONPATH": str(site)}
        said = []
        for switch in ("1", "0"):
            program = PROGRAM if switch == "1" else PROGRAM.replace("assert native() is not None, reason()", "")
            program = program.replace("native().isa_name", "native().isa_name if native() else ''")
            index = self.folder / f"{cpu}-{switch}.db"
            words = [*command, "-c", program, str(site), str(index)]
            output = run(words, env={**environment, "EDGE_EMBED_NATIVE": switch}, cwd=self.folder)
            said.append(json.loads(output))
        (isa, hits), (_, plain) = said
        if hits != plain:
            raise MissingError(f"with the library {hits}, without {plain}")
        return f"Python on {cpu}: {isa}, same hits as numpy"

    def _musl(self, machine: str, library: Path) -> str:
        """The driver, started by the loader of Debian's musl; on ARM in the emulator."""
        linker = self.musl(machine)
        driver = self.folder / f"driver-{machine}"
        source = Path(__file__).parent / "driver.c"
        flags = ["-target", f"{machine}-linux-musl", "-dynamic", "-O2", "-std=c11"]
        run([*self.compiler, *flags, source, "-o", driver])
        command: list[object] = [linker, driver, library]
        if machine != "x86_64":
            command = [self.bed.qemu(machine), "-cpu", "cortex-a72", *command]
        return f"C program with musl: {run(command).strip()} to a plain loop"

    def musl(self, machine: str) -> Path:
        """The dynamic linker of musl, which is its C library too."""

        def make(part: Path) -> None:
            apt = Apt(part / "apt", {MUSL_SUITE: "debian"}, {"x86_64": "amd64", "aarch64": "arm64"}[machine])
            apt("download", "musl")
            apt.unpack(part)

        part: Path = self.bed.part(f"musl-{machine}", make)
        return part / f"lib/ld-musl-{machine}.so.1"


def wheel(folder: Path, target: str, compiler: str) -> Path:
    """The wheel for a target, built by pip into an empty folder. Raises MissingError with pip's words."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EDGE_EMBED_", "PYTHONPATH"))}
    variables = {**kept, "EDGE_EMBED_TARGET": target, "EDGE_EMBED_CC": compiler, "EDGE_EMBED_NATIVE": "1"}
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    made = list(folder.glob("*.whl"))
    if done.returncode or len(made) != 1:
        raise MissingError(f"no wheel for {target}: {' '.join(done.stderr.split())[-400:]}")
    return made[0]
