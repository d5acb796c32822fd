"""Several embedders, or several adapters of one, as one."""

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np

from edge_embed_runtime.checks import check_count, unusable
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.inputs.tokenizer import Tokenizer
from edge_embed_runtime.system.waiting import awaitable
from edge_embed_runtime.vectors.kinds import DENSE, Kind
from edge_embed_runtime.vectors.normalize import normalize
from edge_embed_runtime.vectors.rotation import Frame
from edge_embed_runtime.vectors.types import Vectors

Mode = Literal["concat", "mean"]
Member = Embedder | tuple[Embedder, str]


@dataclass(frozen=True)
class _Part:
    """One embedder with its adapter, how many numbers of its vectors count, and its share of the whole."""

    embedder: Embedder
    adapter: str | None
    dim: int
    share: float

    @property
    def room(self) -> int:
        """Tokens of a document that count, besides a prompt and special tokens."""
        tokenizer = self.embedder.tokenizer
        return tokenizer.max_content - len(tokenizer.encode(self.embedder.prompts["document"]))


class ComposedEmbedder:
    """One vector for a text from several embedders; it takes an Embedder's place wherever vectors of texts are made.

    parts: (member, weight) for each; a member is an Embedder, or (Embedder, adapter) for one of its adapters ("base"
           for none of them). Members may share an Embedder; it is loaded once
    mode:  "concat" puts vectors one behind the other, so that the cosine of two texts is the weighted mean of the
           members' cosines. "mean" adds vectors, which means something where they are of one space: adapters of one
           model, or models trained to agree
    dim:   numbers in a vector; None means all: the sum of the members', or of "mean" what they all have. Fewer are the
           first of each member's, in proportion (see `Embedder`: `truncate_dim`)

    Vectors have length 1. Members take their own prompts by role. Raises InputError for no parts, for weights that are
    not over 0, and for a mean of vectors of different dims.
    """

    calls_at_once = 1  # as of its members

    def __init__(self, parts: Iterable[tuple[Member, float]], *, mode: Mode = "concat", dim: int | None = None) -> None:
        if mode not in get_args(Mode):
            raise unusable("mode", mode, f"one of {get_args(Mode)}")
        members = [_member(part, f"part {i}") for i, part in enumerate(parts)]
        if not members:
            raise InputError("ComposedEmbedder needs one part at least: [(Embedder(), 1.0), ...]")
        dims = _dims([embedder.dim for embedder, _, _ in members], mode, dim)
        total = math.fsum(weight for _, _, weight in members)
        self._mode = mode
        self._parts = [
            _Part(embedder, adapter, own, weight / total)
            for (embedder, adapter, weight), own in zip(members, dims, strict=True)
        ]
        # a passage of an index must be one that every member can take whole
        self._narrowest = min(self._parts, key=lambda part: part.room).embedder

    @property
    def name(self) -> str:
        """Of the members' bundles, in their order."""
        return "+".join(f"{p.embedder.name}{f'/{p.adapter}' if p.adapter else ''}" for p in self._parts)

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return sum(part.dim for part in self._parts) if self._mode == "concat" else self._parts[0].dim

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that count for all members; some may read more."""
        return min(part.embedder.max_tokens for part in self._parts)

    @property
    def output(self) -> Kind:
        """One vector for a text."""
        return DENSE

    @property
    def is_static(self) -> bool:
        """Whether all members are."""
        return all(part.embedder.is_static for part in self._parts)

    @property
    def predicted_peak(self) -> int:
        """See `Embedder`; members that were made later were predicted with those before them."""
        return max(part.embedder.predicted_peak for part in self._parts)

    @property
    def tokenizer(self) -> Tokenizer:
        """That of the member which takes the fewest tokens: documents are split into passages with it."""
        return self._narrowest.tokenizer

    @property
    def prompts(self) -> dict[str, str]:
        """Prompts by role, of the member whose tokenizer this has."""
        return self._narrowest.prompts

    @property
    def fingerprint(self) -> str:
        """Names all that decides which vector a text gets: the members, their weights, and how they are composed."""
        parts = [[p.embedder.fingerprint, p.adapter, p.dim, round(p.share, 9)] for p in self._parts]
        return hashlib.sha256(json.dumps(["composed", self._mode, parts]).encode()).hexdigest()[:32]

    @property
    def frame(self) -> Frame:
        """How binary codes are made of the vectors: as the members' are, where whole vectors stand side by side."""
        frames = [part.embedder.frame for part in self._parts]
        whole = all(part.dim == part.embedder.dim for part in self._parts)
        if self._mode != "concat" or not whole or all(frame.centre is None and not frame.turned for frame in frames):
            return Frame()
        centres = [
            np.zeros(part.dim, np.float32) if frame.centre is None else frame.centre * np.float32(part.share**0.5)
            for part, frame in zip(self._parts, frames, strict=True)
        ]
        centre = np.concatenate(centres)
        return Frame(centre if centre.any() else None, any(frame.turned for frame in frames))

    def encode_query(self, texts: Sequence[str], **options: Any) -> Vectors:
        """`encode` with role="query"."""
        return self.encode(texts, role="query", **options)

    def encode_document(self, texts: Sequence[str], **options: Any) -> Vectors:
        """`encode` with role="document"."""
        return self.encode(texts, role="document", **options)

    def encode(self, texts: Sequence[str], *, role: str | None = None, **options: Any) -> Vectors:
        """Embed n texts: float32 [n, dim], each row of length 1, in the order of the texts.

        role, options: as of `Embedder.encode`, for every member; `adapter` and `truncate_dim` are fixed by the parts
        """
        for name in ("adapter", "truncate_dim"):
            if options.get(name) is not None:
                raise InputError(f"{name} is chosen when a ComposedEmbedder is made, by its parts and its dim")
        found = [p.embedder.encode(texts, role=role, **{**options, **_fixed(p)}) for p in self._parts]
        if self._mode == "concat":
            return normalize(np.hstack([v * np.float32(p.share**0.5) for v, p in zip(found, self._parts, strict=True)]))
        total = np.zeros_like(found[0])
        for vectors, part in zip(found, self._parts, strict=True):
            total += vectors * np.float32(part.share)
        cancelled = np.linalg.norm(total, axis=1) < 1e-6
        total[cancelled] = found[0][cancelled]
        return normalize(total)

    aencode, aencode_query, aencode_document = awaitable(encode), awaitable(encode_query), awaitable(encode_document)


def _fixed(part: _Part) -> dict[str, Any]:
    return {"adapter": part.adapter, "truncate_dim": part.dim}


def _member(part: Any, what: str) -> tuple[Embedder, str | None, float]:
    """A part that a caller gave. Raises InputError."""
    if not isinstance(part, tuple | list) or len(part) != 2:
        raise InputError(f"{what} is {part!r:.60}, expected (Embedder, weight) or ((Embedder, adapter), weight)")
    member, weight = part
    embedder, adapter = member if isinstance(member, tuple | list) and len(member) == 2 else (member, None)
    if not isinstance(embedder, Embedder):
        raise InputError(f"{what} has {type(embedder).__name__} in the place of an Embedder")
    if embedder.output is not DENSE:
        raise InputError(f"{what}: bundle {embedder.path} is of kind {embedder.kind!r}; vectors are composed")
    embedder.check_adapter(adapter)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise InputError(f"{what} has the weight {weight!r:.40}, expected a number over 0")
    return embedder, adapter, float(weight)


def _dims(own: list[int], mode: Mode, dim: int | None) -> list[int]:
    """How many numbers of each member's vectors count."""
    if mode == "mean":
        if dim is None and len(set(own)) > 1:
            raise InputError(
                f"a mean needs vectors of one dim, the parts have {own}; give dim, or mode='concat'", option="dim"
            )
        return [own[0] if dim is None else check_count(dim, "dim", 1, min(own))] * len(own)
    if dim is None:
        return own
    total = sum(own)
    check_count(dim, "dim", len(own), total)
    ends = [max(i, dim * sum(own[:i]) // total) for i in range(len(own))] + [dim]
    shares = [end - start for start, end in pairwise(ends)]
    if min(shares) < 1:
        raise InputError(f"dim {dim} leaves a part of {own} without numbers", option="dim")
    return shares
