"""What memory this process takes, and giving back what only starting needed. Bytes throughout; Linux tells most."""

import ctypes
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MB = 1_000_000
MADV_DONTNEED = 4
# Code that is run once, when these are imported: half of what onnxruntime has in memory then.
LIBRARIES = ("/onnxruntime/", "/numpy/", "/numpy.libs/", "/tokenizers/", "/libcrypto")
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


def give_back(code: Sequence[Range] | None = None) -> Sequence[Range]:
    """Let the system have free heap and, of the libraries in LIBRARIES, code: what runs again is mapped again.

    code: where it lies, as an earlier call found it and returned it. To find it costs 4 ms; a library that Python has
          imported stays where it is

    Costs page faults without reading afterwards. Does nothing where the system is not Linux.
    """
    trim_heap()
    if sys.platform != "linux":
        return ()
    with suppress(OSError, AttributeError, ValueError):  # /proc may not be there
        code = list(_clean_code()) if code is None else code
        libc = ctypes.CDLL(None)
        for start, length in code:
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), MADV_DONTNEED)
    return code or ()


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
