"""Runs the fuzz targets of the native library under AddressSanitizer and UndefinedBehaviorSanitizer.

    python runtime/native/fuzz/run.py [search] [encoder] [--seconds 20] [--plain]
        [--corpus DIR] [--found DIR] [--build DIR]

With clang it is libFuzzer that makes the inputs, from those in DIR/TARGET, where it leaves what it has learnt; with
another compiler, or --plain, they are random bytes, always the same ones. What fails is left as crash-* or timeout-* in
DIR of --found, which `drive FILE` runs again. The standard library is all that this needs, besides the compiler.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from native import build  # noqa: E402 - the library's own list of files and flags

TARGETS = ("search", "encoder")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O2")
# What libFuzzer may take: an input has a few numbers, and a model that it makes is small.
LIMITS = ("-max_len=512", "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=0")
MARGIN_SECONDS = 120
FOUND = Path(tempfile.gettempdir(), "edge_embed_fuzz")
SEED, SEEDS = 17, 64


class NotHere(Exception):
    """Why nothing can be run on this machine."""


@dataclass(frozen=True)
class Program:
    """A target that is built. guided: by libFuzzer"""

    path: Path
    guided: bool


def find_compiler(plain: bool) -> tuple[build.Compiler, bool]:
    """A compiler with sanitizers, and whether it has libFuzzer."""
    named = (
        [os.environ["EDGE_EMBED_CC"].strip()] if os.environ.get("EDGE_EMBED_CC", "").strip() else ["clang", "gcc", "cc"]
    )
    said = "there is no C compiler"
    for name in named:
        if not shutil.which(name.split()[0]):
            continue
        compiler = build.Compiler(tuple(name.split()))
        for guided in (False,) if plain else (True, False):
            try:
                _try(compiler, guided)
            except build.BuildError as error:
                said = str(error)
            else:
                return compiler, guided
    raise NotHere(f"no compiler with AddressSanitizer: {said}")


def _try(compiler: build.Compiler, guided: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "empty.c"
        body = "int LLVMFuzzerTestOneInput(const void *p, unsigned long n) { return p == 0 && n; }"
        source.write_text(f"#include <stdint.h>\n{body}\n" if guided else "int main(void) { return 0; }\n")
        more = ("-fsanitize=fuzzer",) if guided else ()
        compiler.run(*SANITIZERS, *more, str(source), "-o", str(source.with_suffix("")))


class Workshop:
    """The library's object files, compiled once, from which each target is linked."""

    def __init__(self, folder: Path, compiler: build.Compiler, guided: bool) -> None:
        more = ("-fsanitize=fuzzer-no-link",) if guided else ()
        extra = (*build.WARNINGS, *SANITIZERS, *more, f"-I{HERE.parent}", "-D_POSIX_C_SOURCE=200809L")
        kind = compiler.target()
        known = build.known_isas(compiler, kind, folder)
        self.folder, self.compiler, self.guided = folder, compiler, guided
        self._library = build.Library(compiler, kind, known, extra, folder)
        units = [(file, isa) for file, isas in build.UNITS.items() for isa in isas if isa in ("baseline", *known)]
        self._objects = self._compiled(units)

    def _compiled(self, units: list[tuple[str, str]]) -> list[Path]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(lambda unit: self._library.compile(*unit), units))

    def make(self, target: str) -> Program:
        own = [f"fuzz/fuzz_{target}.c", *(() if self.guided else ("fuzz/drive.c",))]
        objects = [*self._objects, *self._compiled([(file, "baseline") for file in own])]
        made = self.folder / f"fuzz_{target}"
        entry = ("-fsanitize=fuzzer",) if self.guided else ()
        self.compiler.run(*SANITIZERS, *entry, *map(str, objects), "-o", str(made))
        return Program(made, self.guided)


def write_seeds(folder: Path) -> None:
    """Inputs to begin with: random bytes, always the same, from few to many."""
    source = random.Random(SEED)  # noqa: S311 - nothing here is a secret
    for i in range(SEEDS):
        (folder / f"seed-{i:03}").write_bytes(source.randbytes(4 + 4 * i))


def run(program: Program, target: str, seconds: int, corpus: Path | None, found: Path) -> int:
    """The status of the program: 0 where nothing was found."""
    if not program.guided:
        command = [str(program.path), "--random", "1", str(seconds)]
        return subprocess.run(command, check=False, timeout=seconds + MARGIN_SECONDS).returncode
    with tempfile.TemporaryDirectory() as scratch:
        inputs = (corpus or Path(scratch)) / target
        inputs.mkdir(parents=True, exist_ok=True)
        write_seeds(inputs)
        found.mkdir(parents=True, exist_ok=True)
        own = (f"-max_total_time={seconds}", f"-artifact_prefix={found}{os.sep}")
        command = [str(program.path), *own, *LIMITS, str(inputs)]
        return subprocess.run(command, check=False, timeout=seconds + MARGIN_SECONDS).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzzes the native library under sanitizers.")
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--seconds", type=int, default=20, help="for each target (default: 20)")
    parser.add_argument("--corpus", type=Path, help="folder of inputs that is read and grows (default: none)")
    parser.add_argument("--found", type=Path, default=FOUND, help=f"folder for inputs that fail (default: {FOUND})")
    parser.add_argument("--plain", action="store_true", help="random inputs also where there is libFuzzer")
    parser.add_argument("--build", type=Path, help="folder where the programs stay (default: a temporary one)")
    given = parser.parse_args()
    targets = given.targets or TARGETS
    if unknown := set(targets) - set(TARGETS):
        parser.error(f"{', '.join(sorted(unknown))}: there are {', '.join(TARGETS)}")
    try:
        compiler, guided = find_compiler(given.plain)
    except NotHere as why:
        print(f"fuzzing is left out: {why}")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.build or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        status = 0
        try:
            workshop = Workshop(folder, compiler, guided)
            programs = {target: workshop.make(target) for target in targets}
        except build.BuildError as error:
            print(f"the fuzz targets cannot be built: {error}", file=sys.stderr)
            return 1
        for target, program in programs.items():
            print(f"{target}: {given.seconds} s, {'libFuzzer' if guided else 'random inputs'}, {compiler}", flush=True)
            status = run(program, target, given.seconds, given.corpus, given.found) or status
    return status


if __name__ == "__main__":
    sys.exit(main())
