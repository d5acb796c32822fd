"""The projection, and how it is trained: two layers, from a tower's features to vectors in the texts' space.

The target of a row is the vector of its caption. Three things come from measurements on emoji, concepts held out
(docs/pictures-and-sounds.md): cosine alone is as good as a contrastive loss where pairs are few; some passes are
enough; and where the tower has vectors in the texts' space already, the projection is trained alone and added to them,
each of length 1, which holds on for pictures that are unlike those of the pairs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.align.backbone import Features
from edge_embed_runtime.checks import unusable
from edge_embed_runtime.extras import require
from edge_embed_runtime.vectors.normalize import normalize

Array = NDArray[np.float32]

# A feature that is nearly the same everywhere says nothing: it is not blown up beyond this share of the mean spread.
LEAST_SPREAD = 0.1


@dataclass(frozen=True)
class Training:
    """How a projection is trained.

    hidden:   numbers between its two layers
    passes:   over all rows, at most
    batch:    rows of a step
    rate:     of learning (AdamW), falling to 0 along half a cosine
    decay:    of weights
    drop:     share of features, and of hidden numbers, that are left out at each step
    patience: passes without a better figure before it stops
    """

    hidden: int = 768
    passes: int = 30
    batch: int = 256
    rate: float = 1e-3
    decay: float = 1e-2
    drop: tuple[float, float] = (0.2, 0.3)
    patience: int = 5


class Head(NamedTuple):
    """relu(((x - mean) * scale) @ first + first_bias) @ second + second_bias, brought to length 1.

    mean, scale: [features]; they stay apart from `first`, whose rows int8 codes could not hold together otherwise
    first:       [features, hidden]
    second:      [hidden, dim]
    """

    mean: Array
    scale: Array
    first: Array
    first_bias: Array
    second: Array
    second_bias: Array

    def apply(self, rows: Array, own: Array) -> Array:
        """The vectors of rows [n, features], with the tower's own added, of length 1."""
        hidden = np.maximum(((rows - self.mean) * self.scale) @ self.first + self.first_bias, 0)
        vectors = normalize(hidden @ self.second + self.second_bias)
        return normalize(vectors + own) if own.shape[1] else vectors


# How good a head is, on what it did not learn from: larger is better.
Judge = Callable[[Head], float]


class Trained(NamedTuple):
    """A head, and after how many passes it was best."""

    head: Head
    passes: int


def train_head(
    features: Features,
    targets: Array,
    training: Training,
    seed: int,
    judge: Judge | None,
    advance: Callable[[int], None],
) -> Trained:
    """Train on rows; targets: [n, dim], of each row.

    judge: asked after each pass: training ends when it finds none better, and the best head counts. None: all passes

    The same rows and seed give the same head on the same machine.
    """
    best, best_figure, best_pass = None, -np.inf, 0
    with _one_thread():
        for number, head in enumerate(_passes(features.rows, targets, training, seed), start=1):
            advance(1)
            figure = float(number) if judge is None else judge(head)
            if best is None or figure > best_figure:
                best, best_figure, best_pass = head, figure, number
            elif number - best_pass >= training.patience:
                break
    if best is None:
        raise unusable("passes", training.passes, "1 or more")
    return Trained(best, best_pass)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums of more threads would come in another order each time."""
    torch = require("torch", "train")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _passes(given: Array, targets: Array, training: Training, seed: int) -> Iterator[Head]:
    """The head after each pass over all rows."""
    torch = require("torch", "train")
    generator = torch.Generator().manual_seed(seed)
    rows, wanted = torch.from_numpy(given), torch.from_numpy(targets)
    mean, spread = rows.mean(0), rows.std(0)
    scale = 1 / spread.clamp_min(float(LEAST_SPREAD * spread.mean()) or 1.0)
    rows = (rows - mean) * scale
    layers = _layers(rows.shape[1], training.hidden, wanted.shape[1], generator)
    steps = -(-len(rows) // training.batch) * training.passes
    optimizer = torch.optim.AdamW(layers, lr=training.rate, weight_decay=training.decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(training.passes):
        order = torch.randperm(len(rows), generator=generator)
        for places in order.split(training.batch):
            vectors = _forward(rows[places], layers, training.drop, generator)
            loss = 1 - torch.nn.functional.cosine_similarity(vectors, wanted[places]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        yield Head(*(each.detach().clone().numpy() for each in (mean, scale, *layers)))


def _layers(features: int, hidden: int, dim: int, generator: Any) -> list[Any]:
    torch = require("torch", "train")

    def uniform(*shape: int) -> Any:
        bound = shape[0] ** -0.5 if len(shape) > 1 else 0.0
        values = torch.empty(shape).uniform_(-1.0, 1.0, generator=generator) * bound
        return values.requires_grad_()

    return [uniform(features, hidden), uniform(hidden), uniform(hidden, dim), uniform(dim)]


def _forward(rows: Any, layers: list[Any], drop: tuple[float, float], generator: Any) -> Any:
    torch = require("torch", "train")
    first, first_bias, second, second_bias = layers

    def dropped(values: Any, share: float) -> Any:
        kept = torch.rand(values.shape, generator=generator) >= share
        return values * kept / (1 - share)

    hidden = torch.relu(dropped(rows, drop[0]) @ first + first_bias)
    return dropped(hidden, drop[1]) @ second + second_bias
