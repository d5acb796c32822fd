"""Processes that measure candidates: one that crashes is an answer, not an end."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.common import child_variables
from edge_embed.measuring.children import child, message, one_line

WORKER = ("-m", "bench.encode.worker")


@dataclass
class Outcome:
    """What a child said. `reason`: why it did not finish; `candidate`: which one it was busy with then."""

    answers: list[dict[str, Any]] = field(default_factory=list)
    reason: str | None = None
    candidate: str | None = None


def run_child(
    job: dict[str, Any],
    threads: int,
    step: Callable[[int], None] = lambda _: None,
    worker: tuple[str, ...] | None = None,
) -> Outcome:
    """Run one job; step(n) is called when it got n steps on.

    The child writes one JSON object per line: {"step": n}, {"candidate": name} when it begins with a candidate,
    {"failed": reason} at its end, and anything else as an answer.
    """
    outcome = Outcome()

    def hear(line: str) -> None:
        said = message(line)
        if "step" in said:
            step(said["step"])
        elif "candidate" in said:
            outcome.candidate = said["candidate"]
        elif "failed" in said:
            outcome.reason = one_line(said["failed"])
        elif said:
            outcome.answers.append(said)

    with tempfile.TemporaryDirectory() as folder:
        order = Path(folder) / "job.json"
        order.write_text(json.dumps(job), "utf-8")
        _, problem = child([*(worker or WORKER), str(order)], None, hear, child_variables(threads))
    outcome.reason = outcome.reason or problem
    return outcome
