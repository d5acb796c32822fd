"""Stored queries that look at the tokens of a picture: SigLIP's head, CoCa's pooler, BLIP-2's Q-Former.

    pooler.input_norm [w]                   a norm of the tokens that are looked at
    pooler.queries [n, heads * size]        queries that look once, as they meet the keys: what is done to them before
                                            that is done at export, and they hold what scores are multiplied by
    pooler.{key,value} [w, heads * size]    pooler.out [heads * size, d]
    pooler.output_norm [d]  pooler.{up,down}            a feed-forward, which is added to what was seen
    pooler.states [n, d]                    queries that go through layers, as the first of them reads them:
    pooler.I.{query,key,value,out}, pooler.I.attention_norm           they look at each other
    pooler.I.ask [d, d], pooler.I.look.{key,value} [w, d], pooler.I.look.out, pooler.I.look_norm   and at the tokens
    pooler.I.{up,down}, pooler.I.output_norm

`encoder.latent` is the mirror image, tokens that look at stored keys and values: there every token has a query, here
every picture has the same few.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edge_embed_export.transformer.activations import Activation
from edge_embed_export.transformer.layers import Parts
from edge_embed_export.transformer.spec import CONTEXT_MARGIN, Weights, input_name
from edge_embed_quantize.calibrate import Site
from edge_embed_runtime.errors import ExportError

POOLER = "pooler"


@dataclass(frozen=True)
class StoredQueries:
    """What the queries of one model look like.

    heads:    of their attention
    queries:  how many there are; each gives a vector
    width:    numbers of what they give
    norm_eps: of their norms
    layers:   that queries go through; 0 where they look at the tokens once
    """

    heads: int
    queries: int
    width: int
    norm_eps: float
    activation: Activation = "gelu"
    layers: int = 0

    def pool(self, parts: Parts, x: str) -> str:
        """Tokens [s * b, w] -> [b * queries, width], the vectors of a picture one after the other.

        Token t of picture i is row t * b + i of `x`. `parts` has a value "batch", int64 [1].
        """
        looking = _Looking(parts, self)
        found = looking.through_layers(x) if self.layers else looking.once(x)
        if self.queries == 1:
            return found
        g = parts.graph
        found = g.op("Reshape", found, parts.joined(self.queries, "batch", self.width))
        return g.op("Reshape", g.op("Transpose", found, perm=[1, 0, 2]), g.shape(-1, self.width))

    def sites(self, weights: Weights) -> list[Site]:
        """What linear layers read, in the order in which the graph computes it."""
        if not self.layers:
            normed = f"{POOLER}.input_norm" if f"{POOLER}.input_norm.weight" in weights else None
            tokens = (f"{POOLER}.key", f"{POOLER}.value")
            found = [Site(input_name(tokens[0]), tokens, normed, scalable=normed is not None)]
            found.append(_context(POOLER, f"{POOLER}.value"))
            return found + (_forward(POOLER, f"{POOLER}.output_norm") if f"{POOLER}.up.weight" in weights else [])
        looks = [f"{POOLER}.{i}.look" for i in range(self.layers) if f"{POOLER}.{i}.look.key.weight" in weights]
        # all layers that look at the tokens read the same value, and so the same codes
        readers = tuple(f"{look}.{part}" for look in looks for part in ("key", "value"))
        found = []
        for i in range(self.layers):
            layer, look = f"{POOLER}.{i}", f"{POOLER}.{i}.look"
            parts = tuple(f"{layer}.{part}" for part in ("query", "key", "value"))
            found += [Site(input_name(parts[0]), parts), _context(layer, parts[2])]
            if look in looks:
                found.append(Site(input_name(f"{layer}.ask"), (f"{layer}.ask",)))
                found += [Site(input_name(readers[0]), readers)] if look == looks[0] else []
                found.append(_context(look, f"{look}.value"))
            found += _forward(layer, None)
        return found

    def check(self, weights: Weights, seen: int | None = None) -> None:
        """Raise ExportError for a shape that does not fit. seen: numbers of a token that is looked at; None for any"""
        n, d = self.queries, self.width
        name = f"{POOLER}.states" if self.layers else f"{POOLER}.queries"
        if d % self.heads or weights[name].shape != (n, d):
            raise ExportError(
                f"{name} has shape {weights[name].shape}, the config says {n} queries of {d} numbers and {self.heads} "
                "heads"
            )
        for linear, shape in (self._linears(weights, seen) if seen else {}).items():
            norm = len(shape) == 1
            for part, expected in (("weight", shape), ("bias", shape[-1:])):
                found = weights.get(f"{linear}.{part}")
                if found is not None and found.shape != expected:
                    what = "a norm" if norm else "a layer"
                    raise ExportError(f"{linear}.{part} has shape {found.shape}, as {what} here it needs {expected}")

    def _linears(self, weights: Weights, seen: int) -> dict[str, tuple[int, ...]]:
        """The shapes of all layers and norms, by their names."""
        d, found = self.width, dict[str, tuple[int, ...]]()
        for layer in [POOLER] if not self.layers else [f"{POOLER}.{i}" for i in range(self.layers)]:
            own = seen if not self.layers else d
            up = weights.get(f"{layer}.up.weight")
            inner = up.shape[-1] if up is not None else 0
            found |= {f"{layer}.{part}": (d, d) for part in ("query", "ask", "out", "look.out")}
            found |= {f"{layer}.{part}": (own, d) for part in ("key", "value")}
            found |= {f"{layer}.look.{part}": (seen, d) for part in ("key", "value")}
            found |= {f"{layer}.up": (d, inner), f"{layer}.down": (inner, d), f"{layer}.input_norm": (seen,)}
            found |= {f"{layer}.{part}_norm": (d,) for part in ("attention", "look", "output")}
        return found


def _context(layer: str, value: str) -> Site:
    """What attention gives: a mean of values, so that an offset of them is the same offset of it."""
    return Site(input_name(f"{layer}.out"), (f"{layer}.out",), value, scalable=True, margin=CONTEXT_MARGIN)


def _forward(layer: str, norm: str | None) -> list[Site]:
    """A feed-forward. norm: what it reads, where that is a norm that nothing else reads"""
    up, down = f"{layer}.up", f"{layer}.down"
    return [Site(input_name(up), (up,), norm, scalable=norm is not None), Site(input_name(down), (down,), inner=(up,))]


class _Looking:
    """The part of a graph in which queries look at tokens."""

    def __init__(self, parts: Parts, queries: StoredQueries) -> None:
        self.parts, self.graph, self.queries = parts, parts.graph, queries

    def once(self, x: str) -> str:
        """[s * b, w] -> [n * b, d]: queries that look at the tokens once."""
        g, parts, weights = self.graph, self.parts, self.parts.weights
        x = self.norm(x, f"{POOLER}.input_norm")
        stored = g.constant(f"{POOLER}.queries", np.asarray(weights[f"{POOLER}.queries"])[:, None, :])
        q = g.op("Expand", stored, parts.joined(self.queries.queries, "batch", self.queries.width))
        q = self.split(q)
        x = self.look(q, x, POOLER)
        if f"{POOLER}.up.weight" not in weights:
            return x
        return g.op("Add", x, self.forward(self.norm(x, f"{POOLER}.output_norm"), POOLER))

    def through_layers(self, tokens: str) -> str:
        """[s * b, w] -> [n * b, d]: queries that look at each other and, in some layers, at the tokens."""
        g, parts, spec = self.graph, self.parts, self.queries
        states = g.constant(f"{POOLER}.states", np.asarray(parts.weights[f"{POOLER}.states"])[:, None, :])
        x = g.op("Expand", states, parts.joined(spec.queries, "batch", spec.width))
        x = g.op("Reshape", x, g.shape(-1, spec.width))
        for i in range(spec.layers):
            layer, look = f"{POOLER}.{i}", f"{POOLER}.{i}.look"
            seen = self.look(self.split(parts.linear(x, f"{layer}.query")), x, layer)
            x = self.norm(g.op("Add", x, seen), f"{layer}.attention_norm")
            if f"{look}.key.weight" in parts.weights:
                seen = self.look(self.split(parts.linear(x, f"{layer}.ask")), tokens, look)
                x = self.norm(g.op("Add", x, seen), f"{layer}.look_norm")
            x = self.norm(g.op("Add", x, self.forward(x, layer)), f"{layer}.output_norm")
        return x

    def split(self, x: str) -> str:
        """[n * b, heads * size], or with n apart, as FusedMatMul reads heads: [n, b * heads, size]."""
        heads = self.queries.heads
        parts, g = self.parts, self.graph
        sequences = parts.once(f"{POOLER}.sequences", lambda: g.op("Mul", "batch", g.shape(heads)))
        return g.op("Reshape", x, parts.joined(-1, sequences, self.queries.width // heads))

    def look(self, q: str, x: str, layer: str) -> str:
        """Attention of queries [n, b * heads, size] to x [s * b, w]: [n * b, d]."""
        g, parts = self.graph, self.parts
        k, v = (self.split(parts.linear(x, f"{layer}.{part}")) for part in ("key", "value"))
        scores = g.op("FusedMatMul", q, k, domain="com.microsoft", transB=1, transBatchA=1, transBatchB=1, alpha=1.0)
        context = g.op("FusedMatMul", g.op("Softmax", scores, axis=-1), v, domain="com.microsoft", transBatchB=1)
        return parts.linear(context, f"{layer}.out", merge=self.queries.width)

    def forward(self, x: str, layer: str) -> str:
        inner = self.parts.activation(self.parts.linear(x, f"{layer}.up"), self.queries.activation)
        return self.parts.linear(inner, f"{layer}.down")

    def norm(self, x: str, name: str) -> str:
        """A layer norm, or x where there is none."""
        weights: Mapping[str, np.ndarray] = self.parts.weights
        if f"{name}.weight" not in weights:
            return x
        stored = [self.graph.constant(f"{name}.{part}", weights[f"{name}.{part}"]) for part in ("weight", "bias")]
        return self.graph.op("LayerNormalization", x, *stored, axis=-1, epsilon=self.queries.norm_eps)
