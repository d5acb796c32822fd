"""A graph of unknown structure as a bundle's model: pooling folded in, linear layers and tables in int8."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from edge_embed_export.calibration.material import CALIBRATION_BATCH_TOKENS, Texts
from edge_embed_export.calibration.quantizer import (
    CONTEXT_SMOOTHING,
    EXTRA_CHANNELS,
    LEAST_SPLIT,
    NORM_SMOOTHING,
    Quantizer,
)
from edge_embed_export.general.structure import WORDS, Linear, Norm, Place, Rows, Structure, find_places
from edge_embed_export.transformer.builder import FLOAT, Apart
from edge_embed_export.transformer.encoder import OUTPUT
from edge_embed_export.transformer.pooling import Pooling
from edge_embed_export.transformer.spec import Spec, Weights, step_sites
from edge_embed_quantize.calibrate import Feed, Input, Range, Recipe, Rounded, Site, condition, ranges
from edge_embed_quantize.linear import Int8Linear, quantize_rows
from edge_embed_quantize.rounding import Grams
from edge_embed_quantize.table import CompactTable
from edge_embed_runtime.inputs.tokenizer import Tokenizer
from edge_embed_runtime.model.batching import pad
from edge_embed_runtime.model.session import make_session

if TYPE_CHECKING:
    import onnx

Array = NDArray[np.float32]

# Calibration batches that say how a value is quantized best.
MEASURED_BATCHES = 12
# A scale per row costs time where one of calibration does not: it is taken where that loses more than this part of a
# layer's output, in squares, and rows lose less than half of that.
STATIC_LOSS = 3e-4
ROW_GAIN = 0.5


@dataclass(frozen=True)
class General:
    """A model whose structure was found in its graph.

    spec:   dim, max_tokens, vocab, hidden, pooling, projections; nothing else of it counts here
    pooled: the graph gives vectors of texts already
    """

    structure: Structure
    spec: Spec
    weights: Weights
    pooled: bool

    @property
    def places(self) -> list[Place]:
        return [*find_places(self.structure), *(Place(site, ()) for site in step_sites(self.spec, self.weights))]

    def build(
        self,
        weights: Weights | None = None,
        int8: Mapping[str, Int8Linear] | None = None,
        table: CompactTable | None = None,
        *,
        observe: bool = False,
    ) -> "onnx.ModelProto":
        """The finished graph; options are those of `transformer.build`."""
        return _Builder(self, weights or self.weights, int8 or {}, table, observe).build()

    def kept(self) -> str:
        """What stays in float32, apart from what is done number by number, in words."""
        products = Counter(
            WHOLE.get(part.op_type) or f"{part.op_type} operators"
            for part in self.structure.parts
            if not isinstance(part, Linear | Norm | Rows) and (part.op_type in WHOLE or part.op_type in COSTLY)
        )
        return "; ".join(f"{count} {what}" for what, count in sorted(products.items()))


# Operators that take time and are not quantized.
WHOLE = dict.fromkeys(("MatMul", "FusedMatMul", "Gemm"), "products of two activations or small matrices")
COSTLY = frozenset({
    "Attention", "Conv", "ConvInteger", "Einsum", "EmbedLayerNormalization", "FusedConv", "GRU", "GroupQueryAttention",
    "LSTM", "MatMulBnb4", "MatMulNBits", "MoE", "MultiHeadAttention", "QLinearMatMul", "RNN", "SkipLayerNormalization",
})  # fmt: skip


class _Builder(Pooling):
    """Writes the parts of a structure with new names, linear layers and tables as they are to be stored."""

    def __init__(
        self,
        model: General,
        weights: Weights,
        int8: Mapping[str, Int8Linear],
        table: CompactTable | None,
        observed: bool,
    ) -> None:
        super().__init__(model.spec, weights, int8, table, observed)
        self.model = model
        self.values: dict[str, str] = {}
        self.sites = {reader: place.site.name for place in model.places for reader in place.site.readers}

    def value(self, name: str) -> str:
        """The new name of a value; a constant is stored."""
        if name in ("", "input_ids", "attention_mask"):
            return name
        if name not in self.values:
            self.values[name] = f"value.{len(self.values)}"
            if name in self.model.structure.graph.weights:
                array = self.model.structure.graph.weights[name]
                self.graph.keep(self.values[name], array)
        return self.values[name]

    def linear(self, x: str, name: str, *, merge: int = 0) -> str:
        del merge
        site, layer, g = self.sites[name], self.int8.get(name), self.graph
        if self.observed is not None and x not in self.observed.setdefault(site, []):
            self.observed[site].append(x)
        if layer is None:
            y = g.op("MatMul", x, g.constant(f"{name}.weight", self.weights[f"{name}.weight"]))
            bias = self.weights.get(f"{name}.bias")
            return y if bias is None else g.op("Add", y, g.constant(f"{name}.bias", bias))
        if x not in self._codes:
            self._codes[x] = g.int8_input(x, layer, site, axis=-1)
        self._uses[name] += 1
        return g.int8_matmul(*self._codes[x], layer, name, self._uses[name] - 1)

    def rows(self, part: Rows) -> str:
        """Rows of a table, as `transformer.Encoder.rows` and `Parts.stored` have them."""
        g, ids, table = self.graph, self.value(part.ids), self.weights[part.name]
        if part.name != WORDS:
            return g.op("Gather", self.stored(f"table.{self.value(part.y)}", table), ids)
        if self.compact is not None:
            return g.compact_rows(self.compact, ids)
        if not self.int8:
            return g.op("Gather", g.constant(WORDS, table), ids)
        codes, scale = quantize_rows(table)
        rows = g.op("Cast", g.op("Gather", g.constant(WORDS, codes), ids), to=FLOAT)
        return g.op("Mul", rows, g.op("Gather", g.constant("embedding.scale", scale), ids))

    def part(self, part: Any) -> None:
        g = self.graph
        if isinstance(part, Linear):
            self.values[part.y] = self.linear(self.value(part.x), part.name)
        elif isinstance(part, Rows):
            self.values[part.y] = self.rows(part)
        elif isinstance(part, Norm):
            names = [f"{part.name}.weight", f"{part.name}.bias"]
            given = [g.constant(name, self.weights[name]) for name in names if name in self.weights]
            kind = "SimplifiedLayerNormalization" if part.rms else "LayerNormalization"
            self.values[part.y] = g.op(kind, self.value(part.x), *given, axis=-1, epsilon=part.epsilon)
        else:
            g.copy(part, [self.value(name) for name in part.input], [self.value(name) for name in part.output])

    def build(self) -> "onnx.ModelProto":
        g, spec = self.graph, self.spec
        g.op("Shape", "input_ids", name="batch", start=0, end=1)
        g.op("Shape", "input_ids", name="length", start=1, end=2)
        for part in self.model.structure.parts:
            self.part(part)
        x = self.value(self.model.structure.graph.outputs[0])
        if not self.model.pooled:
            # tokens first, as in our own graphs: sums over them then do not depend on padding
            mask = g.op("Transpose", g.op("Cast", "attention_mask", to=FLOAT), perm=[1, 0])
            x = self.pool(g.op("Transpose", self.steps_of_tokens(x), perm=[1, 0, 2]), mask)
        x = self.unit(self.steps_of_texts(x))
        outputs: dict[str, list[str | int] | None] = {g.op("Identity", x, name=OUTPUT): ["batch", spec.dim]}
        for site, values in (self.observed or {}).items():
            for i, value in enumerate(values):
                outputs[g.op("Identity", value, name=f"{site}.{i}")] = None
        return g.model(outputs, "edge_embed")


class GeneralTexts(Texts):
    """`Texts` of a model of unknown structure: batched by equal length, so that no value holds padding, whatever its
    axes mean."""

    def __init__(self, model: "General", tokenizer: Tokenizer) -> None:
        super().__init__(model.spec, model.weights, tokenizer, places=[place.site for place in model.places])
        self._model = model

    def feeds(self) -> Iterator[Feed]:
        by_length: dict[int, list[Any]] = {}
        for row in self.rows:
            by_length.setdefault(len(row), []).append(row)
        for length, rows in sorted(by_length.items()):
            size = max(1, CALIBRATION_BATCH_TOKENS // length)
            yield from (pad(rows[i : i + size]) for i in range(0, len(rows), size))

    def build(
        self,
        weights: Weights,
        layers: Mapping[str, Int8Linear] | None = None,
        *,
        observe: bool = False,
        apart: Apart | None = None,  # noqa: ARG002 - its weights lie in its graph
    ) -> "onnx.ModelProto":
        return self._model.build(observe=observe) if layers is None else self._model.build(weights, dict(layers))


class GeneralQuantizer(Quantizer):
    """`Quantizer` for a model of unknown structure."""

    def __init__(self, model: General, tokenizer: Tokenizer) -> None:
        self._material = material = GeneralTexts(model, tokenizer)
        self._spec, self._sites, self._weights = model.spec, material.sites, model.weights
        self._places = {place.site.name: place for place in model.places}
        self._session = session = make_session(model.build(observe=True).SerializeToString(), threads=1)
        self._searching = True  # the session is made once
        self._given = [value.name for value in session.get_outputs()]
        self._products: dict[tuple[str, Recipe], Grams] = {}
        self._rounded: dict[tuple[str, Recipe, bool, str], Rounded] = {}
        self._ranges: dict[str, Range] = ranges(self._observe(list(self._places)))
        self._defaults: dict[str, Recipe] = {}

    def _observe(self, names: list[str], feeds: Iterable[Feed] | None = None) -> Iterator[dict[str, Array]]:
        if not names:
            return
        outputs = {name: [n for n in self._given if n.rsplit(".", 1)[0] == name] for name in names}
        asked = [n for group in outputs.values() for n in group]
        for feed in self._material.feeds() if feeds is None else feeds:
            found = dict(zip(asked, self._observed().run(asked, feed), strict=True))
            yield {
                name: np.vstack([found[n].reshape(-1, found[n].shape[-1]) for n in group])
                for name, group in outputs.items()
            }

    def default_recipes(self) -> dict[str, Recipe]:
        """For every value the way that loses least, a scale for each row only where it pays."""
        if not self._defaults:
            choices = {}
            for site in self._sites:
                static = self._static(site)
                choices[site.name] = [static, Recipe("row", None if site.producer is None else static.smooth)]
            for name, (by_static, by_row) in self._losses(choices).items():
                self._defaults[name] = choices[name][by_static > STATIC_LOSS and by_row < ROW_GAIN * by_static]
        return dict(self._defaults)

    def _static(self, site: Site) -> Recipe:
        if site.split is not None:
            outliers = float(self._ranges[site.name].high.max()) > LEAST_SPLIT
            return Recipe(extra=EXTRA_CHANNELS if outliers else 0)
        if site.producer is None:
            return Recipe()
        return Recipe(smooth=CONTEXT_SMOOTHING if self._places[site.name].mixed else NORM_SMOOTHING)

    def _losses(self, choices: Mapping[str, Sequence[Recipe]]) -> dict[str, list[float]]:
        """The part of each site's products, in squares, that each recipe loses by rounding what they read."""
        tried: dict[str, list[tuple[Weights, Input]]] = {}
        for site in self._sites:
            layers = [name for name in (*site.readers, site.producer, site.residual, site.split) if name]
            own = {name: weight for name, weight in self._weights.items() if name.rpartition(".")[0] in layers}
            for recipe in choices[site.name]:
                changed, inputs = condition(own, [site], {site.name: recipe}, self._ranges)
                tried.setdefault(site.name, []).append((changed, inputs[site.name]))
        lost = {name: np.zeros(len(ways)) for name, ways in tried.items()}
        total = dict.fromkeys(tried, 1e-12)
        feeds = list(self._material.feeds())
        for batch in self._observe(list(tried), feeds[:: max(1, len(feeds) // MEASURED_BATCHES)]):
            for site in self._sites:
                rows = batch[site.name]
                seen = [given.simulate(rows) for _, given in tried[site.name]]
                for reader in site.readers:
                    exact = _product(rows, reader, self._weights)
                    total[site.name] += float(np.square(exact).sum())
                    for i, (x, (weights, _)) in enumerate(zip(seen, tried[site.name], strict=True)):
                        lost[site.name][i] += np.square(_product(x, reader, weights) - exact).sum()
        return {name: [float(value) / total[name] for value in values] for name, values in lost.items()}

    def _float_session(self, *, observe: bool = False) -> InferenceSession:
        model = self._material.build(self._weights, observe=observe)
        return make_session(model.SerializeToString(), threads=1)


def _product(rows: Array, layer: str, weights: Weights) -> Array:
    return np.asarray(rows @ weights[f"{layer}.weight"] + weights.get(f"{layer}.bias", np.float32(0)), np.float32)
