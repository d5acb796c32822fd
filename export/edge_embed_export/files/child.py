"""Programs of ours that run in a process of their own, so that torch is never in the exporter's memory."""

import os
import subprocess
import sys
from pathlib import Path

# Seconds after which a program is given up.
TIMEOUT = 3600
# Without a network, without a GPU, and leaving no files behind.
ALONE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def run_alone(program: Path, *arguments: Path, work: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """What became of a program. work: the folder in which it runs. Raises TimeoutError after TIMEOUT."""
    # -P: what lies in the folder where the command was given is no module of ours
    command = [sys.executable, "-P", str(program), *map(str, arguments)]
    try:
        return subprocess.run(  # noqa: S603 - our own program
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=work,
            env={**os.environ, **ALONE, **environment},
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"more than {TIMEOUT} seconds") from None


def last_line(printed: bytes) -> str:
    return printed.decode(errors="replace").strip().split("\n")[-1]
