"""From a float model to int8 layers: calibration on the exporter's texts, and the search for the best recipe."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from edge_embed_export.calibration.material import Material
from edge_embed_export.calibration.recipes import Quantized
from edge_embed_export.options import ExportOptions
from edge_embed_export.transformer.large import Scratch
from edge_embed_export.transformer.spec import Weights
from edge_embed_export.transformer.states import mix_offset
from edge_embed_export.transformer.workshop import Workshop
from edge_embed_quantize.calibrate import (
    Range,
    Recipe,
    Rounded,
    Site,
    condition,
    grams,
    observe,
    quantize_layers,
    ranges,
    search,
)
from edge_embed_quantize.linear import Int4Storage
from edge_embed_quantize.rounding import Grams, round_int4, round_int8
from edge_embed_quantize.table import TABLE_BITS, pack
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.model.session import make_session
from edge_embed_runtime.system.memory import trim_heap
from edge_embed_runtime.vectors.kinds import RERANK, SPARSE
from edge_embed_runtime.vectors.normalize import normalize

# SmoothQuant strengths without a search: values after a norm have outlier channels, the context of attention has few.
NORM_SMOOTHING = 0.75
CONTEXT_SMOOTHING = 0.5
# In pre-norm models a token, often the first, can have activations hundreds of times as large as the others'. Where
# one has this many times those of the median token, every row gets a scale of its own.
LARGEST_PEAK = 8.0
# Feed-forward channels that may be added for outliers: 1 % more work in two of six products.
EXTRA_CHANNELS = 16
# Channels are split where activations go beyond this: around 0, a(u) = min(a(u), c) + a(u - c) does not hold.
LEAST_SPLIT = 4.0
# What the search tries at every site.
NORM_STRENGTHS = (0.65, 0.85)
CONTEXT_STRENGTHS = (None, 0.65)
# Inputs of one output channel that share a multiplier where weights are stored in four bits: the first that divides.
INT4_GROUPS = (64, 32, 16)


class Calibrated:
    """What both ways to quantize share: a model, the values that are quantized, and what it is run on."""

    def __init__(self, material: Material, weights: Weights, shop: Workshop) -> None:
        self._material, self._weights, self._shop = material, weights, shop
        self._spec, self._sites = material.spec, material.sites
        self._ranges: dict[str, Range] = {}

    def _check_names(self, recipes: Mapping[str, Recipe]) -> None:
        """Raise ExportError where the recipes are another model's."""
        if sorted(recipes) != sorted(site.name for site in self._sites):
            raise ExportError(f"the recipes are for another model: this one has {len(self._sites)} values to quantize")

    def _default_recipe(self, site: Site) -> Recipe:
        if site.bounded:
            return Recipe()
        post = self._spec.norm == "post"
        if site.name.endswith(".out.input"):  # the context of attention: the graph has no form for scales per row here
            strength = CONTEXT_SMOOTHING if post else NORM_SMOOTHING
            return Recipe(smooth=None if site.producer is None else strength)
        uneven = not post and self._ranges[site.name].peak > LARGEST_PEAK
        if site.split is not None and not uneven:
            outliers = float(self._ranges[site.name].high.max()) > LEAST_SPLIT
            return Recipe(extra=EXTRA_CHANNELS if outliers else 0)
        if site.producer is None:  # a pooled vector, an activation function that cannot be split, a shared layer
            return Recipe("row")
        if not site.shiftable:  # a product of two layers
            return Recipe("row", CONTEXT_SMOOTHING)
        return Recipe("row" if uneven else "static", NORM_SMOOTHING)


class Quantizer(Calibrated):
    """Quantizes one float model. Calibration runs the model once for the ranges, and once for how weights are rounded.

    weights: as `prepare` returns them
    """

    def __init__(self, material: Material, weights: Weights, shop: Workshop) -> None:
        super().__init__(material, weights, shop)
        self._session: InferenceSession | None = None
        self._searching = False
        self._ranges = ranges(self._observe([site.name for site in self._sites]))
        # what the search has computed before, by site and recipe
        self._products: dict[tuple[str, Recipe], Grams] = {}
        self._rounded: dict[tuple[str, Recipe, bool, str], Rounded] = {}

    def _observe(self, names: list[str]) -> Iterable[dict[str, NDArray[np.float32]]]:
        if not names:
            return ()
        session = self._observed()
        return observe(lambda outputs, feed: session.run(list(outputs), feed), names, self._material.feeds())

    def _observed(self) -> InferenceSession:
        if self._session is None:
            self._session = self._float_session(observe=True)
        return self._session

    def default_recipes(self) -> dict[str, Recipe]:
        """How each site is quantized without a search."""
        return {site.name: self._default_recipe(site) for site in self._sites}

    def search(self, progress: Callable[[str], None]) -> dict[str, Recipe]:
        """The recipes with the highest mean cosine to the float model over the calibration texts, site by site."""
        self._searching = True
        expected = self._vectors(self._float_session())

        def cosine(recipes: Mapping[str, Recipe]) -> float:
            found = self._vectors(self._int8_session(self.quantize(recipes)))
            if self._spec.kind is RERANK:
                return RERANK.agreement([expected], [found])
            return float((found * expected).sum(axis=1).mean())

        start = self.default_recipes()
        choices = {}
        for name, recipe in start.items():
            if recipe.smooth is not None:
                strengths = CONTEXT_STRENGTHS if recipe.smooth == CONTEXT_SMOOTHING else NORM_STRENGTHS
                choices[name] = [replace(recipe, smooth=strength) for strength in strengths]
        return search(start, choices, cosine, progress)

    def _float_session(self, *, observe: bool = False) -> InferenceSession:
        scratch = Scratch(self._shop.folder())
        model = self._material.build(self._weights, observe=observe, apart=scratch)
        return scratch.session(model.SerializeToString())

    def _int8_session(self, tried: Quantized) -> InferenceSession:
        model = self._material.build(tried.weights, tried.layers).SerializeToString()
        return make_session(model, threads=1)

    def _vectors(self, session: InferenceSession) -> NDArray[np.float32]:
        found = np.vstack([session.run(None, feed)[0].reshape(-1, self._spec.dim) for feed in self._material.feeds()])
        return normalize(found) if self._spec.kind is SPARSE else found

    def run(self, recipes: Mapping[str, Recipe] | None, options: ExportOptions) -> Quantized:
        """The int8 model as the options ask for it. recipes: those that were given"""
        if recipes is None:
            recipes = self.search(options.progress) if options.search else self.default_recipes()
        options.progress("rounding weights")
        return self.quantize(recipes, table=options.table, int4=options.int4)

    def quantize(self, recipes: Mapping[str, Recipe], *, table: str = "int8", int4: bool = False) -> Quantized:
        """The int8 model. Raises ExportError when the recipes are another model's.

        table: one of TABLE_BITS, the embedding table's rows of tokens that are not frequent
        int4:  store the linear layers' weights in four bits
        """
        self._check_names(recipes)
        for name, recipe in self.default_recipes().items():
            check_recipe(name, recipes[name], recipe)
        weights, inputs = condition(self._weights, self._sites, recipes, self._ranges)
        missing = {name: inputs[name] for name in recipes if (name, recipes[name]) not in self._products}
        if not self._searching:  # what is not needed meanwhile may be as large as the weights of a small model
            weights = {}
        for name, product in grams(self._observe(list(missing)), missing).items():
            self._products[name, recipes[name]] = product
        if not self._searching:
            self._session = None
            trim_heap()
            weights, inputs = condition(self._weights, self._sites, recipes, self._ranges)

        def rounded(site: Site, weight: NDArray[np.float32]) -> Rounded:
            key = (site.name, recipes[site.name], int4, hashlib.sha256(weight.tobytes()).hexdigest())
            if key not in self._rounded:
                self._rounded[key] = round_weight(weight, self._products[site.name, recipes[site.name]], int4)
            return self._rounded[key]

        layers = quantize_layers(weights, self._sites, inputs, rounded)
        moved = {site.producer: inputs[site.name].offset for site in self._sites if site.producer is not None}
        weights = {**weights, **mix_offset(self._spec, weights, moved)}
        return Quantized(weights, layers, self._material.table(TABLE_BITS[table]), dict(recipes), moved)


def check_recipe(name: str, recipe: Recipe, default: Recipe) -> None:
    """Raise ExportError where a value is to have other scales than the graph has a form for."""
    if recipe.activation != default.activation:
        raise ExportError(f"the recipe of {name} has {recipe.activation!r} scales, {default.activation!r} is needed")


def round_weight(weight: NDArray[np.float32], product: Grams, int4: bool) -> Rounded:
    """A weight [n, m] as int8 codes, their scales, and how four bits store them where that was asked for."""
    n, m = weight.shape
    group = next((size for size in INT4_GROUPS if n % size == 0), None)
    if not int4 or group is None or m % 2:
        return *round_int8(weight, product), None
    four, multipliers, scale = round_int4(weight, product, group)
    stored = Int4Storage(pack((four + 8).astype(np.uint8), 4), multipliers)
    return four * np.repeat(multipliers, group, axis=0), scale, stored
