"""What quantizing a model makes, and how each of its values was quantized: the recipes, which a manifest holds."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.files.reading import read_json
from edge_embed_export.transformer.spec import Weights
from edge_embed_quantize.calibrate import Recipe
from edge_embed_quantize.linear import Int8Linear
from edge_embed_quantize.table import CompactTable
from edge_embed_runtime.bundle.manifest import WITHIN_LIMIT
from edge_embed_runtime.errors import SourceError


@dataclass(frozen=True)
class Quantized:
    """What `Quantizer.quantize` makes: `build` takes the first three.

    moved: what was taken from each channel of the value that a norm or a linear layer gives (see calibrate.py)
    """

    weights: Weights
    layers: dict[str, Int8Linear]
    table: CompactTable | None
    recipes: dict[str, Recipe]
    moved: dict[str, NDArray[np.float32]]

    def describe(self) -> dict[str, Any]:
        """For the manifest; "recipes" is what `read_recipes` reads."""
        stored = any(layer.stored for layer in self.layers.values())
        table = "int8, one scale per row"
        if self.table is not None:
            table = f"int8 for {len(self.table.frequent)} frequent tokens, {self.table.bits} bits for the others"
        rows = sum(recipe.activation == "row" for recipe in self.recipes.values())
        return {
            "weights": f"int8, one scale per output channel{', stored in 4 bits' * stored}",
            "rounding": "GPTQ on the exporter's calibration texts",
            "pairs": WITHIN_LIMIT,
            "activations": "uint8, static scales"
            + f", at {rows} of {len(self.recipes)} values one per row" * bool(rows),
            "embedding_table": table,
            "recipes": {name: asdict(recipe) for name, recipe in self.recipes.items()},
        }


def read_recipes(path: str | os.PathLike[str]) -> dict[str, Recipe]:
    """The recipes in a manifest.json, or in the manifest of a bundle folder."""
    file = Path(path) / "manifest.json" if Path(path).is_dir() else Path(path)
    try:
        found = read_json(file)["quantization"]["recipes"]
        return {str(name): Recipe(**fields) for name, fields in found.items()}
    except (SourceError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise SourceError(f"{file} holds no recipes of an int8 bundle: {error!r}") from error
