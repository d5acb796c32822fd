"""The embedders of one index: what each makes of a text, and what of it is stored."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from numpy.typing import ArrayLike

from edge_embed_runtime.checks import check_text, listed, unusable
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.errors import BundleMismatchError, InputError, MediaError
from edge_embed_runtime.inputs.words import NORMAL
from edge_embed_runtime.search.query import STATIC_TEXT_SHARE, TEXT_SHARE, Mode, Query, Wanted
from edge_embed_runtime.storage.schema import Facts, SideModel
from edge_embed_runtime.storage.store import Store
from edge_embed_runtime.vectors.kinds import DENSE, KINDS, MULTI, SPARSE, Kind
from edge_embed_runtime.vectors.normalize import check_vectors, normalize
from edge_embed_runtime.vectors.rotation import NONE
from edge_embed_runtime.vectors.types import Vectors

if TYPE_CHECKING:
    from edge_embed_runtime.embed.encoder import Encoder
    from edge_embed_runtime.search.reranking import Reranking
    from edge_embed_runtime.storage.media import Kind as DocumentKind
    from edge_embed_runtime.storage.media import MediaKind

# Passages whose rows for side tables are made at once.
EMBED_SLICE = 256


@dataclass(frozen=True)
class Models:
    """dense: one vector for a passage; sparse, multi: bundles of these kinds."""

    dense: "Encoder | None" = None
    sparse: Embedder | None = None
    multi: Embedder | None = None

    @staticmethod
    def of(embedder: "Encoder | None", sparse: Embedder | None, multi: Embedder | None) -> "Models":
        """What was given to `Index.open`; an embedder of another kind than "dense" stands in its own place."""
        found: dict[Kind, Any] = {DENSE: embedder, SPARSE: sparse, MULTI: multi}
        for kind, given in found.items():
            if kind.apart and given is not None and (not isinstance(given, Embedder) or given.output is not kind):
                what, name = given.kind if isinstance(given, Embedder) else type(given).__name__, kind.name
                raise InputError(f"{name}= takes an Embedder of a bundle of kind {name!r}, got {what}", option=name)
        if embedder is not None and embedder.output.apart:
            kind = embedder.output
            if found[kind] is not None:
                raise InputError(f"two embedders of kind {kind.name!r} were given, expected one", option=kind.name)
            found |= {kind: embedder, DENSE: None}
        return Models(*found.values())

    @property
    def attached(self) -> dict[str, Embedder]:
        """Those whose vectors lie in tables of their own."""
        return {model.kind: model for model in (self.sparse, self.multi) if model is not None}

    @property
    def first(self) -> "Encoder | None":
        """The one whose tokens decide where long texts are split, and that names an index."""
        return self.dense or self.sparse or self.multi

    @property
    def peak(self) -> int:
        """Bytes that the process was predicted to take at most, or 0 without a limit."""
        return max((model.predicted_peak for model in (self.dense, self.sparse, self.multi) if model), default=0)

    def facts(self, words: str, fields: tuple[str, ...]) -> Facts | None:
        """The facts of an index that they make; None without any of them."""
        first = self.first
        if first is None:
            return None
        side = {
            name: SideModel(model.fingerprint, model.manifest.name, model.manifest.dim)
            for name, model in self.attached.items()
        }
        return Facts(
            first.fingerprint,
            first.name,
            0 if self.dense is None else self.dense.dim,
            words=words,
            fields=fields,
            frame=NONE if self.dense is None else self.dense.frame,
            sparse=side.get("sparse"),
            multi=side.get("multi"),
            normal=NORMAL,
        )

    def check(self, path: Path, facts: Facts) -> None:
        """Refuse models whose vectors the index does not hold."""
        for name, model in self.attached.items():
            stored = facts.attached.get(name)
            if stored is None:
                what = KINDS[name].stored
                raise InputError(
                    f"{path} was made without {what}; open it without {name}=, or make a new index", path=path
                )
            if stored.fingerprint != model.fingerprint:
                raise BundleMismatchError(
                    f"{path} holds {KINDS[name].stored} of the bundle {stored.name!r} ({stored.fingerprint[:8]}); "
                    f"{name}= is {model.name!r} ({model.fingerprint[:8]}). Open it with the bundle it was made with",
                    path=path,
                    bundle=stored.name,
                )

    def missing(self, facts: Facts) -> str | None:
        """What is needed to add to an index and is not here, as the end of a sentence; None where all is."""
        absent = [name for name in facts.attached if name not in self.attached]
        if self.dense is None and facts.dim:
            return "an embedder" if facts.space else f"the Embedder of {facts.bundle!r}"
        return f"{absent[0]}=Embedder(...) (--{absent[0]}) of {facts.attached[absent[0]].name!r}" if absent else None

    def cannot(self, mode: str, facts: Facts) -> str | None:
        """Why a query cannot be embedded for a mode of search, and what to do; None where it can."""
        able = {"vector": self.dense, SPARSE.name: self.sparse, MULTI.name: self.multi}.get(mode, self.first)
        if able is not None:
            return None if "text" in self.modalities else f"its bundle embeds {listed(self.modalities)} alone"
        if mode in (SPARSE.name, MULTI.name):
            stored = facts.attached.get(mode)
            if stored is None:
                return f"the index was made without {KINDS[mode].stored}"
            return f"open it with {mode}=Embedder(...) (--{mode}) of {stored.name!r}"
        if not facts.dim and mode == "vector":
            return f"there are no dense vectors, search with mode={next(iter(facts.attached))!r}"
        return f"give `vector`, made by {facts.bundle!r}" if facts.space else "open it with an Embedder"

    def query(
        self,
        store: Store,
        query: str | None,
        mode: Mode | None,
        vector: ArrayLike | None,
        wanted: Wanted,
        media: "Mapping[MediaKind, Any]",
    ) -> tuple[Query, Mode]:
        """What `Index.search` is to look for, checked and embedded.

        media: a picture or sound to look for, by its kind; None for none
        """
        shown = {kind: given for kind, given in media.items() if given is not None}
        if mode is None:
            wordy = self.first is not None and "text" not in self.modalities and not shown and vector is None
            mode = "vector" if query is None or wanted.kind in media else "text" if wordy else "hybrid"
        if mode not in get_args(Mode):
            raise unusable("mode", mode, f"one of {get_args(Mode)}")
        if mode not in ("vector", "hybrid") and (shown or wanted.kind in media):
            raise InputError(
                f"mode {mode!r} compares texts; pictures and sounds are for the modes 'vector' and 'hybrid'",
                option="mode",
            )
        if not shown:
            return self._texts(store, query, mode, vector, examples=wanted.has_examples), mode
        vectors = [self._media_vector(store, kind, given) for kind, given in shown.items()]
        if query is None and vector is None:
            return Query(None, vectors[0], others=tuple(vectors[1:]), kind=next(iter(shown))), "vector"
        asked = self._texts(store, query, mode, vector, examples=wanted.has_examples)
        return replace(asked, others=tuple(vectors)), mode

    def _media_vector(self, store: Store, kind: "MediaKind", given: Any) -> Vectors:
        """[dim] of a picture or sound; of several vectors their mean."""
        self.check_kind(kind, store.path)
        assert isinstance(self.dense, Embedder)  # noqa: S101 - others have no such model
        ((_, found),) = self.dense.each_input(kind, [given])
        if isinstance(found, MediaError):
            raise found
        vectors = check_vectors(found.reshape(-1, found.shape[-1]), store.dim, "vectors")
        vector: Vectors = vectors[0] if len(vectors) == 1 else normalize(vectors.mean(axis=0, keepdims=True))[0]
        return vector

    def _texts(self, store: Store, query: str | None, mode: Mode, vector: ArrayLike | None, *, examples: bool) -> Query:
        """examples: whether there is something to look for without a query"""
        given = vector is not None or examples
        if query is None and (not given or mode != "vector"):
            raise InputError(f"there is no query; mode {mode!r} needs a text" if given else "give a query")
        if query is not None and not check_text(query, "the query").strip():
            raise InputError("the query is empty", option="query")
        if vector is not None:
            return Query(query, check_vectors([vector], store.dim, "vector")[0])
        if mode == "text" or query is None:
            return Query(query, None)
        lacking = self.cannot(mode, store.facts)
        if lacking is not None:
            raise InputError(
                f"{store.path} cannot embed the query: {lacking}, or search with mode='text'", path=store.path
            )
        static = self.dense is not None and self.dense.is_static
        share = STATIC_TEXT_SHARE if static else TEXT_SHARE
        return Query(query, *self.ask(query, mode), text_share=share)

    @property
    def modalities(self) -> tuple[str, ...]:
        """What can be embedded: "text", "image", "audio"."""
        if self.first is None:
            return ()
        return self.dense.modalities if isinstance(self.dense, Embedder) else ("text",)

    def each_media(self, kind: "MediaKind", contents: Sequence[Any]) -> "Iterator[tuple[int, Vectors | MediaError]]":
        """Place and vectors [1, dim] or [1, n, dim] of each picture or sound, or its error; after `check_kind`."""
        assert isinstance(self.dense, Embedder)  # noqa: S101 - others have none
        return self.dense.each_input(kind, contents)

    def check_kind(self, kind: "DocumentKind", path: Path) -> None:
        """Raise InputError where there is no model for texts, pictures or sounds."""
        what = {"text": "texts", "image": "pictures", "audio": "sounds"}[kind]
        dense = self.dense
        if kind == "text" and kind in self.modalities:
            return
        if dense is None:
            raise InputError(f"{path} was opened without the Embedder that {what} need", path=path, option=kind)
        has = self.modalities
        if kind not in has:
            raise InputError(
                f"{path}: {what} need an Embedder with a bundle that has a tower for them; {dense.name!r} embeds "
                f"{listed(has)} alone",
                path=path,
                option=kind,
            )

    def ask(self, text: str, mode: str) -> tuple[Any, Any, Any]:
        """What a query is, of each kind that a mode of search compares."""
        dense = sparse = multi = None
        if self.dense is not None and mode != "sparse":
            dense = self.dense.encode_query([text])[0]
        if self.sparse is not None and mode != "vector":
            sparse = self.sparse.encode_sparse([text], role="query")[0]
        alone = dense is None and sparse is None and mode == "hybrid"
        if self.multi is not None and (mode == "multi" or alone):
            multi = self.multi.encode_multi([text], role="query")[0]
        return dense, sparse, multi

    def rows(self, passages: Sequence[str]) -> dict[str, list[bytes]]:
        """What is stored of passages in the tables of their own."""
        if not self.attached:
            return {}
        return {name: embed_rows(model, passages) for name, model in self.attached.items()}


def with_reranker(
    reranker: object, depth: object, query: str | None, wanted: Wanted
) -> "tuple[Wanted, Reranking | None]":
    """What to look for, where a reranker chooses the hits among that; None where there is none."""
    if reranker is None and depth is None:
        return wanted, None
    from edge_embed_runtime.search.reranking import Reranking  # most searches have none

    reranking = Reranking.checked(reranker, depth, query, wanted)
    return replace(wanted, k=reranking.depth, kind="text"), reranking


def embed_rows(embedder: Embedder, passages: Sequence[str]) -> list[bytes]:
    """The rows of passages in a side table."""
    kind, dim = embedder.output, embedder.manifest.dim
    rows: list[bytes] = []
    for start in range(0, len(passages), EMBED_SLICE):
        vectors = kind.encode(embedder, passages[start : start + EMBED_SLICE], role="document")
        rows += [kind.pack(vector, dim) for vector in vectors]
    return rows
