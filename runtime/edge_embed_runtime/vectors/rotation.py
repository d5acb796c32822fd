"""The frame of binary codes: vectors are moved and turned in it before the sign of each number is kept.

Where all vectors of a model share a direction, as those of E5 do, most of their signs are equal and tell nothing until
their centre is taken away. Where few numbers are much larger than the others, turning spreads what they say over all
signs. For models that are even already, such as all-MiniLM-L6-v2, neither changes anything.
"""

import hashlib
import json
from base64 import b64decode, b64encode
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.checks import shown
from edge_embed_runtime.vectors.types import Vectors

ROUNDS = 3
# Learning compares frames on so many vectors, of which the last eighth ask for their nearest among the others.
LEARNED_FROM = 2048
# Of long vectors fewer, so that what is compared takes some tens of megabytes: 512 of 3,072 numbers.
LEARNED_NUMBERS, LEARNED_LEAST = 2**20, 512
# Fewer vectors than this do not tell one frame from another.
LEAST_VECTORS = 256
ASKING = 8
NEAREST = 10
CANDIDATES = 30
# Another frame than the one that is there, or none, must find so much more of the nearest; of few vectors so many times
# as much as chance would.
WORTH = 0.01
CHANCE = 3.0


@dataclass(frozen=True)
class Frame:
    """centre: taken away from vectors [dim], or None. turned: whether they are turned (a fixed rotation) after that."""

    centre: Vectors | None = None
    turned: bool = False

    def place(self, vectors: Vectors) -> Vectors:
        """Vectors [n, dim], of queries and documents alike, moved and turned: their signs are their binary codes."""
        if self.centre is not None:
            vectors = vectors - self.centre
        return turn(vectors) if self.turned else vectors

    def to_json(self) -> str:
        centre = None if self.centre is None else b64encode(self.centre.astype("<f4").tobytes()).decode()
        return json.dumps({"centre": centre, "turned": self.turned})

    @staticmethod
    def from_json(text: str, dim: int) -> "Frame":
        """Raises ValueError where this is no frame of `dim` dimensions."""
        try:
            content = json.loads(text)
            turned, encoded = content["turned"], content["centre"]
            centre = None if encoded is None else np.frombuffer(b64decode(encoded, validate=True), "<f4")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"not a frame: {shown(error, 200)}") from error
        whole = centre is None or (centre.shape == (dim,) and np.isfinite(centre).all())
        if not isinstance(turned, bool) or not whole:
            raise ValueError(f"not a frame of {dim} dimensions")
        return Frame(None if centre is None else centre.astype(np.float32), turned)


NONE = Frame()


def turn(vectors: Vectors) -> Vectors:
    """Vectors [n, dim] turned by a fixed rotation of any dim, made of sign flips and Walsh-Hadamard transforms.

    The transform is of a power of two numbers: it is done on the first so many and on the last so many in turn.
    """
    dim = vectors.shape[1]
    size = 1 << (dim.bit_length() - 1)
    turned = vectors.astype(np.float32)
    for step in range(ROUNDS):
        flips = np.frombuffer(hashlib.shake_256(b"edge_embed %d" % step).digest(dim), np.uint8) & 1
        turned *= 1 - 2 * flips.astype(np.float32)
        for part in (slice(0, size), slice(dim - size, dim)) if size < dim else (slice(0, dim),):
            turned[:, part] = _walsh_hadamard(turned[:, part])
    return turned


def _walsh_hadamard(vectors: Vectors) -> Vectors:
    """The orthogonal transform of vectors [n, m], where m is a power of two."""
    rows, size = vectors.shape
    width = 1
    while width < size:
        pairs = vectors.reshape(rows, size // (2 * width), 2, width)
        vectors = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2)
        width *= 2
    return vectors.reshape(rows, size) / np.float32(size**0.5)


def sample_size(dim: int) -> int:
    """Vectors that tell enough of all for learning."""
    return min(LEARNED_FROM, max(LEARNED_LEAST, LEARNED_NUMBERS // max(dim, 1)))


def learn_frame(vectors: Vectors, current: Frame = NONE) -> tuple[Frame, dict[str, float]]:
    """The frame in which binary codes of vectors [n, dim] find the nearest best, and what each frame finds.

    What is found: the part of the 10 nearest by cosine among the 30 best by binary codes. A few vectors, or a gain of
    less than a hundredth or that may be chance, leave the current frame.
    """
    if len(vectors) < LEAST_VECTORS:
        return current, {}
    vectors = vectors[np.linspace(0, len(vectors) - 1, min(len(vectors), LEARNED_FROM)).astype(int)]
    asking = np.arange(len(vectors)) % ASKING == ASKING - 1
    documents, queries = vectors[~asking], vectors[asking]
    centre = documents.mean(axis=0)
    frames = {
        "none": NONE,
        "centre": Frame(centre),
        "rotation": Frame(None, turned=True),
        "centre+rotation": Frame(centre, turned=True),
    }
    if current.centre is not None:
        frames["current"] = current
    parts = {name: _found(frame, documents, queries) for name, frame in frames.items()}
    found = {name: round(float(part.mean()), 4) for name, part in parts.items()}
    best = max(found, key=lambda name: found[name])
    kept = "current" if current.centre is not None else "rotation" if current.turned else "none"
    gained = parts[best] - parts[kept]
    chance = CHANCE * float(gained.std()) / len(queries) ** 0.5
    return frames[best if gained.mean() > max(WORTH, chance) else kept], found


def _found(frame: Frame, documents: Vectors, queries: Vectors) -> NDArray[np.float64]:
    """Part of the nearest documents by cosine that are among the best by binary codes, for each query."""
    cosines, estimates = queries @ documents.T, frame.place(queries) @ np.where(frame.place(documents) > 0, 1, -1).T
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :NEAREST]
    proposed = np.argsort(-estimates, axis=1, kind="stable")[:, :CANDIDATES]
    return np.array([np.isin(n, p).mean() for n, p in zip(nearest, proposed, strict=True)])
