"""One vision transformer as an ONNX graph: a picture cut into patches, which are tokens of the encoder that texts have.

    patch [channels * patch * patch, h]   a patch as one vector, rows of a channel after each other
    prefix [tokens, h]                    tokens before the patches (class, registers), their positions added
    positions [patches, h]                what is added to patches, row by row of the picture
    embedding.norm, layers.I, final_norm, projection.I: see spec.py

All tokens of a picture count, so nothing is hidden and nothing is padded. Where the first token alone is pooled, the
last layer computes queries, and what follows attention, for it alone: as tokens come first in rows (token t of picture
i is row t * batch + i), these are the first rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from edge_embed_export.transformer.attention import Attention
from edge_embed_export.transformer.builder import Apart
from edge_embed_export.transformer.encoder import OUTPUT, Encoder, Outputs
from edge_embed_export.transformer.spec import Layer, Spec, Weights, check, check_shapes, input_name, sites
from edge_embed_quantize.calibrate import Site
from edge_embed_quantize.linear import Int8Linear
from edge_embed_runtime.errors import ExportError

if TYPE_CHECKING:
    import onnx

PIXELS = "pixel_values"
# A few dozen pictures show less than there is. On random models with outlier channels this lifts the lowest cosine of
# other pictures from 0.9945 to 0.9987, and costs 0.00003 of the mean where there are none.
MARGIN = 1.15
# Scores of attention that are held at a time, in bytes: those of all heads where they are fewer.
SCORES = 2**25
CHANNELS = 3


class Pooler(Protocol):
    """What makes a picture's vectors of its final tokens where that is more than to choose or to average them.

    width: numbers of such a vector
    """

    @property
    def width(self) -> int: ...

    def pool(self, encoder: "ImageEncoder", x: str) -> str:
        """Final tokens [s * b, h] -> [b, n], which `Spec.projections` go on with; of kind multi [b * vectors, n]."""
        ...

    def sites(self, weights: Weights) -> list[Site]:
        """What its linear layers read, in the order in which the graph computes it."""
        ...

    def check(self, weights: Weights, seen: int) -> None:
        """Raise ExportError for a shape that does not fit. seen: numbers of a final token"""
        ...


@dataclass(frozen=True)
class VisionSpec:
    """What one image model looks like.

    body:    its layers and what is behind them; `vocab` is 0, `max_tokens` the tokens of a picture
    size:    height and width of a picture, in pixels; what is no whole patch at its right and its lower end is not read
    patch:   height and width of a patch
    pooling: of the final tokens: the first, or the mean of all patches
    early:   the final norm is of all tokens, before pooling; else of what is pooled
    pooler:  what pools instead
    """

    body: Spec
    size: tuple[int, int]
    patch: int
    pooling: Literal["class", "patches"] = "class"
    early: bool = True
    pooler: Pooler | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Patches from top to bottom and from left to right."""
        return self.size[0] // self.patch, self.size[1] // self.patch

    @property
    def patches(self) -> int:
        return self.grid[0] * self.grid[1]

    def alone(self, weights: Weights) -> bool:
        """Whether the last layer works for the first token alone."""
        last = f"layers.{self.body.blocks[-1].weights}"
        normed = any(f"{last}.{part}_norm.weight" in weights for part in ("query", "key"))
        return self.pooler is None and self.pooling == "class" and not normed and len(self.body.blocks) > 1


def check_image(spec: VisionSpec, weights: Weights) -> None:
    """Raise ExportError for a shape that does not fit the spec."""
    h, area = spec.body.hidden, CHANNELS * spec.patch**2
    if min(spec.size) < spec.patch:
        raise ExportError(f"pictures of {spec.size} pixels are smaller than a patch of {spec.patch}")
    expected = {"patch.weight": (area, h), "patch.bias": (h,), "positions": (spec.patches, h)}
    prefix = weights["prefix"].shape[0] if "prefix" in weights else 0
    if spec.pooling == "class" and spec.pooler is None and not prefix:
        raise ExportError("the first token is pooled, and there is none before the patches")
    if spec.body.max_tokens != spec.patches + prefix:
        raise ExportError(f"{spec.patches} patches and {prefix} other tokens are not {spec.body.max_tokens} tokens")
    if prefix:
        expected["prefix"] = (prefix, h)
    width = h if spec.pooler is None else spec.pooler.width
    for i, step in enumerate(spec.body.projections):
        name = f"projection.{i}"
        given, width = width, weights[f"{name}.weight"].shape[-1] if step.kind == "linear" else width
        expected[f"{name}.weight"] = (given, width) if step.kind == "linear" else (width,)
        expected[f"{name}.bias"] = (width,)
    check_shapes(weights, {name: shape for name, shape in expected.items() if name in weights})
    check(spec.body, weights)
    if spec.pooler is not None:
        spec.pooler.check(weights, h)


def image_sites(spec: VisionSpec, weights: Weights) -> list[Site]:
    """As `spec.sites`, with what the patches are read from."""
    found = [
        replace(site, margin=max(site.margin, MARGIN)) for site in sites(replace(spec.body, projections=()), weights)
    ]
    patch = Site(input_name("patch"), ("patch",), bounded=True)
    return [patch, *found, *(spec.pooler.sites(weights) if spec.pooler is not None else [])]


class ImageEncoder(Encoder):
    """The graph of one image model.

    whole: the last layer computes all tokens even where the first alone is pooled
    """

    def __init__(
        self, spec: VisionSpec, weights: Weights, int8: Mapping[str, Int8Linear], observed: bool, *, whole: bool = False
    ) -> None:
        super().__init__(spec.body, weights, int8, None, observed)
        self.image = spec
        self.alone = spec.alone(weights) and not whole

    def start(self) -> str:
        """What all parts share; the input [b, 3, height, width]."""
        g, spec = self.graph, self.spec
        pixels = g.feed(PIXELS, ["batch", CHANNELS, *self.image.size])
        g.op("Shape", pixels, name="batch", start=0, end=1)
        g.constant("length", np.array([spec.max_tokens], np.int64))
        g.op("Mul", "batch", g.shape(spec.heads), name="sequences")
        self.split = self.shared = g.op("Concat", "length", "sequences", g.shape(spec.size), axis=0)
        self.hidden = ""
        return pixels

    def tokens(self, pixels: str) -> str:
        """[b, 3, height, width] -> tokens [s * b, h] as the first layer reads them."""
        g, spec, weights = self.graph, self.image, self.weights
        (rows, columns), size = spec.grid, spec.patch
        if spec.size != (rows * size, columns * size):
            pixels = g.op("Slice", pixels, g.shape(0, 0), g.shape(rows * size, columns * size), g.shape(2, 3))
        apart = g.op("Reshape", pixels, self.joined("batch", CHANNELS, rows, size, columns, size))
        x = self.patches(apart)
        x = g.op("Reshape", x, self.joined(spec.patches, "batch", spec.body.hidden))
        if "positions" in weights:
            x = g.op("Add", x, g.constant("positions", np.asarray(weights["positions"])[:, None, :]))
        if "prefix" in weights:
            prefix = g.constant("prefix", np.asarray(weights["prefix"])[:, None, :])
            count = len(weights["prefix"])
            prefix = g.op("Expand", prefix, self.joined(count, "batch", spec.body.hidden))
            x = g.op("Concat", prefix, x, axis=0)
        return self.norm(g.op("Reshape", x, g.shape(-1, spec.body.hidden)), "embedding.norm")

    def patches(self, apart: str) -> str:
        """Pixels [b, 3, rows, size, columns, size] -> patches [rows * columns * b, h]."""
        g, layer = self.graph, self.int8.get("patch")
        order, flat = [2, 4, 0, 1, 3, 5], g.shape(-1, CHANNELS * self.image.patch**2)
        if layer is None:
            return self.linear(g.op("Reshape", g.op("Transpose", apart, perm=order), flat), "patch")
        codes, row = g.int8_input(apart, layer, input_name("patch"))  # codes are a quarter of the bytes to transpose
        return g.int8_matmul(g.op("Reshape", g.op("Transpose", codes, perm=order), flat), row, layer, "patch")

    def last(self, x: str, block: Layer) -> str:
        """The last layer, for the first token alone: [b, h]."""
        g, layer = self.graph, f"layers.{block.weights}"
        first = [g.shape(0), "batch", g.shape(0)]
        normed = self.norm(x, f"{layer}.attention_norm")
        self.split = self.joined(1, "sequences", self.spec.size)
        self.first = True
        found = self.attention(normed, layer, block, g.op("Slice", normed, *first))
        self.first = False
        self.split = self.shared
        x = g.op("Add", g.op("Slice", x, *first), self.norm(found, f"{layer}.attention_post_norm"))
        found = self.feed_forward(self.norm(x, f"{layer}.output_norm"), layer, self.spec.activation)
        return g.op("Add", x, self.norm(found, f"{layer}.output_post_norm"))

    first = False

    def attention(self, x: str, layer: str, block: Layer, asking: str = "") -> str:
        """As `Attention.attention`; of many tokens, some heads at a time."""
        g, spec, tokens = self.graph, self.spec, self.spec.max_tokens
        most = max(1, SCORES // (4 * tokens * tokens))  # heads
        if asking or most >= spec.heads:
            return Attention.attention(self, x, layer, block, asking)
        apart = self.joined("length", "batch", spec.heads, spec.size)
        parts = ("query", "key", "value")
        made = (self.heads(self.linear(x, f"{layer}.{part}"), layer, part, block) for part in parts)
        whole = [g.op("Reshape", one, apart) for one in made]
        found = []
        for start in range(0, spec.heads, most):
            q, k, v = (g.op("Slice", one, g.shape(start), g.shape(start + most), g.shape(2)) for one in whole)
            scores = g.op(
                "FusedMatMul", q, k, domain="com.microsoft", transB=1, transBatchA=1, transBatchB=1, alpha=1.0
            )
            weights = g.op("Softmax", scores, axis=-1)
            found.append(g.op("FusedMatMul", weights, v, domain="com.microsoft", transBatchB=1))
        context = g.op("Concat", *found, axis=1)  # [b, heads, s, size]
        return self.leave(g.op("Reshape", context, self.joined("sequences", "length", spec.size)), layer)

    def heads(self, x: str, layer: str, part: str, block: Layer) -> str:
        if self.first and part == "query":  # the first token is at no place that turns it
            block = replace(block, rotary=None)
        return super().heads(x, layer, part, block)

    def positions(self) -> str:
        return self.graph.constant("token:numbers", np.arange(self.spec.max_tokens, dtype=np.int64)[:, None])

    def pooled(self, x: str) -> str:
        """Final tokens [s * b, h], or the first alone [b, h], -> [b, n], of kind multi [b * vectors, n]."""
        g, spec = self.graph, self.image
        x = self.norm(x, "final_norm") if spec.early else x
        if spec.pooler is not None:
            return spec.pooler.pool(self, x)
        if spec.pooling == "patches":
            x = g.op("Reshape", x, self.joined("length", "batch", self.spec.hidden))
            first = self.spec.max_tokens - spec.patches
            x = g.op("Slice", x, g.shape(first), "length", g.shape(0)) if first else x
            x = g.op("ReduceMean", x, g.shape(0), keepdims=0)
        elif not self.alone:
            x = g.op("Slice", x, g.shape(0), "batch", g.shape(0))
        return x if spec.early else self.norm(x, "final_norm")

    def picture(self) -> str:
        """The picture's vectors [b, dim], of kind multi [b, vectors, dim]."""
        x = self.tokens(self.start())
        blocks = self.spec.blocks
        for i, block in enumerate(blocks, start=1):
            x = self.last(x, block) if self.alone and i == len(blocks) else self.block(x, block)
        x = self.unit(self.steps_of_texts(self.pooled(x)))
        if not self.spec.kind.by_token:
            return x
        return self.graph.op("Reshape", x, self.joined("batch", -1, self.spec.dim))

    def image_model(self, producer: str, apart: Apart | None) -> "onnx.ModelProto":
        g, spec = self.graph, self.spec
        shape: list[str | int] = ["batch", *(["vectors"] if spec.kind.by_token else []), spec.dim]
        outputs: Outputs = {g.op("Identity", self.picture(), name=OUTPUT): shape}
        return g.model(outputs | self.observations(), producer, apart)


def build_image(
    spec: VisionSpec,
    weights: Weights,
    int8: Mapping[str, Int8Linear] | None = None,
    *,
    observe: bool = False,
    apart: Apart | None = None,
    whole: bool = False,
) -> "onnx.ModelProto":
    """The graph of an image model: `pixel_values` float32 [batch, 3, height, width] -> `embedding` [batch, dim], of
    kind multi [batch, vectors, dim]; rows have length 1.

    weights: as `spec.prepare` returns them
    int8:    the linear layers that run in int8; None gives the float32 graph
    observe: also output what linear layers read (see `spec.input_name`), for calibration
    apart:   takes the large weights (see large.py)
    whole:   compute all tokens in the last layer even where the first alone is pooled; the vector is the same
    """
    return ImageEncoder(spec, weights, int8 or {}, observe, whole=whole).image_model("edge_embed", apart)
