"""What a machine is and what it leaves to this process, read from the system; imports nothing native."""

import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from edge_embed_runtime.system.cgroups import cpu_quota, memory_limit
from edge_embed_runtime.system.cpu import cpu_features, cpu_model, default_threads, physical_cores, usable_processors
from edge_embed_runtime.system.tuning import cache_folder


def describe_hardware() -> dict[str, Any]:
    """CPU, cores, memory, disk, pages, system; None for what the system does not tell. Sizes in bytes."""
    libc = " ".join(platform.libc_ver()).strip()
    return {
        "cpu": cpu_model(),
        "architecture": platform.machine(),
        "features": list(cpu_features()),
        "cores": cores(),
        "memory": memory(),
        "disk": disks(),
        "page_size": os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None,
        "system": f"{platform.system()} {platform.release()}",
        "libc": libc or None,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def cores() -> dict[str, int | float | None]:
    """usable: what `threads=None` takes; affinity: processors this process may run on; quota: of a cgroup, in cores;
    physical: cores behind those processors."""
    allowed = usable_processors()
    return {
        "usable": default_threads(),
        "affinity": len(allowed),
        "quota": cpu_quota(),
        "physical": physical_cores(allowed),
    }


def memory() -> dict[str, int | None]:
    """total and available of the machine; limit: the tightest cgroup this process is in."""
    found: dict[str, int | None] = {"total": None, "available": None, "limit": memory_limit()}
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, _, value = line.partition(":")
            key = {"MemTotal": "total", "MemAvailable": "available"}.get(name)
            if key:
                found[key] = int(value.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    if found["total"] is None and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        found["total"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return found


def disks() -> list[dict[str, Any]]:
    """Free bytes where an index would lie (here), where temporary files go, and where `--tune` writes."""
    places: dict[str, Path | None] = {
        "index": Path.cwd(),
        "temporary": Path(tempfile.gettempdir()),
        "cache": cache_folder(),
    }
    found = []
    for name, place in places.items():
        if place is None:
            continue
        there = next((folder for folder in (place, *place.parents) if folder.is_dir()), place)
        try:
            free = shutil.disk_usage(there).free
        except OSError:
            continue
        writable = os.access(there, os.W_OK) and not (sys.platform != "win32" and _read_only(there))
        found.append({"for": name, "path": str(place), "free": free, "writable": writable})
    return found


def _read_only(folder: Path) -> bool:
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
