"""What memory this process takes, and giving back what only starting needed. Bytes throughout; Linux tells most."""

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from edge_embed_runtime.checks import unusable
from edge_embed_runtime.errors import InputError

MB = 1_000_000
MADV_DONTNEED = 4
# Code that is run once, when these are imported: half of what onnxruntime has in memory then.
LIBRARIES = ("/onnxruntime/", "/numpy/", "/numpy.libs/", "/tokenizers/", "/libcrypto")
# The modules that bring them.
MODULES = ("onnxruntime", "numpy", "tokenizers", "_hashlib")
MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) \S+ \S+\s*(.*)")


Range = tuple[int, int]  # address, bytes


class Memory(NamedTuple):
    """Bytes. `rss` counts what is shared with others in full, `pss` in part, `private` not at all.

    private: of pages that no other process has; `dirty` those of them that are not just parts of files
    """

    rss: int
    pss: int
    private: int
    dirty: int


def read_memory() -> Memory | None:
    """The memory of this process now, or None where the system does not tell (macOS, Windows)."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return None
    sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    try:
        dirty = sizes["Private_Dirty"]
        return Memory(sizes["Rss"], sizes["Pss"], sizes["Private_Clean"] + dirty, dirty)
    except KeyError:
        return None


class MachineMemory(NamedTuple):
    """Bytes of the whole machine; available: what programs can get without swapping. None for what is unknown."""

    total: int | None
    available: int | None


def machine_memory() -> MachineMemory:
    """The memory of this machine: from /proc/meminfo, or where there is none the total from sysconf."""
    sizes: dict[str, int] = {}
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("MemTotal", "MemAvailable"):
                sizes[name] = int(value.split()[0]) * 1024
    total = sizes.get("MemTotal")
    if total is None and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return MachineMemory(total, sizes.get("MemAvailable"))


def rss_bytes() -> int | None:
    """The resident set of this process now, or None where the system does not tell."""
    try:
        status = Path("/proc/self/statm").read_text().split()
        return int(status[1]) * _page_bytes()
    except (OSError, ValueError, IndexError):
        return None


def _page_bytes() -> int:
    import resource

    return resource.getpagesize()


def give_back() -> None:
    """Let the system have free heap and, of the libraries in LIBRARIES, code: what runs again is mapped again.

    Costs page faults without reading afterwards. Does nothing where the system is not Linux.
    """
    trim_heap()
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError, ValueError):  # /proc may not be there
        libc = ctypes.CDLL(None)
        for start, length in _code(tuple(name for name in MODULES if name in sys.modules)):
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), MADV_DONTNEED)


@cache
def _code(_: tuple[str, ...]) -> tuple[Range, ...]:
    """Where code of the libraries lies once these modules are imported: it stays there, and finding it costs 4 ms."""
    return tuple(_clean_code())


def trim_heap() -> None:
    """Let the system have the free pages of the heap (glibc)."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # musl has no malloc_trim
            ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))


def _clean_code() -> Iterator[Range]:
    """Where code of the libraries is mapped, and what lies before it in the file: what nobody writes to.

    Not what the loader has written to and then made read-only (addresses of functions): that can't come again. By its
    rights it looks the same, so only the beginning of a file and code count; what the system says of dirty pages is
    looked at besides, for there are systems (gVisor, qemu) that make it up.
    """
    start = length = 0
    chosen = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if mapping := MAPPING.fullmatch(line):
            first, last, rights, offset, path = mapping.groups()
            start, length = int(first, 16), int(last, 16) - int(first, 16)
            fixed = rights == "r-xp" or (rights == "r--p" and int(offset, 16) == 0)
            chosen = fixed and any(library in path for library in LIBRARIES)
        elif chosen and line.startswith(("Private_Dirty:", "Anonymous:", "Swap:", "Locked:")):
            chosen = line.split()[1] == "0"
        elif chosen and line.startswith("Rss:"):
            chosen = line.split()[1] != "0"
        elif chosen and line.startswith("VmFlags:"):
            yield start, length


def peak_rss_bytes() -> int | None:
    """The largest resident set of this process so far, or None where the system does not tell."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def check_limit(max_rss_mb: object) -> int | None:
    """Bytes of a limit that was given in MB (1,000,000 bytes), or None. Raises InputError."""
    if max_rss_mb is None:
        return None
    if isinstance(max_rss_mb, bool) or not isinstance(max_rss_mb, int | float) or not 0 < max_rss_mb < 2**40:
        raise unusable("max_rss_mb", max_rss_mb, "a number of megabytes")
    if rss_bytes() is None:
        raise InputError(
            "max_rss_mb needs a system that tells how much memory a process has (Linux does)", option="max_rss_mb"
        )
    return int(max_rss_mb * MB)
