"""The methods of sentence-transformers' CrossEncoder, on a bundle that scores pairs of texts."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed.integrations.embedding import check_device
from edge_embed.integrations.sentence_transformers.interface import (
    EXTRA,
    Interface,
    converted,
    refuse_unknown,
)
from edge_embed_runtime.checks import check_count, check_text
from edge_embed_runtime.embed.reranker import Reranker
from edge_embed_runtime.embed.texts import check_texts
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.extras import require

# From a tensor of the model's numbers [n, labels] to another.
Activation = Callable[[Any], Any]


class CrossEncoder(Interface):
    """Scores pairs of texts with a bundle of kind "rerank"; `reranker` is the Reranker behind it.

    model_name_or_path:  a bundle folder
    device:              "cpu" or None: bundles run on no other
    prompts:             texts to put before each first text, by name, besides those of the bundle and before them
    default_prompt_name: which of them where a call names none
    max_length:          what `max_seq_length` of the bundle is, or None
    activation_fn:       in place of the bundle's, where a call gives none; may be set
    options:             those of `Reranker`: `threads`, `max_rss_mb`, ...

    Raises InputError for what it does not know, by name.
    """

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str],
        *,
        device: object = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        max_length: int | None = None,
        activation_fn: Activation | None = None,
        **options: Any,
    ) -> None:
        check_device(device)
        refuse_unknown("CrossEncoder()", set(options) - set(inspect.signature(Reranker).parameters))
        self.reranker = Reranker(model_name_or_path, **options)
        super().__init__(self.reranker, prompts, default_prompt_name)
        if max_length is not None:
            self.max_seq_length = max_length
        self.activation_fn = activation_fn

    def predict(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Activation | None = None,
        apply_softmax: bool | None = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: object = None,
        *,
        sentences: Any = None,
        **unknown: Any,
    ) -> Any:
        """Scores of pairs: float32 [n], or [n, labels] of a model with several; a number of one pair of texts.

        inputs:        pairs of texts, or one; `sentences` is its older name
        prompt_name:   of `prompts`, what to put before each first text; `prompt`, such a text itself, counts first
        batch_size:    changes nothing: a bundle makes its own batches, by tokens
        activation_fn: in place of the model's, from a tensor of its numbers [n, labels] to another
        apply_softmax: bring the numbers of a pair, where there are several, to a sum of 1

        Others are as in `SentenceTransformer.encode`. Raises InputError for what it does not know.
        """
        refuse_unknown("predict()", unknown)
        check_device(device)
        check_count(batch_size, "batch_size", 1)
        if inputs is not None and sentences is not None:
            raise InputError("inputs and sentences are the same: give one of them", option="sentences")
        given = sentences if inputs is None else inputs
        given = given.tolist() if isinstance(given, np.ndarray) else given
        single = isinstance(given, Sequence) and len(given) == 2 and all(isinstance(text, str) for text in given)
        activation = self.activation_fn if activation_fn is None else activation_fn
        scores = self.reranker.scores(
            [given] if single else given,
            raw=activation is not None,
            prompt=self._prompt(prompt_name) if prompt is None else prompt,
            show_progress=bool(show_progress_bar),
        )
        if activation is not None and len(scores):
            scores = self._activated(scores, activation)
        if apply_softmax and scores.ndim > 1:
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores /= scores.sum(axis=1, keepdims=True)
        found = converted(scores, convert_to_numpy, convert_to_tensor)
        return found[0] if single else found

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """The documents that fit a query best, best first: {"corpus_id": place, "score": number}, with "text" where
        `return_documents` is set. Other options are those of `predict`."""
        self.reranker.check_ranks()
        most = None if top_k is None else check_count(top_k, "top_k", 1)
        check_text(query, "the query")
        refuse_unknown("rank()", set(options) & {"convert_to_numpy", "convert_to_tensor", "sentences"})
        texts = check_texts(documents, "rank", "rank(query, [text])")
        scores = self.predict([(query, text) for text in texts], prompt_name, prompt, **options)
        order = np.argsort(-scores, kind="stable")[:most]
        return [
            {"corpus_id": int(i), "score": float(scores[i])} | ({"text": texts[i]} if return_documents else {})
            for i in order
        ]

    @property
    def num_labels(self) -> int:
        """Numbers that the model gives for a pair."""
        return len(self.reranker.labels)

    @property
    def max_length(self) -> int:
        """The older name of `max_seq_length`."""
        return self.max_seq_length

    def _prompt(self, name: str | None) -> str:
        named = self.default_prompt_name if name is None else name
        return "" if named is None else self.prompt_named(named)

    def _activated(self, logits: NDArray[Any], function: Activation) -> NDArray[Any]:
        """What an activation of torch makes of the model's numbers."""
        torch = require("torch", EXTRA)
        tensor = function(torch.from_numpy(logits.reshape(-1, self.num_labels)))
        found: NDArray[Any] = tensor.detach().float().numpy()
        return found[:, 0] if self.num_labels == 1 and found.ndim > 1 else found
