"""A bundle's network in onnxruntime: the form that this CPU needs, and runs of texts that are batched by length."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_embed_runtime.bundle.adapters import INPUT
from edge_embed_runtime.bundle.bundle import LEFT_OUT_INPUT, WEIGHTS, Bundle
from edge_embed_runtime.errors import BundleFormatError, DeadlineError, EdgeEmbedError, GoldenError
from edge_embed_runtime.inputs.tokenizer import TokenIds, Tokenizer
from edge_embed_runtime.model import deadline, session
from edge_embed_runtime.model.budget import Profile, choose_profile
from edge_embed_runtime.model.golden import GOLDEN_COSINE, golden_cosine
from edge_embed_runtime.onnxfile.allowed import Beside, check_model
from edge_embed_runtime.onnxfile.mapped import weights_of
from edge_embed_runtime.system.cpu import give_way
from edge_embed_runtime.system.memory import give_back, trim_heap
from edge_embed_runtime.system.tuning import recall
from edge_embed_runtime.system.workers import work
from edge_embed_runtime.vectors.normalize import cut

if TYPE_CHECKING:
    Vectors = NDArray[np.float32]

Result = TypeVar("Result")

# Padded tokens in one run of the model. More is slower, because activations then leave the L2 cache: for MiniLM-L6
# 2,048 tokens halve the speed of 256, and take 60 MB more.
BATCH_TOKENS = 512
# What one run of the model costs besides its tokens, in tokens (0.16 ms of 0.04 ms a token on x86, and some slack).
RUN_TOKENS = 8
# Threads share the budget of a batch, down to so many tokens each: fewer are slower.
LEAST_RUN_TOKENS = 128


def batches(lengths: Sequence[int], batch_tokens: int, *, padded: bool = True) -> Iterator[list[int]]:
    """Positions grouped by length so that texts x longest text <= batch_tokens (a batch has at least one text).

    The groups are those with the least work, counting padded tokens and RUN_TOKENS for each run of the model; without
    `padded`, texts of one length each.

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
            if counts[j] * (longest - distinct[j]) > (RUN_TOKENS if padded else 0):
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
    """The model's inputs for a batch: `input_ids` and `attention_mask`, both [len(rows), longest row]; where a token is
    several numbers (see inputs/characters.py) ids have them behind."""
    longest = max(map(len, rows))
    ids = np.zeros((len(rows), longest, *np.shape(rows[0])[1:]), np.int64)
    mask = np.zeros((len(rows), longest), np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def _tokenizer(bundle: Bundle) -> Tokenizer:
    if bundle.manifest.inputs:
        from edge_embed_runtime.inputs.characters import tokenizer_of  # few models read characters

        return tokenizer_of(bundle)
    return bundle.parsed or Tokenizer(bundle.tokenizer, bundle.manifest.max_tokens)


class Network:
    """The model of a bundle, loaded. Raises BundleError when this machine cannot use it.

    threads, exact, background: as in `Embedder`
    limit:                      bytes that the process is to keep to, or None
    dim:                        how many of a golden vector's numbers are compared
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int | None,
        most_threads: int,
        exact: bool | None,
        limit: int | None,
        background: bool,
        dim: int,
    ) -> None:
        self._bundle, self._background = bundle, background
        self.threads: int = most_threads if threads is None else threads
        what, manifest = f"bundle {bundle.path}", bundle.manifest
        tuned = recall(manifest.fingerprint, onnxruntime.__version__) if exact is None else None
        if tuned is not None and tuned.threads is not None and threads is None:
            self.threads = min(self.threads, tuned.threads)
        first = exact if exact is not None else session.products_saturate() if tuned is None else tuned.exact
        weights = manifest.files.get(WEIGHTS)
        check_model(bundle.model, f"{what}: the model", None if weights is None else Beside(WEIGHTS, weights.size))
        self.tokenizer: Tokenizer = _tokenizer(bundle)
        if not any(self.tokenizer.around):
            raise BundleFormatError(
                f"{what}: tokenizer.json puts no special tokens around a text: an empty one would have none"
            )
        code = give_back()  # what importing and reading took is not there when loading takes most
        for form in (first, not first) if exact is None else (first,):
            self.exact: bool = form
            self._choose_profile(limit)
            self.session: onnxruntime.InferenceSession = session.load_session(
                bundle, exact=form, prepacked=self._profile.prepacked
            )
            trim_heap()
            self.golden_cosine: float = golden_cosine(manifest, dim, self._one)
            if self.golden_cosine >= GOLDEN_COSINE:
                break
        else:
            raise GoldenError(
                f"{what}: this machine does not reproduce the golden vectors: "
                f"cosine {self.golden_cosine:.4f}, expected at least {GOLDEN_COSINE}. "
                f"onnxruntime {onnxruntime.__version__} may not support this CPU",
                cosine=self.golden_cosine,
                floor=GOLDEN_COSINE,
            )
        give_back(code)  # nor is what loading took when an index is opened next

    def _choose_profile(self, limit: int | None) -> None:
        """Threads and batches, and what the process will take with them."""
        self._profile = Profile(self.threads, BATCH_TOKENS)
        self.peak: int = 0
        if limit is not None:
            weights, manifest = weights_of(self._bundle.model), self._bundle.manifest
            prediction = choose_profile(limit, weights, manifest, self.exact, self.threads, BATCH_TOKENS)
            self._profile, self.peak = prediction.profile, prediction.total
            self.threads = self._profile.threads

    @property
    def batch_tokens(self) -> int:
        """Padded tokens of a batch, where the caller does not say otherwise."""
        return self._profile.batch_tokens

    def _one(self, text: str) -> "Vectors":
        return self.run([self.tokenizer.encode(text)])

    def encode(
        self, texts: Sequence[str], dim: int, batch_tokens: int, adapter: int = 0, left_out: int = 0
    ) -> "Iterator[tuple[list[int], Vectors]]":
        """Positions of texts and their vectors [n, dim] of length 1, batch by batch.

        adapter:  counted from 1
        left_out: tokens at the beginning of each text that pooling leaves out
        """
        ids = [self.tokenizer.encode(text) for text in texts]
        run = partial(self.run, adapter=adapter, left_out=left_out)
        for batch, vectors in self.run_all(ids, batch_tokens, run):
            yield batch, cut(vectors, dim, self._bundle.manifest.truncation) if dim < vectors.shape[1] else vectors

    def run_all(
        self, ids: list[TokenIds], batch_tokens: int, run: Callable[[list[TokenIds]], Result]
    ) -> Iterator[tuple[list[int], Result]]:
        """Positions of texts and what `run` makes of their tokens: several batches at a time, each on one core.

        That is faster than all cores on one batch: short texts have too little work to share.
        """
        lengths = [len(row) for row in ids]
        share = -(-sum(lengths) // self.threads)
        fair = max(batch_tokens // self.threads, LEAST_RUN_TOKENS)  # together they need the memory of one batch
        # a model from the general export may see padding, or texts beside a text: see published.BATCHES
        form = self._bundle.manifest.architecture.get("batches", "padded")
        fair = 1 if form == "single" else fair
        runs = list(batches(lengths, min(batch_tokens, share, fair), padded=form == "padded"))
        if not self._background and (self.threads == 1 or len(runs) < 2):
            for batch in runs:
                yield batch, run([ids[i] for i in batch])
            return
        found = work(
            lambda batch: run([ids[i] for i in batch]), runs, self.threads, give_way if self._background else None
        )
        yield from zip(runs, found, strict=True)

    def run(self, rows: list[TokenIds], adapter: int = 0, left_out: int = 0) -> "Vectors":
        """Vectors [n, dim] of all the bundle's dimensions; where it is of kind "multi", [n, longest row, dim]."""
        (vectors,) = self.outputs(self.session, rows, adapter, left_out)
        # a model that is damaged or was made to harm may give anything
        each = (max(map(len, rows)),) if self._bundle.manifest.kind == "multi" else ()
        expected = np.dtype(np.float32), (len(rows), *each, self._bundle.manifest.dim)
        if (vectors.dtype, vectors.shape) != expected or not np.isfinite(vectors).all():
            finite = "some not finite, " if (vectors.dtype, vectors.shape) == expected else ""
            raise EdgeEmbedError(
                f"bundle {self._bundle.path}: the model gave {vectors.dtype} numbers {vectors.shape}, {finite}for "
                f"{len(rows)} texts, expected finite float32 {expected[1]}. Export it again",
                path=self._bundle.path,
            )
        return vectors

    def outputs(
        self, model: onnxruntime.InferenceSession, rows: list[TokenIds], adapter: int = 0, left_out: int = 0
    ) -> list[NDArray[Any]]:
        """What a session of the bundle's model, or of one that was made of it, gives for a batch."""
        feed = pad(rows)
        if adapter:
            feed[INPUT] = np.array([adapter], np.int64)
        if left_out:
            feed[LEFT_OUT_INPUT] = np.array([left_out], np.int64)
        try:
            return deadline.run(model, feed)
        except Exception as error:
            shape = feed["input_ids"].shape
            kind = DeadlineError if isinstance(error, DeadlineError) else EdgeEmbedError
            raise kind(f"bundle {self._bundle.path}: the model failed on {shape} tokens: {error}") from error
