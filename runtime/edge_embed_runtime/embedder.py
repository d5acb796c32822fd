"""Texts to vectors."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_embed_runtime.bundle import ROLES, Bundle, Manifest, read_bundle
from edge_embed_runtime.checks import check_count, check_text
from edge_embed_runtime.errors import BundleFormatError, EdgeEmbedError, GoldenError, InputError
from edge_embed_runtime.machine import default_threads
from edge_embed_runtime.tokenizer import TokenIds, Tokenizer

if TYPE_CHECKING:
    Vectors = NDArray[np.float32]

# Padded tokens in one run of the model. More is slower, because activations then leave the L2 cache: for MiniLM-L6
# 2,048 tokens halve the speed of 256, and take 60 MB more.
BATCH_TOKENS = 512
# Texts that are tokenized and sorted together: bounds what is held besides texts and vectors.
WINDOW = 1024
# More threads than any machine here has cores make onnxruntime hang.
MAX_THREADS = 1024
# Golden vectors of another CPU agree to about 0.9997; a kernel that saturates gives 0.995.
GOLDEN_COSINE = 0.999


def make_session(model: bytes | Path, threads: int, *, exact: bool = False) -> onnxruntime.InferenceSession:
    """An onnxruntime session for small machines: no spinning threads, activations from an arena.

    exact: turn int8 weights to uint8, so that products cannot saturate on AVX2 without VNNI. On CPUs with VNNI that is
           2.4 times slower and changes nothing.

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


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Positions grouped by length so that texts x longest text <= batch_tokens (a batch has at least one text).

    lengths=[3, 9, 4], batch_tokens=12 -> [1], [2, 0]
    """
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


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
    threads:      cores to use; None means all that affinity and the cgroup allow
    truncate_dim: keep only the first numbers of each vector, L2-normalised again (see `Manifest.truncate_dims`)

    A text has one vector: the same bits alone, in any batch, at any padding and number of threads on one machine.
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
        # without golden vectors nothing would tell that products saturate, so the exact form it is
        self._session: onnxruntime.InferenceSession = _load(loaded, self.threads, exact=not self.manifest.golden)
        self.golden_cosine: float = self._measure_golden()
        if self.golden_cosine < GOLDEN_COSINE:
            self._session = _load(loaded, self.threads, exact=True)
            self.golden_cosine = self._measure_golden()
        if not self.golden_cosine >= GOLDEN_COSINE:
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
        batch_tokens:  padded tokens per run of the model: bounds the memory, does not change the vectors
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
                for batch in batches([len(row) for row in ids], batch_tokens):
                    vectors[[start + i for i in batch]] = self._run([ids[i] for i in batch])
                    advance(len(batch))
        return vectors

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


def _load(bundle: Bundle, threads: int, *, exact: bool) -> onnxruntime.InferenceSession:
    try:
        session = make_session(bundle.model, threads, exact=exact)
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


@contextmanager
def progress_bar(total: int, show: bool) -> Iterator[Callable[[int], None]]:
    """A bar on stderr that counts texts, where that is a terminal; click is imported only when one is shown."""
    if not show or not total or not sys.stderr.isatty():
        yield lambda _: None
        return
    import click

    with click.progressbar(length=total, label="embedding", file=sys.stderr) as bar:
        yield bar.update
