"""What figures depend on: the CPU, the system, the versions of packages."""

import os
import platform
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from edge_embed_runtime.system.cpu import FEATURES, cpu_flags, cpu_model, default_threads

# Instruction sets that decide how fast int8 and bfloat16 are.
FLAGS = (*FEATURES, "avx512_bf16", "amx_bf16", "bf16")


def installed_version(package: str) -> str | None:
    """The version of a distribution, without importing it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def describe_machine() -> dict[str, Any]:
    """CPU model, the instruction sets that matter, cores, system, load."""
    flags = cpu_flags()
    return {
        "cpu": cpu_model(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "cores": default_threads(),
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Python, ours, and these packages; None for one that is not installed."""
    names = dict.fromkeys(["edge-embed", "numpy", "onnxruntime", "tokenizers", *packages])
    return {"python": sys.version.split()[0], **{name: installed_version(name) for name in names}}


def when_and_where(benchmark: str, packages: Iterable[str] = ()) -> dict[str, Any]:
    """How every result begins: which benchmark, date, machine, versions."""
    return {
        "benchmark": benchmark,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "versions": versions(packages),
    }
