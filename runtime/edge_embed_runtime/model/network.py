"""A bundle's network in onnxruntime: the form that this CPU needs, and texts run in batches."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_embed_runtime.bundle.adapters import INPUT
from edge_embed_runtime.bundle.bundle import Bundle
from edge_embed_runtime.bundle.manifest import LEFT_OUT_INPUT, ONNXRUNTIME, WEIGHTS, Golden, GoldenPair
from edge_embed_runtime.errors import BundleFormatError, DeadlineError, EdgeEmbedError, GoldenError
from edge_embed_runtime.inputs.tokenizer import TokenIds, Tokenizer
from edge_embed_runtime.model import deadline, session
from edge_embed_runtime.model.batching import BATCH_TOKENS, LEAST_RUN_TOKENS, batches, pad, pad_pairs
from edge_embed_runtime.model.budget import Prediction, Profile, choose_profile
from edge_embed_runtime.model.golden import GOLDEN_COSINE, OTHER_ENGINE_COSINE, golden_cosine, golden_stamp
from edge_embed_runtime.model.options import Call, Loaded, RunOptions
from edge_embed_runtime.onnxfile.allowed import Sidecar, check_model
from edge_embed_runtime.onnxfile.mapped import weights_of
from edge_embed_runtime.system.memory import give_back, trim_heap
from edge_embed_runtime.system.stamps import Passed, passed, remember
from edge_embed_runtime.system.tuning import recall
from edge_embed_runtime.system.workers import spread
from edge_embed_runtime.vectors.kinds import RERANK
from edge_embed_runtime.vectors.normalize import cut

if TYPE_CHECKING:
    Vectors = NDArray[np.float32]

Result = TypeVar("Result")


def _tokenizer(bundle: Bundle) -> Tokenizer:
    manifest = bundle.manifest
    if not manifest.inputs:
        return bundle.parsed or Tokenizer(bundle.tokenizer, manifest.max_tokens)
    from edge_embed_runtime.inputs.characters import CHARACTERS, CharacterTokenizer  # few models read characters

    if manifest.inputs != CHARACTERS:
        raise BundleFormatError(
            f"bundle {bundle.path}: the model reads {manifest.inputs!r:.40}, which this release cannot make",
            path=bundle.path,
        )
    return CharacterTokenizer(bundle.tokenizer, manifest.max_tokens)


class Network:
    """The model of a bundle, loaded. Raises BundleError when this machine cannot use it. why: see `Loaded`"""

    def __init__(self, bundle: Bundle, options: RunOptions, *, why: str = "") -> None:
        self.bundle, self._background, self._why = bundle, options.background, why
        self.threads: int = options.most_cores
        what, manifest = f"bundle {bundle.path}", bundle.manifest
        tuned = recall(manifest.fingerprint, onnxruntime.__version__) if options.exact is None else None
        if tuned is not None and tuned.threads is not None and options.cores is None:
            self.threads = min(self.threads, tuned.threads)
        weights = manifest.files.get(WEIGHTS)
        check_model(bundle.model, f"{what}: the model", None if weights is None else Sidecar(WEIGHTS, weights.size))
        self.tokenizer: Tokenizer = _tokenizer(bundle)
        if not any(self.tokenizer.around):
            raise BundleFormatError(
                f"{what}: tokenizer.json puts no special tokens around a text: an empty one would have none"
            )
        stamp, chosen = self._stamp(options), None if tuned is None else tuned.exact
        known = passed(stamp)
        if known is None or chosen not in (None, known.exact):
            self._load(options, self._forms(options.exact, chosen))
            if stamp:
                remember(stamp, Passed(self.loaded.golden_cosine, self.loaded.exact))
        else:
            self._load(options, (known.exact,), known.cosine)

    def _stamp(self, options: RunOptions) -> str:
        if not options.asks_stamps:
            return ""
        return golden_stamp(self.bundle, *session.engine_file(), options.dim(self.bundle.manifest.dim))

    def _forms(self, asked: bool | None, tuned: bool | None) -> tuple[bool, ...]:
        """See `session.forms_to_try`; weights that cannot saturate have one form."""
        if self.bundle.manifest.never_saturates:
            return (False,)
        return session.forms_to_try(asked, tuned)

    def _load(self, options: RunOptions, forms: Sequence[bool], known: float | None = None) -> None:
        """The first form that gives the golden vectors.

        forms: whether each is the exact one
        known: how near they were in an earlier process; None: they are made
        """
        bundle, manifest = self.bundle, self.bundle.manifest
        floor = GOLDEN_COSINE if manifest.native is None else OTHER_ENGINE_COSINE
        give_back()  # what importing and reading took is not there when loading takes most
        for exact in forms:
            found = self._profile(options.limit, exact=exact)
            profile, self.threads = found.profile, found.profile.threads
            self.session: onnxruntime.InferenceSession = session.load_session(
                bundle, exact=exact, prepacked=profile.prepacked
            )
            trim_heap()
            cosine = known if known is not None else golden_cosine(manifest, options.dim(manifest.dim), self._one)
            if cosine >= floor:
                break
        else:
            raise GoldenError(
                f"bundle {bundle.path}: this machine does not reproduce the golden vectors: "
                f"cosine {cosine:.4f}, expected at least {floor}. "
                f"onnxruntime {onnxruntime.__version__} may not support this CPU",
                path=bundle.path,
                cosine=cosine,
                floor=floor,
            )
        give_back()  # nor is what loading took when an index is opened next
        self.loaded: Loaded = Loaded(cosine, found.total, profile.batch_tokens, exact, ONNXRUNTIME, self._why)

    def _profile(self, limit: int | None, *, exact: bool) -> Prediction:
        """Threads and batches, and what the process will take with them; nothing is predicted without a limit."""
        if limit is None:
            return Prediction(Profile(self.threads, BATCH_TOKENS), {})
        manifest = self.bundle.manifest
        return choose_profile(limit, weights_of(self.bundle.model), manifest, exact, self.threads, BATCH_TOKENS)

    @property
    def network(self) -> "Network":
        return self

    def _one(self, golden: Golden) -> "Vectors":
        if not isinstance(golden, GoldenPair):
            return self.run([self.tokenizer.encode(golden.text)])
        from edge_embed_runtime.inputs.pairs import PairTokenizer  # most bundles read single texts

        return self.run([PairTokenizer(self.tokenizer).row(golden.text, golden.second)])

    def encode(self, texts: Sequence[str], call: Call) -> "Iterator[tuple[list[int], Vectors]]":
        """Positions of texts and their vectors [n, dim] of length 1, batch by batch."""
        ids = self.tokenizer.encode_all(texts)
        run = partial(self.run, adapter=call.adapter, left_out=call.left_out)
        for batch, vectors in self.run_all(ids, call.batch_tokens, run):
            yield batch, self._cut(vectors, call.dim)

    def one(self, text: str, call: Call) -> "Vectors":
        """The vector [1, dim] of one text."""
        return self._cut(self.run([self.tokenizer.encode(text)], call.adapter, call.left_out), call.dim)

    def _cut(self, vectors: "Vectors", dim: int) -> "Vectors":
        return vectors if dim == vectors.shape[1] else cut(vectors, dim, self.bundle.manifest.truncation)

    def run_all(
        self, ids: list[TokenIds], batch_tokens: int, run: Callable[[list[TokenIds]], Result]
    ) -> Iterator[tuple[list[int], Result]]:
        """Positions of texts and what `run` makes of their tokens: several batches at a time, each on one core.

        That is faster than all cores on one batch: short texts have too little work to share.
        """
        lengths = [len(row) for row in ids]
        share = -(-sum(lengths) // self.threads)
        fair = max(batch_tokens // self.threads, LEAST_RUN_TOKENS)  # together they need the memory of one batch
        # a model from the general export may see padding, or the other texts of a batch: see from_graph.BATCHES
        form = self.bundle.manifest.architecture.get("batches", "padded")
        fair = 1 if form == "single" else fair
        runs = list(batches(lengths, min(batch_tokens, share, fair), padded=form == "padded"))
        found = spread(lambda batch: run([ids[i] for i in batch]), runs, self.threads, background=self._background)
        yield from zip(runs, found, strict=True)

    def run(self, rows: list[TokenIds], adapter: int = 0, left_out: int = 0) -> "Vectors":
        """What the model gives for a batch, of all the bundle's dimensions (see `Kind.shape`)."""
        (vectors,) = self.outputs(self.session, rows, adapter, left_out)
        manifest = self.bundle.manifest
        # a model that is damaged or was made to harm may give anything
        shape = manifest.output.shape(len(rows), max(map(len, rows)), manifest.dim)
        expected = np.dtype(np.float32), shape
        if (vectors.dtype, vectors.shape) != expected or not np.isfinite(vectors).all():
            finite = "some not finite, " if (vectors.dtype, vectors.shape) == expected else ""
            raise EdgeEmbedError(
                f"bundle {self.bundle.path}: the model gave {vectors.dtype} numbers {vectors.shape}, {finite}for "
                f"{len(rows)} texts, expected finite float32 {shape}. Export it again",
                path=self.bundle.path,
            )
        return vectors

    def outputs(
        self, model: onnxruntime.InferenceSession, rows: list[TokenIds], adapter: int = 0, left_out: int = 0
    ) -> list[NDArray[Any]]:
        """What a session of the bundle's model, or of one that was made of it, gives for a batch."""
        manifest = self.bundle.manifest
        feed = pad_pairs(rows, types=bool(manifest.head["types"])) if manifest.output is RERANK else pad(rows)
        if adapter:
            feed[INPUT] = np.array([adapter], np.int64)
        if left_out:
            feed[LEFT_OUT_INPUT] = np.array([left_out], np.int64)
        try:
            return deadline.run(model, feed)
        except Exception as error:
            shape = feed["input_ids"].shape
            kind = DeadlineError if isinstance(error, DeadlineError) else EdgeEmbedError
            raise kind(f"bundle {self.bundle.path}: the model failed on {shape} tokens: {error}") from error
