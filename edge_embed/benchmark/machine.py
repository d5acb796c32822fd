"""What figures depend on: the CPU, the system, the versions of packages."""

import os
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from edge_embed_runtime.system.cpu import cpu_flags, cpu_model, default_threads

# Instruction sets that decide how fast int8 is.
FLAGS = (
    "avx2",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
    "sve",
    "bf16",
)


def installed_version(package: str) -> str | None:
    """The version of a distribution, without importing it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def quantization_target() -> str:
    """Which of optimum's quantization configurations fits this CPU."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "arm64"
    return "avx512_vnni" if "avx512_vnni" in cpu_flags() else "avx2"


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
