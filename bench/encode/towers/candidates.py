"""Runtimes for towers behind one small interface: make files once, load, encode pictures or sounds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.common import OURS
from bench.encode.towers import inputs, models
from bench.encode.towers.models import EXTRA
from edge_embed_runtime.extras import require

if TYPE_CHECKING:
    Vectors = NDArray[np.float32]

MODEL = "model.onnx"


@dataclass(frozen=True)
class Job:
    """What a candidate is made of and from. Goes to child processes as JSON.

    checkpoint: a folder of transformers; bundle: ours, made from it; work: where files are made; threads: cores
    """

    modality: str
    checkpoint: str
    bundle: str
    work: str
    threads: int = 1


class Loaded(Protocol):
    """A candidate in memory."""

    def encode(self, given: list[Any]) -> "Vectors":
        """float32 [n, dim], rows of length 1."""


@dataclass(frozen=True)
class Candidate:
    """make: writes the candidate's file from the files of `after`; None where it needs none."""

    title: str
    packages: tuple[str, ...]
    load: Callable[[Job], Loaded]
    make: Callable[[Job, Path], None] | None = None
    after: str | None = None


class Ours:
    def __init__(self, job: Job) -> None:
        from edge_embed.embedder import Embedder

        embedder = Embedder(job.bundle, threads=job.threads, towers=(job.modality,))
        self.encode: Callable[[list[Any]], Vectors] = getattr(embedder, f"encode_{job.modality}")


class Fed:
    """A model that takes what our front end reads, all inputs of a call in one batch.

    A sound of several windows has the mean of their vectors, as ours has.
    """

    def __init__(self, job: Job, run: Callable[["Vectors"], "Vectors"]) -> None:
        self._front, self._run = front_of(job), run

    def encode(self, given: list[Any]) -> "Vectors":
        feeds = [np.concatenate(list(self._front.feeds(one))) for one in given]
        vectors = _unit(self._run(np.concatenate(feeds)))
        ends = np.cumsum([len(feed) for feed in feeds])[:-1]
        return _unit(np.stack([part.mean(axis=0) for part in np.split(vectors, ends)]))


def front_of(job: Job) -> Any:
    """The front end in the manifest of our bundle."""
    from edge_embed_runtime.bundle.bundle import read_bundle
    from edge_embed_runtime.inputs.base import read_front

    return read_front(job.modality, read_bundle(Path(job.bundle)).manifest.towers[job.modality].front)


def feed_of(job: Job) -> "Vectors":
    """What a tower reads of one input, [1, ...]."""
    feed: Vectors = next(front_of(job).feeds(inputs.inputs(job.modality, 1)[0]))
    return feed


def _unit(vectors: "Vectors") -> "Vectors":
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def load_torch(job: Job) -> Loaded:
    torch = require("torch", EXTRA)
    checkpoint = Path(job.checkpoint)
    model, family = models.load_torch(checkpoint, job.threads), models.family_of(checkpoint)

    def run(feed: "Vectors") -> "Vectors":
        with torch.inference_mode():
            found: Vectors = getattr(model(**{family.feed: torch.from_numpy(feed)}), family.output).numpy()
        return found

    return Fed(job, run)


def load_onnx(name: str) -> Callable[[Job], Loaded]:
    """onnxruntime as its users start it, on so many threads that do not spin."""

    def load(job: Job) -> Loaded:
        onnxruntime = require("onnxruntime", EXTRA)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job.threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(str(file_of(name, job)), options, providers=["CPUExecutionProvider"])
        (feed,) = session.get_inputs()
        return Fed(job, lambda given: session.run(None, {feed.name: given})[0])

    return load


def make_onnx(job: Job, target: Path) -> None:
    models.write_onnx(Path(job.checkpoint), feed_of(job), target)


def quantize(kind: str) -> Callable[[Job, Path], None]:
    """onnxruntime's dynamic quantization as transformers.js' script calls it, weights "QUInt8" or "QInt8"."""

    def make(job: Job, target: Path) -> None:
        tools = require("onnxruntime.quantization", EXTRA)
        tools.quantize_dynamic(
            file_of("onnxruntime-fp32", job), target, weight_type=tools.QuantType[kind],
            op_types_to_quantize=["MatMul", "Gemm", "Gather"] if kind == "QInt8" else None,  # no int8 convolution
            extra_options={"EnableSubgraph": True, "MatMulConstBOnly": True},
        )  # fmt: skip

    return make


def file_of(name: str, job: Job) -> Path:
    """Where a candidate's file lies."""
    return Path(job.work) / f"{name}.onnx"


# In the order in which they are shown; the float32 reference is the first of the peers.
CANDIDATES = {
    OURS: Candidate(OURS, (), Ours),
    "torch": Candidate("torch fp32", ("torch", "transformers"), load_torch),
    "onnxruntime-fp32": Candidate(
        "onnxruntime fp32 (as fastembed)", ("torch", "transformers", "onnx"), load_onnx("onnxruntime-fp32"), make_onnx
    ),
    "onnxruntime-uint8": Candidate(
        "onnxruntime dynamic uint8 (as transformers.js)",
        ("onnx",),
        load_onnx("onnxruntime-uint8"),
        quantize("QUInt8"),
        after="onnxruntime-fp32",
    ),
    "onnxruntime-int8": Candidate(
        "onnxruntime dynamic int8",
        ("onnx",),
        load_onnx("onnxruntime-int8"),
        quantize("QInt8"),
        after="onnxruntime-fp32",
    ),
}
REFERENCE = "torch"
PEERS = [name for name in CANDIDATES if name != OURS]
