"""What this machine gives a process: cores and memory."""

import math
import os
import platform
from functools import cache
from pathlib import Path

from edge_embed_runtime.system.cgroups import cpu_quota

# Instruction sets that decide which kernels there are for int8 products, as Linux names them.
FEATURES = (
    "sse4_1",
    "avx",
    "avx2",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "amx_int8",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
)
# Of /proc/cpuinfo: the first few of many processors, all of a small board's, which names itself at the end.
CPUINFO_BYTES = 16 * 1024


def default_threads() -> int:
    """Cores that this process may use: those behind the processors it may run on, cut by the quota of its
    cgroup and of those around it. Two processors of one core share what multiplies matrices."""
    processors = usable_processors()
    cores = physical_cores(processors) or len(processors)
    quota = cpu_quota()
    return max(1, min(cores, math.ceil(quota) if quota else cores))


def usable_processors() -> list[int]:
    """Numbers of the processors that this process may run on."""
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return list(range(os.cpu_count() or 1))


def physical_cores(processors: list[int]) -> int | None:
    """Cores behind processors, or None where the system does not tell."""
    siblings = set()
    for processor in processors:
        try:
            file = Path(f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list")
            siblings.add(file.read_text().strip())
        except OSError:
            return None
    return len(siblings) or None


@cache
def _cpuinfo() -> dict[str, set[str]]:
    """Names of /proc/cpuinfo in small letters and the values each has; nothing on other systems."""
    found: dict[str, set[str]] = {}
    try:
        with Path("/proc/cpuinfo").open("rb", buffering=0) as file:
            text = b""
            while len(text) < CPUINFO_BYTES and (part := file.read(CPUINFO_BYTES)):
                text += part
    except OSError:
        return found
    for line in text.decode("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name.strip().lower(), set()).add(value.strip())
    return found


def cpu_flags() -> frozenset[str]:
    """Instruction sets as Linux names them; none where the system does not tell (macOS, Windows)."""
    named = (value for name in ("flags", "features") for value in _cpuinfo().get(name, ()))
    return frozenset(flag for value in named for flag in value.split())


def cpu_features() -> tuple[str, ...]:
    """Those of FEATURES that the CPU has."""
    flags = cpu_flags()
    return tuple(feature for feature in FEATURES if feature in flags)


def cpu_model() -> str:
    """What the system calls the processor, or the kind of machine where it gives no name (most ARM Linux)."""
    found = _cpuinfo()
    # on x86 "model" is a number next to the name
    names = [value for name in ("model name", "model", "hardware") for value in sorted(found.get(name, ()))]
    return next((name for name in names if not name.isdecimal()), "") or platform.processor() or platform.machine()


@cache
def cpu_identity() -> str:
    """Tells kinds of CPU apart, without starting a process as `platform.processor` does.

    Linux: the model's name, and on ARM the numbers of its cores ("Raspberry Pi 5 0x41 0xd0b"); macOS: the kernel,
    which names the chip; Windows: family, model and stepping.
    """
    names = ("model name", "model", "hardware", "cpu family", "cpu implementer", "cpu part", "stepping")
    found = [value for name in names for value in sorted(_cpuinfo().get(name, ()))]
    if found:
        return " ".join(found)
    if hasattr(os, "uname"):
        return f"{os.uname().machine} {os.uname().version}"
    return " ".join(os.environ.get(name, "") for name in ("PROCESSOR_ARCHITECTURE", "PROCESSOR_IDENTIFIER"))
