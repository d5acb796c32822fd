"""What a child process does: python -m bench.encode.worker JOB.json; one JSON object per line on stdout."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.common import describe, private_bytes
from bench.encode import measure, peers
from bench.encode.runtimes import Loaded, Source
from edge_embed.measuring.children import Say, answering
from edge_embed_runtime.system.memory import peak_rss_bytes
from edge_embed_runtime.system.process import seconds_since_start

IDLE_SECONDS = 1.0


def prepare(job: dict[str, Any], _: Say) -> None:
    """Make one artefact; the folder gets its name when it is complete."""
    artefact = peers.ARTEFACTS[job["artefact"]]
    folder = Path(job["folder"])
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    artefact.make(Source(**job["source"]), partial, Path(job["after"]))
    if not folder.is_dir():  # another run may have made it meanwhile
        partial.rename(folder)


def reference(job: dict[str, Any], _: Say) -> None:
    """Vectors of all texts, saved as .npy; only of a candidate that reads the tokens that we read."""
    import numpy as np

    loaded = load(job, job["candidate"])
    measure.check_tokens(loaded, job["texts"], job["tokens"])
    vectors = measure.encode_in_calls(loaded.encode, job["texts"], job["batch"])
    np.save(job["output"], measure.check_vectors(vectors, (len(job["texts"]), job["source"]["dim"])))


def memory(job: dict[str, Any], say: Say) -> None:
    """Memory of one candidate that has loaded and has encoded some texts, with all that it imports; and what it burns
    when it has nothing to do, as threads that spin would."""
    load(job, job["candidate"]).encode(job["texts"])
    found = {"peak_rss_bytes": peak_rss_bytes(), "private_bytes": private_bytes(), "seconds": seconds_since_start()}
    before = time.process_time()
    time.sleep(IDLE_SECONDS)
    say({**found, "idle_cores": (time.process_time() - before) / IDLE_SECONDS})


def timing(job: dict[str, Any], say: Say) -> None:
    """Every candidate in this process, interleaved."""
    loaded: dict[str, Loaded] = {}

    def attempt(name: str, action: Callable[..., Any], *arguments: Any) -> Any:
        """The action's result; a candidate that fails is reported and left out from then on."""
        say({"candidate": name})
        try:
            return action(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is its result
            say({"lost": name, "reason": describe(error)})
            loaded.pop(name, None)
            return None

    for name in job["candidates"]:
        candidate = attempt(name, load, job, name)
        if candidate is not None:
            loaded[name] = candidate
        say({"step": 1})
    measure.run(job, loaded, attempt, say)


def load(job: dict[str, Any], name: str) -> Loaded:
    folder = Path(job["folders"].get(name, ""))
    return peers.candidate(name).load(Source(**job["source"]), folder, job["threads"])


def masked(_: dict[str, Any], say: Say) -> None:
    """Whether onnxruntime's products saturate, which they do on AVX2 and not with VNNI."""
    from edge_embed_runtime.model.session import products_saturate

    say({"saturate": products_saturate()})


JOBS: dict[str, Callable[[dict[str, Any], Say], None]] = {
    "prepare": prepare,
    "reference": reference,
    "memory": memory,
    "timing": timing,
    "masked": masked,
}


def main() -> None:
    with answering() as say:
        job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
        try:
            JOBS[job["kind"]](job, say)
        except Exception as error:  # noqa: BLE001 - the parent reports it
            say({"failed": describe(error)})


if __name__ == "__main__":
    main()
