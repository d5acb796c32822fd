"""Interleaved timing of candidates in one process, and how good their vectors are."""

import gc
import hashlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.common import OURS, describe
from bench.encode import peak
from bench.encode.peers import OWN
from bench.encode.runtimes import Loaded
from edge_embed.measuring.children import Say
from edge_embed_runtime.errors import InputError

if TYPE_CHECKING:
    Vectors = NDArray[np.float32]
    Encode = Callable[[list[str]], Vectors]

# Threads of the candidate before come to rest.
SETTLE_SECONDS = 0.02


class Attempt(Protocol):
    """Calls action(*arguments) for a candidate; gives None, and takes the candidate out, when that fails."""

    def __call__(self, name: str, action: Callable[..., Any], *arguments: Any) -> Any: ...


def encode_in_calls(encode: "Encode", texts: Sequence[str], batch: int) -> "Vectors":
    """Vectors [n, dim] of n texts, `batch` texts in a call."""
    return np.vstack([encode(list(texts[i : i + batch])) for i in range(0, len(texts), batch)])


def cosines(vectors: "Vectors", expected: "Vectors") -> NDArray[np.float64]:
    """Row by row, [n]."""
    a, b = vectors.astype(np.float64), expected.astype(np.float64)
    found: NDArray[np.float64] = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return found


def compare_batches(encode: "Encode", texts: Sequence[str]) -> dict[str, Any]:
    """Whether a text has the same vector alone and together with others, longer and shorter, at any place in the batch.

    same_bits:     in every batch
    lowest_cosine: of a vector in a batch to that of the text alone
    sha256:        of the vectors of the texts alone, to compare processes
    """
    alone = encode_in_calls(encode, texts, 1)
    count = len(texts)
    turned = encode_in_calls(encode, texts[::-1], count)[::-1]
    others = [encode_in_calls(encode, texts, count), turned, encode_in_calls(encode, texts, max(2, count // 3))]
    return {
        "same_bits": all(alone.tobytes() == np.ascontiguousarray(other).tobytes() for other in others),
        "lowest_cosine": float(min(cosines(other, alone).min() for other in others)),
        "sha256": hashlib.sha256(alone.tobytes()).hexdigest(),
    }


def check_tokens(loaded: Loaded, texts: list[str], expected: list[list[int]]) -> None:
    """Refuse to measure a candidate that does not read the same tokens."""
    for text, found, wanted in zip(texts, loaded.token_ids(texts), expected, strict=True):
        if found != wanted:
            raise InputError(f"it reads {len(found)} other tokens where our tokenizer has {len(wanted)}: {text[:40]!r}")


def _say_peak(job: dict[str, Any], say: Say) -> None:
    if not job["peak"]:
        return
    try:
        say({"peak": peak.integer_peak(job["threads"])})
    except Exception as error:  # noqa: BLE001 - candidates can be measured all the same
        say({"no_peak": describe(error)})


def _warm_up(encode: "Encode", texts: list[str], batch: int, dim: int) -> "Vectors":
    """Vectors [n, dim] of the texts; every shape that will be timed is seen once."""
    return check_vectors(encode_in_calls(encode, texts, batch), (len(texts), dim))


def check_vectors(vectors: "Vectors", shape: tuple[int, int]) -> "Vectors":
    """The vectors, when they are float32 of that shape with rows of length 1."""
    if vectors.shape != shape or vectors.dtype != np.float32:
        raise InputError(f"gave {vectors.dtype} {vectors.shape}, expected float32 {shape}")
    if not np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-3:
        raise InputError("gave vectors that are not of length 1")
    return vectors


def timed(encode: "Encode", texts: Sequence[str], batch: int) -> tuple[float, float]:
    """CPU seconds of the process (all threads) and wall seconds for all texts in calls of `batch`."""
    calls = [list(texts[i : i + batch]) for i in range(0, len(texts), batch)]
    time.sleep(SETTLE_SECONDS)
    cpu, wall = time.process_time(), time.perf_counter()
    for call in calls:
        encode(call)
    return time.process_time() - cpu, time.perf_counter() - wall


def figures(seconds: Sequence[tuple[float, float]], texts: int, tokens: int) -> dict[str, float]:
    """Medians over rounds. `cores`: CPU seconds per wall second."""
    cpu, wall = (statistics.median(values) for values in zip(*seconds, strict=True))
    return {
        "tokens_per_cpu_second": tokens / cpu,
        "tokens_per_second": tokens / wall,
        "ms_per_text": 1e3 * wall / texts,
        "cpu_seconds_per_1000_texts": 1e3 * cpu / texts,
        "cores": cpu / wall,
    }


def run(job: dict[str, Any], loaded: dict[str, Loaded], attempt: Attempt, say: Say) -> None:
    """All cases of a timing job. `attempt` takes a candidate that fails out of `loaded`.

    job["cases"]: [{"length", "batch", "texts": positions}]; job["texts"], job["tokens"] (ids of each text);
    job["check"]: positions of the texts for `compare_batches`; job["reference"]: .npy of all texts' vectors, or null.
    """
    texts: list[str] = job["texts"]
    expected = np.load(job["reference"]) if job["reference"] else None
    _say_peak(job, say)
    some = [texts[i] for i in job["check"]]
    some_tokens = [job["tokens"][i] for i in job["check"]]
    for name in list(loaded):
        attempt(name, check_tokens, loaded[name], some, some_tokens)
        if name in loaded:
            found = attempt(name, compare_batches, loaded[name].encode, some)
            if found is not None:
                say({"batches": name, **found})
        say({"step": 1})
    for case in job["cases"]:
        chosen = [texts[i] for i in case["texts"]]
        tokens = sum(len(job["tokens"][i]) for i in case["texts"])
        results = _case(job, chosen, case["batch"], tokens, loaded, attempt, say)
        for measured, vectors in results.values():
            if expected is not None:
                found = cosines(vectors, expected[case["texts"]])
                measured |= {"cosine_mean": float(found.mean()), "cosine_min": float(found.min())}
        say(
            {
                "case": {"length": case["length"], "batch": case["batch"], "texts": len(chosen), "tokens": tokens},
                "candidates": {name: measured for name, (measured, _) in results.items()},
            }
        )
    _say_peak(job, say)


def _case(
    job: dict[str, Any],
    texts: list[str],
    batch: int,
    tokens: int,
    loaded: dict[str, Loaded],
    attempt: Attempt,
    say: Say,
) -> dict[str, tuple[dict[str, float], "Vectors"]]:
    """Figures and vectors of every candidate that got through."""
    vectors: dict[str, Vectors] = {}
    seconds: dict[str, list[tuple[float, float]]] = {}
    for name in list(loaded):
        made = attempt(name, _warm_up, loaded[name].encode, texts, batch, job["source"]["dim"])
        if made is not None:
            vectors[name] = made
        say({"step": 1})
    for i in range(job["rounds"]):
        names = list(loaded)
        gc.collect()
        for name in names[i % len(names) :] + names[: i % len(names)] if names else []:
            taken = attempt(name, timed, loaded[name].encode, texts, batch)
            if taken is not None:
                seconds.setdefault(name, []).append(taken)
            say({"step": 1})
    return {name: (figures(seconds[name], len(texts), tokens), vectors[name]) for name in loaded}


def ratio_to_best_peer(candidates: dict[str, dict[str, float]]) -> tuple[str, float] | None:
    """The fastest peer by tokens per CPU second, and ours divided by it."""
    rates = {name: measured["tokens_per_cpu_second"] for name, measured in candidates.items()}
    ours = rates.get(OURS)
    rates = {name: rate for name, rate in rates.items() if name not in OWN}
    if ours is None or not rates:
        return None
    best = max(rates, key=lambda name: rates[name])
    return best, ours / rates[best]


def times_as_fast(candidates: dict[str, dict[str, float]], other: str) -> float | None:
    """Our tokens per CPU second divided by another candidate's."""
    pair = [candidates.get(name, {}).get("tokens_per_cpu_second") for name in (OURS, other)]
    return pair[0] / pair[1] if pair[0] and pair[1] else None


def operations_per_token(architecture: dict[str, Any]) -> int | None:
    """Multiplications and additions of a token's linear layers (not attention), or None for an unknown architecture.

    MiniLM-L6: 6 x (4 x 384² + 2 x 384 x 1,536) x 2 = 21.2 million
    """
    layers, hidden = architecture.get("layers"), architecture.get("hidden")
    if not isinstance(layers, int) or not isinstance(hidden, int):
        return None
    intermediate = architecture.get("intermediate", 4 * hidden)
    return int(layers * (4 * hidden * hidden + 2 * hidden * intermediate) * 2)
