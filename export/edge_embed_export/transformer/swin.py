"""HTSAT (arXiv:2202.00874), the encoder of CLAP's sounds, as an ONNX graph: a Swin transformer over a spectrogram.

    bands.{scale,shift} [bands]     what a batch norm does to the level of each band
    patch [patch * patch, h]        positions.I [heads, window**2, window**2]: what is added to scores in layer I
    merge.S.norm [4 h], merge.S [4 h, 2 h]: from stage S to the next, four tokens into one
    embedding.norm, layers.I, final_norm, projection.I: see spec.py; layers of later stages are wider

The spectrogram is stretched to a length that a square can be made of: pieces of time one below the other. Rows are
tokens of all windows of a picture, as attention reads them, then as they lie side by side; one Gather goes from one to
the other, shift of the windows included.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.transformer.builder import Apart
from edge_embed_export.transformer.encoder import Encoder
from edge_embed_export.transformer.sound import LEVELS, sound_model
from edge_embed_export.transformer.spec import Spec, Weights, check_shapes, input_name, sites
from edge_embed_quantize.calibrate import Site
from edge_embed_quantize.linear import Int8Linear

if TYPE_CHECKING:
    import onnx

# The sharpness of torch's bicubic kernel (Keys 1981).
SHARPNESS = np.float32(-0.75)
# What the reference adds to scores of tokens of two regions, which a shifted window joins.
APART = -100.0


@dataclass(frozen=True)
class Stage:
    """Layers of one width. first: the number of its first layer; side: tokens along an edge"""

    first: int
    depth: int
    side: int
    heads: int
    width: int

    def shift(self, layer: int, window: int) -> int:
        """How far the windows of a layer are shifted: every second one's by half of a window, where there are many."""
        return window // 2 if (layer - self.first) % 2 and self.side > window else 0


@dataclass(frozen=True)
class SwinSpec:
    """What an encoder like HTSAT looks like.

    body:   what all layers share; `hidden` is the last width, `head_size` that of all heads
    stages: the layers
    bands, frames: of the levels
    patch:  frames and bands of a patch
    window: tokens along an edge of a window
    fold:   pieces of time that lie one below the other
    """

    body: Spec
    stages: tuple[Stage, ...]
    bands: int
    frames: int
    patch: int
    window: int
    fold: int

    @property
    def shape(self) -> list[str | int]:
        """What the graph reads."""
        return ["batch", 1, self.frames, self.bands]

    @property
    def stretched(self) -> int:
        """Frames of the spectrogram when it is stretched."""
        return self.stages[0].side * self.patch * self.fold

    def stage_of(self, layer: int) -> Stage:
        """The stage of a layer."""
        return next(stage for stage in self.stages if layer < stage.first + stage.depth)

    def check(self, weights: Weights) -> None:
        """Raise ExportError for a shape that does not fit."""
        first, tokens = self.stages[0], self.window**2
        expected: dict[str, tuple[int, ...]] = {"bands.scale": (self.bands,), "bands.shift": (self.bands,)}
        expected |= {"patch.weight": (self.patch**2, first.width), "patch.bias": (first.width,)}
        for number, stage in enumerate(self.stages):
            h = stage.width
            inner = weights[f"layers.{stage.first}.up.weight"].shape[-1]
            for i in range(stage.first, stage.first + stage.depth):
                layer = f"layers.{i}"
                expected |= {f"{layer}.{part}.weight": (h, h) for part in ("query", "key", "value", "out")}
                expected |= {f"{layer}.up.weight": (h, inner), f"{layer}.down.weight": (inner, h)}
                expected |= {f"{layer}.{part}_norm.weight": (h,) for part in ("attention", "output")}
                expected[f"positions.{i}"] = (stage.heads, tokens, tokens)
            if number + 1 < len(self.stages):
                expected |= {f"merge.{number}.norm.weight": (4 * h,), f"merge.{number}.weight": (4 * h, 2 * h)}
        check_shapes(weights, expected)

    def sites(self, weights: Weights) -> list[Site]:
        """Every value that linear layers read, in the order in which the graph computes them."""
        found = [Site(input_name("patch"), ("patch",))]
        ends = {f"layers.{stage.first + stage.depth - 1}.down": number for number, stage in enumerate(self.stages[:-1])}
        for site in sites(self.body, weights):
            found.append(site)
            if (number := ends.get(site.readers[0])) is not None:
                name = f"merge.{number}"
                found.append(Site(input_name(name), (name,), producer=f"{name}.norm", scalable=True))
        return found

    def build(
        self,
        weights: Weights,
        int8: Mapping[str, Int8Linear] | None = None,
        *,
        observe: bool = False,
        apart: Apart | None = None,
    ) -> "onnx.ModelProto":
        """The graph: `input_features` float32 [batch, 1, frames, bands] -> `embedding` [batch, dim], of length 1.

        Options are those of `sound.FramesSpec.build`.
        """
        encoder = _Swin(self.body, weights, int8 or {}, None, observe)
        return sound_model(encoder, encoder.sound(self), apart)


class _Swin(Encoder):
    image: SwinSpec

    def sound(self, image: SwinSpec) -> str:
        """The mean of all tokens, behind the projection [b, dim]."""
        g, body, self.image = self.graph, self.spec, image
        levels = g.feed(LEVELS, image.shape)
        g.op("Shape", levels, name="batch", start=0, end=1)
        x = self.norm(self.patches(self.stretch(levels)), "embedding.norm")
        for number, stage in enumerate(image.stages):
            for i in range(stage.first, stage.first + stage.depth):
                x = self.layer(x, i, stage)
            if number + 1 < len(image.stages):
                x = self.merged(x, number, stage)
        last = image.stages[-1]
        x = g.op("Reshape", self.norm(x, "final_norm"), self.joined(last.side**2, "batch", body.hidden))
        return self.steps_of_texts(g.op("ReduceMean", x, g.shape(0), keepdims=0))

    def stretch(self, levels: str) -> str:
        """Levels [b, 1, frames, bands], each band normed, as so many frames as a square needs [b, frames, bands]."""
        g, image = self.graph, self.image
        x = g.op("Squeeze", levels, g.shape(1))
        x = g.op("Mul", x, g.constant("bands.scale", self.weights["bands.scale"]))
        x = g.op("Add", x, g.constant("bands.shift", self.weights["bands.shift"]))
        if image.stretched == image.frames:
            return x
        total = ""
        for i, (places, shares) in enumerate(cubic(image.frames, image.stretched)):
            part = g.op("Gather", x, g.constant(f"stretch.{i}.places", places), axis=1)
            part = g.op("Mul", part, g.constant(f"stretch.{i}.shares", shares[:, None]))
            total = g.op("Add", total, part) if total else part
        return total

    def patches(self, x: str) -> str:
        """[b, fold * side * patch, bands] -> tokens [side * side * b, h], those of a row of the square together."""
        g, image, side, size = self.graph, self.image, self.image.stages[0].side, self.image.patch
        x = g.op("Reshape", x, self.joined("batch", image.fold, side, size, image.bands // size, size))
        # a row of the square: some bands of a piece of time; a patch: bands, then frames
        x = g.op("Transpose", x, perm=[1, 4, 2, 0, 5, 3])
        return self.linear(g.op("Reshape", x, g.shape(-1, size * size)), "patch")

    def taken(self, x: str, name: str, places: NDArray[np.int64], width: int) -> str:
        """Tokens [s * b, width] in another order, [len(places) * b, width]."""
        g = self.graph
        apart = g.op("Reshape", x, self.joined(places.size, "batch", width))
        return g.op("Reshape", g.op("Gather", apart, g.constant(name, places), axis=0), g.shape(-1, width))

    def layer(self, x: str, i: int, stage: Stage) -> str:
        """One layer of tokens [s * b, h]."""
        g, layer, window = self.graph, f"layers.{i}", self.image.window
        shift = stage.shift(i, window)
        name, order = f"windows.{stage.side}.{shift}", windows(stage.side, window, shift)
        inside = self.taken(self.norm(x, f"{layer}.attention_norm"), name, order, stage.width)
        found = self.window_attention(inside, i, stage, shift)
        x = g.op("Add", x, self.taken(found, f"{name}.back", np.argsort(order), stage.width))
        return g.op("Add", x, self.feed_forward(self.norm(x, f"{layer}.output_norm"), layer, self.spec.activation))

    def window_attention(self, x: str, i: int, stage: Stage, shift: int) -> str:
        """Attention inside of windows: token t of window w of picture p is row (t * windows + w) * b + p of [.., h]."""
        g, layer, tokens = self.graph, f"layers.{i}", self.image.window**2
        apart = g.shape(tokens, -1, self.spec.size)
        q, k, v = (g.op("Reshape", self.linear(x, f"{layer}.{part}"), apart) for part in ("query", "key", "value"))
        scores = g.op("FusedMatMul", q, k, domain="com.microsoft", transB=1, transBatchA=1, transBatchB=1, alpha=1.0)
        count = (stage.side // self.image.window) ** 2
        scores = g.op("Reshape", scores, self.joined(count, "batch", stage.heads, tokens, tokens))
        scores = g.op("Add", scores, self.stored(f"positions.{i}", self.weights[f"positions.{i}"]))
        if shift:
            hidden = partial(self.hidden_regions, stage, shift)
            scores = g.op("Add", scores, self.once(f"regions.{stage.side}", hidden))
        weights = g.op("Reshape", g.op("Softmax", scores, axis=-1), g.shape(-1, tokens, tokens))
        context = g.op("FusedMatMul", weights, v, domain="com.microsoft", transBatchB=1)
        return self.linear(context, f"{layer}.out", merge=stage.width)

    def hidden_regions(self, stage: Stage, shift: int) -> str:
        """What hides tokens of other regions [windows, 1, 1, tokens, tokens]."""
        return self.graph.constant(
            f"regions.{stage.side}", regions(stage.side, self.image.window, shift)[:, None, None]
        )

    def merged(self, x: str, number: int, stage: Stage) -> str:
        """Four tokens side by side as one of twice the width."""
        g, name = self.graph, f"merge.{number}"
        numbers = np.arange(stage.side**2).reshape(stage.side, stage.side)
        x = g.op("Reshape", x, self.joined(stage.side**2, "batch", stage.width))
        quarters = [
            g.op("Gather", x, g.constant(f"{name}.{row}{column}", numbers[row::2, column::2].ravel()), axis=0)
            for column in range(2)
            for row in range(2)
        ]
        whole = g.op("Reshape", g.op("Concat", *quarters, axis=2), g.shape(-1, 4 * stage.width))
        return self.linear(self.norm(whole, f"{name}.norm"), name)


def windows(side: int, window: int, shift: int) -> NDArray[np.int64]:
    """Tokens of a square as those of its windows, all first ones first: [side * side]."""
    count = side // window
    numbers = np.roll(np.arange(side * side).reshape(side, side), (-shift, -shift), (0, 1))
    apart = numbers.reshape(count, window, count, window).transpose(1, 3, 0, 2)
    return np.ascontiguousarray(apart.reshape(-1), np.int64)


def regions(side: int, window: int, shift: int) -> NDArray[np.float32]:
    """For every window APART where its tokens are of two regions, else 0: [windows, tokens, tokens]."""
    places = np.arange(side)
    along = (places >= side - window).astype(int) + (places >= side - shift)
    numbers = (3 * along[:, None] + along[None, :]).ravel()
    # the regions are of the shifted square, so its windows lie where those of any square do
    each = numbers[windows(side, window, 0)].reshape(window * window, -1).T
    return np.where(each[:, :, None] != each[:, None, :], np.float32(APART), np.float32(0))


def cubic(have: int, want: int) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """torch's bicubic interpolation of one axis with align_corners: for each of four neighbours, its places [want] and
    its shares [want]."""
    scale = np.float32(have - 1) / np.float32(want - 1)
    places = scale * np.arange(want, dtype=np.float32)
    first = np.floor(places).astype(np.int64)
    found = []
    for step in (-1, 0, 1, 2):
        distance = np.abs(places - (first + step).astype(np.float32))
        near = ((SHARPNESS + 2) * distance - (SHARPNESS + 3)) * distance * distance + 1
        far = ((SHARPNESS * distance - 5 * SHARPNESS) * distance + 8 * SHARPNESS) * distance - 4 * SHARPNESS
        shares = np.where(distance <= 1, near, np.where(distance < 2, far, np.float32(0)))
        found.append((np.clip(first + step, 0, have - 1), shares.astype(np.float32)))
    return found
