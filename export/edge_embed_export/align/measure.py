"""How well captions find their files by the vectors of a projection."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.align.backbone import Features
from edge_embed_export.align.head import Head
from edge_embed_runtime.vectors.normalize import normalize

Array = NDArray[np.float32]


class Measured(NamedTuple):
    """What can be measured on: files, each with the place of its caption among the questions.

    features: of the files' plain views
    answers:  [files], which question a file answers; a question may have several files
    asked:    [questions, dim], vectors of length 1
    """

    features: Features
    answers: NDArray[np.int64]
    asked: Array

    def vectors(self, head: Head) -> Array:
        """One for each file, [files, dim]: the mean over a sound's windows."""
        found = head.apply(self.features.rows, self.features.own)
        total = np.zeros((len(self.answers), found.shape[1]), np.float32)
        np.add.at(total, self.features.owners, found)
        return normalize(total)

    def cosine(self, head: Head) -> float:
        """The mean cosine of files to their captions."""
        return float((self.vectors(head) * self.asked[self.answers]).sum(axis=1).mean())

    def recall(self, head: Head, depths: Sequence[int] = (1, 10)) -> dict[str, float]:
        """recall@k: the share of a question's files among the first k; found@k: the share of questions with one there;
        each the mean over the questions, and what chance would give for found@k."""
        scores = self.asked @ self.vectors(head).T
        order = np.argsort(-scores, axis=1, kind="stable")
        right = self.answers[order] == np.arange(len(self.asked))[:, None]
        counts, files = right.sum(axis=1), len(self.answers)
        figures: dict[str, float] = {}
        for k in depths:
            hits = right[:, :k].sum(axis=1)
            figures[f"recall@{k}"] = round(float((hits / counts).mean()), 4)
            figures[f"found@{k}"] = round(float((hits > 0).mean()), 4)
            figures[f"chance@{k}"] = round(float(np.mean([_chance(files, int(n), k) for n in counts])), 4)
        return figures


def _chance(files: int, relevant: int, k: int) -> float:
    """That one of `relevant` files is among k of all."""
    missed = 1.0
    for i in range(min(k, files)):
        missed *= max(0, files - relevant - i) / (files - i)
    return 1 - missed


def measured(features: Features, files: Sequence[int], captions: Sequence[str], asked: dict[str, Array]) -> Measured:
    """Of some files only. files: their numbers among the features' owners; captions: of each; asked: by caption."""
    questions = {text: place for place, text in enumerate(dict.fromkeys(captions))}
    places = {owner: place for place, owner in enumerate(files)}
    kept = features.plain & np.isin(features.owners, list(places))
    owners = np.array([places[int(owner)] for owner in features.owners[kept]], np.int64)
    own = Features(features.rows[kept], features.own[kept], owners, features.plain[kept])
    answers = np.array([questions[text] for text in captions], np.int64)
    return Measured(own, answers, np.stack([asked[text] for text in questions]))
