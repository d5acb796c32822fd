"""The methods of sentence-transformers' SentenceTransformer, on a bundle that embeds texts."""

import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed.embedder import Embedder
from edge_embed.integrations.embedding import check_dense, check_device
from edge_embed.integrations.sentence_transformers.interface import (
    EXTRA,
    Interface,
    converted,
    refuse_unknown,
    tensor_or_array,
)
from edge_embed.integrations.sentence_transformers.similarities import SIMILARITIES, check_similarity, comparable, unit
from edge_embed_runtime.checks import check_count, listed, unusable
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.extras import require
from edge_embed_runtime.vectors.types import Vectors

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")


class SentenceTransformer(Interface):
    """Embeds texts with a bundle of kind "dense".

    model_name_or_path:  a bundle folder, or the name of an embedded one; None is the default
    device:              "cpu" or None: bundles run on no other
    prompts:             texts to put before others, by name, besides those of the bundle and before them
    default_prompt_name: which of them where a call names none
    similarity_fn_name:  "cosine" (the default), "dot", "euclidean" or "manhattan"
    truncate_dim:        keep only so many numbers of each vector
    options:             others that `Embedder` has: `threads`, `max_rss_mb`, `adapter`, ...

    Vectors have length 1 with and without `normalize_embeddings`, unless they are truncated. Raises InputError for what
    it does not know, by name. `embedder` is the Embedder behind it.
    """

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        device: object = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: object = "cosine",
        truncate_dim: int | None = None,
        **options: Any,
    ) -> None:
        check_device(device)
        refuse_unknown("SentenceTransformer()", set(options) - set(inspect.signature(Embedder).parameters))
        self.embedder = Embedder(model_name_or_path, **options)
        check_dense(self.embedder.manifest, self.embedder.path, "SentenceTransformer")
        super().__init__(self.embedder, prompts, default_prompt_name)
        self.similarity_fn_name = similarity_fn_name
        self.truncate_dim = truncate_dim

    def encode(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        precision: str | None = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: object = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        *,
        sentences: Any = None,
        task: str | None = None,
        **unknown: Any,
    ) -> Any:
        """Vectors of texts: float32 [n, dim] in the order of the texts, [dim] of one text that is no list.

        inputs:               texts, or one; `sentences` is its older name
        prompt_name:          of `prompts`, what to put before each text; `prompt`, such a text itself, counts first
        batch_size:           changes nothing: a bundle makes its own batches, by tokens
        output_value:         only "sentence_embedding"; vectors of tokens are `embedder.encode_tokens`
        precision:            "binary" and "ubinary" give packed bits, [n, dim / 8]; "int8" and "uint8" need the extra,
                              and take the range of each number from these texts, as sentence-transformers does
        convert_to_tensor:    one torch tensor; with neither this nor `convert_to_numpy` a list of tensors
        normalize_embeddings: bring truncated vectors to length 1 again; others have it
        truncate_dim:         keep only so many numbers; None means what the model was made with
        task:                 a role of the bundle, "query" or "document" in all: `encode_query` and `encode_document`
                              name it. It decides on an adapter, where the bundle has one for it, and on no prompt

        Raises InputError for anything else, and for inputs that are not texts.
        """
        refuse_unknown("encode()", unknown)
        check_device(device)
        check_count(batch_size, "batch_size", 1)
        if output_value != "sentence_embedding":
            raise unusable("output_value", output_value, "'sentence_embedding' (see Embedder.encode_tokens for others)")
        if precision not in (None, *PRECISIONS):
            raise unusable("precision", precision, f"one of {listed(PRECISIONS)}")
        if inputs is not None and sentences is not None:
            raise InputError("inputs and sentences are the same: give one of them", option="sentences")
        size = self.truncate_dim if truncate_dim is None else check_count(truncate_dim, "truncate_dim", 1)
        given = sentences if inputs is None else inputs
        texts = [given] if isinstance(given, str) else given
        role, before = self._prompt(prompt_name, prompt, task)
        vectors = self.embedder.encode(
            texts,
            role=role,
            prompt=before,
            truncate_dim=self._trained_cut(size),
            show_progress=bool(show_progress_bar),
        )
        cut = vectors[:, :size]
        if normalize_embeddings and cut.shape[1] < self.embedder.dim:
            cut = unit(cut)
        found = converted(_quantized(cut, precision), convert_to_numpy, convert_to_tensor)
        return found[0] if isinstance(given, str) else found

    def encode_query(
        self, inputs: Any = None, prompt_name: str | None = None, prompt: str | None = None, **options: Any
    ) -> Any:
        """`encode` with the prompt "query", and what else the bundle has for queries."""
        return self._encode_as("query", inputs, prompt_name, prompt, options)

    def encode_document(
        self, inputs: Any = None, prompt_name: str | None = None, prompt: str | None = None, **options: Any
    ) -> Any:
        """`encode` with the prompt "document", and what else the bundle has for documents."""
        return self._encode_as("document", inputs, prompt_name, prompt, options)

    @property
    def similarity_fn_name(self) -> str:
        """How `similarity` compares."""
        return self._similarity

    @similarity_fn_name.setter
    def similarity_fn_name(self, name: object) -> None:
        self._similarity = check_similarity(name)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """How alike each of n vectors is to each of m: [n, m], a torch tensor where torch is installed."""
        a, b = comparable(embeddings1, embeddings2)
        return tensor_or_array(SIMILARITIES[self._similarity].matrix(np.atleast_2d(a), np.atleast_2d(b)))

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """How alike the vectors of each of n pairs are: [n], a torch tensor where torch is installed."""
        a, b = comparable(embeddings1, embeddings2)
        if a.ndim == b.ndim == 2 and len(a) != len(b) and 1 not in (len(a), len(b)):
            raise InputError(f"{len(a)} and {len(b)} vectors: expected pairs of them", option="embeddings2")
        return tensor_or_array(np.asarray(SIMILARITIES[self._similarity].pairs(a, b)))

    def get_embedding_dimension(self) -> int:
        """Numbers in a vector of `encode`."""
        return min(self.embedder.dim, self.truncate_dim or self.embedder.dim)

    get_sentence_embedding_dimension = get_embedding_dimension

    @property
    def truncate_dim(self) -> int | None:
        """Numbers of each vector that are kept; None means all."""
        return self._truncate_dim

    @truncate_dim.setter
    def truncate_dim(self, dim: int | None) -> None:
        self._truncate_dim = None if dim is None else check_count(dim, "truncate_dim", 1)

    @contextmanager
    def truncate_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Vectors have so many numbers in this context."""
        before, self.truncate_dim = self.truncate_dim, truncate_dim
        try:
            yield
        finally:
            self.truncate_dim = before

    truncate_sentence_embeddings = truncate_embeddings

    def _encode_as(
        self, role: str, inputs: Any, prompt_name: str | None, prompt: str | None, options: dict[str, Any]
    ) -> Any:
        named = role if prompt_name is None and prompt is None else prompt_name
        return self.encode(inputs, named, prompt, task=role, **options)

    def _prompt(self, name: str | None, prompt: str | None, task: str | None) -> tuple[str | None, str | None]:
        """Role of texts in the bundle, and what to put before them; None is what the bundle has for that role."""
        own = self.embedder.prompts
        if task is not None and task not in own:
            raise unusable("task", task, f"one of {listed(list(own))}")
        if prompt is not None:
            return task, prompt
        role = self.embedder.manifest.default_role or None
        named = self.default_prompt_name if name is None else name
        if named is None:
            return task, None if task is None and role is None else ""
        text = self.prompt_named(named)
        return task, None if named == (task or role) and text == own.get(named) else text

    def _trained_cut(self, size: int | None) -> int | None:
        """The dimensions to cut to where the bundle cuts in a way of its own (see `Manifest.truncation`)."""
        return min(size, self.embedder.dim) if size and self.embedder.manifest.truncation else None


def _quantized(vectors: Vectors, precision: str | None) -> NDArray[Any]:
    """[n, dim], or for bits [n, dim / 8]."""
    if precision in (None, "float32") or not len(vectors):
        return vectors
    if precision in ("int8", "uint8"):
        codes: NDArray[Any] = require("sentence_transformers", EXTRA).quantize_embeddings(vectors, precision)
        return codes
    bits = np.packbits(vectors > 0, axis=-1)
    return bits if precision == "ubinary" else (bits ^ 0x80).view(np.int8)
