"""Pairs of texts to scores, by a model that reads both at once: a cross-encoder.

Of the manifest's `head`:

    activation   what is done to the model's numbers: a name of ACTIVATIONS
    types        whether the model reads the types of tokens, 0 in the first text of a pair and 1 in the second
    labels       what each of the `dim` numbers of a pair is for
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.bundle.bundle import Bundle
from edge_embed_runtime.bundle.manifest import Manifest
from edge_embed_runtime.checks import check_count, check_text, listed, unusable
from edge_embed_runtime.embed.loadedbundle import LoadedBundle
from edge_embed_runtime.embed.texts import check_texts
from edge_embed_runtime.errors import BundleFormatError, InputError
from edge_embed_runtime.inputs.pairs import PairTokenizer
from edge_embed_runtime.inputs.tokenizer import TokenIds
from edge_embed_runtime.model.options import RunOptions
from edge_embed_runtime.system.waiting import awaitable
from edge_embed_runtime.vectors.kinds import RERANK

if TYPE_CHECKING:
    pass

Scores = NDArray[np.float32]


def sigmoid(logits: Scores) -> Scores:
    """1 / (1 + exp(-x)), without an overflow on either side."""
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)


ACTIVATIONS: dict[str, Callable[[Scores], Scores]] = {"sigmoid": sigmoid, "identity": lambda logits: logits}


@dataclass(frozen=True)
class Ranked:
    """A text, by its place in the list that was given, and its score."""

    index: int
    score: float


class Reranker(LoadedBundle):
    """Scores how well texts fit a query, with one bundle of kind "rerank".

    bundle:     a bundle folder, or one that `read_bundle` has read
    threads:    cores to use; None means all that affinity and the cgroup allow
    exact:      load this form of the model and no other; None means what this CPU needs. Bundles whose products cannot
                saturate have one form
    max_rss_mb: megabytes (1,000,000 bytes) that the resident set of the process is not to exceed, whatever is scored.
                Raises MemoryBudgetError where that is not enough
    background: give way to everything else that wants the CPU, as for an `Embedder`

    A pair has one score: the same bits alone, in any batch and at any number of threads on one machine. Pickled, it is
    its path and options.

    Raises InputError for a bundle of another kind, BundleError when it cannot be used on this machine.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle,
        *,
        threads: int | None = None,
        exact: bool | None = None,
        max_rss_mb: float | None = None,
        background: bool = False,
    ) -> None:
        super().__init__(bundle, RunOptions(threads, None, exact, max_rss_mb, background))
        self._pairs = PairTokenizer(self.tokenizer)

    def _check_bundle(self) -> None:
        if self.output is not RERANK:
            raise InputError(
                f"bundle {self.path} gives {self.output.gives} and scores no pairs: load it with Embedder; a Reranker "
                'needs a bundle of kind "rerank"',
                path=self.path,
            )
        self._activation = _activation(self.manifest, self.path)

    @property
    def labels(self) -> tuple[str, ...]:
        """What each number of a pair is for, as the model's config names it; most rerankers have one."""
        return tuple(str(label) for label in self.manifest.head["labels"])

    @property
    def activation(self) -> str:
        """What is done to the model's numbers: "sigmoid" or "identity"."""
        return str(self.manifest.head["activation"])

    @property
    def max_tokens(self) -> int:
        """Tokens of a pair that count, special tokens included. Of longer pairs the longer text loses first."""
        return self.manifest.max_tokens

    @property
    def fingerprint(self) -> str:
        """Names the bundle's contents."""
        return self.manifest.fingerprint

    @property
    def prompts(self) -> dict[str, str]:
        """Texts that the model's authors put before a query, by name."""
        return dict(self.manifest.prompts)

    def rerank(
        self, query: str, texts: Sequence[str], *, top_k: int | None = None, prompt: str | None = None
    ) -> list[Ranked]:
        """The texts that fit a query best, best first; of equal scores the first in `texts`.

        top_k:  how many; None means all
        prompt: as in `scores`

        Raises InputError for a model that gives several numbers for a pair: `scores` has them.
        """
        self.check_ranks()
        most = None if top_k is None else check_count(top_k, "top_k", 1)
        query = check_text(query, "the query")
        found = self.scores(
            [(query, text) for text in check_texts(texts, "rerank", "rerank(query, [text])")], prompt=prompt
        )
        order = np.argsort(-found, kind="stable")[:most]
        return [Ranked(int(i), float(found[i])) for i in order]

    def scores(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        raw: bool = False,
        prompt: str | None = None,
        batch_tokens: int | None = None,
        show_progress: bool = False,
    ) -> Scores:
        """The scores of n pairs of texts, (query, text) each: float32 [n], or [n, labels] of a model with several.

        raw:           the model's own numbers (logits), without the activation
        prompt:        put this before the first text of each pair; None means the prompt that the model's files name as
                       default, if there is one, "" means none
        batch_tokens:  padded tokens in the model at a time; None: 512, or fewer under `max_rss_mb`. Changes no score
        show_progress: a bar on stderr, where that is a terminal

        Raises InputError for anything that is not a list of pairs of Unicode texts.
        """
        before = self._before(prompt)
        checked = check_pairs(pairs)
        tokens = self._batch_tokens(batch_tokens)
        self.check_process()
        logits = np.empty((len(checked), self.manifest.dim), np.float32)

        def run(start: int, stop: int) -> Iterator[tuple[list[int], Scores]]:
            rows = [self.row(before + first, second) for first, second in checked[start:stop]]
            return self.network.run_all(rows, tokens, self.network.run)

        self._run(len(checked), run, logits.__setitem__, show_progress)
        found = logits if raw else self._activation(logits)
        return found[:, 0] if self.manifest.dim == 1 else found

    def check_ranks(self) -> None:
        """Raise InputError for a model that gives several numbers for a pair."""
        if self.manifest.dim != 1:
            raise InputError(
                f"bundle {self.path} gives {self.manifest.dim} numbers for a pair ({listed(self.labels)}), which do "
                "not rank texts: call scores, and choose",
                path=self.path,
            )

    arerank, ascores = awaitable(rerank), awaitable(scores)

    def row(self, first: str, second: str) -> TokenIds:
        """The tokens of a pair as the model reads them, int64 [n, 2]: ids and types."""
        return self._pairs.row(first, second)

    def _before(self, prompt: str | None) -> str:
        """What is put before the first text of each pair."""
        if prompt is not None:
            return check_text(prompt, "the prompt")
        named = self.manifest.default_role
        return self.manifest.prompts[named] if named else ""


def check_pairs(pairs: object) -> list[tuple[str, str]]:
    """Raise InputError for anything that is not a list of pairs of Unicode texts."""
    if isinstance(pairs, str | bytes | Mapping | Set) or not isinstance(pairs, Iterable):
        raise InputError(
            f"scores takes a list of pairs of texts, got {type(pairs).__name__}: write scores([(query, text)])"
        )
    found = []
    for i, pair in enumerate(pairs):
        if isinstance(pair, str | bytes) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise unusable(f"pair {i}", pair, "two texts, as in scores([(query, text)])")
        first, second = (check_text(text, f"text {j} of pair {i}") for j, text in enumerate(pair))
        found.append((first, second))
    return found


def _activation(manifest: Manifest, path: Path) -> Callable[[Scores], Scores]:
    """Raises BundleFormatError for a head that does not say how scores are made."""
    head, dim = manifest.head, manifest.dim
    named, labels = head.get("activation"), head.get("labels")
    if named not in ACTIVATIONS or type(head.get("types")) is not bool:
        raise BundleFormatError(
            f"bundle {path}: the activation {named!r:.40} is none of {tuple(ACTIVATIONS)}, or types are not said",
            path=path,
        )
    if not isinstance(labels, list) or len(labels) != dim or manifest.is_static or manifest.adapters:
        raise BundleFormatError(f"bundle {path}: this is no cross-encoder with {dim} labels", path=path)
    return ACTIVATIONS[named]
