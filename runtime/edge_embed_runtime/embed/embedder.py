"""Texts to vectors."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.bundle.adapters import Adapters
from edge_embed_runtime.bundle.bundle import ROLES, Bundle, Manifest, open_bundle
from edge_embed_runtime.checks import check_count, check_text, listed, shown, unusable
from edge_embed_runtime.errors import BundleError, BundleFormatError, InputError
from edge_embed_runtime.inputs.tokenizer import Tokenizer
from edge_embed_runtime.model.budget import check_limit
from edge_embed_runtime.progress import progress_bar
from edge_embed_runtime.system.background import Beside
from edge_embed_runtime.system.cpu import default_threads
from edge_embed_runtime.system.headroom import embedding
from edge_embed_runtime.vectors.rotation import Frame

if TYPE_CHECKING:
    from edge_embed_runtime.embed.sparse import SparseVector
    from edge_embed_runtime.embed.tokens import TokenModel, TokenVectors
    from edge_embed_runtime.model.network import Network
    from edge_embed_runtime.model.static import StaticModel

    Vectors = NDArray[np.float32]

# Texts that are tokenized and sorted together: bounds what is held besides texts and vectors.
WINDOW = 1024
# More is a mistake: no machine this is for has as many cores.
MAX_THREADS = 1024
METHODS = {"dense": "encode", "sparse": "encode_sparse", "multi": "encode_multi"}
KIND_NAMES = {"dense": "one vector for a text", "sparse": "weights of tokens", "multi": "a vector for each token"}
T = TypeVar("T")


def _load(kind: "type[Embedder]", bundle: str, fingerprint: str, options: dict[str, Any]) -> "Embedder":
    """An Embedder that was pickled. Raises BundleError where its bundle is gone or has become another."""
    loaded = kind(bundle, **options)
    if loaded.manifest.fingerprint != fingerprint:
        raise BundleError(
            f"the bundle {bundle!r} is another here than the one whose Embedder was pickled "
            f"({loaded.manifest.fingerprint[:8]}, not {fingerprint[:8]}): its vectors would be others",
            path=loaded.path,
        )
    return loaded


def _network(what: str) -> ModuleType:
    """The module that runs networks, and imports onnxruntime, which static bundles do without."""
    try:
        from edge_embed_runtime.model import network
    except ImportError as error:
        from edge_embed_runtime.extras import without_onnxruntime

        raise without_onnxruntime(what, error) from error
    return network


class Embedder:
    """Embeds texts with one bundle.

    bundle:       a bundle folder, or one that `read_bundle` has read
    threads:      cores to use; None means all that affinity and the cgroup allow. Batches run side by side, each on
                  one core, so one text alone uses one
    truncate_dim: keep only the first numbers of each vector, L2-normalised again (see `Manifest.truncate_dims`)
    exact:        load this form of the model and no other (see `session.make_session`); None means what this CPU needs
    max_rss_mb:   megabytes (1,000,000 bytes) that the resident set of the process is not to exceed, whatever is
                  embedded; what the program itself allocates later is not counted. Smaller batches, fewer threads and
                  weights that are not prepacked are tried. Raises MemoryBudgetError where that is not enough
    background:   give way to everything else that wants the CPU: one thread of the lowest priority (Linux; elsewhere
                  just one thread)
    adapter:      which of the bundle's adapters (see `adapters`) embeds every text, "base" for none of them; None means
                  that of the text's role, where it has one

    Where `edge-embed doctor --tune` has left a verdict of this machine, it answers for None of `threads` and `exact`.

    Pickled, it is its path and options; where it is unpickled the bundle is loaded again, from the same place.

    A text has one vector: the same bits alone, in any batch, at any padding and number of threads on one machine.
    `exact` says which form of the model this CPU needed, `golden_cosine` how near the vectors of the golden texts are
    to those of the machine that made the bundle.

    Raises BundleError when the bundle cannot be used on this machine, MissingExtraError when it needs onnxruntime and
    there is none.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle,
        *,
        threads: int | None = None,
        truncate_dim: int | None = None,
        exact: bool | None = None,
        max_rss_mb: float | None = None,
        background: bool = False,
        adapter: str | None = None,
    ) -> None:
        self._options: dict[str, Any] = {
            "threads": threads,
            "truncate_dim": truncate_dim,
            "exact": exact,
            "max_rss_mb": max_rss_mb,
            "background": background,
            "adapter": adapter,
        }
        limit = check_limit(max_rss_mb)
        if background and threads not in (None, 1):
            raise InputError(
                f"threads is {shown(threads)}; background means one thread", option="threads", value=shown(threads)
            )
        self.background: bool = background
        threads = 1 if background else threads
        most = default_threads() if threads is None else check_count(threads, "threads", 1, MAX_THREADS)
        loaded = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        verified = Beside(loaded.verify)
        verified.begin()  # while modules are imported
        self.manifest: Manifest = loaded.manifest
        self.path: Path = loaded.path
        self._bundle, self._limit = loaded, limit
        self._adapters: Adapters = Adapters(self.manifest.adapters, adapter, f"bundle {self.path}")
        dim = self.manifest.dim
        self._dim: int = dim if truncate_dim is None else check_count(truncate_dim, "truncate_dim", 1, dim)
        if self._dim != dim:
            self._check_kind("dense")
        self._process: int = os.getpid()
        self._fitting: tuple[str, str | None] | None = None  # the last prompt, and for which role, that left room
        self._model: Network | StaticModel
        if self.manifest.is_static:
            from edge_embed_runtime.model import static

            verified.result()
            tokenizer = Tokenizer(loaded.tokenizer, self.manifest.max_tokens)
            self._model = static.StaticModel(loaded, tokenizer, limit=limit, dim=self._dim)
            self._model.threads = most
        else:
            network = _network(f"bundle {self.path}")
            verified.result()
            self._model = network.Network(
                loaded,
                threads=None if threads is None else most,
                most_threads=most,
                exact=exact,
                limit=limit,
                background=background,
                dim=self._dim,
            )
        self.tokenizer: Tokenizer = self._model.tokenizer
        self.exact: bool = self._model.exact
        self.golden_cosine: float = self._model.golden_cosine

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled, and copied, as bundle and options: the model is loaded again where it is unpickled."""
        options = {**self._options, "threads": None} if self.background else self._options
        return _load, (type(self), self._bundle_name(), self.manifest.fingerprint, options)

    def _bundle_name(self) -> str:
        """What finds the bundle again, also in another process with another working directory."""
        return str(self.path.absolute())

    @property
    def threads(self) -> int:
        """Cores that are used; may be set."""
        return self._model.threads

    @threads.setter
    def threads(self, count: int) -> None:
        self._model.threads = self._options["threads"] = check_count(count, "threads", 1, MAX_THREADS)

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self._dim

    @property
    def kind(self) -> str:
        """What it gives for a text: "dense" (`encode`), "sparse" (`encode_sparse`) or "multi" (`encode_multi`)."""
        return self.manifest.kind

    @property
    def name(self) -> str:
        """The bundle's."""
        return self.manifest.name

    @property
    def is_static(self) -> bool:
        """Whether the bundle is a table of token vectors, without a network."""
        return self.manifest.is_static

    @property
    def network(self) -> "Network":
        """The model as it is run. Raises InputError for a static bundle, which has none."""
        if self.manifest.is_static:
            raise InputError(
                f"bundle {self.path} is static: a table of token vectors, without a network", path=self.path
            )
        return cast("Network", self._model)

    @property
    def predicted_peak(self) -> int:
        """Bytes that the process was predicted to take at most, or 0 without `max_rss_mb`."""
        return self._model.peak

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that count, special tokens included; the rest is left out."""
        return self.manifest.max_tokens

    @property
    def fingerprint(self) -> str:
        """Names the bundle's contents, and the adapter that was chosen for all texts: indexes made under another
        fingerprint are refused."""
        return self._adapters.fingerprint(self.manifest.fingerprint)

    def check_adapter(self, name: str | None) -> None:
        """Raise InputError where the bundle has no adapter of this name; None and "base" are right in any case."""
        self._adapters.choose(name, None)

    @property
    def adapters(self) -> tuple[str, ...]:
        """What `adapter` can be, besides "base"."""
        return self._adapters.names

    @property
    def frame(self) -> Frame:
        """How binary codes are made of the vectors; that of the bundle is for vectors of all its dimensions."""
        stored = self.manifest.codes.get("frame") if self.dim == self.manifest.dim else None
        try:
            return Frame() if stored is None else Frame.from_json(stored, self.dim)
        except ValueError as error:
            raise BundleFormatError(f"bundle {self.path}: {error}", path=self.path) from error

    @property
    def prompts(self) -> dict[str, str]:
        """Text put before the input, by role."""
        return self._adapters.prompts({**dict.fromkeys(ROLES, ""), **self.manifest.prompts})

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
        prompt: str | None = None,
        adapter: str | None = None,
        truncate_dim: int | None = None,
        batch_tokens: int | None = None,
        show_progress: bool = False,
    ) -> "Vectors":
        """Embed n texts: float32 [n, dim], each row of length 1, in the order of the texts.

        role:          whose prompt is put before each text ("query", "document", ...); None means no prompt, or that of
                       `Manifest.default_role` where the model has one
        prompt:        put this before each text, as it stands, in place of the role's: an instruction of your own; ""
                       means none
        adapter:       which of `adapters` to embed with, or "base"; its own prompt, where it has one, comes before the
                       role's. None means what the Embedder was made with, else what the role has
        truncate_dim:  keep only so many of the Embedder's `dim` numbers, L2-normalised again
        batch_tokens:  padded tokens in the model at a time: bounds the memory, does not change the vectors. None means
                       512, or fewer under `max_rss_mb`
        show_progress: a bar on stderr, where that is a terminal

        The empty text is a text like any other. Raises InputError for anything that is not a list of Unicode texts, and
        for a prompt that leaves no room for them.
        """
        self._check_kind("dense")
        number, own = self._adapters.choose(adapter, role)
        texts, before, batch_tokens = self._checked(texts, role, own if prompt is None else prompt, batch_tokens)
        dim = self.dim if truncate_dim is None else check_count(truncate_dim, "truncate_dim", 1, self.dim)
        vectors = np.empty((len(texts), dim), np.float32)
        left = self.left_out(before)
        with progress_bar(len(texts), show_progress) as advance:
            for start in range(0, len(texts), WINDOW):
                window = [before + text for text in texts[start : start + WINDOW]]
                with embedding(self._limit, self._model.peak):
                    for batch, found in self._model.encode(window, dim, batch_tokens, number, left):
                        vectors[[start + i for i in batch]] = found
                        advance(len(batch))
        return vectors

    def encode_sparse(
        self,
        texts: Sequence[str],
        *,
        role: str | None = None,
        prompt: str | None = None,
        max_active_dims: int | None = None,
        batch_tokens: int | None = None,
        show_progress: bool = False,
    ) -> "list[SparseVector]":
        """Weights of tokens for each text, of a bundle of kind "sparse". Options are those of `encode`.

        max_active_dims: keep only so many weights of each text, the largest
        """
        from edge_embed_runtime.embed import sparse

        self._check_kind("sparse")
        texts, before, batch_tokens = self._checked(texts, role, prompt, batch_tokens)
        most = None if max_active_dims is None else check_count(max_active_dims, "max_active_dims", 1)

        def run(part: list[str]) -> "Iterator[tuple[Sequence[int], list[SparseVector]]]":
            return sparse.encode(self, part, role, batch_tokens, most)

        return self._collect(texts, before, run, show_progress)

    def encode_multi(
        self,
        texts: Sequence[str],
        *,
        role: str | None = None,
        prompt: str | None = None,
        batch_tokens: int | None = None,
        show_progress: bool = False,
    ) -> "list[Vectors]":
        """A vector of length 1 for each token of each text, float32 [tokens, dim], of a bundle of kind "multi".

        role: "query" fills up to the model's length of a query; any other leaves out what a document does without.
              `multivector.maxsim` compares one with the other

        Options are those of `encode`.
        """
        from edge_embed_runtime.embed import multi as multivector

        self._check_kind("multi")
        texts, before, batch_tokens = self._checked(texts, role, prompt, batch_tokens)

        def run(part: list[str]) -> "Iterator[tuple[Sequence[int], list[Vectors]]]":
            return multivector.encode(self, part, role, batch_tokens)

        return self._collect(texts, before, run, show_progress)

    def encode_tokens(
        self,
        texts: Sequence[str],
        *,
        role: str | None = None,
        prompt: str | None = None,
        adapter: str | None = None,
        layer: int | None = None,
        weights: Sequence[float] | Mapping[int, float] | None = None,
        normalize: bool = False,
        batch_tokens: int | None = None,
    ) -> "list[TokenVectors]":
        """What the model knows of each token of each text before pooling, in the order of the texts.

        layer:     0 are the embeddings, 1 the first layer's states, -1 (the default) the last's
        weights:   in place of `layer`, a mix: the sum of all layers' states (embeddings first), each times its number,
                   or {layer: weight} for some. Numbers count as they stand: [0.5, 0.5] is a mean, {-1: 1, -2: 1} a sum
        normalize: bring each token's vector to length 1

        Other options are those of `encode`; tokens of a prompt are there, marked as `special`. A token in its text has
        one vector, as a text has. The mean over all tokens of the last layer is, brought to length 1, the vector of
        `encode` where the bundle's pooling is "mean" and nothing follows it.

        Raises InputError for a layer that the model has not, and for a static bundle, which has none.
        """
        mix = self.token_model.mix(layer, weights)
        number, own = self._adapters.choose(adapter, role)
        texts, before, batch_tokens = self._checked(texts, role, own if prompt is None else prompt, batch_tokens)
        from edge_embed_runtime.embed.tokens import without_prompt

        found: dict[int, TokenVectors] = {}
        whole = [before + text for text in texts]
        with embedding(self._limit, self._model.peak):
            for i, tokens, vectors in self.token_model.each(whole, mix, batch_tokens, number):
                found[i] = without_prompt(tokens, vectors, texts[i], len(before), unit=normalize)
        return [found[i] for i in range(len(texts))]

    @cached_property
    def token_model(self) -> "TokenModel":
        """The layers of the network. Raises InputError for a static bundle."""
        network = self.network
        from edge_embed_runtime.embed.tokens import TokenModel  # imports onnxruntime, as the network did

        return TokenModel(network, self._bundle, self._limit)

    def left_out(self, prompt: str) -> int:
        """Tokens at the beginning of texts behind this prompt that their vectors are not made of: see
        `Manifest.left_out`."""
        how = self.manifest.left_out
        if not how:
            return 0
        from edge_embed_runtime.inputs.prompts import left_out  # few models do

        return left_out(self.tokenizer, prompt, how)

    def _check_prompt(self, before: str, role: str | None, own: bool) -> None:
        """Refuse a prompt that leaves no room for texts. own: it is the bundle's"""
        from edge_embed_runtime.inputs.prompts import check_room  # most bundles have none

        shorter = self.manifest.head.get("query_length") if role == "query" else None
        limit = min(int(shorter), self.max_tokens) if shorter else None
        check_room(self.tokenizer, before, f"bundle {self.path}: the prompt{f' of {role!r}' * own}", limit)
        self._fitting = before, role

    def _collect(
        self,
        texts: list[str],
        before: str,
        run: Callable[[list[str]], Iterator[tuple[Sequence[int], list[T]]]],
        show: bool,
    ) -> list[T]:
        """What `run` gives for windows of texts, in their order."""
        found: dict[int, T] = {}
        with progress_bar(len(texts), show) as advance:
            for start in range(0, len(texts), WINDOW):
                with embedding(self._limit, self._model.peak):
                    for batch, results in run([before + text for text in texts[start : start + WINDOW]]):
                        found.update(zip((start + i for i in batch), results, strict=True))
                        advance(len(batch))
        return [found[i] for i in range(len(texts))]

    def _check_kind(self, kind: str) -> None:
        """Refuse a bundle that gives something else for a text."""
        own = self.manifest.kind
        if own != kind:
            raise InputError(
                f"bundle {self.path} gives {KIND_NAMES[own]}: call {METHODS[own]}; {METHODS[kind]} is for bundles of "
                f"kind {kind!r}",
                path=self.path,
            )

    def _checked(
        self, texts: Sequence[str], role: str | None, prompt: str | None, batch_tokens: int | None
    ) -> tuple[list[str], str, int]:
        """Texts, what to put before each, and padded tokens of a batch."""
        if isinstance(texts, str | bytes | Mapping | Set) or not isinstance(texts, Iterable):
            raise InputError(f"encode takes a list of texts, got {type(texts).__name__}: write encode([text])")
        most = self._model.batch_tokens
        batch_tokens = most if batch_tokens is None else check_count(batch_tokens, "batch_tokens", 1)
        if self._model.peak:
            batch_tokens = min(batch_tokens, most)
        if role is not None and (not isinstance(role, str) or role not in self.prompts):
            raise unusable("role", role, f"one of {listed(sorted(self.prompts))}")
        if os.getpid() != self._process:
            raise InputError("this Embedder was made before a fork: make a new one in the child process", code="forked")
        if self.manifest.side and role not in (None, self.manifest.side):
            raise InputError(
                f"bundle {self.path} is the side of the model that is for the role {self.manifest.side!r}: texts of "
                f"the role {role!r} need the bundle of the other side",
                path=self.path,
            )
        named = role or self.manifest.default_role
        before = (self.prompts[named] if named else "") if prompt is None else check_text(prompt, "the prompt")
        if before and (before, named) != self._fitting:
            self._check_prompt(before, named, prompt is None)
        try:
            return [check_text(text, f"text {i}") for i, text in enumerate(texts)], before, batch_tokens
        except TypeError as error:  # an array without dimensions says that it can be iterated over
            raise InputError(f"encode takes a list of texts: {error}") from error
