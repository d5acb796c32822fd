"""One configurable transformer as an ONNX graph, in float32 or int8, pooling and normalisation included.

A family (see families/) maps a checkpoint onto `Spec` and the weight names of spec.py; nothing here knows a family.

Inside the graph activations are [tokens, hidden], where token t of text i is row t * batch + i: attention then needs
one transpose instead of four, because FusedMatMul reads q, k and v with the sequence first. bench/forms.py holds what
else was tried, and what each form costs.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edge_embed_export.transformer.activations import Activation
from edge_embed_export.transformer.blockwise import Blockwise
from edge_embed_export.transformer.builder import FLOAT, Apart
from edge_embed_export.transformer.heads import Heads
from edge_embed_export.transformer.positions import MASKED
from edge_embed_export.transformer.spec import LATENT, Layer, Spec, Weights, expert_count
from edge_embed_quantize.linear import Int8Linear, quantize_rows
from edge_embed_quantize.table import CompactTable
from edge_embed_runtime.bundle.manifest import TYPES_INPUT
from edge_embed_runtime.vectors.kinds import DENSE, MULTI, RERANK, SPARSE

if TYPE_CHECKING:
    import onnx

OUTPUT = "embedding"
# What one stage gives to the next (see `build_stage`).
STATE, NEXT = "state", "next_state"
Outputs = dict[str, list[str | int] | None]
OUTPUTS = {DENSE: OUTPUT, SPARSE: "token_weights", MULTI: "token_vectors", RERANK: "scores"}


class Encoder(Blockwise, Heads):
    """A text encoder; `vision.ImageEncoder` is one whose tokens are patches of a picture."""

    states: list[str]

    def embed(self, ids: str) -> str:
        """Token ids [s, b] -> [s * b, h]."""
        g = self.graph
        x = self.appended(self.rows(ids))
        if "embedding.position" in self.weights:
            table = self.weights["embedding.position"][: self.spec.reach]
            positions = self.stored("embedding.position", table[:, None, :])
            x = g.op("Add", x, g.op("Slice", positions, g.shape(0), "length", g.shape(0)))
        if self.spec.types:
            types = g.op("Transpose", g.of_tokens(TYPES_INPUT), perm=[1, 0])
            x = g.op("Add", x, g.op("Gather", g.constant("embedding.type", self.weights["embedding.type"]), types))
        x = g.op("Reshape", x, g.shape(-1, self.weights["embedding.word"].shape[1]))
        if "embedding.word.lora_a.weight" in self.weights:
            x = self.adapted_rows(ids, x, "embedding.word")
        x = self.norm(x, "embedding.norm")
        return self.linear(x, "embedding.project") if "embedding.project.weight" in self.weights else x

    def rows(self, ids: str) -> str:
        """Rows of the embedding table, float [s, b, e]."""
        g, table = self.graph, self.weights["embedding.word"]
        if self.compact is not None:
            return g.compact_rows(self.compact, ids)
        if not self.int8:
            return g.op("Gather", g.constant("embedding.word", table), ids)
        codes, scale = quantize_rows(table, multiplied=self.spec.kind is SPARSE)  # see heads.py
        rows = g.op("Cast", g.op("Gather", g.constant("embedding.word", codes), ids), to=FLOAT)
        return g.op("Mul", rows, g.op("Gather", g.constant("embedding.scale", scale), ids))

    def feed_forward(self, x: str, layer: str, activation: Activation) -> str:
        if count := expert_count(layer, self.weights):
            return self.experts(x, layer, count)
        inner = self.linear(x, f"{layer}.up")
        if f"{layer}.gate.weight" in self.weights:
            inner = self.graph.op("Mul", self.activation(self.linear(x, f"{layer}.gate"), activation), inner)
        else:
            inner = self.activation(inner, activation)
        return self.linear(self.norm(inner, f"{layer}.inner_norm"), f"{layer}.down")

    def experts(self, x: str, layer: str, count: int) -> str:
        """Every expert for every token, times the router's probability where it is among the `active` highest, else 0.

        Handing each expert its tokens alone would make products of a number of rows that depends on the batch.
        """
        g = self.graph
        router = g.linear(x, f"{layer}.router", self.weights[f"{layer}.router.weight"], None)
        probability = g.op("Softmax", router, axis=-1)
        highest = g.op("TopK", probability, g.shape(self.spec.active), also=(f"{layer}.chosen",), axis=-1)
        least = g.op("ReduceMin", highest, g.shape(-1), keepdims=1)
        share = g.op("Where", g.op("Less", probability, least), g.scalar(0.0), probability)
        total = ""
        for e in range(count):
            found = self.feed_forward(x, f"{layer}.experts.{e}", self.spec.activation)
            found = g.op("Mul", found, g.op("Gather", share, g.shape(e), axis=1))
            total = g.op("Add", total, found) if total else found
        bias = self.weights.get(f"{layer}.experts.bias")
        return total if bias is None else g.op("Add", total, g.constant(f"{layer}.experts.bias", bias))

    def block(self, x: str, block: Layer) -> str:
        g, layer, activation = self.graph, f"layers.{block.weights}", self.spec.activation
        if self.spec.norm == "post":
            found = self.attention(x, layer, block)
            if f"{layer}.attention_inner_norm.weight" in self.weights:
                found = self.norm(g.op("Add", x, found), f"{layer}.attention_inner_norm")
            x = self.norm(g.op("Add", x, found), f"{layer}.attention_norm")
            return self.norm(g.op("Add", x, self.feed_forward(x, layer, activation)), f"{layer}.output_norm")
        found = self.attention(self.norm(x, f"{layer}.attention_norm"), layer, block)
        x = g.op("Add", x, self.norm(found, f"{layer}.attention_post_norm"))
        found = self.feed_forward(self.norm(x, f"{layer}.output_norm"), layer, activation)
        return g.op("Add", x, self.norm(found, f"{layer}.output_post_norm"))

    def latent(self, x: str) -> str:
        """A layer whose keys and values are stored: what NV-Embed pools is how tokens see its latents."""
        g, spec, weights = self.graph, self.spec.latent, self.weights
        q = self.linear(self.norm(x, f"{LATENT}.attention_norm"), f"{LATENT}.query")
        q = g.op("Reshape", q, self.joined("length", "batch", spec.heads, spec.size))
        # one row more: products of a single one, as of a text of one token, are added up in another order
        q = g.op("Pad", q, g.shape(0, 0, 0, 0, 1, 0, 0, 0), "", g.shape(0, 1, 2, 3))
        stored = ((name, weights[name][None]) for name in (f"{LATENT}.keys", f"{LATENT}.values"))
        keys, values = (g.constant(name, array) for name, array in stored)
        scores = g.op("FusedMatMul", q, keys, domain="com.microsoft", transB=1, transBatchA=1, alpha=1.0)
        context = g.op("MatMul", g.op("Softmax", scores, axis=-1), values)
        context = g.op("Slice", context, g.shape(0), "length", g.shape(2))
        context = g.op("Reshape", context, self.joined(-1, "length", spec.size))
        x = g.op("Add", x, self.linear(context, f"{LATENT}.out", merge=spec.heads * spec.size))
        return g.op("Add", x, self.feed_forward(self.norm(x, f"{LATENT}.output_norm"), LATENT, spec.activation))

    def prepare(self, mask: str) -> None:
        """What all layers share."""
        g, spec = self.graph, self.spec
        g.op("Mul", "batch", g.shape(spec.heads), name="sequences")
        self.mask = mask
        self.padded = g.op("Mul", g.op("Sub", g.scalar(1.0), mask), g.scalar(MASKED))
        self.lay_out()

    def encode(self, mask: str) -> str:
        """Hidden states of `input_ids`, [s * b, h]."""
        self.prepare(mask)
        x = self.embed(self.graph.op("Transpose", self.ids, perm=[1, 0]))
        self.states = [x]
        mixed = self.mixed("", x, 0)
        for i, block in enumerate(self.spec.blocks, start=1):
            x = self.block(x, block)
            self.states.append(x)
            mixed = self.mixed(mixed, x, i)
        self.states[-1] = x = self.end(x)
        return mixed or x

    def mixed(self, total: str, x: str, state: int) -> str:
        """The sum of states so far, [s * b, h], with one more: see `Spec.mix`; "" where there is none."""
        g, share = self.graph, self.spec.mix[state] if self.spec.mix else 0.0
        if share:
            part = g.op("Mul", x, g.scalar(share))
            total = g.op("Add", total, part) if total else part
        if total and state == len(self.spec.blocks) and "mix.offset" in self.weights:
            total = g.op("Add", total, g.constant("mix.offset", self.weights["mix.offset"]))
        return total

    def end(self, x: str) -> str:
        """What is behind the last layer, [s * b, h]."""
        x = self.norm(x, "final_norm")
        return self.latent(x) if f"{LATENT}.query.weight" in self.weights else x

    def finish(self, x: str, mask: str) -> str:
        """From hidden states [s * b, h] to what the model gives."""
        g, spec = self.graph, self.spec
        if spec.kind is MULTI:
            return self.multi(x)
        x = self.steps_of_tokens(x)
        x = g.op("Reshape", x, g.op("Concat", "length", "batch", g.shape(spec.pooled or spec.hidden), axis=0))
        mask = g.op("Transpose", mask, perm=[1, 0])
        if spec.kind is SPARSE:
            return self.sparse(x, mask)
        if spec.kind is RERANK:
            return self.scores(self.pool(x, mask))
        return self.unit(self.steps_of_texts(self.pool(x, mask)))

    def begin(self) -> str:
        """The float mask [b, s]."""
        g = self.graph
        g.op("Shape", "input_ids", name="batch", start=0, end=1)
        if self.spec.filled is not None:
            return self.fill(self.spec.filled)
        g.op("Shape", "input_ids", name="length", start=1, end=2)
        return g.op("Cast", "attention_mask", to=FLOAT)

    def build(self, producer: str, apart: Apart | None) -> "onnx.ModelProto":
        mask = self.begin()
        return self.model(self.finish(self.encode(self.attended(mask)), mask), producer, apart)

    def stage(self, number: int, apart: Apart | None) -> "onnx.ModelProto":
        """One layer; the first with the embeddings, and behind the last, as one more stage, what makes a vector."""
        mask, blocks, g = self.begin(), self.spec.blocks, self.graph
        self.prepare(self.attended(mask))
        if number == len(blocks):
            return self.model(self.finish(self.end(g.state(STATE, self.spec.hidden)), mask), "edge_embed", apart)
        x = self.embed(g.op("Transpose", self.ids, perm=[1, 0])) if number == 0 else g.state(STATE, self.spec.hidden)
        outputs: Outputs = {g.op("Identity", self.block(x, blocks[number]), name=NEXT): ["tokens", self.spec.hidden]}
        return g.model(outputs | self.observations(), "edge_embed", apart)

    def model(self, x: str, producer: str, apart: Apart | None) -> "onnx.ModelProto":
        g, spec = self.graph, self.spec
        shape: list[str | int] = ["batch", *(["sequence"] if spec.kind.by_token else []), spec.dim]
        outputs: Outputs = {g.op("Identity", x, name=OUTPUTS[spec.kind]): shape}
        return g.model(outputs | self.observations(), producer, apart)

    def observations(self) -> "Outputs":
        """What linear layers read, as outputs."""
        g, outputs = self.graph, Outputs()
        for source, values in (self.observed or {}).items():
            whole = values[0] if len(values) == 1 else g.op("Concat", *values, axis=0)
            outputs[g.op("Identity", whole, name=source)] = None
        return outputs


def build(
    spec: Spec,
    weights: Weights,
    int8: Mapping[str, Int8Linear] | None = None,
    table: CompactTable | None = None,
    *,
    observe: bool = False,
    apart: Apart | None = None,
    states: list[str] | None = None,
    packed: bool = False,
) -> "onnx.ModelProto":
    """The encoder's graph: (`input_ids`, `attention_mask`) int64 [batch, sequence] -> `embedding` [batch, dim], or
    `token_weights` [batch, vocab], or `token_vectors` [batch, sequence, dim]; of a model that reads pairs of texts also
    `token_type_ids` -> `scores` [batch, dim].

    weights: as `prepare` returns them
    int8:    the linear layers that run in int8; None gives the float32 graph
    table:   the embedding table in few bits; None takes int8 in an int8 graph
    observe: also output what linear layers read (see `input_name`), for calibration; where layers share weights, the
             rows of one use after those of the other
    apart:   takes the large weights (see large.py)
    states:  takes the names of the states of tokens: of the embeddings, behind each layer, and last what is pooled
    packed:  store int8 weights as the native engine reads them (see native.py), which changes no vector
    """
    encoder = Encoder(spec, weights, int8 or {}, table, observe)
    encoder.graph.packed = packed
    model = encoder.build("edge_embed", apart)
    if states is not None:
        states += encoder.states
    return model


def build_stage(
    spec: Spec,
    weights: Weights,
    number: int,
    int8: Mapping[str, Int8Linear] | None = None,
    table: CompactTable | None = None,
    *,
    observe: bool = False,
    apart: Apart | None = None,
) -> "onnx.ModelProto":
    """One of len(spec.blocks) + 1 parts of what `build` gives, which run one after the other.

    All read `input_ids` and `attention_mask`; each but the first reads STATE [tokens, hidden], which the one before
    gives as NEXT. The last gives what `build` gives.
    """
    return Encoder(spec, weights, int8 or {}, table, observe).stage(number, apart)
