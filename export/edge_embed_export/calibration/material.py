"""What a model is calibrated on, and how its graph is made: all that quantizing has to know of a kind of input."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.calibration.pairs import pair_rows
from edge_embed_export.calibration.texts import calibration_rows
from edge_embed_export.transformer.builder import Apart
from edge_embed_export.transformer.encoder import build
from edge_embed_export.transformer.sound import LEVELS, SoundSpec
from edge_embed_export.transformer.spec import Spec, Weights, sites
from edge_embed_export.transformer.vision import PIXELS, VisionSpec, build_image, image_sites
from edge_embed_quantize.calibrate import Feed, Site
from edge_embed_quantize.linear import Int8Linear
from edge_embed_quantize.table import CompactTable, compact_table
from edge_embed_runtime.bundle.adapters import INPUT
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.inputs.tokenizer import TokenIds, Tokenizer
from edge_embed_runtime.model.batching import batches, pad, pad_pairs
from edge_embed_runtime.vectors.kinds import RERANK, SPARSE

if TYPE_CHECKING:
    import onnx

# Tokens whose rows stay int8 in a table of fewer bits, by those bits: at most so many of those seen in calibration.
FREQUENT_ROWS = {4: 4096, 3: 256}

CALIBRATION_BATCH_TOKENS = 1024

Layers = Mapping[str, Int8Linear]


class Material(Protocol):
    """A model and its inputs.

    sites: the values that are quantized
    """

    @property
    def spec(self) -> Spec: ...

    @property
    def sites(self) -> list[Site]: ...

    def feeds(self) -> Iterable[Feed]:
        """What the model is run on, batch by batch, the same each time."""
        ...

    def build(
        self, weights: Weights, layers: Layers | None = None, *, observe: bool = False, apart: Apart | None = None
    ) -> "onnx.ModelProto":
        """The graph, in int8 where there are layers; observe: it also gives the values of `sites`, by their names."""
        ...

    def table(self, bits: int) -> CompactTable | None:
        """The embedding table in few bits; None where it has eight, or where there is none."""
        ...


def padded(spec: Spec, rows: Sequence[TokenIds]) -> Feed:
    """What a model reads of a batch; texts that the graph would fill up are full, so that all of their rows count."""
    if (filled := spec.filled) is not None:
        rows = [np.concatenate([row, np.full(filled.tokens - len(row), filled.token)]) for row in rows]
    return pad_pairs(rows, types=spec.types) if spec.kind is RERANK else pad(rows)


class Texts:
    """A model of texts, and the exporter's.

    adapters: how many of the model's adapters (see variants.py) count besides its base
    places:   the values that are quantized, where they are not those of `spec.sites`
    """

    def __init__(
        self,
        spec: Spec,
        weights: Weights,
        tokenizer: Tokenizer,
        adapters: int = 0,
        *,
        places: list[Site] | None = None,
    ) -> None:
        self.spec = spec
        self.sites = sites(spec, weights) if places is None else places
        self.rows = pair_rows(tokenizer) if spec.kind is RERANK else calibration_rows(tokenizer)
        self._weights, self._tokenizer, self._adapters = weights, tokenizer, adapters

    def feeds(self) -> Iterable[Feed]:
        lengths = [len(row) if self.spec.filled is None else self.spec.reach for row in self.rows]
        for batch in batches(lengths, CALIBRATION_BATCH_TOKENS):
            yield padded(self.spec, [self.rows[i] for i in batch])
        for number in range(1, self._adapters + 1):  # together as many texts as the base
            rows = self.rows[number - 1 :: self._adapters]
            for batch in batches([len(row) for row in rows], CALIBRATION_BATCH_TOKENS):
                yield {**pad([rows[i] for i in batch]), INPUT: np.array([number], np.int64)}

    def build(
        self, weights: Weights, layers: Layers | None = None, *, observe: bool = False, apart: Apart | None = None
    ) -> "onnx.ModelProto":
        return build(self.spec, weights, layers, observe=observe, apart=apart)

    def table(self, bits: int) -> CompactTable | None:
        if bits == 8:
            return None
        if self.spec.kind is SPARSE:
            raise ExportError("the table of a sparse model is also what its weights are made with: it stays int8")
        width = self._weights["embedding.word"].shape[1]
        if width % 8:
            raise ExportError(
                f"a table of {bits} bits needs a hidden size that is a multiple of 8, this one is {width}; "
                "table int8 has no such limit"
            )
        of_pairs = self.spec.kind is RERANK  # whose tokens have a type besides
        seen = Counter(int(token) for row in self.rows for token in (row[:, 0] if of_pairs else row))
        frequent = [token for token, _ in sorted(seen.items(), key=lambda item: (-item[1], item[0]))]
        kept = frequent[: FREQUENT_ROWS[bits]]
        return compact_table(self._weights["embedding.word"], bits, kept, self._never_given())

    def _never_given(self) -> Sequence[int]:
        """Ids of placeholders like [unused7], which no text gives."""
        vocabulary = self._tokenizer.vocabulary()
        placeholders = (token for token in vocabulary if re.fullmatch(r"\[unused\d+\]", token))
        return [vocabulary[t] for t in placeholders if vocabulary[t] not in self._tokenizer.encode(t)]


class Pictures:
    """A model of pictures, and pictures as its front end gives them.

    pixels: float [1, 3, height, width] each
    """

    def __init__(self, image: VisionSpec, weights: Weights, pixels: Sequence[NDArray[np.float32]]) -> None:
        self.spec = image.body
        self.sites = image_sites(image, weights)
        self._image, self._pixels = image, pixels

    def feeds(self) -> Iterable[Feed]:
        return ({PIXELS: pixels} for pixels in self._pixels)

    def build(
        self, weights: Weights, layers: Layers | None = None, *, observe: bool = False, apart: Apart | None = None
    ) -> "onnx.ModelProto":
        # a few pictures have few first tokens: in the last layer, too, all tokens say how weights are rounded
        return build_image(self._image, weights, layers, observe=observe, apart=apart, whole=observe)

    def table(self, bits: int) -> CompactTable | None:  # noqa: ARG002 - as of texts
        return None


class Sounds:
    """A model of sounds, and windows of sounds as its front end gives them.

    levels: float [1, ...] each
    """

    def __init__(self, sound: SoundSpec, weights: Weights, levels: Sequence[NDArray[np.float32]]) -> None:
        self.spec = sound.body
        self.sites = sound.sites(weights)
        self._sound, self._levels = sound, levels

    def feeds(self) -> Iterable[Feed]:
        return ({LEVELS: levels} for levels in self._levels)

    def build(
        self, weights: Weights, layers: Layers | None = None, *, observe: bool = False, apart: Apart | None = None
    ) -> "onnx.ModelProto":
        return self._sound.build(weights, layers, observe=observe, apart=apart)

    def table(self, bits: int) -> CompactTable | None:  # noqa: ARG002 - as of texts
        return None
