"""What this machine is, and what of it this process may use, as the system tells; imports nothing native."""

import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from edge_embed_runtime.system.cachefolder import cache_folder
from edge_embed_runtime.system.cgroups import cpu_quota, memory_limit
from edge_embed_runtime.system.cpu import cpu_features, cpu_model, default_threads, physical_cores, usable_processors
from edge_embed_runtime.system.memory import machine_memory


def describe_hardware() -> dict[str, Any]:
    """CPU, cores, memory, disk, pages, system; None for what is unknown. Sizes in bytes."""
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
    """usable: what `threads=None` uses; affinity: processors that this process may run on; quota: of a cgroup, in
    cores; physical: cores that have these processors."""
    allowed = usable_processors()
    return {
        "usable": default_threads(),
        "affinity": len(allowed),
        "quota": cpu_quota(),
        "physical": physical_cores(allowed),
    }


def memory() -> dict[str, int | None]:
    """total and available of the machine; limit: of the tightest cgroup that this process is in."""
    return {**machine_memory()._asdict(), "limit": memory_limit()}


def disks() -> list[dict[str, Any]]:
    """Free bytes of the folder of an index (here), of temporary files, and of what `--tune` writes."""
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
