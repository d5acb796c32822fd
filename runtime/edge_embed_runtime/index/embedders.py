"""The embedders of one index: what each makes of a text, and what of it is stored."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.errors import BundleMismatchError, InputError
from edge_embed_runtime.storage.schema import Facts
from edge_embed_runtime.storage.textquery import NORMAL
from edge_embed_runtime.vectors.kinds import DENSE, KINDS, MULTI, SPARSE, Kind

if TYPE_CHECKING:
    from edge_embed_runtime.embed.encoder import Encoder


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
                what = given.kind if isinstance(given, Embedder) else type(given).__name__
                raise InputError(f"{kind.name}= takes an Embedder of a bundle of kind {kind.name!r}, got {what}")
        if embedder is not None and embedder.output.apart:
            kind = embedder.output
            if found[kind] is not None:
                raise InputError(f"two embedders of kind {kind.name!r} were given, expected one")
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

    def facts(self, words: str, fields: str) -> Facts | None:
        """The facts of an index that they make; None without any of them."""
        first = self.first
        if first is None:
            return None
        said = {
            name: json.dumps([model.fingerprint, model.manifest.name, model.manifest.dim])
            for name, model in self.attached.items()
        }
        if self.dense is None:
            return Facts(first.fingerprint, first.name, "0", words=words, fields=fields, normal=NORMAL, **said)
        said |= {"frame": self.dense.frame.to_json(), "normal": NORMAL}
        return Facts(first.fingerprint, first.name, str(self.dense.dim), words=words, fields=fields, **said)

    def check(self, path: Path, facts: Facts) -> None:
        """Refuse models whose vectors the index does not hold."""
        for name, model in self.attached.items():
            stored = facts.attached.get(name)
            if stored is None:
                what = KINDS[name].stored
                raise InputError(f"{path} was made without {what}; open it without {name}=, or make a new index")
            if stored[0] != model.fingerprint:
                raise BundleMismatchError(
                    f"{path} holds {KINDS[name].stored} of the bundle {stored[1]!r} ({stored[0][:8]}); {name}= is "
                    f"{model.name!r} ({model.fingerprint[:8]}). Open it with the bundle it was made with"
                )

    def missing(self, facts: Facts) -> str | None:
        """What is needed to add to an index and is not here, as the end of a sentence; None where all is."""
        absent = [name for name in facts.attached if name not in self.attached]
        if self.dense is None and facts.dim != "0":
            return "an embedder" if facts.space else f"the Embedder of {facts.bundle!r}"
        return f"{absent[0]}=Embedder(...) (--{absent[0]}) of {facts.attached[absent[0]][1]!r}" if absent else None

    def cannot(self, mode: str, facts: Facts) -> str | None:
        """Why a query cannot be embedded for a mode of search, and what to do; None where it can."""
        able = {"vector": self.dense, SPARSE.name: self.sparse, MULTI.name: self.multi}.get(mode, self.first)
        if able is not None:
            return None
        if mode in (SPARSE.name, MULTI.name):
            stored = facts.attached.get(mode)
            if stored is None:
                return f"the index was made without {KINDS[mode].stored}"
            return f"open it with {mode}=Embedder(...) (--{mode}) of {stored[1]!r}"
        if facts.dim == "0" and mode == "vector":
            return f"there are no dense vectors, search with mode={next(iter(facts.attached))!r}"
        return f"give `vector`, made by {facts.bundle!r}" if facts.space else "open it with an Embedder"

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
        from edge_embed_runtime.storage.sidetables import embed_rows  # most indexes have none

        return {name: embed_rows(model, passages) for name, model in self.attached.items()}
