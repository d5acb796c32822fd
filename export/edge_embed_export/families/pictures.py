"""What the families of image models share: settings, patches and positions, turned into `VisionSpec` and our names."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edge_embed_export.families.interpolate import bicubic
from edge_embed_export.families.reader import Reader, with_usual
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.spec import Array, Layer, Spec, Step
from edge_embed_export.transformer.vision import CHANNELS, Pooler, VisionSpec, check_image
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.vectors.kinds import DENSE, Kind


@dataclass(frozen=True)
class ImageTower:
    """An image model as it was read.

    family: its name, for the manifest
    front:  what turns a picture into its pixels, as the manifest has it
    facts:  its numbers, for the manifest
    """

    family: str
    spec: VisionSpec
    weights: dict[str, Array]
    front: dict[str, Any]
    facts: dict[str, Any]


class PictureReader(Reader):
    """Reads an image model.

    anchor: see Reader
    config: of the image model alone
    usual:  what the library takes where the config does not say it, by name: all settings that are read
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        anchor: str,
        config: Mapping[str, Any],
        front: dict[str, Any],
        usual: Mapping[str, Any],
    ) -> None:
        super().__init__(checkpoint, anchor, with_usual(config, usual))
        self.front = front
        self.refuse(num_channels=CHANNELS)
        self.patch = self.side("patch_size")
        height, width = front["size"]
        self.size: tuple[int, int] = (int(height), int(width))
        self.tokens = (self.size[0] // self.patch) * (self.size[1] // self.patch)

    @classmethod
    def of_timm(cls, checkpoint: Checkpoint, front: dict[str, Any]) -> "PictureReader":
        """Of timm's model in a folder of OpenCLIP, whose weights begin in "visual.trunk."; its name says what they do
        not say."""
        anchor = "visual.trunk.patch_embed.proj.weight"
        conv = checkpoint.tensors.get(anchor)
        patch = conv.shape[-1] if conv is not None and conv.ndim == 4 else 1
        read = cls(checkpoint, anchor, {}, front, {"patch_size": patch})
        read.prefix = f"{read.prefix}visual.trunk."
        return read

    def blocks(self, part: str) -> int:
        """How many layers the weights have, where no config says it: blocks.0.PART, blocks.1.PART, ..."""
        count = 0
        while self.has(f"blocks.{count}.{part}.weight"):
            count += 1
        if not count:
            raise self.error(
                f"the weights have no tensor {f'blocks.0.{part}.weight'!r}; the checkpoint is not complete"
            )
        return count

    def pair(self, name: str) -> tuple[int, int]:
        """Height and width, which the config has as one number where they are the same."""
        value = self.config.get(name)
        both: Any = value if isinstance(value, list | tuple) and len(value) == 2 else (value, value)
        if not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in both):
            raise self.error(f"{name} is {value!r:.40}, expected a whole number of pixels")
        return int(both[0]), int(both[1])

    def side(self, name: str) -> int:
        height, width = self.pair(name)
        if height != width:
            raise self.error(f"{name} is {[height, width]}: patches that are no squares are not supported")
        return height

    def fixed(self, name: str = "image_size") -> None:
        """Raise ExportError where the front end gives pictures of another size than the model's own."""
        if self.pair(name) != self.size:
            raise self.error(
                f"the front end gives pictures of {self.size[0]} x {self.size[1]} pixels, the model reads "
                f"{self.pair(name)[0]} x {self.pair(name)[1]}"
            )

    def patches(self, conv: str, *, bias: bool = False) -> None:
        """The convolution that reads patches, which do not overlap: a linear layer."""
        weight = self.tensor(f"{conv}.weight", 4)
        self.weights["patch.weight"] = weight.reshape(len(weight), -1).T
        if bias:
            self.weights["patch.bias"] = self.tensor(f"{conv}.bias", 1)

    def interpolated(self, table: Array, *, antialias: bool = False) -> Array:
        """Positions [patches, h] of a picture of this size, from those of a square of another."""
        grid = self.size[0] // self.patch, self.size[1] // self.patch
        side = math.isqrt(len(table))
        if side * side != len(table):
            raise self.error(f"{len(table)} positions are those of no square")
        if grid == (side, side):
            return table
        square = np.asarray(table).reshape(side, side, -1)
        return bicubic(square, grid, antialias=antialias).reshape(self.tokens, -1)

    def projected(self, name: str = "visual_projection") -> tuple[Step, ...]:
        """The projection into the space of texts, which stands beside the image model, if there is one."""
        held = self.checkpoint.tensors
        found = [key for key in held if f".{key}".endswith(f".{name}.weight")]
        if found:
            weight = held[min(found, key=len)]
            if weight.ndim != 2 or 0 in weight.shape:
                raise self.error(
                    f"the tensor {min(found, key=len)!r} has shape {weight.shape}, expected two dimensions"
                )
            self.weights["projection.0.weight"] = weight.T
        return (Step("linear"),) if found else ()

    def tower(
        self,
        family: str,
        *,
        pooling: Literal["class", "patches"] = "class",
        early: bool = True,
        pooler: Pooler | None = None,
        steps: tuple[Step, ...] = (),
        kind: Kind = DENSE,
        plan: tuple[Layer, ...] = (),
        **fields: Any,
    ) -> ImageTower:
        """The model. steps: what is behind pooling; fields: of `Spec`"""
        hidden = fields["hidden"]
        prefix = len(self.weights["prefix"]) if "prefix" in self.weights else 0
        linear = [i for i, step in enumerate(steps) if step.kind == "linear"]
        given = hidden if pooler is None else pooler.width
        dim = self.weights[f"projection.{linear[-1]}.weight"].shape[1] if linear else given
        body = Spec(
            vocab=0,
            max_tokens=self.tokens + prefix,
            dim=dim,
            norm="pre",
            projections=steps,
            pooling="cls",
            kind=kind,
            plan=plan,
            **fields,
        )
        spec = VisionSpec(body, self.size, self.patch, pooling, early, pooler)
        check_image(spec, self.weights)
        facts = {name: getattr(body, name) for name in ("layers", "hidden", "heads", "intermediate")}
        return ImageTower(
            family, spec, self.weights, self.front, {**facts, "tokens": body.max_tokens, "family": family}
        )


def check_dim(checkpoint: Checkpoint, tower: ImageTower, said: object) -> None:
    """Raise ExportError where the config says another number of a vector's numbers than the weights."""
    if said is not None and said != tower.spec.body.dim:
        raise ExportError(
            f"{checkpoint.folder}: the weights give vectors of {tower.spec.body.dim} numbers, the config says "
            f"{said!r:.40}; they do not belong together"
        )
