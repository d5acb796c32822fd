"""What the doors have in common: texts to vectors, with their tokens counted and what does not fit refused."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edge_embed.schemas import TEXT, TEXTS, Schema, or_null
from edge_embed.service.service import Service
from edge_embed_runtime.checks import listed, unusable
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.vectors.normalize import cut as cut_vectors
from edge_embed_runtime.vectors.types import Vectors

# Which end of a text that is too long is left out; "none" refuses such a text.
Cut = Literal["end", "start", "none"]

# For a `format` of these, /openapi.json says what this service has: models, roles, dimensions.
MODEL: Schema = {"type": "string", "format": "model"}
ANY_MODEL: Schema = {"type": "string", "format": "any_model"}
RERANKER: Schema = {"type": "string", "format": "reranker"}
DIMENSIONS: Schema = or_null({"type": "integer", "format": "dimensions", "minimum": 1})
ONE_OR_MORE: Schema = {"anyOf": [TEXT, {**TEXTS, "minItems": 1}]}


@dataclass(frozen=True)
class Embedded:
    """vectors: float32 [n, dim]; tokens: that were read of all texts, prompts and special ones included"""

    vectors: Vectors
    tokens: int


@dataclass(frozen=True)
class Names:
    """What an API calls the things that a message is about."""

    texts: str
    role: str
    dim: str
    hint: str


def text_list(given: str | list[str]) -> list[str]:
    """ "a" -> ["a"]."""
    return [given] if isinstance(given, str) else given


async def embed(
    service: Service,
    texts: Sequence[str],
    names: Names,
    *,
    model: str | None = None,
    role: str | None = None,
    dim: int | None = None,
    cut: Cut = "end",
) -> Embedded:
    """Raises InputError for a text that is longer than the model reads where it may not be cut, and for a model that
    gives no such vectors; Refusal for an unknown model."""
    embedder = service.embedder(model)
    if embedder.kind != "dense":
        raise InputError(f"the model gives {embedder.output.gives}, not one vector for a text")
    if role is not None and role not in embedder.prompts:
        raise unusable(names.role, role, f"one of {listed(sorted(embedder.prompts))}")
    check_dim(embedder, dim, names.dim)
    counts = await service.count_tokens(texts, model, role)
    if cut != "end":
        _check_lengths(counts, embedder.max_tokens, names)
    vectors = await service.embed(texts, model, role=role, dim=dim)
    return Embedded(vectors, sum(min(count, embedder.max_tokens) for count in counts))


async def embed_images(
    service: Service, images: Sequence[bytes], names: Names, *, model: str | None = None, dim: int | None = None
) -> Vectors:
    """float32 [n, dim] of pictures' files. Raises what `Service.embed_images` raises."""
    embedder = service.embedder(model)
    if "image" not in embedder.modalities:
        raise InputError(f"the model has no image tower: it embeds {listed(embedder.modalities)}")
    check_dim(embedder, dim, names.dim)
    vectors = await service.embed_images(images, model)
    return vectors if dim is None else cut_vectors(vectors, dim, embedder.manifest.truncation)


def dims(embedder: Embedder) -> list[int]:
    """Lengths that vectors may be cut to: those the model was trained for, and the whole."""
    return sorted({dim for dim in (*embedder.manifest.truncate_dims, embedder.dim) if dim <= embedder.dim})


def check_dim(embedder: Embedder, dim: int | None, name: str) -> None:
    """Raise InputError for a length that the model was not trained to be cut to."""
    possible = dims(embedder)
    if dim is not None and dim not in possible:
        raise unusable(name, dim, f"one of {listed(possible)}, which the model was trained for")


def base64_rows(vectors: Vectors) -> list[str]:
    """The bytes of each vector, as little-endian float32."""
    return [base64.b64encode(row.astype("<f4").tobytes()).decode("ascii") for row in vectors]


def refuse_token_ids(given: Any, name: str) -> None:
    """Raise InputError for numbers in place of texts: they are of another tokenizer than the model's."""
    if isinstance(given, list) and given and _is_tokens(given[0]):
        raise InputError(
            f"{name} holds token ids, expected texts: ids of another tokenizer mean nothing to the model here. With "
            "LangChain, write OpenAIEmbeddings(..., check_embedding_ctx_length=False), which sends texts",
            option=name,
        )


def _is_tokens(entry: object) -> bool:
    tokens = entry if isinstance(entry, list) else [entry]
    return all(isinstance(token, int) and not isinstance(token, bool) for token in tokens)


def _check_lengths(counts: Sequence[int], most: int, names: Names) -> None:
    for i, count in enumerate(counts):
        if count > most:
            raise InputError(
                f"{names.texts}[{i}] has {count:,} tokens; the model reads {most:,}: {names.hint}",
                option=names.texts,
            )
