"""Rotary positions in a graph: from tables, or made for each text where angles depend on its length (see rope.py)."""

from functools import partial

from edge_embed_export.transformer.builder import DOUBLE, FLOAT
from edge_embed_export.transformer.layers import Parts

# Parts of a table, and the operators that make them.
PARTS = {"cos": "Cos", "sin": "Sin"}


class Rotation(Parts):
    """mask: which tokens there are, float [b, s]"""

    mask: str

    def turned(self, x: str, name: str) -> str:
        """Queries or keys [s, b * heads, 1, size] turned by their places, in the same order."""
        g = self.graph
        if f"rotary.{name}.cos" in self.weights:
            tables = [g.constant(f"rotary.{name}.{part}", self.weights[f"rotary.{name}.{part}"]) for part in PARTS]
            return g.op("RotaryEmbedding", x, self.once("positions", self.positions), *tables, domain="com.microsoft")
        tokens = self.once("tokens", lambda: g.op("Mul", "length", "batch"))
        x = g.op("Reshape", x, self.joined(tokens, -1, 1, self.spec.size))
        tables = [self.once(f"rotary.{name}.{part}", partial(self.rows_of, name, part)) for part in PARTS]
        return g.op("RotaryEmbedding", x, self.once("token:numbers", self.numbers), *tables, domain="com.microsoft")

    def numbers(self) -> str:
        """0, 1, 2, ... [s * b, 1]."""
        g = self.graph
        last = g.op("Squeeze", self.once("tokens", lambda: g.op("Mul", "length", "batch")))
        return g.op("Unsqueeze", g.op("Range", g.scalar(0, "int64"), last, g.scalar(1, "int64")), g.shape(1))

    def rows_of(self, name: str, part: str) -> str:
        """Cosines or sines, a row for each token of each text: [s * b, pairs]."""
        g = self.graph
        turned = g.op("Cast", self.once(f"rotary.{name}.turned", partial(self.angles, name)), to=DOUBLE)
        rows = g.op("Mul", g.op(PARTS[part], turned), self.number(name, 2))
        return g.op("Reshape", g.op("Cast", rows, to=FLOAT), g.shape(-1, len(self.weights[f"rotary.{name}.angles"])))

    def angles(self, name: str) -> str:
        """What each token turns by, [s, b, pairs].

        In 64 bits, and rounded as the models' own code rounds, so that an angle does not depend on how onnxruntime
        cuts its loops: a text has the same bits in any batch.
        """
        g = self.graph
        tokens, growth = self.number(name, 0), self.number(name, 1)
        length = g.op("Cast", g.op("ReduceSum", self.mask, g.shape(1), keepdims=1), to=DOUBLE)
        beyond = g.op("Sub", g.op("Div", g.op("Max", length, tokens), tokens), g.scalar(1, "float64"))
        ratio = g.op("Add", g.op("Mul", beyond, growth), g.scalar(1, "float64"))
        power = g.op("Neg", self.wide(name, "powers"))
        long = g.op("Mul", self.wide(name, "long"), g.op("Pow", ratio, power))
        chosen = g.op("Where", g.op("Greater", length, tokens), long, self.wide(name, "angles"))
        places = g.op("Unsqueeze", g.op("Cast", self.once("positions", self.positions), to=FLOAT), g.shape(2))
        return g.op("Mul", places, g.op("Cast", chosen, to=FLOAT))

    def wide(self, name: str, part: str) -> str:
        stored = f"rotary.{name}.{part}"
        return self.graph.constant(stored, self.weights[stored].astype("float64"))

    def number(self, name: str, which: int) -> str:
        return self.graph.scalar(float(self.weights[f"rotary.{name}.numbers"][which]), "float64")
