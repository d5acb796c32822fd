"""What is left after kill -9 at a random moment while vectors are added."""

import random
import shutil
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from bench.search.child import Child, ChildError

# Vectors that the writer has; they outlast the longest wait.
VECTORS = 20_000
# Seconds between the first batch and the kill.
SHORTEST_WAIT, LONGEST_WAIT = 0.01, 0.5
LIMIT_SECONDS = 120
# Acknowledged vectors that are searched for afterwards, and how many of them must find themselves (graphs miss some).
SAMPLE, FOUND = 100, 0.9
REASON_LENGTH = 120
WHOLE = "all acknowledged vectors are there"


def endure(name: str, vectors: Path, work: Path, kills: int) -> dict[str, Any]:
    """Kill a writing process `kills` times, each in a new folder; gives how often all survived, and what was seen."""
    waits = random.Random(name)  # noqa: S311 - the moments are not secret
    seen: Counter[str] = Counter()
    for trial in range(kills):
        folder = work / f"killed-{name}-{trial}"
        folder.mkdir(parents=True)
        try:
            acknowledged = _write_until_killed(name, vectors, folder, waits.uniform(SHORTEST_WAIT, LONGEST_WAIT))
            seen[_examine(name, vectors, folder, acknowledged)] += 1
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return {"kills": kills, "survived": seen[WHOLE], "seen": dict(seen)}


def _write_until_killed(name: str, vectors: Path, folder: Path, wait: float) -> int:
    """The number of vectors that were acknowledged. Raises ChildError when writing fails by itself."""
    acknowledged = 0
    with Child() as child:
        first = threading.Timer(LIMIT_SECONDS, child.kill)
        timer = threading.Timer(wait, child.kill)
        first.start()
        try:
            child.tell({"do": "endure", "candidate": name, "vectors": str(vectors), "folder": str(folder)})
            for answer in child.answers():
                if "failed" in answer:
                    raise ChildError(answer["failed"])
                if not acknowledged:
                    first.cancel()
                    timer.start()
                acknowledged = answer.get("acknowledged", acknowledged)
        finally:
            first.cancel()
            timer.cancel()
        if not acknowledged:
            raise ChildError(f"it wrote nothing: {child.death()}")
    return acknowledged


def _examine(name: str, vectors: Path, folder: Path, acknowledged: int) -> str:
    """What another process finds."""
    ids = np.linspace(0, acknowledged - 1, SAMPLE).astype(int).tolist()
    order = {"do": "examine", "candidate": name, "vectors": str(vectors), "folder": str(folder), "ids": ids}
    try:
        with Child() as child:
            found = child.ask(order, LIMIT_SECONDS)
    except ChildError as error:
        return f"it cannot be opened: {str(error).replace(str(folder), 'FOLDER')[:REASON_LENGTH]}"
    if found["count"] < acknowledged:
        return "acknowledged vectors are lost"
    return WHOLE if found["found"] >= FOUND * SAMPLE else "vectors do not find themselves"
