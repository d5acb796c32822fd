"""`bench/wheels.sh`: makes wheels, checks what is in them, prints a table; exit status 1 where something is wrong."""

import argparse
import importlib.util
import re
import shlex
import shutil
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from bench.wheels.nativefile import NativeFile, read_native
from bench.wheels.tries import Bed, MissingError, Tries, wheel

# What zig calls a target, and how its wheels are named: the oldest system that they are for.
TARGETS = {
    "x86_64-linux-gnu.2.17": "manylinux_2_17_x86_64",
    "aarch64-linux-gnu.2.17": "manylinux_2_17_aarch64",
    "x86_64-linux-musl": "musllinux_1_2_x86_64",
    "aarch64-linux-musl": "musllinux_1_2_aarch64",
    "x86_64-macos.13.0": "macosx_13_0_x86_64",
    "aarch64-macos.13.0": "macosx_13_0_arm64",
    "x86_64-windows-gnu": "win_amd64",
    "aarch64-windows-gnu": "win_arm64",
}
# The libraries that every such system has.
EVERYWHERE = {
    "linux": {"libc.so.6", "libc.so"},
    "macos": {"/usr/lib/libSystem.B.dylib"},
    "windows": {"kernel32.dll"},
}
# Symbols that the file may ask the C library for: copying memory, and asking for the CPU. Windows' start-up code asks
# for more, from the libraries above.
FROM_C = {"memcpy", "memset", "memmove", "memcmp", "__memset_chk", "__memcpy_chk", "__memmove_chk", "getauxval"}
FROM_C |= {"bzero", "__bzero", "sysctlbyname", "dyld_stub_binder"}
# Weak ones that linkers add, which may be missing.
WEAK = {"__cxa_finalize", "__gmon_start__", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable"}
# What macOS's linkers add to each library.
HEADERS = {"__dso_handle", "_mh_dylib_header"}
FOLDER = "edge_embed_runtime/native"


@dataclass
class Row:
    """One wheel: what it is, what was seen, what is wrong with it."""

    tag: str
    megabytes: float = 0
    kilobytes: float = 0
    needs: str = ""
    tried: str = "looked at: no such system here"
    wrong: str = ""

    def cells(self) -> tuple[str, ...]:
        sizes = f"{self.megabytes:.1f}", f"{self.kilobytes:.0f}"
        return self.tag, *sizes, self.needs, f"WRONG: {self.wrong}" if self.wrong else self.tried


def complaints(seen: NativeFile, target: str) -> list[str]:
    """What is wrong with a library, by its own words."""
    machine, system = re.split(r"[-.]", target)[:2]
    found = []
    if (seen.machine, seen.system) != (machine, system):
        found.append(f"it is for {seen.machine} on {seen.system}")
    others = {name for name in seen.needs - EVERYWHERE[system] if not name.startswith("api-ms-win-crt-")}
    if others:
        found.append(f"it needs {', '.join(sorted(others))}")
    unknown = seen.undefined - FROM_C - WEAK
    if unknown and system != "windows":
        found.append(f"it asks the C library for {', '.join(sorted(unknown))}")
    if seen.oldest.startswith("glibc") and tuple(map(int, seen.oldest.split()[1].split("."))) > (2, 17):
        found.append(f"it needs {seen.oldest}")
    if not seen.exports >= {"edge_abi", "edge_isa", "edge_isa_name"}:
        found.append("it lacks edge_abi, edge_isa or edge_isa_name")
    if seen.system == "macos" and seen.machine == "aarch64" and not seen.signed:
        found.append("it is not signed, which macOS on ARM refuses")
    others = {name for name in seen.exports if not name.startswith("edge_")} - HEADERS
    return [*found, f"it exports {', '.join(sorted(others))}"] if others else found


def compiler_command(given: str | None) -> str:
    """zig, as EDGE_EMBED_CC takes it."""
    if given:
        return given
    if importlib.util.find_spec("ziglang") is None:
        raise MissingError("cross-compiling takes zig: pip install ziglang, or --cc 'COMMAND cc'")
    return shlex.join([sys.executable, "-m", "ziglang", "cc"])


def one(target: str, folder: Path, tries: Tries, row: Row) -> None:
    """Make a wheel, look at its library, try it."""
    made = wheel(tries.folder / f"{row.tag}.wheel", target, shlex.join(tries.compiler))
    made = Path(shutil.move(made, folder / made.name))
    row.megabytes = made.stat().st_size / 1e6
    if not made.name.endswith(f"-py3-none-{row.tag}.whl"):
        raise MissingError(f"its name is {made.name}")
    site = tries.folder / row.tag
    with zipfile.ZipFile(made) as archive:
        archive.extractall(site)
    (library,) = (path for path in (site / FOLDER).glob("edge_embed_native.*") if path.suffix != ".json")
    row.kilobytes = library.stat().st_size / 1e3
    seen = read_native(library)
    row.needs = ", ".join(filter(None, [seen.oldest, *sorted(Path(name).name for name in seen.needs)])) or "nothing"
    row.wrong = "; ".join(complaints(seen, target))
    row.tried = tries.run(row.tag, site, library) or row.tried


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/wheels.sh", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("dist"), help="for the wheels [default: dist]")
    parser.add_argument("--bed", type=Path, help="the emulation bed of tests/whole/devices")
    parser.add_argument("--cc", help="zig's C compiler, a command [default: that of the package ziglang]")
    parser.add_argument("--only", choices=list(TARGETS.values()), action="append", help="only these wheels")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    bed = Bed((given.bed or Path.home() / ".cache/edge_embed/devices").resolve())
    try:
        command = compiler_command(given.cc)
    except MissingError as error:
        parser.error(str(error))
    rows = []
    with tempfile.TemporaryDirectory(prefix="edge_embed_wheels") as work:
        tries = Tries(Path(work).resolve(), bed, tuple(shlex.split(command)))
        for target, tag in TARGETS.items():
            if given.only and tag not in given.only:
                continue
            rows.append(Row(tag))
            try:
                one(target, given.folder.resolve(), tries, rows[-1])
            except MissingError as error:
                rows[-1].wrong = rows[-1].wrong or str(error)
            print(f"{tag} {rows[-1].wrong or 'made'}", file=sys.stderr)
    print("| wheel | MB | library kB | needs | tried |", "|---|---|---|---|---|", sep="\n")
    for row in rows:
        print(f"| {' | '.join(row.cells())} |")
    return 1 if any(row.wrong for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
