"""Texts to vectors."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_embed_runtime.bundle import ROLES, Bundle, Manifest, read_bundle
from edge_embed_runtime.checks import check_count, check_text
from edge_embed_runtime.errors import BundleFormatError, EdgeEmbedError, GoldenError, InputError
from edge_embed_runtime.frame import Frame
from edge_embed_runtime.machine import default_threads
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.tokenizer import TokenIds, Tokenizer

if TYPE_CHECKING:
    Vectors = NDArray[np.float32]

# Padded tokens in one run of the model. More is slower, because activations then leave the L2 cache: for MiniLM-L6
# 2,048 tokens halve the speed of 256, and take 60 MB more.
BATCH_TOKENS = 512
# What one run of the model costs besides its tokens, in tokens (0.16 ms of 0.04 ms a token on x86, and some slack).
RUN_TOKENS = 8
# Threads share the budget of a batch, down to so many tokens each: fewer are slower.
LEAST_RUN_TOKENS = 128
# Texts that are tokenized and sorted together: bounds what is held besides texts and vectors.
WINDOW = 1024
# More is a mistake: no machine this is for has as many cores.
MAX_THREADS = 1024
# Golden vectors of another CPU agree to about 0.9997; a kernel that saturates gives 0.995.
GOLDEN_COSINE = 0.999
# An ONNX model of one product, uint8 x [m, 64] by int8 weights [64, 32] that are all 127 (the test of it makes it).
PROBE_SHAPE = (64, 32)
PROBE = (
    b'\x08\n:\x8b\x11\n8\n\x01x\n\x01w\n\x03one\n\x03one\x12\x01y"\x14MatMulIntegerToFloat:\rcom.microsoft\x12\x05'
    b'probe*\r\x10\x01"\x04\x00\x00\x80?B\x03one*\x8c\x10\x08@\x08 \x10\x03B\x01wJ\x80\x10%bZ\x14\n\x01x\x12\x0f\n\r'
    b"\x08\x02\x12\t\n\x03\x12\x01m\n\x02\x08@b\x14\n\x01y\x12\x0f\n\r\x08\x01\x12\t\n\x03\x12\x01m\n\x02\x08 "
    b"B\x04\n\x00\x10\x11B\x11\n\rcom.microsoft\x10\x01"
) % (b"\x7f" * 64 * 32)


def make_session(model: bytes | Path, threads: int, *, exact: bool = False) -> onnxruntime.InferenceSession:
    """An onnxruntime session for small machines: no spinning threads, activations from an arena.

    exact: turn int8 weights to uint8 (x86 only), so that products cannot saturate. Where they would that costs 15 % of
           the speed, with VNNI it is 1.6 times slower and changes nothing. See `products_saturate`.

    The arena does not shrink, but batches have a token budget, so it stops growing: with it a process needs less
    memory than without (144 against 211 MB, mallocs of many sizes fragment the heap) and is a sixth faster.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_mem_pattern = False
    level = onnxruntime.GraphOptimizationLevel
    # the graph is written in its final form; fusions beyond this level find nothing
    options.graph_optimization_level = level.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if exact:  # onnxruntime heeds the entry at this level only
        options.graph_optimization_level = level.ORT_ENABLE_EXTENDED
        options.add_session_config_entry("session.x64quantprecision", "1")
    # a model given as bytes would read external data from the working directory
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


@cache
def products_saturate() -> bool:
    """Whether uint8 x int8 products come out too small on this CPU. Measured once per process, in about 2 ms.

    x86 CPUs with AVX2 or AVX-512 and without VNNI add pairs of products in 16 bits, where 255 * 127 + 255 * 127 does
    not fit. The probe has the operator, the prepacked weights and the session of a real model, and so its kernel.
    """
    inner, outer = PROBE_SHAPE
    try:
        (products,) = make_session(PROBE, threads=1).run(None, {"x": np.full((4, inner), 255, np.uint8)})
    except Exception as error:
        raise EdgeEmbedError(f"onnxruntime {onnxruntime.__version__} cannot multiply int8 matrices: {error}") from error
    return not np.array_equal(products, np.full((4, outer), inner * 255 * 127))


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Positions grouped by length so that texts x longest text <= batch_tokens (a batch has at least one text).

    The groups are those with the least work, counting padded tokens and RUN_TOKENS for each run of the model.

    lengths=[3, 9, 4], batch_tokens=12 -> [1], [2, 0]
    """
    by_length: dict[int, list[int]] = {}
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        by_length.setdefault(lengths[position], []).append(position)
    distinct = list(by_length)
    counts = [len(by_length[length]) for length in distinct]
    # least[i]: the work for the texts from the i-th distinct length on; ends[i]: where the first of their groups ends
    least, ends = [0] * (len(distinct) + 1), [0] * len(distinct)
    for i in reversed(range(len(distinct))):
        longest, texts, works = distinct[i], 0, []
        for j in range(i, len(distinct)):
            if counts[j] * (longest - distinct[j]) > RUN_TOKENS:
                break  # a run of their own costs less than this padding
            texts += counts[j]
            runs = -(-texts // max(1, batch_tokens // longest))
            works.append((texts * longest + runs * RUN_TOKENS + least[j + 1], j + 1))
        least[i], ends[i] = min(works)
    start = 0
    while start < len(distinct):
        group = [position for length in distinct[start : ends[start]] for position in by_length[length]]
        size = max(1, batch_tokens // distinct[start])
        yield from (group[i : i + size] for i in range(0, len(group), size))
        start = ends[start]


def pad(rows: Sequence[TokenIds]) -> dict[str, NDArray[np.int64]]:
    """The model's inputs for a batch: `input_ids` and `attention_mask`, both [len(rows), longest row]."""
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}


class Embedder:
    """Embeds texts with one bundle.

    bundle:       a bundle folder, or one that `read_bundle` has read
    threads:      cores to use; None means all that affinity and the cgroup allow. Batches run side by side, each on
                  one core, so one text alone uses one
    truncate_dim: keep only the first numbers of each vector, L2-normalised again (see `Manifest.truncate_dims`)

    A text has one vector: the same bits alone, in any batch, at any padding and number of threads on one machine.
    `exact` says which form of the model this CPU needed (see `make_session`), `golden_cosine` how near the vectors of
    the golden texts are to those of the machine that made the bundle.

    Raises BundleError when the bundle cannot be used on this machine.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle,
        *,
        threads: int | None = None,
        truncate_dim: int | None = None,
    ) -> None:
        self.threads: int = default_threads() if threads is None else check_count(threads, "threads", 1, MAX_THREADS)
        loaded = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
        self.manifest: Manifest = loaded.manifest
        self.path: Path = loaded.path
        dim = self.manifest.dim
        self._dim: int = dim if truncate_dim is None else check_count(truncate_dim, "truncate_dim", 1, dim)
        self._process: int = os.getpid()
        self.tokenizer: Tokenizer = Tokenizer(loaded.tokenizer, self.manifest.max_tokens)
        saturate = products_saturate()
        for exact in (saturate, not saturate):
            self.exact: bool = exact
            self._session: onnxruntime.InferenceSession = _load(loaded, exact=exact)
            self.golden_cosine: float = self._measure_golden()
            if self.golden_cosine >= GOLDEN_COSINE:
                break
        else:
            raise GoldenError(
                f"bundle {self.path}: this machine does not reproduce the golden vectors: "
                f"cosine {self.golden_cosine:.4f}, expected at least {GOLDEN_COSINE}. "
                f"onnxruntime {onnxruntime.__version__} may not support this CPU"
            )

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self._dim

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that count, special tokens included; the rest is left out."""
        return self.manifest.max_tokens

    @property
    def fingerprint(self) -> str:
        """Names the bundle's contents: indexes made under another fingerprint are refused."""
        return self.manifest.fingerprint

    @property
    def frame(self) -> Frame:
        """How binary codes are made of the vectors; that of the bundle is for vectors of all its dimensions."""
        stored = self.manifest.codes.get("frame") if self.dim == self.manifest.dim else None
        try:
            return Frame() if stored is None else Frame.from_json(stored, self.dim)
        except ValueError as error:
            raise BundleFormatError(f"bundle {self.path}: {error}") from error

    @property
    def prompts(self) -> dict[str, str]:
        """Text put before the input, by role."""
        return {**dict.fromkeys(ROLES, ""), **self.manifest.prompts}

    def encode_query(self, texts: Sequence[str], **options: Any) -> "Vectors":
        """`encode` with role="query"."""
        return self.encode(texts, role="query", **options)

    def encode_document(self, texts: Sequence[str], **options: Any) -> "Vectors":
        """`encode` with role="document"."""
        return self.encode(texts, role="document", **options)

    def encode(
        self,
        texts: Sequence[str],
        *,
        role: str | None = None,
        batch_tokens: int = BATCH_TOKENS,
        show_progress: bool = False,
    ) -> "Vectors":
        """Embed n texts: float32 [n, dim], each row of length 1, in the order of the texts.

        role:          whose prompt is put before each text ("query", "document", ...); None means no prompt
        batch_tokens:  padded tokens in the model at a time: bounds the memory, does not change the vectors
        show_progress: a bar on stderr, where that is a terminal

        The empty text is a text like any other. Raises InputError for anything that is not a list of Unicode texts.
        """
        if isinstance(texts, str | bytes | Mapping | Set) or not isinstance(texts, Iterable):
            raise InputError(f"encode takes a list of texts, got {type(texts).__name__}: write encode([text])")
        batch_tokens = check_count(batch_tokens, "batch_tokens", 1)
        if role is not None and (not isinstance(role, str) or role not in self.prompts):
            raise InputError(f"role is {role!r}, expected one of {sorted(self.prompts)}")
        if os.getpid() != self._process:
            raise InputError("this Embedder was made before a fork: make a new one in the child process")
        prompt = self.prompts[role] if role else ""
        try:
            texts = [check_text(text, f"text {i}") for i, text in enumerate(texts)]
        except TypeError as error:  # an array without dimensions says that it can be iterated over
            raise InputError(f"encode takes a list of texts: {error}") from error
        vectors = np.empty((len(texts), self.dim), np.float32)
        with progress_bar(len(texts), show_progress) as advance:
            for start in range(0, len(texts), WINDOW):
                ids = [self.tokenizer.encode(prompt + text) for text in texts[start : start + WINDOW]]
                for batch, found in self._run_all(ids, batch_tokens):
                    vectors[[start + i for i in batch]] = found
                    advance(len(batch))
        return vectors

    def _run_all(self, ids: list[TokenIds], batch_tokens: int) -> "Iterator[tuple[list[int], Vectors]]":
        """Positions of texts and their vectors, batch by batch: several at a time, each on one core.

        That is faster than all cores on one batch: short texts have too little work to share.
        """
        lengths = [len(row) for row in ids]
        share = -(-sum(lengths) // self.threads)
        fair = max(batch_tokens // self.threads, LEAST_RUN_TOKENS)  # together they need the memory of one batch
        runs = list(batches(lengths, min(batch_tokens, share, fair)))
        if self.threads == 1 or len(runs) < 2:
            for batch in runs:
                yield batch, self._run([ids[i] for i in batch])
            return
        with ThreadPoolExecutor(min(self.threads, len(runs)), "edge_embed") as pool:
            try:
                yield from zip(runs, pool.map(lambda batch: self._run([ids[i] for i in batch]), runs), strict=True)
            finally:
                pool.shutdown(cancel_futures=True)

    def _run(self, rows: list[TokenIds]) -> "Vectors":
        feed = pad(rows)
        try:
            (output,) = self._session.run(None, feed)
        except Exception as error:
            shape = feed["input_ids"].shape
            raise EdgeEmbedError(f"bundle {self.path}: the model failed on {shape} tokens: {error}") from error
        vectors: Vectors = output[:, : self.dim]
        if self.dim < self.manifest.dim:
            vectors = _normalize(vectors)
        return vectors

    def _measure_golden(self) -> float:
        """The lowest cosine of a golden text's vector to the exporter's; 1 where the bundle has no golden texts."""
        golden = self.manifest.golden
        if not golden:
            return 1.0
        expected = _normalize(np.array([g.vector[: self.dim] for g in golden], np.float32))
        return float((self.encode([g.text for g in golden]) * expected).sum(axis=1).min())


def _normalize(vectors: "Vectors") -> "Vectors":
    """Rows [n, d] brought to length 1."""
    normalized: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return normalized


def _load(bundle: Bundle, *, exact: bool) -> onnxruntime.InferenceSession:
    try:
        session = make_session(bundle.model, threads=1, exact=exact)
        bundle.check_unchanged()
    except EdgeEmbedError:
        raise
    except Exception as error:
        raise BundleFormatError(
            f"bundle {bundle.path}: onnxruntime {onnxruntime.__version__} cannot load the model: {error}"
        ) from error
    inputs = sorted(value.name for value in session.get_inputs())
    shapes = [value.shape for value in session.get_outputs()]
    if inputs != ["attention_mask", "input_ids"] or [s[-1:] for s in shapes] != [[bundle.manifest.dim]]:
        raise BundleFormatError(
            f"bundle {bundle.path}: the model takes {inputs} and gives {shapes}, "
            f"which is not an encoder of dim {bundle.manifest.dim}"
        )
    return session
