"""ELMo's graph: words by their characters, then language models in both directions.

onnxruntime's LSTM has neither a projection nor the clipping of states, so a layer is a Scan over the words. int8
bundles store weights in int8 and compute in float32: what is computed again and again from its own result forgives
little.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from edge_embed_export.elmo.reading import GATES, Elmo, cell_name
from edge_embed_export.transformer.builder import FLOAT, INT64, Graph
from edge_embed_export.transformer.spec import Array
from edge_embed_quantize.linear import quantize_weight
from edge_embed_runtime.inputs.characters import WIDTH

if TYPE_CHECKING:
    import onnx

OUTPUT = "embedding"


class _Body(Graph):
    """The graph inside a Scan: its weights are those of the graph around it, its values have names of their own."""

    def __init__(self, around: Graph, name: str) -> None:
        super().__init__(around)
        self._name = name

    def op(self, op_type: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        return super().op(op_type, *inputs, name=name or f"{self._name}.{len(self._nodes)}", **attributes)

    def close(self, inputs: dict[str, int], outputs: dict[str, int]) -> "onnx.GraphProto":
        """The finished graph; values are float [batch, n]."""
        info = self._onnx.helper.make_tensor_value_info
        values = ([info(name, FLOAT, [None, size]) for name, size in part.items()] for part in (inputs, outputs))
        return self._onnx.helper.make_graph(self._nodes, self._name, *values)


class _Builder:
    def __init__(self, elmo: Elmo, *, int8: bool) -> None:
        self.elmo, self.int8, self.graph = elmo, int8, Graph()

    def weight(self, name: str, array: Array) -> str:
        """A matrix [n, m]; one stored in int8 is turned to float when the model is loaded."""
        g = self.graph
        if not self.int8:
            return g.constant(name, array)
        codes, scale = quantize_weight(array)
        return g.op("Mul", g.op("Cast", g.constant(name, codes), to=FLOAT), g.constant(f"{name}.scale", scale))

    def linear(self, x: str, weight: str, bias: str) -> str:
        stored = self.elmo.weights
        return self.graph.op("Gemm", x, self.weight(weight, stored[weight]), self.graph.constant(bias, stored[bias]))

    def words(self) -> str:
        """`input_ids` [b, s, 50] -> [s * b, projection], each word by its characters alone."""
        g, elmo = self.graph, self.elmo
        ids = g.op("Reshape", g.op("Transpose", "input_ids", perm=[1, 0, 2]), g.shape(-1, WIDTH))
        table = np.vstack([np.zeros((1, elmo.embedding), np.float32), elmo.weights["char_embed"]])
        x = g.op("Transpose", g.op("Gather", g.constant("char_embed", table), ids), perm=[0, 2, 1])
        found = []
        for i in range(len(elmo.filters)):
            kernel = elmo.weights[f"CNN/W_cnn_{i}"][0].transpose(2, 1, 0)  # [width, e, n] -> [n, e, width]
            bias = g.constant(f"CNN/b_cnn_{i}", elmo.weights[f"CNN/b_cnn_{i}"])
            y = g.op("Conv", x, g.constant(f"CNN/W_cnn_{i}", kernel), bias)
            found.append(g.op(elmo.activation, g.op("ReduceMax", y, g.shape(2), keepdims=0)))
        x = g.op("Concat", *found, axis=1)
        for i in range(elmo.highways):
            carry = g.op("Sigmoid", self.linear(x, f"CNN_high_{i}/W_carry", f"CNN_high_{i}/b_carry"))
            changed = g.op("Relu", self.linear(x, f"CNN_high_{i}/W_transform", f"CNN_high_{i}/b_transform"))
            kept = g.op("Mul", g.op("Sub", g.scalar(1.0), carry), x)
            x = g.op("Add", g.op("Mul", carry, changed), kept)
        return self.linear(x, "CNN_proj/W_proj", "CNN_proj/b_proj")

    def clip(self, g: Graph, x: str, limit: float) -> str:
        return g.op("Clip", x, g.scalar(-limit), g.scalar(limit)) if limit else x

    def product(self, g: Graph, x: str, weight: str, width: int) -> str:
        """x [b, n] @ weight [n, m]. A row of zeros goes along: kernels add up one row in another order than several."""
        zeros = g.constant(f"zeros:{width}", np.zeros((1, width), np.float32))
        y = g.op("MatMul", g.op("Concat", x, zeros, axis=0), weight)
        return g.op("Slice", y, g.shape(0), g.shape(-1), g.shape(0))

    def step(self, name: str, weight: str, projection: str) -> "onnx.GraphProto":
        """One word: the state [b, p], the memory [b, c], and what the word adds to the gates [b, 4 c]."""
        elmo, body = self.elmo, _Body(self.graph, name)
        state, memory, read = (f"{name}.{part}" for part in ("state", "memory", "read"))
        gates = body.op("Add", read, self.product(body, state, weight, elmo.projection))
        parts = [f"{name}.{part}" for part in ("input", "new", "forget", "output")]
        body.op("Split", gates, name=parts[0], also=parts[1:], axis=1, num_outputs=GATES)
        opened = [body.op("Sigmoid", parts[i]) for i in (0, 2, 3)]
        new = body.op("Mul", opened[0], body.op("Tanh", parts[1]))
        kept = self.clip(body, body.op("Add", new, body.op("Mul", opened[1], memory)), elmo.clips[0])
        told = self.product(body, body.op("Mul", opened[2], body.op("Tanh", kept)), projection, elmo.memory)
        told = self.clip(body, told, elmo.clips[1])
        names = [body.op("Identity", value, name=f"{name}.{part}") for value, part in
                 ((told, "next"), (kept, "kept"), (told, "told"))]  # fmt: skip
        sizes = {state: elmo.projection, memory: elmo.memory, read: GATES * elmo.memory}
        return body.close(sizes, dict(zip(names, (elmo.projection, elmo.memory, elmo.projection), strict=True)))

    def direction(self, x: str, direction: int, layer: int) -> str:
        """x [s, b, p] -> [s, b, p]; each text is turned round by itself, so that padding is last in both directions."""
        g, elmo = self.graph, self.elmo
        narrow, memory = elmo.projection, elmo.memory
        name = cell_name(direction, layer, "W_0")
        whole, bias = elmo.weights[name], elmo.weights[cell_name(direction, layer, "B")].copy()
        bias[2 * memory : 3 * memory] += 1
        entered = self.turn(x) if direction else x
        rows = g.op("Reshape", entered, g.shape(-1, narrow))
        stored = g.constant(cell_name(direction, layer, "B"), bias)
        read = g.op("Gemm", rows, self.weight(f"{name}.words", whole[:narrow]), stored)
        read = g.op("Reshape", read, g.op("Concat", "length", "batch", g.shape(GATES * memory), axis=0))
        recurrent = self.weight(f"{name}.states", whole[narrow:])
        back = cell_name(direction, layer, "W_P_0")
        body = self.step(f"step.{direction}.{layer}", recurrent, self.weight(back, elmo.weights[back]))
        nothing = [g.op("Expand", g.scalar(0.0), g.op("Concat", "batch", g.shape(n), axis=0)) for n in (narrow, memory)]
        ends = [f"{name}.{part}" for part in ("last", "remembered", "told")]
        g.op("Scan", *nothing, read, name=ends[0], also=ends[1:], body=body, num_scan_inputs=1)
        told = self.turn(ends[2]) if direction else ends[2]
        return g.op("Add", told, x) if layer and elmo.skips else told

    def turn(self, x: str) -> str:
        return self.graph.op("ReverseSequence", x, "counts", time_axis=0, batch_axis=1)

    def mean(self, x: str) -> str:
        """[s * b, n] -> [b, n] over the words of a text; where it has none, over its begin and its end."""
        g = self.graph
        mask = g.op("Transpose", g.op("Cast", "attention_mask", to=FLOAT), perm=[1, 0])
        places = g.op("Range", g.scalar(0, "int64"), g.op("Squeeze", "length"), g.scalar(1, "int64"))
        places = g.op("Unsqueeze", places, g.shape(1))
        last = g.op("Sub", "counts", g.shape(1))
        inner = g.op("And", g.op("Greater", places, g.shape(0)), g.op("Less", places, last))
        words = g.op("Cast", inner, to=FLOAT)
        some = g.op("Greater", "counts", g.shape(2))
        column = g.op("Unsqueeze", g.op("Where", some, words, mask), g.shape(2))
        x = g.op("Reshape", x, g.op("Concat", "length", "batch", g.shape(self.elmo.dim), axis=0))
        total = g.op("ReduceSum", g.op("Mul", x, column), g.shape(0), keepdims=0)
        return g.op("Div", total, g.op("ReduceSum", column, g.shape(0), keepdims=0))

    def build(self) -> "tuple[onnx.ModelProto, list[str]]":
        g, elmo = self.graph, self.elmo
        g.op("Shape", "attention_mask", name="batch", start=0, end=1)
        g.op("Shape", "attention_mask", name="length", start=1, end=2)
        g.op("ReduceSum", g.op("Cast", "attention_mask", to=INT64), g.shape(1), name="counts", keepdims=0)
        words = self.words()
        x = g.op("Reshape", words, g.op("Concat", "length", "batch", g.shape(elmo.projection), axis=0))
        states, both = [g.op("Concat", words, words, axis=1)], [x, x]
        for layer in range(elmo.layers):
            both = [self.direction(value, direction, layer) for direction, value in enumerate(both)]
            joined = g.op("Concat", *both, axis=2)
            states.append(g.op("Reshape", joined, g.shape(-1, elmo.dim)))
        mixed = g.op("Mul", g.op("Sum", *states), g.scalar(1 / len(states)))
        x = self.mean(mixed)
        x = g.op("Div", x, g.op("Max", g.op("ReduceL2", x, g.shape(-1), keepdims=1), g.scalar(1e-12)))
        model = g.model({g.op("Identity", x, name=OUTPUT): ["batch", elmo.dim]}, "edge_embed")
        model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = WIDTH
        return model, states


def build_elmo(elmo: Elmo, *, int8: bool) -> "tuple[onnx.ModelProto, list[str]]":
    """The graph: (`input_ids` int64 [batch, sequence, 50], `attention_mask`) -> `embedding` [batch, 2 p], the mean of a
    text's words in the mean of all layers. And the values with the states of words [words, 2 p]: by characters alone,
    twice, then behind each layer.

    int8: store matrices in int8, one scale for each output channel
    """
    return _Builder(elmo, int8=int8).build()
