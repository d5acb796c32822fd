"""From a checkpoint of a known family to a bundle."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edge_embed_export.calibration.quantizer import Quantized, Quantizer
from edge_embed_export.families import read_family
from edge_embed_export.families.directions import notes_of_attention
from edge_embed_export.families.jina import instructions, task_prompts
from edge_embed_export.families.unixcoder import MAX_TOKENS, is_unixcoder, with_mode
from edge_embed_export.modules.routers import SIDES, Side
from edge_embed_export.receipt.finish import FLOORS, RECEIPTS, check_usable, embed_all, finish, measured_texts
from edge_embed_export.receipt.truncation import truncation
from edge_embed_export.sources.accounting import check_ignored
from edge_embed_export.sources.checkpoint import Checkpoint, read_checkpoint
from edge_embed_export.sources.heads import Kind
from edge_embed_export.sources.prompts import check_prompts, completed, with_roles
from edge_embed_export.sources.purpose import noted
from edge_embed_export.transformer import blockwise
from edge_embed_export.transformer.encoder import build
from edge_embed_export.transformer.large import Scratch, check_loads, placeholder
from edge_embed_export.transformer.layerwise import LayerQuantizer, Remembered, Stages, too_large
from edge_embed_export.transformer.spec import Array, Spec, prepare
from edge_embed_export.transformer.states import layer_states
from edge_embed_export.transformer.workshop import WeightsFile, Workshop, workshop
from edge_embed_export.variants import EVERY_TASK, add_adapters, lowest_mean, read_variants, with_adapters
from edge_embed_export.verify.compare import Verifier
from edge_embed_quantize.calibrate import Recipe
from edge_embed_runtime.bundle.adapters import Adapter
from edge_embed_runtime.bundle.bundle import Bundle, Content, check_replaceable, file_records, stamp_of
from edge_embed_runtime.bundle.manifest import MODEL, TOKENIZER, WEIGHTS, Manifest
from edge_embed_runtime.checks import check_count, check_text
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.errors import BundleFormatError, ExportError, InputError
from edge_embed_runtime.inputs.tokenizer import Tokenizer, sanitize
from edge_embed_runtime.vectors.kinds import KINDS

# Bytes of a model that is written to a file before it is loaded.
MAPPED_BYTES = 2**26


@dataclass(frozen=True)
class Said:
    """What the caller says about a checkpoint; see `export_model`."""

    source_name: str | None
    max_tokens: int | None
    prompts: Mapping[str, str] | None
    adapter: Path | None
    adapters: Mapping[str, Any] | None
    task: str | None
    truncate_dims: Sequence[int] | None
    kind: Kind | None
    attention: str | None = None
    truncate_norm: bool | None = None
    notes: Sequence[str] = ()
    side: Side | None = None


def read_checkpoint_as(source: Path, said: Said) -> Checkpoint:
    """The checkpoint with what the caller says about it."""
    names = () if said.source_name is None else (said.source_name,)
    every = said.task == EVERY_TASK
    checkpoint = read_checkpoint(
        source,
        adapter=said.adapter,
        task=None if every else said.task,
        names=names,
        kind=said.kind,
        side=said.side,
    )
    if checkpoint.head.kind == "dense" and is_unixcoder(source, checkpoint.config, checkpoint.tokenizer):
        most = min(checkpoint.max_tokens or MAX_TOKENS, MAX_TOKENS)
        checkpoint = replace(checkpoint, tokenizer=with_mode(checkpoint.tokenizer), max_tokens=most)
    given = {role: check_text(text, f"the prompt of {role!r}") for role, text in (said.prompts or {}).items()}
    of_tasks = with_roles(instructions(checkpoint)) if every else task_prompts(checkpoint)
    own = {**checkpoint.prompts, **of_tasks}
    limit = checkpoint.max_tokens
    if said.max_tokens is not None:
        limit = check_count(said.max_tokens, "max_tokens", 3, 2**20)
    prompts = completed({**own, **with_roles(given)}, checkpoint.default_role)
    return replace(checkpoint, prompts=prompts, max_tokens=limit, attention=said.attention)


class Maker:
    """Makes bundles of one checkpoint in memory, float and quantized. Raises ExportError for what cannot be one.

    name:    the bundle's
    written: whether the float form is what is to be written; one that is only compared with may be larger than a file
    """

    def __init__(
        self, checkpoint: Checkpoint, said: Said, target: Path, name: str | None, shop: Workshop, *, written: bool
    ) -> None:
        self._checkpoint, self._said, self._target, self._written = checkpoint, said, target, written
        self._shop = shop
        self._name = name or target.absolute().name
        source = checkpoint.folder
        self.variants = read_variants(checkpoint, said.adapters or {}, every_task=said.task == EVERY_TASK)
        if self.variants and checkpoint.head.kind != "dense":
            kind = checkpoint.head.kind
            raise InputError(f"{source} is of kind {kind!r}; adapters are kept apart for dense vectors only")
        self.spec, raw_weights = read_family(checkpoint)
        self.sides: tuple[str, ...] = SIDES if any(module.sides > 1 for module in checkpoint.after) else ()
        if self.sides and self.variants:
            raise InputError(f"{source} has a layer for each side, which its roles choose: adapters cannot be added")
        self.weights: dict[str, Array] = prepare(self.spec, add_adapters(self.spec, raw_weights, self.variants))
        names = () if said.source_name is None else (said.source_name,)
        self._cut = truncation(checkpoint, self.spec.dim, names, said.truncate_dims, said.truncate_norm)
        if self._cut["truncation"] and self.spec.kind != "dense":
            raise InputError(f"{source} is of kind {self.spec.kind!r}; truncate_norm is for dense vectors")
        self._tokenizer_bytes = sanitize(checkpoint.tokenizer)
        self._checkpoint = replace(checkpoint, tokenizer={})  # of 250,000 tokens it takes 50 MB
        try:
            self.tokenizer = Tokenizer(self._tokenizer_bytes, self.spec.max_tokens)
        except BundleFormatError as error:
            raise ExportError(f"{source}: {error}") from error
        if self.tokenizer.largest_id >= self.spec.vocab:
            raise ExportError(
                f"{source}: the tokenizer has {self.tokenizer.largest_id + 1} tokens, the embedding table "
                f"{self.spec.vocab} rows; they do not belong together"
            )
        if not len(self.tokenizer.encode("")):
            raise ExportError(f"{source}: the tokenizer adds no special token, so the empty text would have no vector")
        of_adapters = {v.adapter.name: v.adapter.prompt for v in self.variants if v.adapter.prompt}
        asked = checkpoint.head.facts.get("query_length")
        check_prompts(self.tokenizer, {**of_adapters, **checkpoint.prompts}, source, asked)

    @property
    def by_layer(self) -> bool:
        """Whether the float model is only ever run layer by layer."""
        return not self.variants and not self.sides and too_large(self.spec, self.weights)

    def make(self, quantized: Quantized | None, kept: WeightsFile | None = None) -> tuple[Embedder, dict[str, Content]]:
        """An embedder of the bundle, and the bundle's files. kept: what weights lie in already"""
        spec, written = self.spec, quantized is not None or self._written
        parts = (self.weights,) if quantized is None else (quantized.weights, quantized.layers, quantized.table)
        states: list[str] = []
        stand_in = placeholder(spec)
        contents: dict[str, Content] = {MODEL: stand_in, TOKENIZER: self._tokenizer_bytes}
        if not written and not self.by_layer:
            scratch = Scratch(self._shop.folder())
            graph = build(spec, *parts, apart=scratch, states=states).SerializeToString()
            embedder = Embedder(self._bundle(contents, None, states), threads=1)
            embedder.network.session = scratch.session(graph)
            return embedder, contents
        if written:
            weights = kept or WeightsFile(self._shop.folder())
            graph = build(spec, *parts, apart=weights, states=states).SerializeToString()
            contents[MODEL] = graph
            if weights.used or len(graph) > MAPPED_BYTES:  # of a file onnxruntime holds what it needs
                contents[MODEL] = file = weights.path.with_name(MODEL)
                file.write_bytes(graph)
            if weights.used:
                contents = {MODEL: contents[MODEL], WEIGHTS: weights.path, TOKENIZER: self._tokenizer_bytes}
            del graph
        bundle = self._bundle(contents, quantized, states)
        if not self.by_layer or (written and WEIGHTS not in contents):
            return Embedder(bundle, threads=1), contents
        if written:
            check_loads(bundle)
        embedder = Embedder(replace(bundle, path=self._target, model=stand_in), threads=1)
        remembered = Remembered(Stages(spec, parts[0], self._shop, *parts[1:], kept=kept), spec)
        embedder.network.session = remembered
        remembered.foresee(lambda: embed_all(embedder, written=written))
        return embedder, contents

    def _bundle(self, contents: Mapping[str, Content], quantized: Quantized | None, states: list[str]) -> Bundle:
        spec, model = self.spec, contents[MODEL]
        manifest = _manifest(self._name, self._said, self._checkpoint, spec, quantized, contents)
        weights = self.weights if quantized is None else quantized.weights
        manifest = replace(
            with_adapters(manifest, self.variants),
            architecture={**manifest.architecture, **blockwise.architecture(spec, weights)},
            layers=layer_states(states, spec, self.weights, {} if quantized is None else quantized.moved)
            if states
            else [],
            **self._cut,
            **RECEIPTS[KINDS[spec.kind]].describe(spec, self._checkpoint.head),
        )
        if self.sides:  # chosen as adapters are
            manifest = replace(manifest, adapters=[Adapter(side, [side]) for side in self.sides])
        where = (self._target, ()) if isinstance(model, bytes) else (model.parent, stamp_of(model.parent, manifest))
        return Bundle(where[0], manifest, model, self._tokenizer_bytes, where[1], parsed=self.tokenizer)


def export_checkpoint(
    source: Path,
    target: Path,
    said: Said,
    *,
    name: str | None,
    precision: str,
    table: str,
    search: bool,
    recipes: Mapping[str, Recipe] | None,
    floor: float | None,
    overwrite: bool,
    progress: Callable[[str], None],
    verifier: Verifier | None = None,
) -> Manifest:
    """Write a bundle of a checkpoint. Options and errors are those of `export_model`."""
    check_replaceable(target, overwrite)
    progress(f"reading {source}")
    with workshop(target) as shop:
        maker = Maker(read_checkpoint_as(source, said), said, target, name, shop, written=precision == "fp32")
        check_ignored()  # before what takes long
        if maker.by_layer and search:
            raise InputError(f"{source} is run layer by layer, and a search runs the whole model: leave search out")
        progress("building the float32 graph")
        reference, contents = maker.make(None)
        embedder = reference
        check_usable(reference, source)

        def in_int8(adapters: int) -> tuple[Embedder, dict[str, Content]]:
            if maker.by_layer:
                progress("calibrating and rounding weights, layer by layer")
                kept = WeightsFile(shop.folder())
                layered = LayerQuantizer(maker.spec, maker.weights, maker.tokenizer, shop, kept)
                return maker.make(layered.by_layer(recipes, table, precision == "int4", progress), kept)
            progress(f"calibrating{f' with {adapters} adapters' if adapters else ''}")
            quantizer = Quantizer(maker.spec, maker.weights, maker.tokenizer, shop, adapters=adapters)
            chosen = recipes
            if chosen is None:
                chosen = quantizer.search(progress) if search else quantizer.default_recipes()
            progress("rounding weights")
            quantized = quantizer.quantize(chosen, table=table, int4=precision == "int4")
            del quantizer
            return maker.make(quantized)

        if precision != "fp32":
            # a model of tasks is never used without one; one that was given adapters stays what it is without them, bit
            # for bit, unless they take values out of the range that it has itself
            every = said.task == EVERY_TASK or bool(maker.sides)
            embedder, contents = in_int8(len(maker.variants or maker.sides) if every else 0)
            if not every and lowest_mean(reference, embedder, measured_texts()) < FLOORS[precision]:
                embedder, contents = in_int8(len(maker.variants))
        return finish(source, target, contents, (reference, embedder), precision, floor, overwrite, progress, verifier)


def _manifest(
    name: str,
    said: Said,
    checkpoint: Checkpoint,
    spec: Spec,
    quantized: Quantized | None,
    contents: Mapping[str, Content],
) -> Manifest:
    float32: dict[str, Any] = dict.fromkeys(("weights", "activations", "embedding_table"), "float32")
    return Manifest(
        name=name,
        files=file_records(contents),
        dim=spec.dim,
        max_tokens=spec.max_tokens,
        pooling=spec.pooling,
        architecture={
            "family": checkpoint.architecture,
            "layers": spec.layers,
            "hidden": spec.hidden,
            "intermediate": spec.intermediate,
            "heads": spec.heads,
            "vocab": spec.vocab,
            **RECEIPTS[KINDS[spec.kind]].architecture(),
        },
        prompts=checkpoint.prompts,
        default_role=checkpoint.default_role,
        left_out=spec.left_out,
        side=checkpoint.side,
        quantization=float32 if quantized is None else quantized.describe(),
        codes={"int8": "symmetric, one scale per vector", "binary": "sign, in the frame"},
        provenance={
            "source": said.source_name or checkpoint.folder.resolve().name,
            "weights_sha256": checkpoint.sha256,
            "licence": checkpoint.licence,
            **noted([*said.notes, *checkpoint.notes, *notes_of_attention(checkpoint)]),
            "versions": {package: version(package) for package in ("onnx", "onnxruntime")},
        },
    )
