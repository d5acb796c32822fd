"""A bundle's model in the native engine: its weights are found in the model's file, and texts run in batches.

A text has the same bits in any batch and on any number of threads, on every CPU: so golden vectors must come out as the
exporter's, not only near them.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.bundle.bundle import Bundle
from edge_embed_runtime.bundle.manifest import NATIVE, Golden
from edge_embed_runtime.bundle.native import PROJECTED, Native
from edge_embed_runtime.errors import (
    BundleFormatError,
    DeadlineError,
    EdgeEmbedError,
    GoldenError,
)
from edge_embed_runtime.inputs.tokenizer import TokenIds, Tokenizer
from edge_embed_runtime.model.budget import SMALLER, WINDOW_BYTES, Prediction, Profile, not_kept
from edge_embed_runtime.model.golden import GOLDEN_DIGITS, golden_cosine, golden_stamp
from edge_embed_runtime.model.options import Call, Loaded, RunOptions
from edge_embed_runtime.model.watchdog import TOKENS, WATCHDOG
from edge_embed_runtime.native.encoder import (
    BAD_ISA,
    PROJECT,
    RELATIVE,
    Encoder,
    NativeError,
    Shape,
    Site,
    Stop,
    tensor_names,
)
from edge_embed_runtime.native.library import PACKAGE
from edge_embed_runtime.onnxfile.tensors import mapped_tensors
from edge_embed_runtime.system.ending import native_call
from edge_embed_runtime.system.memory import MB, give_back, rss_bytes
from edge_embed_runtime.system.stamps import Passed, passed, remember
from edge_embed_runtime.system.tuning import recall_threads
from edge_embed_runtime.system.workers import spread
from edge_embed_runtime.vectors.normalize import cut
from edge_embed_runtime.vectors.types import Vectors

if TYPE_CHECKING:
    from edge_embed_runtime.model.network import Network
    from edge_embed_runtime.native.library import Native as Library

# Tokens in one run: enough that each weight is read for many of them, few enough that they stay in the L2 cache.
RUN_TOKENS = 256
# Threads share the tokens of a call, down to so many each.
LEAST_RUN_TOKENS = 64
# Code of numpy and tokenizers that comes back when it runs, and words whose tokens are remembered; measured on x86-64.
CODE_BYTES = 8 * MB
FLOAT, CODES = np.dtype(np.float32), np.dtype(np.int8)

Tensors = dict[str, NDArray[Any]]


class NativeModel:
    """The model of a bundle whose engine is the native one. Raises BundleError when this machine cannot use it, and
    NativeError (BAD_ISA) where the library has no encoder for this CPU."""

    def __init__(self, bundle: Bundle, options: RunOptions, library: "Library") -> None:
        self.bundle, self._options = bundle, options
        self._network: Network | None = None
        self._loading = threading.Lock()
        self.threads = options.most_cores
        if options.cores is None:
            self.threads = min(self.threads, recall_threads(bundle.manifest.fingerprint) or self.threads)
        manifest, what = bundle.manifest, f"bundle {bundle.path}: the model"
        self.tokenizer: Tokenizer = bundle.parsed or Tokenizer(bundle.tokenizer, manifest.max_tokens)
        before = _rss(options.limit)
        tensors = mapped_tensors(bundle.model, what)
        bundle.check_unchanged()
        if manifest.native is None or not any(self.tokenizer.around):
            raise BundleFormatError(f"{what} is none for the native engine, or an empty text would have no token")
        self._encoder = prepared(library, manifest.native, tensors, what)
        self._check(what)
        peak = self._choose(before, tensors)
        cosine = self._golden(library)
        give_back()  # what only loading needed is not there when an index is opened next
        self.loaded: Loaded = Loaded(cosine, peak, self._encoder.tokens, engine=NATIVE)

    def _check(self, what: str) -> None:
        manifest, shape = self.bundle.manifest, self._encoder.shape
        if shape.hidden != manifest.dim or shape.positions != manifest.max_tokens:
            raise BundleFormatError(
                f"{what} has vectors of {shape.hidden} numbers and {shape.positions} positions, the manifest says dim "
                f"{manifest.dim} and max_tokens {manifest.max_tokens}"
            )
        if self.tokenizer.largest_id >= shape.vocabulary:
            raise BundleFormatError(
                f"{what} has {shape.vocabulary} tokens, tokenizer.json {self.tokenizer.largest_id + 1}"
            )

    def _choose(self, before: int, tensors: Tensors) -> int:
        """Threads and tokens of a run; the bytes that the process will take at most, or 0 without a limit."""
        encoder, limit, longest = self._encoder, self._options.limit, self.bundle.manifest.max_tokens
        most = max(RUN_TOKENS, longest)
        encoder.reserve(most)
        if limit is None:
            return 0
        weights = sum(tensor.nbytes for tensor in tensors.values())
        choices = [(threads, most) for threads in range(self.threads, 0, -1)]
        for threads, tokens in [*choices, (1, longest)]:
            encoder.reserve(tokens)
            parts = {
                "process": before,
                "weights": weights + encoder.prepared_bytes,
                "activations": threads * encoder.workspace_bytes,
                "texts and tokens": WINDOW_BYTES,
                "code and words": CODE_BYTES,
            }
            prediction = Prediction(Profile(threads, tokens), parts)
            if prediction.total <= limit:
                self.threads = threads
                give_back()
                return prediction.total
        raise not_kept(limit, self.bundle.manifest.name, prediction, SMALLER)

    def _golden(self, library: "Library") -> float:
        """How near the golden vectors are; they are not made where they passed in an earlier process."""
        engine, file = f"{NATIVE} {library.isa_name} {library.facts.get('sha256')}", library.facts.get("file")
        path = PACKAGE.folder / file if isinstance(file, str) else None
        asks = self._options.asks_stamps
        stamp = golden_stamp(self.bundle, engine, path, self.bundle.manifest.dim) if asks else ""
        known = passed(stamp)
        if known is None:
            known = Passed(self._check_golden(), exact=False)
            if stamp:
                remember(stamp, known)
        return known.cosine

    def _check_golden(self) -> float:
        """How near the golden vectors are: they must be the exporter's, in all digits that it kept."""
        manifest, found = self.bundle.manifest, dict[str, Vectors]()

        def one(golden: Golden) -> Vectors:
            found[golden.text] = self._run([self.tokenizer.encode(golden.text)], Stop())
            return found[golden.text]

        cosine = golden_cosine(manifest, manifest.dim, one)
        for golden in manifest.golden:
            if [round(float(x), GOLDEN_DIGITS) for x in found[golden.text][0]] != golden.vector:
                raise GoldenError(
                    f"bundle {self.bundle.path}: the native engine does not reproduce the golden vectors to the bit on "
                    f"this machine (cosine {cosine:.6f}). Use engine='onnxruntime', and report it with the output of "
                    "edge-embed doctor",
                    path=self.bundle.path,
                    cosine=cosine,
                    floor=1.0,
                )
        return cosine

    @property
    def threads(self) -> int:
        return self._threads

    @threads.setter
    def threads(self, count: int) -> None:
        self._threads = count
        if self._network is not None:
            self._network.threads = count

    @property
    def network(self) -> "Network":
        """The same model in onnxruntime, for what only that gives (states of tokens); loaded when it is asked for.

        Raises MissingExtraError where there is no onnxruntime, MemoryBudgetError where both exceed a limit.
        """
        with self._loading:
            if self._network is None:
                self._network = self._load_network()
        return self._network

    def _load_network(self) -> "Network":
        from edge_embed_runtime.extras import require_onnxruntime

        require_onnxruntime(f"bundle {self.bundle.path}: what a model knows of each token")
        from edge_embed_runtime.model.network import Network

        network = Network(replace(self.bundle, parsed=self.tokenizer), self._options)
        if self._options.limit is None:
            network.threads = self.threads
        else:  # what it chose for itself counts for both from now on
            peak, tokens = network.loaded.peak, network.loaded.batch_tokens
            self.loaded = self.loaded._replace(
                peak=max(peak, self.loaded.peak), batch_tokens=min(tokens, self.loaded.batch_tokens)
            )
        return network

    def one(self, text: str, call: Call) -> Vectors:
        """What `encode` gives for one text, [1, dim]."""
        return self._cut(self._run([self.tokenizer.encode(text)], Stop()), call.dim)

    def encode(self, texts: Sequence[str], call: Call) -> Iterator[tuple[Sequence[int], Vectors]]:
        """Positions of texts and their vectors [n, dim] of length 1, some at a time."""
        rows = self.tokenizer.encode_all(texts)
        lengths = [len(row) for row in rows]
        share = -(-sum(lengths) // self.threads)
        fair = max(min(call.batch_tokens, self._encoder.tokens) // self.threads, LEAST_RUN_TOKENS)
        runs = list(_runs(lengths, max(1, min(RUN_TOKENS, share, fair, call.batch_tokens))))
        stop = Stop()
        found = spread(
            lambda run: self._run([rows[i] for i in run], stop),
            runs,
            self.threads,
            background=self._options.background,
            end=stop.set,  # what is still computed at an interrupt is not needed
        )
        for run, vectors in zip(runs, found, strict=True):
            yield run, self._cut(vectors, call.dim)

    def _cut(self, vectors: Vectors, dim: int) -> Vectors:
        return vectors if dim == vectors.shape[1] else cut(vectors, dim, self.bundle.manifest.truncation)

    def _run(self, rows: Sequence[TokenIds], stop: Stop) -> Vectors:
        """Vectors [n, hidden] of texts in one call. Raises EdgeEmbedError."""
        ids = (rows[0] if len(rows) == 1 else np.concatenate(rows)).astype(np.int32)
        lengths = np.fromiter(map(len, rows), np.int32, len(rows))
        try:
            with WATCHDOG.limit(stop.set, "gave no vectors", max(1.0, ids.size / TOKENS)), native_call():
                return self._encoder.run(ids, lengths, stop)
        except (NativeError, DeadlineError) as error:
            kind = DeadlineError if isinstance(error, DeadlineError) else EdgeEmbedError
            raise kind(
                f"bundle {self.bundle.path}: the model failed on {ids.size} tokens of {len(rows)} texts: {error}",
                path=self.bundle.path,
            ) from error


def _rss(limit: int | None) -> int:
    if limit is None:
        return 0
    give_back()
    return rss_bytes() or 0


def _runs(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Positions of texts, in their order, so that those of a run have so many tokens at most, or are one text.

    lengths=[3, 9, 4, 2], tokens=10 -> [0], [1], [2, 3]
    """
    run: list[int] = []
    total = 0
    for position, length in enumerate(lengths):
        if run and total + length > tokens:
            yield run
            run, total = [], 0
        run.append(position)
        total += length
    if run:
        yield run


def prepared(library: "Library", native: Native, tensors: Tensors, what: str) -> Encoder:
    """The model prepared. Raises BundleFormatError where its tensors do not fit each other."""
    shape = _shape(native, tensors, what)
    for name, (kind, dims) in _expected(native, shape).items():
        found = tensors.get(name)
        if found is None and name.endswith(".smooth"):
            continue
        if found is None or found.dtype != kind or found.shape != dims:
            is_there = "no such weight" if found is None else f"{found.dtype} {found.shape}"
            raise BundleFormatError(f"{what} needs the weight {name!r} of {kind} {dims} and has {is_there}")
    sites = {name: Site(codes.scale, codes.zero_point) for name, codes in native.inputs.items()}
    used = {name: tensors[name] for name in tensor_names(native.layers) if name in tensors}
    try:
        return Encoder(library, shape, used, sites)
    except NativeError as error:
        if error.number == BAD_ISA:
            raise
        raise BundleFormatError(f"{what} cannot be prepared for the native engine: {error}") from error


def _shape(native: Native, tensors: Tensors, what: str) -> Shape:
    """Sizes of a model, from the tensors that have them."""

    def dims(name: str, axes: int) -> tuple[int, ...]:
        found = tensors.get(name)
        if found is None or found.ndim != axes or min(found.shape) < 1:
            raise BundleFormatError(f"{what} has no weight {name!r} of {axes} dimensions")
        return found.shape

    vocabulary, embedding = dims("embedding.word", 2)
    hidden = dims("layers.0.attention_norm.weight", 1)[0]
    inner = 16 * dims("layers.0.query.weight", 4)[0]
    if inner % native.heads:
        raise BundleFormatError(f"{what} has {inner} numbers in {native.heads} heads")
    intermediate = tuple(16 * dims(f"layers.{i}.up.weight", 4)[0] for i in range(native.layers))
    return Shape(
        hidden,
        embedding,
        native.heads,
        inner // native.heads,
        vocabulary,
        dims("embedding.position", 3)[0],
        native.pooling,
        native.eps,
        intermediate,
        RELATIVE in tensors,
    )


Expected = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]


def _expected(native: Native, shape: Shape) -> Expected:
    """Type and dimensions of every tensor by name."""
    vocabulary, positions, width, hidden = shape.vocabulary, shape.positions, shape.embedding, shape.hidden
    inner = shape.heads * shape.head_size
    found: Expected = {
        "embedding.word": (CODES, (vocabulary, width)),
        "embedding.scale": (FLOAT, (vocabulary, 1)),
        "embedding.position": (CODES, (positions, 1, width)),
        "embedding.position.scale": (FLOAT, (positions, 1, 1)),
        **_norm("embedding.norm", width),
    }
    if PROJECTED in native.inputs:
        found |= _linear(PROJECT, width, hidden)
    if shape.relative:
        found[RELATIVE] = FLOAT, (shape.heads, 2 * positions)
    for i, intermediate in enumerate(shape.intermediate):
        layer = f"layers.{i}"
        for part in ("query", "key", "value"):
            found |= _linear(f"{layer}.{part}", hidden, inner, smooth=part == "query")
        found |= _linear(f"{layer}.out", inner, hidden) | _norm(f"{layer}.attention_norm", hidden)
        found |= _linear(f"{layer}.up", hidden, intermediate) | _linear(f"{layer}.down", intermediate, hidden)
        found |= _norm(f"{layer}.output_norm", hidden)
    return found


def _norm(name: str, width: int) -> Expected:
    return {f"{name}.{part}": (FLOAT, (width,)) for part in ("weight", "bias")}


def _linear(name: str, n: int, m: int, *, smooth: bool = True) -> Expected:
    """Of a linear layer from n to m numbers, its weight as it is packed."""
    found: Expected = {
        f"{name}.weight": (CODES, (m // 16, n // 4, 16, 4)),
        f"{name}.scale": (FLOAT, (m,)),
        f"{name}.bias": (FLOAT, (m,)),
    }
    if smooth:
        found[f"{name}.input.smooth"] = FLOAT, (n,)
    return found
