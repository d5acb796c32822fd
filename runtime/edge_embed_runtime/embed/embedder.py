"""Texts, and where a bundle has towers pictures and sounds, to vectors."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_embed_runtime.bundle.adapters import Adapters
from edge_embed_runtime.bundle.bundle import Bundle
from edge_embed_runtime.bundle.manifest import ROLES, TEXT
from edge_embed_runtime.checks import check_count, check_text, listed, unusable
from edge_embed_runtime.embed.loadedbundle import LoadedBundle
from edge_embed_runtime.embed.texts import ON_TRUNCATION, Texts, Truncation, check_texts
from edge_embed_runtime.errors import BundleFormatError, InputError
from edge_embed_runtime.model.options import Call, RunOptions, asked
from edge_embed_runtime.system.headroom import embedding
from edge_embed_runtime.system.waiting import awaitable
from edge_embed_runtime.vectors.kinds import DENSE, MULTI, SPARSE
from edge_embed_runtime.vectors.types import Vectors

if TYPE_CHECKING:
    from edge_embed_runtime.embed.tokens import TokenVectors
    from edge_embed_runtime.errors import MediaError
    from edge_embed_runtime.model.layers import TokenModel
    from edge_embed_runtime.vectors.rotation import Frame
    from edge_embed_runtime.vectors.sparse import SparseVector


class Embedder(LoadedBundle):
    """Embeds texts with one bundle, pictures and sounds where it has towers for them.

    bundle:       a bundle folder, or one that `read_bundle` has read
    threads:      cores to use; None means all that affinity and the cgroup allow. Batches run side by side, each on
                  one core, so one text alone uses one
    truncate_dim: keep only the first numbers of each vector, L2-normalised again (see `Manifest.truncate_dims`)
    exact:        load this form of the model in onnxruntime and no other (see `session.make_session`); None means what
                  this CPU needs. Bundles whose products cannot saturate have one form: it changes nothing there
    max_rss_mb:   megabytes (1,000,000 bytes) that the resident set of the process is not to exceed, whatever is
                  embedded; what the program itself allocates later is not counted. Smaller batches, fewer threads and
                  weights that are not prepacked are tried. Raises MemoryBudgetError where that is not enough
    background:   give way to everything else that wants the CPU: one thread of the lowest priority (Linux; elsewhere
                  just one thread)
    adapter:      which of the bundle's adapters (see `adapters`) embeds every text, "base" for none of them; None means
                  that of the text's role, where it has one
    engine:       what runs the model: "native", the engine of this package, which gives the same bits on every CPU, for
                  bundles that were exported for it; or "onnxruntime". None means what the bundle was made for, or where
                  the native library is missing onnxruntime (`engine` and `engine_reason` say so)
    towers:       load the models for these modalities now, and no others: ("image",) loads neither tokenizer nor model
                  of texts. None means that for texts now, where there is one, and others when they are first used

    Where `edge-embed doctor --tune` has measured this machine, `threads` and `exact` of None mean what it found.

    Pickled, it is its path and options; where it is unpickled the bundle is loaded again, from the same place.

    A text has one vector: the same bits alone, in any batch, at any padding and number of threads on one machine; in
    the native engine on every machine.
    `exact` says which form of the model this CPU needed (False of the only one), `golden_cosine` how near the vectors
    of the golden texts are to those of the machine that made the bundle.

    Raises BundleError when the bundle cannot be used on this machine, MissingExtraError when it needs onnxruntime, or
    the native library, and there is none.
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
        engine: str | None = None,
        towers: Sequence[str] | None = None,
    ) -> None:
        options = RunOptions(threads, truncate_dim, exact, max_rss_mb, background, adapter, engine, asked(towers))
        self._fitting: tuple[str, str | None] | None = None  # the last prompt, and for which role, that left room
        super().__init__(bundle, options)
        if options.towers is not None:
            self.load_towers()

    def _check_bundle(self) -> None:
        self.output.check_embeds(self.path)
        self._adapters = Adapters(self.manifest.adapters, self._options.adapter, f"bundle {self.path}")
        self._prompts = self._adapters.prompts({**dict.fromkeys(ROLES, ""), **self.manifest.prompts})
        self._dim = self._options.dim(self.manifest.dim)
        if self._dim != self.manifest.dim:
            self._check_kind(DENSE)

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self._dim

    @property
    def kind(self) -> str:
        """What it gives for a text: "dense" (`encode`), "sparse" (`encode_sparse`) or "multi" (`encode_multi`)."""
        return self.manifest.kind

    @property
    def modalities(self) -> tuple[str, ...]:
        """What it can embed: "text", "image", "audio"; those that `towers` names, where it names some."""
        asked = self._options.towers
        return tuple(name for name in self.manifest.modalities if asked is None or name in asked)

    @property
    def space(self) -> str:
        """Names the space of the vectors: those of bundles that share it can be compared."""
        return self.manifest.space or self.manifest.fingerprint

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that count, special tokens included; the rest is left out."""
        return self.manifest.max_tokens

    @property
    def fingerprint(self) -> str:
        """Names the bundle's contents, and the adapter that was chosen for all texts: indexes made under another
        fingerprint are refused."""
        return self._adapters.fingerprint(self.manifest.fingerprint)

    @property
    def adapters(self) -> tuple[str, ...]:
        """What `adapter` can be, besides "base"."""
        return self._adapters.names

    def check_adapter(self, name: str | None) -> None:
        """Raise InputError where the bundle has no adapter of this name; None and "base" are right in any case."""
        self._adapters.choose(name, None)

    @property
    def prompts(self) -> dict[str, str]:
        """Text put before the input, by role."""
        return dict(self._prompts)

    @property
    def frame(self) -> "Frame":
        """How binary codes are made of the vectors; that of the bundle is for vectors of all its dimensions."""
        from edge_embed_runtime.vectors.rotation import Frame  # for indexes

        stored = self.manifest.codes.get("frame") if self.dim == self.manifest.dim else None
        try:
            return Frame() if stored is None else Frame.from_json(stored, self.dim)
        except ValueError as error:
            raise BundleFormatError(f"bundle {self.path}: {error}", path=self.path) from error

    def encode_query(self, texts: Sequence[str], **options: Any) -> Vectors:
        """`encode` with role="query"."""
        return self.encode(texts, role="query", **options)

    def encode_document(self, texts: Sequence[str], **options: Any) -> Vectors:
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
        on_truncation: Truncation = "ignore",
        batch_tokens: int | None = None,
        show_progress: bool = False,
    ) -> Vectors:
        """Embed n texts: float32 [n, dim], each row of length 1, in the order of the texts.

        role:          whose prompt is put before each text ("query", "document", ...); None means no prompt, or that of
                       `Manifest.default_role` where the model has one
        prompt:        put this before each text, as it stands, in place of the role's: an instruction of your own; ""
                       means none
        adapter:       which of `adapters` to embed with, or "base"; its own prompt, where it has one, comes before the
                       role's. None means what the Embedder was made with, else what the role has
        truncate_dim:  keep only so many of the Embedder's `dim` numbers, L2-normalised again
        on_truncation: what to do where a text has more tokens than `max_tokens`, so that its end does not count:
                       "ignore", "warn" (TruncationWarning) or "error" (TruncationError, before anything is embedded).
                       The last two tokenize the texts once more
        batch_tokens:  padded tokens in the model at a time; None: 512, or fewer under `max_rss_mb`. Changes no vector
        show_progress: a bar on stderr, where that is a terminal

        Raises InputError for anything that is not a list of Unicode texts, and for a prompt that leaves no room.
        """
        self._check_kind(DENSE)
        number, own = self._adapters.choose(adapter, role)
        given = self._checked(texts, role, own if prompt is None else prompt, batch_tokens, on_truncation)
        dim = self.dim if truncate_dim is None else check_count(truncate_dim, "truncate_dim", 1, self.dim)
        call = Call(dim, given.batch_tokens, number, self.left_out(given.before))
        if len(given) == 1 and not self.background:  # queries, where each step counts
            with embedding(self._options.limit, self.predicted_peak):
                return self._model.one(given.before + given.texts[0], call)
        vectors = np.empty((len(given), dim), np.float32)
        self._run(
            len(given),
            lambda start, stop: self._model.encode(given.whole(start, stop), call),
            vectors.__setitem__,
            show_progress,
        )
        return vectors

    def encode_sparse(
        self,
        texts: Sequence[str],
        *,
        role: str | None = None,
        prompt: str | None = None,
        max_active_dims: int | None = None,
        on_truncation: Truncation = "ignore",
        batch_tokens: int | None = None,
        show_progress: bool = False,
    ) -> "list[SparseVector]":
        """Weights of tokens for each text, of a bundle of kind "sparse". Options are those of `encode`.

        max_active_dims: keep only so many weights of each text, the largest
        """
        from edge_embed_runtime.embed import sparse

        self._check_kind(SPARSE)
        given = self._checked(texts, role, prompt, batch_tokens, on_truncation)
        most = None if max_active_dims is None else check_count(max_active_dims, "max_active_dims", 1)
        return self._listed(
            given, lambda window: sparse.encode(self.network, window, role, given.batch_tokens, most), show_progress
        )

    def encode_multi(
        self,
        texts: Sequence[str],
        *,
        role: str | None = None,
        prompt: str | None = None,
        on_truncation: Truncation = "ignore",
        batch_tokens: int | None = None,
        show_progress: bool = False,
    ) -> list[Vectors]:
        """A vector of length 1 for each token of each text, float32 [tokens, dim], of a bundle of kind "multi".

        role: "query" fills up to the model's length of a query; any other leaves out what a document does without.
              `maxsim` compares one with the other

        Options are those of `encode`.
        """
        from edge_embed_runtime.embed import multi

        self._check_kind(MULTI)
        given = self._checked(texts, role, prompt, batch_tokens, on_truncation)
        return self._listed(
            given, lambda window: multi.encode(self.network, window, role, given.batch_tokens), show_progress
        )

    def load_towers(self) -> None:
        """Load all models that this may use now, and check their golden inputs: what the first use does otherwise."""
        for modality in self.modalities if self._options.towers is None else self._options.towers:
            _ = self.tokenizer if modality == TEXT else self._towers.get(modality, self)

    def encode_image(self, images: Any, *, show_progress: bool = False) -> Vectors:
        """Embed n pictures: float32 [n, dim], each row of length 1, of a bundle with a tower for them.

        images: paths, encoded files as bytes, PIL images or uint8 arrays [height, width, 3], in a list; or one uint8
                array [n, height, width, 3]. Files are read one after the other, when it is their turn

        A picture has the same bits alone and in any company. Raises MediaError for one that cannot be read, with its
        place and path (see `each_input` to go on), InputError where the bundle has no tower for pictures.
        """
        return self._towers.dense(self, "image", images, show_progress)

    def encode_image_multi(self, images: Any, *, show_progress: bool = False) -> list[Vectors]:
        """Several vectors for each picture, float32 [n, dim], of a tower of kind "multi"; else as `encode_image`."""
        return self._towers.multi(self, "image", images, show_progress)

    def encode_audio(self, sounds: Any, *, show_progress: bool = False) -> Vectors:
        """Embed n sounds: float32 [n, dim], each row of length 1, of a bundle with a tower for them.

        sounds: paths, encoded files as bytes, or pairs (samples, rate): float [n] or [n, channels] from -1 to 1, and
                how many of them a second has

        A sound's vector is the mean over windows that its length alone decides. Raises what `encode_image` raises.
        """
        return self._towers.dense(self, "audio", sounds, show_progress)

    def each_input(self, modality: str, inputs: Any) -> "Iterator[tuple[int, Vectors | MediaError]]":
        """Place and vector [1, dim] (kind "multi": [1, n, dim]) of each picture ("image") or sound ("audio"), as they
        are made; or the error of one that cannot be read, and the others go on."""
        return self._towers.each(self, modality, inputs)

    aencode_image, aencode_audio = awaitable(encode_image), awaitable(encode_audio)
    aencode_image_multi = awaitable(encode_image_multi)
    aencode, aencode_query, aencode_document = awaitable(encode), awaitable(encode_query), awaitable(encode_document)
    aencode_sparse, aencode_multi = awaitable(encode_sparse), awaitable(encode_multi)

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
        given = self._checked(texts, role, own if prompt is None else prompt, batch_tokens)
        from edge_embed_runtime.embed.tokens import without_prompt

        found: dict[int, TokenVectors] = {}
        with embedding(self._options.limit, self.predicted_peak):
            for i, tokens, vectors in self.token_model.each(given.whole(), mix, given.batch_tokens, number):
                found[i] = without_prompt(tokens, vectors, given.texts[i], len(given.before), unit=normalize)
        return [found[i] for i in range(len(given))]

    @cached_property
    def token_model(self) -> "TokenModel":
        """The layers of the network. Raises InputError for a static bundle."""
        network = self.network
        from edge_embed_runtime.model.layers import TokenModel  # imports onnxruntime, as the network did

        return TokenModel(network, self._options.limit)

    def left_out(self, prompt: str) -> int:
        """Tokens at the beginning of texts behind this prompt that their vectors are not made of: see
        `Manifest.left_out`."""
        how = self.manifest.left_out
        if not how:
            return 0
        from edge_embed_runtime.inputs.prompts import left_out  # few models do

        return left_out(self.tokenizer, prompt, how)

    def count_tokens(self, texts: Sequence[str], *, role: str | None = None, prompt: str | None = None) -> list[int]:
        """Tokens of each text with its prompt and special tokens, also those beyond `max_tokens`. Options are those of
        `encode`."""
        given = self._checked(texts, role, prompt, None)
        return [self.tokenizer.count(text) for text in given.whole()]

    def _most(self, role: str | None) -> int:
        """Tokens that count of a text with this role."""
        shorter = self.manifest.head.get("query_length") if role == "query" else None
        return min(int(shorter), self.max_tokens) if shorter else self.max_tokens

    def _check_prompt(self, before: str, role: str | None, own: bool) -> None:
        """Refuse a prompt that leaves no room for texts. own: it is the bundle's"""
        from edge_embed_runtime.inputs.prompts import check_room  # most bundles have none

        check_room(self.tokenizer, before, f"bundle {self.path}: the prompt{f' of {role!r}' * own}", self._most(role))
        self._fitting = before, role

    def _checked(
        self,
        texts: Sequence[str],
        role: str | None,
        prompt: str | None,
        batch_tokens: int | None,
        on_truncation: Truncation = "ignore",
    ) -> Texts:
        """Raises InputError for what cannot be embedded."""
        if on_truncation not in ON_TRUNCATION:
            raise unusable("on_truncation", on_truncation, f"one of {listed(ON_TRUNCATION)}")
        most_tokens = self._batch_tokens(batch_tokens)
        if role is not None and (not isinstance(role, str) or role not in self._prompts):
            raise unusable("role", role, f"one of {listed(sorted(self._prompts))}")
        self.check_process()
        if self.manifest.side and role not in (None, self.manifest.side):
            raise InputError(
                f"bundle {self.path} is the side of the model that is for the role {self.manifest.side!r}: texts of "
                f"the role {role!r} need the bundle of the other side",
                path=self.path,
            )
        named = role or self.manifest.default_role
        before = (self._prompts[named] if named else "") if prompt is None else check_text(prompt, "the prompt")
        if before and (before, named) != self._fitting:
            self._check_prompt(before, named, prompt is None)
        given = Texts(check_texts(texts), before, most_tokens)
        if on_truncation != "ignore":
            from edge_embed_runtime.embed.truncation import check_lengths

            check_lengths(given, self.tokenizer, self._most(role), f"bundle {self.path}", warn=on_truncation == "warn")
        return given
