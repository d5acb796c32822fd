"""From a vector for each token to a weight for each token of the vocabulary, or to one short vector for each."""

import numpy as np

from edge_embed_export.transformer.builder import BOOL, FLOAT
from edge_embed_export.transformer.filled import Filling
from edge_embed_export.transformer.pooling import Pooling
from edge_embed_quantize.linear import Int8Linear, RowActivation, quantize_rows
from edge_embed_runtime.model.budget import DECODED_COLUMNS

# Numbers of the longest vector that a CPU takes at once.
LANES = 16


class Heads(Filling, Pooling):
    """The parts with what follows the last layer where that is not one vector."""

    def attended(self, mask: str) -> str:
        """The mask without the tokens that no other sees."""
        if self.spec.filled is not None:
            return self.seen_of_filled(mask, self.spec.filled)
        if self.spec.unattended is None:
            return mask
        g = self.graph
        seen = g.op("Not", g.op("Equal", "input_ids", g.scalar(self.spec.unattended, "int64")))
        return g.op("Mul", mask, g.op("Cast", seen, to=FLOAT))

    def multi(self, x: str) -> str:
        """[s * b, h] -> a vector of length 1 for each token [b, s, dim]; those of padding mean nothing."""
        g, spec = self.graph, self.spec
        x = g.op("Reshape", self.unit(self.steps_of_tokens(x)), self.joined("length", "batch", spec.dim))
        return g.op("Transpose", x, perm=[1, 0, 2])

    def scores(self, x: str) -> str:
        """Pooled vectors of pairs [b, h] -> their scores [b, dim]: the steps behind pooling, then the classifier, in
        float32 also where all else is int8.

        With one row more, and columns of zeros: products of a single row, or with few columns, are added up in an order
        that depends on the batch.
        """
        g, labels = self.graph, self.spec.dim
        x = self.steps_of_texts(g.op("Pad", x, g.shape(0, 0, 1, 0)))
        wide = -labels % LANES
        weight = np.pad(np.asarray(self.weights["head.classifier.weight"]), ((0, 0), (0, wide)))
        bias = np.pad(np.asarray(self.weights["head.classifier.bias"]), (0, wide))
        x = g.linear(x, "head.classifier", weight, bias)
        x = g.op("Slice", x, g.shape(0), g.shape(labels), g.shape(1))
        return g.op("Slice", x, g.shape(0), "batch", g.shape(0))

    def sparse(self, x: str, mask: str) -> str:
        """[s, b, h] and the float mask [s, b] -> the weight of every token of the vocabulary [b, v] (arXiv:2109.10086),
        for the largest of all tokens before log(1 + x): see `Head.saturations`.

        The product with the vocabulary is made some columns at a time, so that no array [tokens, v] is ever there:
        62 MB for 512 tokens of BERT.
        """
        g, spec = self.graph, self.spec
        if spec.pooling == "token":
            return self.lexical(x, mask)
        column = g.op("Unsqueeze", mask, g.shape(2))
        if spec.pooling == "max":
            # in the place of padding stands the first token once more, which changes no maximum, by no bit
            first = g.op("Gather", x, g.shape(0), axis=0)
            x = g.op("Where", g.op("Cast", column, to=BOOL), x, first)
        x = g.op("Reshape", x, g.shape(-1, spec.hidden))
        x = self.norm(self.activation(self.linear(x, "head.dense"), spec.head_activation), "head.norm")
        parts = []
        for start, columns in self._columns(x):
            bias = g.constant(f"head.bias.{start}", self.weights["head.bias"][start : start + DECODED_COLUMNS])
            shaped = g.op("Reshape", columns, g.op("Concat", "length", "batch", g.shape(-1), axis=0))
            if spec.pooling == "max":  # adding the bias keeps the order: done after it, it is cheap
                parts.append(g.op("Relu", g.op("Add", g.op("ReduceMax", shaped, g.shape(0), keepdims=0), bias)))
            else:
                width = min(DECODED_COLUMNS, spec.vocab - start)
                weights = g.op("Mul", self._saturated(g.op("Add", shaped, bias), width), column)
                summed = g.op("ReduceSum", weights, g.shape(0), keepdims=0)
                parts.append(g.op("Slice", summed, g.shape(0), g.shape(width), g.shape(1)))
        return g.op("Concat", *parts, axis=1)

    def lexical(self, x: str, mask: str) -> str:
        """[s, b, h] and the float mask [s, b] -> [b, v]: each token of the text with its own weight, the largest where
        it stands there more than once (BGE-M3)."""
        g, spec = self.graph, self.spec
        # columns of zeros next to it: a product with one alone is added up in an order that depends on the rows
        weight = np.pad(np.asarray(self.weights["head.token.weight"]), ((0, 0), (0, LANES - 1)))
        x = g.op("Reshape", x, g.shape(-1, spec.hidden))
        x = g.op("Slice", g.linear(x, "head.token", weight, None), g.shape(0), g.shape(1), g.shape(1))
        x = g.op("Relu", g.op("Add", x, g.constant("head.token.bias", self.weights["head.token.bias"])))
        x = g.op("Mul", g.op("Reshape", x, g.op("Concat", "length", "batch", axis=0)), mask)
        x = g.op("Transpose", x, perm=[1, 0])
        for id_ in spec.weightless:
            same = g.op("Equal", "input_ids", g.scalar(id_, "int64"))
            x = g.op("Where", same, g.scalar(0.0), x)
        nothing = g.op("Expand", g.scalar(0.0), g.op("Concat", "batch", g.shape(spec.vocab), axis=0))
        return g.op("ScatterElements", nothing, "input_ids", x, axis=1, reduction="max")

    def _saturated(self, x: str, width: int) -> str:
        """log(1 + relu(x)) of [s, b, width], filled up to whole vectors of numbers: onnxruntime takes the logarithm of
        what is left over in another way, and where that lies would depend on the batch."""
        g = self.graph
        x = g.op("Relu", g.op("Pad", x, g.shape(0, 0, 0, 0, 0, -width % LANES)) if width % LANES else x)
        for _ in range(self.spec.saturations):
            x = g.op("Log", g.op("Add", x, g.scalar(1.0)))
        return x

    def _columns(self, x: str) -> list[tuple[int, str]]:
        """The product of x [n, h] with the rows of the vocabulary, some at a time: (first row, [n, rows])."""
        g, own = self.graph, self.weights.get("head.decoder")
        table, name = (self.weights["embedding.word"], "embedding.word") if own is None else (own, "head.decoder")
        starts = range(0, len(table), DECODED_COLUMNS)
        if not self.int8:
            whole = g.constant(name, table)
            parts = [self._slice(whole, start) for start in starts]
            return [(start, g.op("Gemm", x, part, transB=1)) for start, part in zip(starts, parts, strict=True)]
        rows, scale = quantize_rows(table, multiplied=True)
        # stored once for looking up and for this; onnxruntime turns the parts when it loads them
        whole = g.constant(name, rows)
        columns = []
        codes, row = g.int8_input(x, Int8Linear(rows.T, scale[:, 0], None, RowActivation()), "head.decoder")
        for start in starts:
            part = g.op("Transpose", self._slice(whole, start), perm=[1, 0])
            y = g.op(
                "MatMulIntegerToFloat",
                codes,
                part,
                g.scalar(1.0),
                g.constant(f"head.scale.{start}", scale[start : start + DECODED_COLUMNS, 0]),
                g.scalar(RowActivation().zero_point, "uint8"),
                g.constant(f"head.zero_point.{start}", np.zeros(1, np.int8)),
                domain="com.microsoft",
            )
            columns.append((start, g.op("Mul", y, row or "")))
        return columns

    def _slice(self, table: str, start: int) -> str:
        """Some rows of a table."""
        g = self.graph
        return g.op("Slice", table, g.shape(start), g.shape(start + DECODED_COLUMNS), g.shape(0))
