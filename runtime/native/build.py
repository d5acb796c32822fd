"""Builds the native library: `python runtime/native/build.py` puts it into the package of this checkout.

The compiler is $EDGE_EMBED_CC (a command with its arguments), else $CC, cc, gcc or clang, else `python -m ziglang cc`
where ziglang is installed. `--target aarch64-linux-gnu.2.17` cross-compiles with zig. The standard library is all it
needs: the build hook (hatch_build.py) and bench/wheels.sh run it too.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "edge_embed_runtime" / "native"
FACTS = "edge_embed_native.json"  # beside the library: what it is, to be read before it is loaded
MAX_REASON = 400  # characters
# A compiler that takes longer hangs: for a question, and for one file on the slowest device.
ASK_SECONDS, COMPILE_SECONDS = 60, 600

BASE_FLAGS = {"x86_64": ("-march=x86-64", "-mtune=generic"), "aarch64": ("-march=armv8-a",)}
ZIG_BASE_FLAGS = ("-mcpu=baseline", "-fno-sanitize=undefined")  # else zig compiles for the CPU it runs on, with traps
FLAGS = (
    "-std=c11",
    "-O3",
    "-g0",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=off",  # a * b + c is rounded twice, unless the source says fma
    "-fno-math-errno",  # sqrtf is one instruction
    "-fno-strict-aliasing",
    f"-ffile-prefix-map={HERE}=.",
)
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")

# The system's compilers, in the order in which they are tried. Not gcc on Windows: see `build`.
COMPILERS = ("clang",) if os.name == "nt" else ("cc", "gcc", "clang")

# Flags of each instruction set, by kind of CPU; the names are those of edge_isa_name() and of EDGE_HAVE_*.
AVX2 = ("-mavx2", "-mfma", "-mpopcnt")
AVX512 = (*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl")
ISA_FLAGS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {
        "ssse3": ("-mssse3",),
        "avx2": AVX2,
        "avxvnni": (*AVX2, "-mavxvnni"),
        "avx512": AVX512,
        "avx512vnni": (*AVX512, "-mavx512vnni"),
        "vpopcnt": (*AVX512, "-mavx512vpopcntdq"),
    },
    "aarch64": {
        "neon": (),
        "dotprod": ("-march=armv8.2-a+dotprod",),
        "i8mm": ("-march=armv8.2-a+dotprod+i8mm",),
    },
}
# zig takes features of ARM by -mcpu alone
ZIG_ISA_FLAGS = {"dotprod": ("-mcpu=generic+dotprod",), "i8mm": ("-mcpu=generic+dotprod+i8mm",)}

# Each file and the instruction sets it is compiled for: a set without flags for a CPU is left out there.
UNITS: dict[str, tuple[str, ...]] = {
    "dispatch.c": ("baseline",),
    "encoder.c": ("baseline",),
    "encoder_unit.c": ("baseline", "ssse3", "avx2", "avxvnni", "avx512vnni", "neon", "dotprod", "i8mm"),
    "search.c": ("baseline",),
    "search_unit.c": ("baseline", "avx2", "vpopcnt", "neon"),
}


class BuildError(Exception):
    """No library: one line that says why."""


@dataclass(frozen=True)
class Target:
    """What is compiled for: kind of CPU (x86_64, aarch64, ...) and system (linux, macos, windows)."""

    machine: str
    system: str

    @classmethod
    def of(cls, triple: str) -> "Target":
        """From what compilers call it: x86_64-linux-gnu, arm64-apple-darwin23.1.0, aarch64-windows-gnu."""
        machine = triple.split("-", maxsplit=1)[0].lower()
        machine = re.sub(r"^i[3-6]86$", "x86", re.sub(r"^(armv\d.*|thumb.*)$", "arm", machine))
        machine = {"arm64": "aarch64", "arm64e": "aarch64", "amd64": "x86_64", "powerpc64le": "ppc64le"}.get(
            machine, machine
        )
        if re.search(r"apple|darwin|macos", triple):
            return cls(machine, "macos")
        return cls(machine, "windows" if re.search(r"windows|mingw|msys|cygwin", triple) else "linux")

    @property
    def file(self) -> str:
        return "edge_embed_native" + {"macos": ".dylib", "windows": ".dll"}.get(self.system, ".so")


@dataclass(frozen=True)
class Compiler:
    """A C compiler's command; `triple` is what it is asked to compile for, "" for this machine."""

    command: tuple[str, ...]
    triple: str = ""

    @property
    def is_zig(self) -> bool:
        return "ziglang" in self.command or Path(self.command[0]).stem == "zig"

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.command, "-target", self.triple) if self.triple else self.command

    def run(self, *arguments: str, seconds: float | None = None) -> str:
        """Its standard output; BuildError with its first complaint, or after `seconds` (default: COMPILE_SECONDS)."""
        seconds = seconds or COMPILE_SECONDS
        command = [*self.all, *arguments]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", check=False, timeout=seconds,
                stdin=subprocess.DEVNULL, env=self.environment(),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise BuildError(f"{self} did not end in {seconds} s") from None
        except OSError as error:
            raise BuildError(f"{self} cannot be run: {error.strerror or error}") from None
        if done.returncode:
            said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            worst = next((line for line in said if "error" in line.lower()), said[0] if said else "it says nothing")
            raise BuildError(f"{self} failed with status {done.returncode}: {worst}")
        return done.stdout

    def make(self, made: Path, *arguments: str) -> Path:
        """Run it to make this file; BuildError if it did not, whatever it says."""
        self.run(*arguments, "-o", str(made))
        if not made.is_file() or not made.stat().st_size:
            raise BuildError(f"{self} made no file, and said that it did")
        return made

    @staticmethod
    def environment() -> dict[str, str]:
        """Without pip's import path for builds, or `python -m ziglang cc` would not find ziglang."""
        return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def target(self) -> Target:
        return Target.of(self.triple or self.run("-dumpmachine", seconds=ASK_SECONDS).strip())

    def version(self) -> str:
        return (self.run("--version", seconds=ASK_SECONDS).splitlines() or [""])[0].strip()

    def __str__(self) -> str:
        return f"the C compiler {shlex.join(self.command)}"


def find_zig() -> tuple[str, ...] | None:
    """The command of zig's C compiler: of the package ziglang, if it can be imported here or lies beside this Python's
    packages. pip builds with an import path of its own, which hides those."""
    spec = importlib.util.find_spec("ziglang")
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in (*places, str(Path(sysconfig.get_path("platlib"), "ziglang"))):
        program = Path(place, "zig.exe" if os.name == "nt" else "zig")
        if program.is_file():
            return (str(program), "cc")
    return None


def words(command: str) -> tuple[str, ...]:
    """A command and its arguments; a program's path may have spaces, on Windows also between quotes."""
    if shutil.which(command):
        return (command,)
    if os.name != "nt":
        return tuple(shlex.split(command))
    return tuple(word.strip('"') for word in shlex.split(command, posix=False))


def find_compiler(triple: str = "") -> Compiler:
    """$EDGE_EMBED_CC, $CC, the system's, or ziglang; only zig cross-compiles."""
    named = os.environ.get("EDGE_EMBED_CC", "").strip() or os.environ.get("CC", "").strip()
    if named and named != "ziglang":
        return Compiler(words(named), triple)
    if not triple and not named:
        for name in COMPILERS:
            if shutil.which(name):
                return Compiler((name,))
    zig = find_zig()
    if zig:
        return Compiler(zig, triple)
    if named:
        raise BuildError("there is no C compiler: the package ziglang is not installed here")
    raise BuildError(
        f"there is no C compiler: no {', '.join(COMPILERS)} or ziglang, and neither EDGE_EMBED_CC nor CC names one"
    )


@dataclass(frozen=True)
class Library:
    """One library in the making: compiler, target, the instruction sets that the compiler knows, further flags."""

    compiler: Compiler
    target: Target
    isas: tuple[str, ...]
    extra: tuple[str, ...]
    work: Path

    def base_flags(self) -> tuple[str, ...]:
        return ZIG_BASE_FLAGS if self.compiler.is_zig else BASE_FLAGS.get(self.target.machine, ())

    def isa_flags(self, isa: str) -> tuple[str, ...]:
        if isa == "baseline":
            return ()
        if self.compiler.is_zig and isa in ZIG_ISA_FLAGS:
            return ZIG_ISA_FLAGS[isa]
        return ISA_FLAGS[self.target.machine][isa]

    def compile(self, file: str, isa: str) -> Path:
        """One unit's object file."""
        made = self.work / f"{Path(file).stem}_{isa}.o"
        defines = [f"-DEDGE_HAVE_{known.upper()}=1" for known in self.isas]
        defines += [f"-DEDGE_ISA={isa}", f"-DEDGE_ISA_{isa.upper()}=1"]
        common = tuple(flag for flag in FLAGS if flag != "-fPIC" or self.target.system != "windows")
        flags = (*common, *self.base_flags(), *self.isa_flags(isa), *self.extra)
        return self.compiler.make(made, *flags, *defines, "-c", str(HERE / file))

    def link(self, objects: list[Path]) -> Path:
        made = self.work / self.target.file
        # nothing in the file may depend on when or where it was made
        kind = {
            "macos": ("-dynamiclib", f"-Wl,-install_name,@rpath/{self.target.file}"),
            "windows": ("-shared", "-s"),
        }.get(self.target.system, ("-shared", "-s", "-Wl,--build-id=none", "-Wl,-z,noexecstack"))
        return self.compiler.make(made, *kind, *self.extra, *map(str, objects))


def known_isas(compiler: Compiler, target: Target, work: Path) -> tuple[str, ...]:
    """The instruction sets whose flags this compiler has: an old one lacks the newest, and the library goes without."""
    empty, made = work / "empty.c", work / "empty.o"
    empty.write_text("int edge_embed_nothing;\n")
    known = []
    for isa in ISA_FLAGS.get(target.machine, ()):
        trial = Library(compiler, target, (), (), work)
        try:
            compiler.run("-Werror", *trial.base_flags(), *trial.isa_flags(isa), "-c", str(empty), "-o", str(made))
        except BuildError:
            continue
        known.append(isa)
    return tuple(known)


def abi() -> int:
    """EDGE_ABI of the header."""
    found = re.search(r"^#define EDGE_ABI (\d+)$", (HERE / "edge_embed.h").read_text(), re.MULTILINE)
    if not found:
        raise BuildError("edge_embed.h has no EDGE_ABI")
    return int(found[1])


def facts(library: Library, made: Path) -> dict[str, object]:
    """What the loader reads before it loads the file."""
    data = made.read_bytes()
    return {
        "abi": abi(),
        "machine": library.target.machine,
        "system": library.target.system,
        "file": library.target.file,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "instruction_sets": list(library.isas),
        "compiler": library.compiler.version(),
    }


def build(folder: Path, compiler: Compiler, extra: tuple[str, ...] = ()) -> Path:
    """The library and its facts, in `folder`. BuildError leaves what was there."""
    folder.mkdir(parents=True, exist_ok=True)
    target = compiler.target()
    if target.system == "windows" and "clang" not in compiler.version():
        raise BuildError(f"{compiler} is no clang: on Windows gcc does not align AVX's registers (its bug 54412)")
    with tempfile.TemporaryDirectory(prefix="edge_embed_native", dir=folder) as name:
        work = Path(name)
        library = Library(compiler, target, known_isas(compiler, target, work), extra, work)
        units = [(file, isa) for file, isas in UNITS.items() for isa in isas if isa in ("baseline", *library.isas)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(lambda unit: library.compile(*unit), units))
        made = library.link(objects)
        beside = work / FACTS
        beside.write_text(json.dumps(facts(library, made), indent=1) + "\n")
        # the facts last: a loader that meets the new library with the old facts refuses it
        made.replace(folder / made.name)
        beside.replace(folder / FACTS)
    return folder / target.file


def check_here(made: Path) -> None:
    """Raises BuildError if this machine's Python cannot load the library, as when the compiler is for another kind."""
    program = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).edge_abi())"
    command = [sys.executable, "-c", program, str(made)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ASK_SECONDS)
    except subprocess.TimeoutExpired:
        raise BuildError(f"what the C compiler made was not loaded here in {ASK_SECONDS} s") from None
    if done.stdout.strip() != str(abi()):
        said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise BuildError(f"what the C compiler made cannot be loaded here: {said}")


def build_or_say_why(folder: Path, triple: str = "") -> Path | None:
    """For the build hook: the library in `folder`; or None, and the reason in its place, for the loader to tell.

    EDGE_EMBED_NATIVE=0 builds nothing; =1 raises the BuildError. In a folder that cannot be written to, such as that of
    an editable install of somebody else's checkout, all stays as it is.
    """
    wanted = os.environ.get("EDGE_EMBED_NATIVE", "")
    reason = "the package was built with EDGE_EMBED_NATIVE=0"
    if wanted != "0":
        try:
            made = build(folder, find_compiler(triple))
            if not triple:
                check_here(made)
            return made
        except (BuildError, OSError) as error:
            if wanted == "1":
                raise BuildError(str(error)) from error
            reason = str(error)
    with contextlib.suppress(OSError):
        for path in folder.glob("edge_embed_native.*"):
            path.unlink()
        (folder / FACTS).write_text(json.dumps({"reason": reason[:MAX_REASON]}) + "\n")
    return None


def wheel_platform(triple: str) -> str:
    """aarch64-linux-gnu.2.17 -> manylinux_2_17_aarch64, x86_64-macos.13.0 -> macosx_13_0_x86_64."""
    target = Target.of(triple)
    if target.system == "windows":
        return {"x86_64": "win_amd64", "aarch64": "win_arm64", "x86": "win32"}[target.machine]
    version = re.search(r"\.(\d+)\.(\d+)", triple)
    if target.system == "macos" and version:
        return f"macosx_{version[1]}_{version[2]}_{target.machine.replace('aarch64', 'arm64')}"
    if "musl" in triple:
        return f"musllinux_1_2_{target.machine}"
    if version:
        return f"manylinux_{version[1]}_{version[2]}_{target.machine}"
    raise BuildError(f"the target {triple} must name the oldest version it is for, as aarch64-linux-gnu.2.17")


def main() -> int:
    parser = argparse.ArgumentParser(description="Builds edge_embed's native library.")
    parser.add_argument("--output", type=Path, default=PACKAGE, help="folder for it (default: the package's)")
    parser.add_argument("--target", default="", help="what to compile for, in zig's words: aarch64-linux-musl")
    parser.add_argument("--strict", action="store_true", help="warnings are errors")
    parser.add_argument("--flags", default="", help='more flags for each file: "-fsanitize=address,undefined -g"')
    given = parser.parse_args()
    extra = (*(WARNINGS if given.strict else ()), *shlex.split(given.flags))
    try:
        made = build(given.output, find_compiler(given.target), extra)
    except (BuildError, OSError) as error:
        print(f"no native library: {error}", file=sys.stderr)
        return 1
    print(f"{made}: {made.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
