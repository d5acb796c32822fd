"""`python tests/whole/devices`: texts and an index on other CPUs, emulated; exit status 1 where a promise is broken.

The short run, part of the checks, is a Raspberry Pi 4 and a Haswell; `--full` is every CPU and Python, the demo,
and instructions per query. Where the bundle's engine is the native one, the vectors of many texts must have one sha256
on all CPUs, and on all instruction sets of this machine. AVX512 is not emulated: newer x86 CPUs run as AVX2 ones there.
The bed (bed.py) is built where it is not there yet: that takes apt and a mirror of Debian; where it cannot be built,
the run is skipped with a line that says why. On a real device, `--cpu host --save FILE` keeps its vectors, and
`--against FILE` compares others with them.
"""

# ruff: noqa: T201 - a script prints
import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2]), str(HERE.parents[2] / "runtime")]

import counting  # noqa: E402 - beside this file, wherever it is started
import float32  # noqa: E402
import numpy as np  # noqa: E402
import probe  # noqa: E402
from bed import PYTHON, SUITES, Bed, MissingError, run  # noqa: E402
from library import packages  # noqa: E402
from table import Row, as_json, compare_bits, cosines, markdown, plain  # noqa: E402

SECONDS = 1800  # for one step of one device; the longest, 2,000 texts on Nehalem, takes about ten minutes
PYTHONS = ("3.11", "3.12", "3.13")
SKIPPED = 77  # exit status of a run that could not begin
# Texts whose vectors must have the same bits everywhere: of the short run, and of the full one.
FEW_TEXTS, MANY_TEXTS = 100, 2000


class Device(NamedTuple):
    cpu: str
    architecture: str
    found_in: str
    short: bool = False


DEVICES = (
    Device("host", platform.machine(), "this machine", short=True),
    Device("cortex-a53", "aarch64", "Raspberry Pi 3, Zero 2"),
    Device("cortex-a72", "aarch64", "Raspberry Pi 4", short=True),
    Device("cortex-a76", "aarch64", "Raspberry Pi 5"),
    Device("neoverse-n1", "aarch64", "Graviton2, Ampere Altra"),
    Device("neoverse-n2", "aarch64", "Graviton4's kind: i8mm"),
    Device("max", "aarch64", "Armv9: SVE2, SME, i8mm"),
    Device("Nehalem", "x86_64", "Core i7 of 2008: SSE4.2"),
    Device("SandyBridge", "x86_64", "Core of 2011: AVX without FMA"),
    Device("Haswell", "x86_64", "Core of 2013: AVX2", short=True),
    Device("Skylake-Server", "x86_64", "Xeon of 2017, without its AVX512"),
    Device("Denverton", "x86_64", "Atom C3000: SSE4.2"),
    Device("Snowridge", "x86_64", "Atom P5900: SSE4.2"),
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/whole/devices", description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="every CPU, text and check; about an hour and a half")
    parser.add_argument(
        "--cpu",
        action="append",
        choices=[device.cpu for device in DEVICES],
        help="only this and the host; again for more",
    )
    parser.add_argument("--bed", type=Path, help="where the bed is or is built [default: ~/.cache/edge_embed/devices]")
    parser.add_argument("--bundle", type=Path, help="what is run [default: the package's bundle]")
    parser.add_argument(
        "--texts", type=int, help=f"how many must have the same bits [default: {FEW_TEXTS}, with --full {MANY_TEXTS}]"
    )
    parser.add_argument("--no-count", action="store_true", help="with --full: do not count instructions")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the host's vectors (.npy)")
    parser.add_argument("--against", type=Path, metavar="FILE", help="compare with these vectors, not with the host's")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="rows as JSON")
    form.add_argument("--markdown", action="store_true", help="rows as the table of TABLE.md")
    return parser.parse_args()


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


class Run:
    """One device with one Python: its steps, and the row that they fill."""

    def __init__(self, bed: Bed, device: Device, python: str, bundle: Path | None) -> None:
        self._bed, self._device = bed, device
        self._chosen: list[object] = ["--bundle", bundle.resolve()] if bundle else []
        self.row = Row(device.cpu, device.found_in, python, device.architecture)
        self._command = bed.command(device.cpu, device.architecture, python)
        name = f"{device.cpu}-{python}"
        self._script = None if device.cpu == "host" else bed.script(name, self._command)
        library = None
        try:
            library = packages(bed, device.architecture)
        except MissingError as error:
            self.row.notes.append(f"without the native library: {error}")
        # an emulated CPU has the host's name: what the host remembers of its checks must not count for it
        self._cache = tempfile.TemporaryDirectory()
        self._environment = {**bed.environment(self._script, library), "XDG_CACHE_HOME": self._cache.name}

    def _call(self, step: str, *words: object, isa: str = "") -> str | None:
        """The output of a program of this device; None where it failed, which the row then says.

        isa: the highest instruction set that the native library may use
        """
        command = [*self._command, *map(str, words)]
        environment = {**self._environment, **({"EDGE_EMBED_ISA": isa} if isa else {})}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, check=False, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            self.row.broken.append(f"{step} was not done after {SECONDS} s")
            return None
        if done.returncode == 0:
            return done.stdout
        last = [line for line in done.stderr.splitlines() if line.strip() and "TCG doesn't support" not in line][-1:]
        how = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit status {done.returncode}"
        self.row.broken.append(f"{step}: {how}: {''.join(last)[:300]}")
        return None

    def _probe(self, step: str, *words: object, isa: str = "") -> dict[str, Any]:
        chosen = [] if step == "natives" else self._chosen
        output = self._call(step, HERE / "probe.py", step, *words, *chosen, isa=isa)
        return json.loads(output) if output else {}

    def natives(self) -> None:
        self.row.natives = self._probe("natives").get("natives", {})

    def vectors(self, out: Path, short: bool) -> np.ndarray | None:
        """Vectors [texts, dim]."""
        found = self._probe("vectors", out, *(["--short"] if short else []))
        if not found:
            return None
        for name in ("processor", "bundle", "form", "golden", "one_vector", "texts"):
            setattr(self.row, name, found[name])
        return np.asarray(np.load(out))

    def bits(self, count: int) -> None:
        """The vectors of many texts: on this machine by all its instruction sets, in changing batches."""
        turned = self._device.cpu == "host"
        found = self._probe("bits", count, *(["--turned"] if turned else []))
        while found.get("engine") == "native" and found["isa"] not in self.row.bits:
            self.row.bits[found["isa"]] = found["texts"], found["sha256"]
            lower = LOWER.get(found["isa"])
            if self._device.cpu != "host" or lower is None:
                break
            turned = not turned
            found = self._probe("bits", count, *(["--turned"] if turned else []), isa=lower)

    def index(self) -> None:
        self.row.index = self._probe("index").get("index")

    def demo(self) -> None:
        output = self._call("demo", "-m", "edge_embed", "demo", "--json", "--threads", 1)
        found = json.loads(output)["results"] if output else []
        self.row.demo = len(found) == 4 and all(len(result["hits"]) == 3 for result in found)

    def children(self) -> None:
        """A child that Python starts as itself is on the same CPU: what `doctor` and the service rely on."""
        shown = "import platform; print(platform.machine())"
        code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{shown}'], check=True)"
        output = self._call("a child process", "-c", code)
        if output is not None and output.split() != [self._device.architecture]:
            self.row.broken.append(f"a child process runs on {output.split()}")

    def count(self) -> None:
        """Instructions of a query: by the counting emulator, on the host by its own counters."""
        device, python = self._device, self.row.python
        try:
            if device.cpu == "host":
                command, count = self._command, counting.native
            else:
                qemu = counting.emulator(self._bed, device.architecture)
                command = self._bed.command(device.cpu, device.architecture, python, qemu)
                count = counting.emulated
            words = [*command, str(HERE / "probe.py"), "queries", *map(str, self._chosen)]
            self.row.instructions = counting.per_query(lambda n: count([*words, str(n)], self._environment))
            if self.row.form == "native":
                words += ["--engine", "onnxruntime"]
                found = counting.per_query(lambda n: count([*words, str(n)], self._environment))
                self.row.instructions_onnxruntime = found
        except MissingError as error:
            self.row.notes.append(f"instructions are not counted: {error}")


# The next lower instruction set of the native encoder.
LOWER = {
    "avx512vnni": "avxvnni",
    "avxvnni": "avx2",
    "avx512": "avx2",
    "avx2": "ssse3",
    "ssse3": "baseline",
    "i8mm": "dotprod",
    "dotprod": "neon",
    "neon": "baseline",
}


def plan(options: argparse.Namespace) -> Iterator[tuple[Device, str]]:
    """Devices and Pythons, the host first: others are compared with its vectors."""
    chosen = options.cpu or [device.cpu for device in DEVICES if options.full or device.short]
    for device in DEVICES:
        if device.cpu not in chosen and device.cpu != "host":
            continue
        emulated_arm = device.cpu != "host" and device.architecture == "aarch64"
        yield device, "3.11" if emulated_arm else PYTHON
        if options.full and device.cpu == "host":
            yield from ((device, python) for python in PYTHONS if python != PYTHON)
        if options.full and device.cpu == "cortex-a72":
            yield from ((device, python) for python in SUITES if python != "3.11")


def work(bed: Bed, options: argparse.Namespace) -> list[Row]:
    rows = []
    reference = float32.read()[slice(None) if options.full else probe.SHORT]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        expected = np.asarray(np.load(options.against)) if options.against else None
        for device, python in plan(options):
            try:
                one = Run(bed, device, python, options.bundle)
            except MissingError as error:
                if python not in {PYTHON, "3.11"}:  # another Python that is not here
                    say(f"skipped {device.cpu}, Python {python}: {error}")
                    continue
                raise
            vectors = one.vectors(folder / "device.npy", not options.full)
            if expected is None:
                expected = vectors
            if vectors is not None and expected is not None:
                one.row.to_host, one.row.to_float32 = cosines(vectors, expected), cosines(vectors, reference)
            if vectors is not None and options.save and (device.cpu, python) == ("host", PYTHON):
                np.save(options.save, vectors)
            one.bits(options.texts or (MANY_TEXTS if options.full else FEW_TEXTS))
            one.index()
            if options.full:
                one.natives()
                one.demo()
                one.children()
            if options.full and not options.no_count:
                one.count()
            rows.append(one.row)
            compare_bits([rows[0], one.row] if len(rows) > 1 else rows)
            say(f"{device.cpu}, Python {python}: {'; '.join(one.row.judge()) or 'ok'}")
    return rows


def versions(bed: Bed) -> str:
    """What the table was made with."""
    emulators = [path for path in sorted((bed.folder / "qemu").glob("qemu-aarch64")) if path.is_file()]
    packages = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "numpy", "tokenizers", "usearch"))
    return ", ".join([packages, *(run([path, "--version"]).splitlines()[0] for path in emulators)])


def report(rows: list[Row], bed: Bed, options: argparse.Namespace) -> None:
    if options.json:
        print(as_json(rows))
        return
    if options.markdown:
        command = f"python tests/whole/devices {'--full ' if options.full else ''}--markdown"
        host = next((row.processor for row in rows if row.cpu == "host"), None) or platform.machine()
        bundles = ", ".join(sorted({row.bundle for row in rows if row.bundle}))
        texts = max((row.texts for row in rows), default=0)
        print(f"Made by `{command}` on {host}; {versions(bed)}; bundle {bundles}; {texts} texts.\n")
        print(markdown(rows))
    else:
        print(plain(rows))
    for row in rows:
        for note in row.notes:
            print(f"\n{row.cpu}: {note}")


@contextmanager
def locked(bed: Bed) -> Iterator[None]:
    """One run at a time in a bed: two would build the same parts."""
    import fcntl

    bed.folder.mkdir(parents=True, exist_ok=True)
    with (bed.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    options = arguments()
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    bed = Bed((options.bed or cache / "edge_embed" / "devices").resolve(), say)
    try:
        with locked(bed):
            rows = work(bed, options)
    except MissingError as error:
        print(f"skipped: {error}", file=sys.stderr)
        return SKIPPED
    report(rows, bed, options)
    wrong = [f"{row.cpu}, Python {row.python}: {fault}" for row in rows for fault in row.judge()]
    for line in wrong:
        print(line, file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
