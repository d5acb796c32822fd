"""Random models for the native encoder, and the same arithmetic in numpy."""

from dataclasses import dataclass
from math import erf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtime.native.encoder import Encoder, Shape, Site
from edge_embed_runtime.native.library import Native

Array = NDArray[np.float32]

VOCABULARY = 200


@dataclass(frozen=True)
class RandomModel:
    """A model whose parts all change its vectors."""

    shape: Shape
    tensors: dict[str, NDArray[Any]]
    sites: dict[str, Site]
    weights: dict[str, NDArray[np.int8]]  # as [k, n]

    def encoder(self, native: Native, tokens: int = 4096) -> Encoder:
        """Prepared by the library."""
        made = Encoder(native, self.shape, self.tensors, self.sites)
        made.reserve(tokens)
        return made


def safe_weights(rng: np.random.Generator, k: int, n: int) -> NDArray[np.int8]:
    """Weights [k, n] whose neighbours add up to at most 128; some pairs do to exactly that."""
    weights = rng.integers(-127, 128, (k, n)).astype(np.int16)
    first, second = weights[0::2], weights[1::2]
    over = np.abs(first + second) > 128
    second[over] = (np.sign(first) * 128 - first)[over]
    return weights.astype(np.int8)


def pack(weights: NDArray[np.int8]) -> NDArray[np.int8]:
    """[k, n] -> [n / 16, k / 4, 16, 4]."""
    k, n = weights.shape
    return np.ascontiguousarray(weights.reshape(k // 4, 4, n // 16, 16).transpose(2, 0, 3, 1))


class _Maker:
    def __init__(self, shape: Shape, seed: int, smooth: bool) -> None:
        self.rng, self.shape, self.smooth = np.random.default_rng(seed), shape, smooth
        self.tensors: dict[str, NDArray[Any]] = {}
        self.sites: dict[str, Site] = {}
        self.weights: dict[str, NDArray[np.int8]] = {}

    def floats(self, name: str, size: int, middle: float, spread: float) -> None:
        values = self.rng.uniform(middle - spread, middle + spread, size)
        self.tensors[name] = values.astype(np.float32)

    def norm(self, name: str, width: int) -> None:
        self.floats(f"{name}.weight", width, 1.0, 0.3)
        self.floats(f"{name}.bias", width, 0.0, 0.3)

    def table(self, name: str, rows: int, scale: str) -> None:
        self.tensors[name] = self.rng.integers(-127, 128, (rows, self.shape.embedding)).astype(np.int8)
        self.floats(scale, rows, 0.01, 0.004)

    def linear(self, name: str, k: int, n: int, *, size: float = 1.0) -> None:
        """y has a standard deviation of about `size` for x of 1."""
        self.weights[name] = safe_weights(self.rng, k, n)
        self.tensors[f"{name}.weight"] = pack(self.weights[name])
        spread = float(self.weights[name].std()) * np.sqrt(k)
        self.floats(f"{name}.scale", n, size / spread, 0.2 * size / spread)
        self.floats(f"{name}.bias", n, 0.0, 0.2)

    def site(self, name: str, scale: float, zero_point: int, width: int) -> None:
        self.sites[f"{name}.input"] = Site(float(np.float32(scale)), zero_point)
        if self.smooth:
            self.floats(f"{name}.input.smooth", width, 1.0, 0.2)

    def layer(self, i: int, wide: int) -> None:
        name, hidden, inner = f"layers.{i}", self.shape.hidden, self.shape.heads * self.shape.head_size
        self.site(f"{name}.query", 0.025, 120, hidden)
        self.linear(f"{name}.query", hidden, inner, size=1.5 / np.sqrt(self.shape.head_size))
        self.linear(f"{name}.key", hidden, inner, size=1.5)
        self.linear(f"{name}.value", hidden, inner)
        self.site(f"{name}.out", 0.02, 128, inner)
        self.linear(f"{name}.out", inner, hidden)
        self.norm(f"{name}.attention_norm", hidden)
        self.site(f"{name}.up", 0.025, 133, hidden)
        self.linear(f"{name}.up", hidden, wide, size=1.5)
        self.site(f"{name}.down", 0.02, 9, wide)
        self.linear(f"{name}.down", wide, hidden)
        self.norm(f"{name}.output_norm", hidden)


def random_model(shape: Shape, *, seed: int = 0, smooth: bool = True) -> RandomModel:
    """A model of this shape. smooth: with factors before rounding at each site"""
    maker = _Maker(shape, seed, smooth)
    maker.table("embedding.word", shape.vocabulary, "embedding.scale")
    maker.table("embedding.position", shape.positions, "embedding.position.scale")
    maker.norm("embedding.norm", shape.embedding)
    if shape.embedding != shape.hidden:
        maker.site("embedding.project", 0.025, 125, shape.embedding)
        maker.linear("embedding.project", shape.embedding, shape.hidden)
    if shape.relative:
        maker.floats("positions.all", shape.heads * 2 * shape.positions, 0.0, 2.0)
    for i, wide in enumerate(shape.intermediate):
        maker.layer(i, wide)
    return RandomModel(shape, maker.tensors, maker.sites, maker.weights)


class Reference:
    """What the encoder computes, of one text, in numpy: with exact functions where the library has polynomials."""

    def __init__(self, model: RandomModel) -> None:
        self.model, self.shape, self.tensors = model, model.shape, model.tensors

    def vector(self, ids: list[int]) -> Array:
        """[hidden], of length 1."""
        t = self.tensors
        x = t["embedding.word"][ids] * t["embedding.scale"][ids][:, None]
        x = x + (t["embedding.position"] * t["embedding.position.scale"][:, None])[: len(ids)]
        x = self.norm(x, "embedding.norm")
        if "embedding.project.weight" in t:
            x = self.linear(x, "embedding.project", "embedding.project")
        for i in range(len(self.shape.intermediate)):
            x = self.layer(x, f"layers.{i}")
        pooled = x[0] if self.shape.pooling == "cls" else x.mean(axis=0)
        return np.asarray(pooled / np.linalg.norm(pooled), np.float32)

    def layer(self, x: Array, name: str) -> Array:
        q, k, v = (self.heads(self.linear(x, f"{name}.{part}", f"{name}.query")) for part in ("query", "key", "value"))
        scores = q @ k.transpose(0, 2, 1)
        if self.shape.relative:
            table = self.tensors["positions.all"].reshape(self.shape.heads, -1)
            place = np.arange(len(x))
            scores = scores + table[:, place[None, :] - place[:, None] + self.shape.positions - 1]
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights = weights / weights.sum(axis=-1, keepdims=True)
        context = (weights @ v).transpose(1, 0, 2).reshape(len(x), -1)
        x = self.norm(x + self.linear(context, f"{name}.out", f"{name}.out"), f"{name}.attention_norm")
        up = self.linear(x, f"{name}.up", f"{name}.up")
        up = np.float32(0.5) * up * (1 + np.vectorize(erf)(up / np.sqrt(2)).astype(np.float32))
        return self.norm(x + self.linear(up, f"{name}.down", f"{name}.down"), f"{name}.output_norm")

    def heads(self, x: Array) -> Array:
        return x.reshape(len(x), self.shape.heads, self.shape.head_size).transpose(1, 0, 2)

    def linear(self, x: Array, name: str, site: str) -> Array:
        scale, zero_point = self.model.sites[f"{site}.input"]
        smooth = self.tensors.get(f"{site}.input.smooth", np.float32(1))
        codes = np.clip(np.rint(x * (smooth / np.float32(scale))) + zero_point, 0, 255).astype(np.int32) - zero_point
        sums = codes @ self.model.weights[name].astype(np.int32)
        factor = self.tensors[f"{name}.scale"] * np.float32(scale)
        return np.asarray(sums.astype(np.float32) * factor + self.tensors[f"{name}.bias"], np.float32)

    def norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        unit = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(self.shape.epsilon))
        return np.asarray(unit * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"], np.float32)
