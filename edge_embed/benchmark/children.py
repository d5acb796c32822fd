"""Processes of their own: threads are fixed before anything is imported, and a crash is an answer, not an end."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WORKER = ("-m", "edge_embed.benchmark.worker")
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
REASON_LENGTH = 300


@dataclass
class Outcome:
    """What a child said. `reason`: why it did not finish; `candidate`: which one it was busy with then."""

    answers: list[dict[str, Any]] = field(default_factory=list)
    reason: str | None = None
    candidate: str | None = None


def environment(threads: int) -> dict[str, str]:
    """The environment of a child that may use `threads` cores."""
    return {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads)), **FIXED_VARIABLES}


def one_line(text: str) -> str:
    """A reason as it fits into a table's footnote."""
    line = " ".join(text.split())
    return line if len(line) <= REASON_LENGTH else line[: REASON_LENGTH - 1] + "…"


def run_child(job: dict[str, Any], threads: int, step: Callable[[int], None] = lambda _: None) -> Outcome:
    """Run one job; step(n) is called when it got n steps on.

    The child writes one JSON object per line: {"step": n}, {"candidate": name} when it begins with a candidate,
    {"failed": reason} at its end, and anything else as an answer.
    """
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        order, log = Path(folder) / "job.json", Path(folder) / "stderr"
        order.write_text(json.dumps(job), "utf-8")
        with (
            log.open("wb") as errors,
            subprocess.Popen(  # noqa: S603 - our own module, by this interpreter
                [sys.executable, *WORKER, str(order)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment(threads),
            ) as process,
        ):
            try:
                _listen(process, outcome, step)
                process.wait()
            finally:
                process.kill()
        if process.returncode and outcome.reason is None:
            outcome.reason = one_line(death(process.returncode, log.read_text("utf-8", errors="replace")))
    return outcome


def _listen(process: "subprocess.Popen[bytes]", outcome: Outcome, step: Callable[[int], None]) -> None:
    for line in process.stdout or ():
        try:
            message = json.loads(line)
        except ValueError:  # the end of a process that died while it wrote
            continue
        if "step" in message:
            step(message["step"])
        elif "candidate" in message:
            outcome.candidate = message["candidate"]
        elif "failed" in message:
            outcome.reason = one_line(message["failed"])
        else:
            outcome.answers.append(message)


def death(status: int, errors: str) -> str:
    """-11 -> "its process died: SIGSEGV"."""
    last = next((line for line in reversed(errors.splitlines()) if line.strip()), "")
    if status < 0:
        name = signal.Signals(-status).name if -status in {int(s) for s in signal.Signals} else f"signal {-status}"
        return f"its process died: {name}"
    return f"its process ended with status {status}: {last}"
