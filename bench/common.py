"""What both comparisons need: our name, packages that are missing, the environment of a child."""

from collections.abc import Iterable

from edge_embed.measuring import versions
from edge_embed.measuring.children import one_line
from edge_embed_runtime.system.memory import read_memory

OURS = "edge_embed"
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
)
FIXED_VARIABLES = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "KMP_BLOCKTIME": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "CI": "true",  # OpenVINO and NNCF report their use over the network, but not from CI
}


def child_variables(threads: int) -> dict[str, str]:
    """Environment variables that libraries read when they are imported: a child may use `threads` cores."""
    return {**dict.fromkeys(THREAD_VARIABLES, str(threads)), **FIXED_VARIABLES}


def describe(error: BaseException) -> str:
    """ValueError("no") -> "ValueError: no", in one line."""
    return one_line(f"{type(error).__name__}: {error}")


def private_bytes() -> int | None:
    """Memory that this process shares with no other (Linux), or None."""
    found = read_memory()
    return None if found is None else found.private


def not_installed(packages: Iterable[str], extra: str) -> str | None:
    """Which of these distributions are missing and what to install, in one line, or None."""
    missing = [package for package in packages if versions.installed_version(package) is None]
    return f"not installed: {', '.join(missing)} (pip install 'edge-embed[{extra}]')" if missing else None
