"""A model of pictures or of sounds that was read from a folder, as one kind of object."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.calibration.material import Pictures, Sounds
from edge_embed_export.calibration.quantizer import Quantizer
from edge_embed_export.calibration.recipes import Quantized
from edge_embed_export.families.audio import is_audio_model, read_audio_tower
from edge_embed_export.families.audiofront import read_audio_front
from edge_embed_export.families.imagefront import read_image_front
from edge_embed_export.families.vision import is_image_model, read_image_tower
from edge_embed_export.files.accounting import Keys
from edge_embed_export.options import ExportOptions
from edge_embed_export.sources.checkpoint import Checkpoint
from edge_embed_export.transformer.builder import Apart
from edge_embed_export.transformer.spec import Spec, Weights, prepare
from edge_embed_export.transformer.vision import build_image
from edge_embed_export.transformer.workshop import Workshop
from edge_embed_quantize.linear import Int8Linear

if TYPE_CHECKING:
    import onnx

Feeds = Sequence[NDArray[np.float32]]
IMAGE, AUDIO = "image", "audio"
# What the manifest says of how pictures are read.
ALPHA = "pictures with alpha are laid on white"


class MediaModel(Protocol):
    """A model of one modality, with what its manifest says.

    front:   how an input becomes its numbers
    facts:   its sizes
    weights: as `build` takes them
    notes:   how it was read
    """

    modality: str
    front: dict[str, Any]
    facts: dict[str, Any]
    weights: Weights
    notes: tuple[str, ...]

    @property
    def spec(self) -> Spec:
        """Its layers and what is behind them."""
        ...

    def build(self, weights: Weights, layers: Mapping[str, Int8Linear] | None, apart: Apart) -> "onnx.ModelProto":
        """The graph, in int8 where there are layers."""
        ...

    def quantize(self, feeds: Feeds, options: ExportOptions, shop: Workshop) -> Quantized:
        """Its int8 form, by what its front end gives for some inputs."""
        ...


def modality_of(config: Mapping[str, Any]) -> str:
    """What the model of a config.json reads besides texts: "image", "audio", or "" for a model of texts alone."""
    return IMAGE if is_image_model(config) else AUDIO if is_audio_model(config) else ""


def read_media_model(checkpoint: Checkpoint, folder: Path) -> MediaModel:
    """The model of pictures or of sounds in a checkpoint. Raises ExportError and SourceError."""
    if is_image_model(checkpoint.config):
        return _Pictures(checkpoint, folder)
    return _Sounds(checkpoint, folder)


class _Pictures:
    modality = IMAGE
    notes: tuple[str, ...] = (ALPHA,)

    def __init__(self, checkpoint: Checkpoint, folder: Path) -> None:
        config = checkpoint.config if isinstance(checkpoint.config, Keys) else Keys(checkpoint.config)
        tower = read_image_tower(config, checkpoint.tensors, folder, read_image_front(folder))
        self._spec, self.front, self.facts = tower.spec, tower.front, tower.facts
        self.weights: Weights = prepare(tower.spec.body, tower.weights)

    @property
    def spec(self) -> Spec:
        return self._spec.body

    def build(self, weights: Weights, layers: Mapping[str, Int8Linear] | None, apart: Apart) -> "onnx.ModelProto":
        return build_image(self._spec, weights, layers, apart=apart)

    def quantize(self, feeds: Feeds, options: ExportOptions, shop: Workshop) -> Quantized:
        return Quantizer(Pictures(self._spec, self.weights, feeds), self.weights, shop).run(None, options)


class _Sounds:
    modality = AUDIO

    def __init__(self, checkpoint: Checkpoint, folder: Path) -> None:
        tower = read_audio_tower(checkpoint, read_audio_front(folder))
        self._spec, self.front, self.facts, self.notes = tower.spec, tower.front, tower.facts, tower.notes
        self.weights: Weights = tower.weights

    @property
    def spec(self) -> Spec:
        return self._spec.body

    def build(self, weights: Weights, layers: Mapping[str, Int8Linear] | None, apart: Apart) -> "onnx.ModelProto":
        return self._spec.build(weights, layers, apart=apart)

    def quantize(self, feeds: Feeds, options: ExportOptions, shop: Workshop) -> Quantized:
        return Quantizer(Sounds(self._spec, self.weights, feeds), self.weights, shop).run(None, options)
