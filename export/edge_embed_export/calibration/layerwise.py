"""Models whose float form is too large for memory: run layer by layer over all texts, one layer's weights at a time.

The states of tokens between two layers wait in a file. So calibration, and the vectors that a receipt is made of, take
what one layer takes, whatever the number of layers. What is computed is what the whole graph computes, bit for bit.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_embed_export.calibration.material import CALIBRATION_BATCH_TOKENS, padded
from edge_embed_export.calibration.material import Texts as Material
from edge_embed_export.calibration.quantizer import (
    Calibrated,
    check_recipe,
    round_weight,
)
from edge_embed_export.calibration.recipes import Quantized
from edge_embed_export.options import ExportOptions
from edge_embed_export.transformer import builder as graph
from edge_embed_export.transformer.encoder import NEXT, STATE, build_stage
from edge_embed_export.transformer.large import Scratch
from edge_embed_export.transformer.spec import Array, Spec, Weights
from edge_embed_export.transformer.workshop import WeightsFile, Workshop
from edge_embed_quantize.calibrate import Feed, Input, Recipe, Site, condition, grams, observe, quantize_layers, ranges
from edge_embed_quantize.linear import Int8Linear
from edge_embed_quantize.rounding import Grams
from edge_embed_quantize.table import TABLE_BITS
from edge_embed_runtime.bundle.manifest import LEFT_OUT_INPUT, TYPES_INPUT
from edge_embed_runtime.inputs.tokenizer import TokenIds, Tokenizer
from edge_embed_runtime.model.batching import batches
from edge_embed_runtime.system.cpu import default_threads
from edge_embed_runtime.vectors.kinds import RERANK

WORD = "embedding.word"
# A text: how many tokens at its beginning are left out, and its token ids.
Key = tuple[int, bytes]


def too_large(spec: Spec, weights: Weights) -> bool:
    """Whether a model is run layer by layer. Layers that share weights have few; a mean of all layers needs all."""
    size = sum(array.nbytes for array in weights.values())
    apart = len(spec.stored) == len(spec.blocks) and not spec.mix
    return size > graph.LARGEST and apart and spec.unattended is None


class Texts:
    """Texts in batches, and the states of their tokens, which lie in a file."""

    def __init__(self, rows: Sequence[TokenIds], spec: Spec, folder: Path) -> None:
        self.batches = list(batches([len(row) for row in rows], CALIBRATION_BATCH_TOKENS))
        self._hidden, self._path = spec.hidden, folder / "states"
        self.feeds: list[Feed] = [padded(spec, [rows[i] for i in batch]) for batch in self.batches]
        sizes = [feed["input_ids"].size for feed in self.feeds]
        self._starts = np.cumsum([0, *sizes]) * self._hidden * 4
        self._path.write_bytes(b"")

    def states(self, batch: int) -> Array:
        count = self.feeds[batch]["input_ids"].size * self._hidden
        found = np.fromfile(self._path, np.float32, count, offset=int(self._starts[batch]))
        return found.reshape(-1, self._hidden)

    def keep(self, batch: int, states: Array) -> None:
        with self._path.open("r+b") as file:
            file.seek(int(self._starts[batch]))
            file.write(np.ascontiguousarray(states).data)


class Stages:
    """A model as the parts that run one after the other (see `build_stage`).

    parts: of `build_stage`: int8 layers and table, or nothing
    kept:  where the weights of the layers lie, if they do
    """

    def __init__(
        self, spec: Spec, weights: Weights, shop: Workshop, *parts: Any, kept: WeightsFile | None = None
    ) -> None:
        self._spec, self._weights, self._shop, self._parts, self._kept = spec, weights, shop, parts, kept
        self.count = len(spec.blocks) + 1

    def session(self, number: int, texts: Texts, *, observe: bool = False) -> "Stage":
        weights, ids = self._weights, None
        compact = len(self._parts) > 1 and self._parts[1] is not None
        if number == 0 and not compact:
            # of the table, which may be a third of the model, the rows of these texts alone
            ids = np.unique(
                np.concatenate([np.zeros(1, np.int64), *(feed["input_ids"].ravel() for feed in texts.feeds)])
            )
            weights = {**weights, WORD: np.asarray(weights[WORD][ids])}
        scratch = Scratch(self._shop.folder())
        model = build_stage(self._spec, weights, number, *self._parts, observe=observe, apart=scratch)
        if self._kept is not None:
            self._kept.let_go()
        return Stage(scratch.session(model.SerializeToString(), default_threads()), number, texts, ids)

    def vectors(self, rows: Sequence[TokenIds], left_out: int = 0) -> list[Array]:
        """What the model gives for each text: [dim], or [tokens, dim]. left_out: as in `Network.encode`"""
        texts = Texts(rows, self._spec, self._shop.folder())
        for number in range(self.count - 1):
            stage = self.session(number, texts)
            for batch in range(len(texts.feeds)):
                texts.keep(batch, stage.run([NEXT], batch)[0])
            del stage
        stage = self.session(self.count - 1, texts)
        found: list[Array] = [np.empty(0, np.float32)] * len(rows)
        more = {LEFT_OUT_INPUT: np.array([left_out], np.int64)} if left_out else {}
        for batch, positions in enumerate(texts.batches):
            for i, vector in zip(positions, stage.run(None, batch, more)[0], strict=True):
                found[i] = vector[: len(rows[i])] if self._spec.kind.by_token else vector
        return found


class Stage:
    """One part, loaded."""

    def __init__(
        self, session: onnxruntime.InferenceSession, number: int, texts: Texts, ids: NDArray[np.int64] | None
    ) -> None:
        self._session, self._number, self._texts, self._ids = session, number, texts, ids

    def run(self, outputs: Sequence[str] | None, batch: int, more: Mapping[str, NDArray[Any]] = {}) -> list[Array]:
        """Values for a batch. more: what is fed besides texts and states"""
        feed = {**self._texts.feeds[batch], **more}
        if self._ids is not None:
            feed["input_ids"] = np.searchsorted(self._ids, feed["input_ids"])
        if self._number:
            feed[STATE] = self._texts.states(batch)
            feed.pop(TYPES_INPUT, None)  # of embeddings alone
        found: list[Array] = self._session.run(None if outputs is None else list(outputs), feed)
        return found

    def values(self, names: Sequence[str], *, advance: bool = False) -> Iterator[dict[str, Array]]:
        """What linear layers read, as `observe` gives it; advance: states become those behind this part."""
        numbers = iter(range(len(self._texts.feeds)))

        def run(outputs: Sequence[str], _: Feed) -> list[Array]:
            batch = next(numbers)
            found = self.run([*outputs, NEXT] if advance else outputs, batch)
            if advance:
                self._texts.keep(batch, found.pop())
            return found

        return observe(run, names, self._texts.feeds)


class Remembered:
    """In the place of a session: gives the vectors of texts that were run layer by layer, all of them together.

    A text that was not foreseen is run alone, which takes as long.
    """

    def __init__(self, stages: Stages, spec: Spec) -> None:
        self._stages, self._spec = stages, spec
        self._known: dict[Key, Array] = {}
        self._asked: dict[Key, TokenIds] | None = None

    def foresee(self, embed: Callable[[], object]) -> None:
        """Run the texts that `embed` embeds, which gets vectors without meaning."""
        self._asked = {}
        try:
            embed()
        finally:
            asked, self._asked = self._asked, None
        self._learn(asked)

    def _learn(self, asked: Mapping[Key, TokenIds]) -> None:
        missing = {key: row for key, row in asked.items() if key not in self._known}
        for left_out in {number for number, _ in missing}:
            rows = {key: row for key, row in missing.items() if key[0] == left_out}
            found = self._stages.vectors(list(rows.values()), left_out)
            self._known |= dict(zip(rows, found, strict=True))

    def run(self, _: object, feed: Mapping[str, NDArray[Any]], __: object = None) -> list[Array]:
        """The model's output for a batch, as onnxruntime gives it."""
        ids, lengths = feed["input_ids"], feed["attention_mask"].sum(axis=1)
        left_out = int(feed.get(LEFT_OUT_INPUT, [0])[0])
        given = ids
        if self._spec.kind is RERANK:  # a row has the types of tokens besides
            given = np.stack([ids, feed.get(TYPES_INPUT, np.zeros_like(ids))], axis=-1)
        keys = [(left_out, given[i, :n].tobytes()) for i, n in enumerate(lengths)]
        rows = {key: given[i, :n] for i, (key, n) in enumerate(zip(keys, lengths, strict=True))}
        tokens, dim = (ids.shape[1:] if self._spec.kind.by_token else ()), self._spec.dim
        if self._asked is not None:
            self._asked |= rows
            return [np.full((len(ids), *tokens, dim), dim**-0.5, np.float32)]
        self._learn(rows)
        found = np.zeros((len(ids), *tokens, dim), np.float32)
        for i, key in enumerate(keys):
            found[(i, slice(lengths[i])) if tokens else i] = self._known[key]
        return [found]


class LayerQuantizer(Calibrated):
    """Quantizes as Quantizer does, layer by layer. There is no search, and there are no adapters.

    kept: takes the rounded weights
    """

    def __init__(self, spec: Spec, weights: Weights, tokenizer: Tokenizer, shop: Workshop, kept: WeightsFile) -> None:
        material = Material(spec, weights, tokenizer)
        super().__init__(material, weights, shop)
        self._rows, self._kept = material.rows, kept

    def run(self, recipes: Mapping[str, Recipe] | None, options: ExportOptions) -> Quantized:
        """The int8 model. recipes: None means those that are taken without a search."""
        if recipes is not None:
            self._check_names(recipes)
        stages = Stages(self._spec, self._weights, self._shop)
        texts = Texts(self._rows, self._spec, self._shop.folder())
        small: dict[str, Array] = {}
        layers: dict[str, Int8Linear] = {}
        chosen: dict[str, Recipe] = {}
        moved: dict[str, Array] = {}
        for number in range(stages.count):
            options.progress(f"layer {number + 1} of {stages.count}")
            here = [site for site in self._sites if self._stage_of(site) == number]
            stage = stages.session(number, texts, observe=True)
            last = number == stages.count - 1
            names = [site.name for site in here]
            self._ranges |= ranges(stage.values(names)) if names else {}
            chosen |= {site.name: self._recipe(site, recipes) for site in here}
            own: dict[str, Array] = {}
            changed: dict[str, Array] = {}
            inputs: dict[str, Input] = {}
            for group in self._groups(here):
                own, used = condition(self._own(group, small), group, chosen, self._ranges)
                changed |= own
                inputs |= used
            products = grams(stage.values(names, advance=not last), inputs) if names or not last else {}
            del stage
            layers |= self._rounded_layers(here, changed, inputs, products, options.int4)
            small |= {name: array for name, array in changed.items() if not self._is_matrix(name)}
            moved |= {site.producer: inputs[site.name].offset for site in here if site.producer is not None}
            own = changed = {}  # they are as large as the next layer
        return Quantized(
            {**self._weights, **small}, layers, self._material.table(TABLE_BITS[options.table]), chosen, moved
        )

    def _stage_of(self, site: Site) -> int:
        part, number = site.name.split(".")[:2]
        if part == "layers":
            return [block.weights for block in self._spec.blocks].index(int(number))
        return 0 if part == "embedding" else len(self._spec.blocks)

    def _groups(self, here: Sequence[Site]) -> list[list[Site]]:
        """Sites whose weights change together: attention, with what comes before it, and feed-forward."""
        attention = (".query.input", ".out.input", "embedding.project.input")
        first = [site for site in here if site.name.endswith(attention)]
        return [group for group in (first, [site for site in here if site not in first]) if group]

    def _recipe(self, site: Site, recipes: Mapping[str, Recipe] | None) -> Recipe:
        default = self._default_recipe(site)
        recipe = default if recipes is None else recipes[site.name]
        check_recipe(site.name, recipe, default)
        return recipe

    def _own(self, group: Sequence[Site], small: Mapping[str, Array]) -> dict[str, Array]:
        """The weights that conditioning these sites reads or changes."""
        names = [f"{reader}.weight" for site in group for reader in site.readers]
        for site in group:
            names += [f"{name}.bias" for name in (*site.readers, site.producer, site.residual, site.split) if name]
            names += [f"{name}.weight" for name in (site.producer, site.split) if name and self._is_norm(name)]
        found = {name: small.get(name, self._weights.get(name)) for name in dict.fromkeys(names)}
        return {name: array for name, array in found.items() if array is not None}

    def _is_norm(self, name: str) -> bool:
        return f"{name}.weight" in self._weights and self._weights[f"{name}.weight"].ndim == 1

    def _is_matrix(self, name: str) -> bool:
        return name in self._weights and self._weights[name].ndim > 1

    def _rounded_layers(
        self,
        here: Sequence[Site],
        changed: dict[str, Array],
        inputs: Mapping[str, Input],
        products: dict[str, Grams],
        int4: bool,
    ) -> dict[str, Int8Linear]:
        layers = {}
        for site in here:
            made = quantize_layers(
                changed, [site], inputs, lambda site, weight: round_weight(weight, products[site.name], int4)
            )
            for name, layer in made.items():
                layers[name] = self._stored(name, layer)
            del products[site.name]
        return layers

    def _stored(self, name: str, layer: Int8Linear) -> Int8Linear:
        """A layer whose large arrays lie in the file of weights, under the names that the graph has for them."""
        if layer.stored is None:
            return replace(layer, weight=self._keep(f"{name}.weight", layer.weight))
        planes = [(bits, self._keep(f"{name}.weight.{bits}bit", plane)) for bits, plane in layer.stored.planes]
        multipliers = self._keep(f"{name}.multipliers", layer.stored.multipliers)
        # of the codes in eight bits only the shape is needed
        shape = np.broadcast_to(np.int8(0), layer.weight.shape)
        return replace(layer, weight=shape, stored=replace(layer.stored, planes=planes, multipliers=multipliers))

    def _keep(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        return array if array.nbytes < graph.APART_BYTES else self._kept.keep(name, array)
