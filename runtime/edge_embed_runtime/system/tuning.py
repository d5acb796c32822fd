"""What `edge-embed doctor --tune` found out about this machine, and where that is kept: one small file per user.

It saves a probe of the CPU and may lower the number of threads. It is believed only while the machine is the one that
was measured and the file is this user's own; whatever else lies there is passed over, as if there were none.
"""

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_embed_runtime.errors import InputError, SourceError, StorageError
from edge_embed_runtime.system.cachefolder import cache_folder, read_own, remove
from edge_embed_runtime.system.cpu import cpu_features, cpu_identity

SCHEMA = 1
FILE = "verdict.json"
# A verdict of 64 bundles has 6 KB.
MAX_BYTES = 32 * 1024
MAX_BUNDLES = 64
MAX_THREADS = 1024
FINGERPRINT = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Choice:
    """How a bundle runs best here: the form of the model (see `session.make_session`), and on how many threads; None
    means as many as there are."""

    exact: bool
    threads: int | None


@dataclass(frozen=True)
class Verdict:
    """What was measured on one machine.

    machine: the key: CPU, its features, the version of onnxruntime
    scan_ms: milliseconds that comparing with a million binary codes takes, or None where that was not measured
    bundles: by fingerprint
    """

    machine: dict[str, Any]
    scan_ms: float | None = None
    bundles: dict[str, Choice] = field(default_factory=dict)


def machine_key(onnxruntime: str) -> dict[str, Any]:
    """What a verdict holds for: another CPU, or another version of onnxruntime, has other kernels."""
    return {"cpu": cpu_identity(), "features": list(cpu_features()), "onnxruntime": onnxruntime}


def recall(fingerprint: str, onnxruntime: str) -> Choice | None:
    """What was measured for a bundle on this machine with this version of onnxruntime, or None. Never an error."""
    verdict = read_verdict()
    known = None if verdict is None else verdict.bundles.get(fingerprint)
    if verdict is None or known is None or verdict.machine != machine_key(onnxruntime):
        return None
    return known


def recall_threads(fingerprint: str) -> int | None:
    """How many threads were measured to be enough for a bundle on this machine, whatever onnxruntime there was; None
    where nothing was, or all are."""
    verdict = read_verdict()
    known = None if verdict is None else verdict.bundles.get(fingerprint)
    if verdict is None or known is None:
        return None
    here = machine_key("")
    return known.threads if all(verdict.machine.get(name) == here[name] for name in ("cpu", "features")) else None


def read_verdict() -> Verdict | None:
    """The verdict that is stored, of whatever machine; None where there is none that can be believed."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        return _parse(json.loads(read_own(folder / FILE, MAX_BYTES)))
    except (SourceError, OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _parse(content: Any) -> Verdict:
    """Raises ValueError, TypeError or KeyError where this is no verdict of this release."""
    if not isinstance(content, dict) or content["schema"] != SCHEMA or len(content["bundles"]) > MAX_BUNDLES:
        raise ValueError("another schema")
    scan_ms = content["scan_ms"]
    if scan_ms is not None and not (type(scan_ms) is float and math.isfinite(scan_ms) and scan_ms > 0):
        raise ValueError("scan_ms is no time")
    if not isinstance(content["machine"], dict):
        raise TypeError("machine is no object")
    return Verdict(
        content["machine"], scan_ms, {name: _choice(name, entry) for name, entry in content["bundles"].items()}
    )


def _choice(fingerprint: str, entry: Any) -> Choice:
    choice = Choice(**entry)
    threads = 1 if choice.threads is None else choice.threads
    if not FINGERPRINT.fullmatch(fingerprint) or type(choice.exact) is not bool or type(threads) is not int:
        raise ValueError("other types")
    if not 1 <= threads <= MAX_THREADS:
        raise ValueError("threads out of range")
    return choice


def store_verdict(verdict: Verdict) -> Path:
    """Write a verdict in place of the one that is there, whole or not at all, for this user's eyes; says where.

    Bundles that the old one knows are kept where it is of the same machine. Raises StorageError when it cannot be.
    """
    from edge_embed_runtime.system.writing import replacing

    old = read_verdict()
    known = old.bundles if old is not None and old.machine == verdict.machine else {}
    bundles = {**{name: choice for name, choice in known.items() if name not in verdict.bundles}, **verdict.bundles}
    kept = list(bundles.items())[-MAX_BUNDLES:]
    content = {
        "schema": SCHEMA,
        "machine": verdict.machine,
        "scan_ms": verdict.scan_ms,
        "bundles": {name: {"exact": choice.exact, "threads": choice.threads} for name, choice in kept},
    }
    folder = cache_folder()
    if folder is None:
        raise StorageError("the verdict cannot be stored: this user has no home folder; set XDG_CACHE_HOME")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(folder / FILE) as file:
            file.write(json.dumps(content, indent=1).encode())
    except (OSError, InputError, StorageError) as error:
        raise StorageError(
            f"{folder / FILE} cannot be written: {error}; set XDG_CACHE_HOME", path=folder / FILE
        ) from error
    return folder / FILE


def forget_verdict() -> Path | None:
    """Remove the verdict; where it was, or None where there was none. Raises StorageError when it cannot be."""
    return remove(FILE)
