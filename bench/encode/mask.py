"""A process that believes its CPU has AVX2 and nothing newer: how peers run on the CPUs that most people have.

Each library chooses its kernels by the instruction cpuid. `mask.c`, which the system's C compiler makes when it is
wanted, takes the place of these instructions in each library that such a process loads; here they are found, by
disassembly (objdump). Linux on x86-64 alone. What a mask cannot do: caches, clock and the width of the core's units
stay those of this CPU.
"""

import mmap
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

from edge_embed_runtime.errors import InputError
from edge_embed_runtime.system.cpu import cpu_flags

CPUID = b"\x0f\xa2"
# A disassembly that begins anywhere is in step with the code after a few instructions: one is begun at each of STARTS
# places far enough before the two bytes, and most must find a cpuid there, not a part of something else.
REACH, STARTS = 80, 48
# Behind each window, so that no instruction of it runs into the next (15 bytes at most).
PADDING = b"\x90" * 16
WINDOW = REACH + len(CPUID)
NATIVE, AVX2 = "native", "avx2"
FLAG = "EDGE_BENCH_MASKED"
NEWER = re.compile("avx512|avx_vnni|amx|gfni")


def masked() -> bool:
    """Whether this process runs under a mask."""
    return os.environ.get(FLAG) == AVX2


def visible_flags() -> frozenset[str]:
    """Instruction sets that libraries in this process see: the CPU's, less those that a mask hides."""
    return frozenset(flag for flag in cpu_flags() if not (masked() and NEWER.search(flag)))


@contextmanager
def applied(cpu: str, work: Path) -> Iterator[None]:
    """Processes that are started inside have this CPU ("native"), or what a mask leaves of it ("avx2").

    Raises InputError where that cannot be done.
    """
    variables = {} if cpu == NATIVE else _variables(work / "mask")
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _variables(folder: Path) -> dict[str, str]:
    """Compile the helper, find the instructions; what to set for a process that is to be masked."""
    folder.mkdir(parents=True, exist_ok=True)
    helper, table = folder / "mask.so", folder / "mask.table"
    _compile(helper)
    rows = [f"{file.stat().st_dev} {file.stat().st_ino} {at}" for file in _libraries() for at in cpuid_places(file)]
    table.write_text("\n".join(rows) + "\n", "utf-8")
    return {
        FLAG: AVX2,
        "LD_AUDIT": str(helper),
        "EDGE_BENCH_MASK": str(table),
        # the C library has asked before an auditor can hide something
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-AVX512CD",
        # what was measured on the whole CPU is not believed, and what is found out now is not kept
        "XDG_CACHE_HOME": str(folder / "cache"),
    }


def _compile(target: Path) -> None:
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise InputError("--cpu avx2 masks x86-64 CPUs, under Linux")
    if "avx2" not in cpu_flags():
        raise InputError("--cpu avx2: this CPU has no AVX2")
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or shutil.which("objdump") is None:
        raise InputError("--cpu avx2 needs a C compiler and objdump: apt-get install gcc")
    source = Path(__file__).with_name("mask.c")
    command = [compiler, "-std=gnu11", "-O2", "-fPIC", "-shared", str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"--cpu avx2: {compiler} cannot compile mask.c: {done.stderr.strip()[-300:]}")


def _libraries() -> Iterator[Path]:
    """Each library that a process of this Python may load from its packages."""
    seen = set()
    for place in sys.path:
        for file in sorted(Path(place or ".").rglob("*.so*")) if Path(place or ".").is_dir() else ():
            if file.is_file() and (real := file.resolve()) not in seen:
                seen.add(real)
                yield real


def cpuid_places(library: Path) -> list[int]:
    """Offsets of the cpuid instructions in an ELF file; [] for a file of another kind."""
    with library.open("rb") as file:
        if file.read(5) != b"\x7fELF\x02":
            return []
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as code:
            found = [at for first, last in _executable(code) for at in _pairs(code, first, last)]
            windows = [bytes(code[max(0, at - REACH) : at + len(CPUID)]).rjust(WINDOW, b"\x90") for at in found]
    return [at for at, real in zip(found, _are_instructions(windows), strict=True) if real]


def _executable(code: mmap.mmap) -> Iterator[tuple[int, int]]:
    """First and last offset of each section with instructions (man 5 elf: Elf64_Ehdr, Elf64_Shdr)."""
    (headers,) = struct.unpack_from("<Q", code, 40)
    size, count = struct.unpack_from("<HH", code, 58)
    for i in range(count):
        _, kind, flags, _, offset, length = struct.unpack_from("<IIQQQQ", code, headers + i * size)
        if kind == 1 and flags & 4:  # SHT_PROGBITS, SHF_EXECINSTR
            yield offset, offset + length


def _pairs(code: mmap.mmap, first: int, last: int) -> Iterator[int]:
    at = code.find(CPUID, first, last)
    while at >= 0:
        yield at
        at = code.find(CPUID, at + 1, last)


def _are_instructions(windows: list[bytes]) -> Iterator[bool]:
    """Whether each window ends with the instruction cpuid: what most disassemblies of it say."""
    if not windows:
        return
    pieces = [window[start:] + PADDING for window in windows for start in range(STARTS)]
    ends = [end - len(PADDING) - len(CPUID) for end in accumulate(map(len, pieces))]
    found = _disassembled(b"".join(pieces))
    for i in range(0, len(ends), STARTS):
        yield sum(end in found for end in ends[i : i + STARTS]) > STARTS / 2


def _disassembled(code: bytes) -> set[int]:
    """Offsets at which objdump reads a cpuid."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(code)
        file.flush()
        command = ["objdump", "-D", "-b", "binary", "-m", "i386:x86-64", "--no-show-raw-insn", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {int(at, 16) for at in re.findall(r"^\s*([0-9a-f]+):\s+cpuid\b", text, re.MULTILINE)}
