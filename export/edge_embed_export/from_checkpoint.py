"""From a checkpoint of a known family to a bundle."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edge_embed_export.calibration.layerwise import LayerQuantizer, Remembered, Stages, too_large
from edge_embed_export.calibration.material import Texts
from edge_embed_export.calibration.pairs import check_pairs
from edge_embed_export.calibration.quantizer import Quantizer
from edge_embed_export.calibration.recipes import Quantized, read_recipes
from edge_embed_export.families.directions import notes_of_attention
from edge_embed_export.families.jina import instructions, task_prompts
from edge_embed_export.families.known import read_family
from edge_embed_export.files.accounting import check_ignored
from edge_embed_export.options import DEFAULT_ENGINE, FLOORS, SIDES
from edge_embed_export.receipt.adapters import lowest_mean
from edge_embed_export.receipt.finish import RECEIPTS, Loaded, check_usable, embed_all, finish, measured_texts
from edge_embed_export.receipt.portable import portable_receipt
from edge_embed_export.receipt.truncation import truncation
from edge_embed_export.request import CODES, FLOAT32, Request, Source
from edge_embed_export.sources.checkpoint import Checkpoint, read_checkpoint
from edge_embed_export.sources.prompts import check_prompts, with_roles
from edge_embed_export.sources.purpose import noted
from edge_embed_export.tokenizer.authors import MODE_TOKENS, is_unixcoder, with_mode
from edge_embed_export.tokenizer.definition import load
from edge_embed_export.transformer import blockwise, native
from edge_embed_export.transformer.encoder import build
from edge_embed_export.transformer.large import Scratch, check_loads, placeholder
from edge_embed_export.transformer.portable import standard
from edge_embed_export.transformer.spec import Array, Spec, prepare
from edge_embed_export.transformer.states import layer_states
from edge_embed_export.transformer.workshop import WeightsFile, Workshop, beside, workshop
from edge_embed_export.variants import EVERY_TASK, add_adapters, read_variants, with_adapters
from edge_embed_quantize.calibrate import Recipe
from edge_embed_runtime.bundle.adapters import Adapter
from edge_embed_runtime.bundle.bundle import Bundle, Content, check_replaceable, file_records, stamp_of
from edge_embed_runtime.bundle.manifest import MODEL, NATIVE, TOKENIZER, WEIGHTS, Manifest
from edge_embed_runtime.bundle.native import Native
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.embed.reranker import Reranker
from edge_embed_runtime.errors import ExportError, InputError, SourceError
from edge_embed_runtime.inputs.tokenizer import Tokenizer, sanitize
from edge_embed_runtime.model.session import STANDARD_OPERATORS
from edge_embed_runtime.native.library import reason
from edge_embed_runtime.vectors.kinds import DENSE, RERANK, SPARSE

Made = tuple[Loaded, dict[str, Content]]
# What runs the float form of a bundle, and what runs the one that is written.
Pair = tuple[Loaded, Loaded]


class CheckpointFolder(Source):
    """A folder with config.json and weights whose names a family knows: what is taken where nothing else fits."""

    scores_pairs = runs_native = portable = True

    def fits(self, _: Request) -> bool:
        return True

    def refuses(self, request: Request) -> str:
        return request.without_graph or super().refuses(request)

    def export(self, request: Request) -> Manifest:
        options = request.options
        check_replaceable(request.target, options.overwrite)
        options.progress(f"reading {request.source}")
        with workshop(request.target) as shop:
            contents, embedders = make_texts(request, read_asked(request), shop)
            return finish(request, contents, embedders)


def make_texts(request: Request, checkpoint: Checkpoint, shop: Workshop) -> tuple[dict[str, Content], Pair]:
    """The files of a bundle for texts, and what runs its float form and what is written."""
    options = request.options
    recipes = None if options.recipes is None else read_recipes(options.recipes)
    maker = Maker(request, checkpoint, shop)
    check_ignored()  # before what takes long
    if maker.by_layer and options.portable:
        raise too_large_for_portable(request)
    if maker.by_layer and options.search:
        raise InputError(f"{request.source} is run layer by layer, and a search runs the whole model: leave search out")
    options.progress("building the float32 graph")
    reference, contents = maker.make(None)
    embedder = reference
    check_usable(reference, request.source)
    if options.precision != "fp32":
        embedder, contents = _quantized(maker, reference, recipes)
    return contents, (reference, embedder)


def read_asked(request: Request) -> Checkpoint:
    """The checkpoint of a request, with what the caller says about it."""
    options, source = request.options, request.source
    if not source.is_dir():
        raise SourceError(f"{source} is not a folder; a checkpoint is a folder with config.json and model.safetensors")
    every = options.task == EVERY_TASK
    checkpoint = read_checkpoint(request.folder, replace(options, task=None) if every else options)
    if checkpoint.head.kind is DENSE and is_unixcoder(request.folder, checkpoint.tokenizer):
        most = min(checkpoint.max_tokens or MODE_TOKENS, MODE_TOKENS)
        checkpoint = replace(checkpoint, tokenizer=with_mode(checkpoint.tokenizer), max_tokens=most)
    of_tasks = with_roles(instructions(checkpoint)) if every else task_prompts(checkpoint)
    prompts = request.prompts({**checkpoint.prompts, **of_tasks}, checkpoint.default_role)
    limit = checkpoint.max_tokens if options.max_tokens is None else options.max_tokens
    return replace(checkpoint, prompts=prompts, max_tokens=limit)


class Maker:
    """Makes bundles of one checkpoint in memory, float and quantized. Raises ExportError for what cannot be one."""

    def __init__(self, request: Request, checkpoint: Checkpoint, shop: Workshop) -> None:
        self.request, self.shop = request, shop
        self._checkpoint = replace(checkpoint, tokenizer={})  # of 250,000 tokens it takes 50 MB
        options, source = request.options, request.source
        self.variants = read_variants(checkpoint, options.adapters or {}, every_task=options.task == EVERY_TASK)
        self.spec, raw_weights = read_family(checkpoint)
        self.sides: tuple[str, ...] = SIDES if any(module.sides > 1 for module in checkpoint.after) else ()
        self.weights: dict[str, Array] = prepare(self.spec, add_adapters(self.spec, raw_weights, self.variants))
        self._cut = truncation(request.folder, checkpoint.config, self.spec.dim, options)
        kind = checkpoint.head.kind
        if self.variants and kind is not DENSE:
            raise InputError(f"{source} is of kind {kind.name!r}; adapters are kept apart for dense vectors only")
        if self.sides and self.variants:
            raise InputError(f"{source} has a layer for each side, which its roles choose: adapters cannot be added")
        if self._cut["truncation"] and kind is not DENSE:
            raise InputError(f"{source} is of kind {kind.name!r}; truncate_norm is for dense vectors")
        if options.engine == NATIVE:  # before what takes long
            self._check_native(self._not_native() or native.shape_refusal(self.spec, self.weights))
        self._tokenizer_bytes = sanitize(checkpoint.tokenizer)
        self.tokenizer = self._read_tokenizer()

    def _read_tokenizer(self) -> Tokenizer:
        """The tokenizer of the bundle. Raises ExportError for one that does not belong to the model."""
        spec, checkpoint, source = self.spec, self._checkpoint, self.request.source
        tokenizer = load(self._tokenizer_bytes, spec.max_tokens, source)
        if spec.kind is RERANK:
            check_pairs(tokenizer, self.weights.get("embedding.type"), source)
        if tokenizer.largest_id >= spec.vocab:
            raise ExportError(
                f"{source}: the tokenizer has {tokenizer.largest_id + 1} tokens, the embedding table {spec.vocab} "
                "rows; they do not belong together"
            )
        of_adapters = {v.adapter.name: v.adapter.prompt for v in self.variants if v.adapter.prompt}
        asked = checkpoint.head.facts.get("query_length")
        check_prompts(tokenizer, {**of_adapters, **checkpoint.prompts}, source, asked)
        return tokenizer

    @property
    def by_layer(self) -> bool:
        """Whether the float model is only ever run layer by layer."""
        return not (self.variants or self.sides or self.spec.filled) and too_large(self.spec, self.weights)

    def make(self, quantized: Quantized | None, kept: WeightsFile | None = None) -> Made:
        """An embedder of the bundle, and the bundle's files. kept: what weights lie in already"""
        # a float form that is only compared with may be larger than a file
        written = quantized is not None or self.request.options.precision == "fp32"
        if self.by_layer:
            return self._by_layer(quantized, kept, written=written)
        return self._whole(quantized, kept) if written else self._compared()

    def _compared(self) -> Made:
        """The float form that is not written: its weights lie in a file that is gone when it is loaded."""
        scratch, states = Scratch(self.shop.folder()), list[str]()
        asked = None if self.spec.filled else states
        model = build(self.spec, self.weights, apart=scratch, states=asked)
        graph = model.SerializeToString()
        if self.request.options.portable:
            standard(model)  # to refuse what has no such form before what takes long
        contents: dict[str, Content] = {MODEL: placeholder(self.spec), TOKENIZER: self._tokenizer_bytes}
        embedder = load_bundle(self._bundle(contents, None, states))
        embedder.network.session = scratch.session(graph)
        return embedder, contents

    def _whole(self, quantized: Quantized | None, kept: WeightsFile | None) -> Made:
        """A bundle that runs as it is written."""
        described = self._native(quantized, kept)
        contents, states = self._written(quantized, kept, packed=described is not None)
        bundle = self._bundle(contents, quantized, states)
        if described:
            bundle = replace(bundle, manifest=replace(bundle.manifest, engine=NATIVE, native=described))
        made = load_bundle(bundle)
        if self.request.options.portable:
            graph = self._graph(quantized)  # the one file that differs
            fast = load_bundle(replace(bundle, model=graph, manifest=fast_manifest(bundle.manifest)))
            sizes = bundle.manifest.files[MODEL].size, len(graph)
            made.manifest = replace(made.manifest, receipt=portable_receipt(made, fast, sizes))
        return made, contents

    def _graph(self, quantized: Quantized | None) -> bytes:
        """The graph in the fast form, with operators of onnxruntime's own."""
        return bytes(build(self.spec, *self._parts(quantized)).SerializeToString())

    def _native(self, quantized: Quantized | None, kept: WeightsFile | None) -> Native | None:
        """What the native engine needs to know, of a bundle that it is to run. Raises ExportError where it cannot but
        was asked for."""
        asked = self.request.options.engine
        if quantized is None or (asked or DEFAULT_ENGINE) != NATIVE or self.request.options.portable:
            return None
        weights, layers, table = quantized.weights, quantized.layers, quantized.table
        why = self._not_native(kept) or native.refusal(self.spec, weights, layers, table)
        if not why:
            return native.describe(self.spec, layers)
        if asked == NATIVE:
            self._check_native(why)
        self.request.options.progress(f"engine onnxruntime; not the native one: {why}")
        return None

    def _not_native(self, kept: WeightsFile | None = None) -> str:
        """Why the native engine is not for this export, whatever the model; "" where it may be."""
        if self.variants or self.sides:
            return "it has no adapters"
        if kept is not None or self.by_layer:
            return "it does not run models that are quantized layer by layer"
        return f"its library, which makes the golden vectors, is not here: {why}" if (why := reason()) else ""

    def _check_native(self, why: str) -> None:
        if why:
            raise ExportError(
                f"{self.request.source}: the native engine cannot run this model: {why}. Leave --engine out, "
                "onnxruntime runs it"
            )

    def _by_layer(self, quantized: Quantized | None, kept: WeightsFile | None, *, written: bool) -> Made:
        """A bundle too large to run as a whole here; what the model gives for texts is found before."""
        stand_in, states = placeholder(self.spec), list[str]()
        contents: dict[str, Content] = {MODEL: stand_in, TOKENIZER: self._tokenizer_bytes}
        if written:
            self._native(quantized, kept)  # says why it is not the engine
            contents, states = self._written(quantized, kept)
        bundle = self._bundle(contents, quantized, states)
        if written and WEIGHTS not in contents:  # in int8 it is small enough
            return load_bundle(bundle), contents
        if written:
            check_loads(bundle)
        embedder = load_bundle(replace(bundle, path=self.request.target, model=stand_in))
        weights, *rest = self._parts(quantized)
        remembered = Remembered(Stages(self.spec, weights, self.shop, *rest, kept=kept), self.spec)
        embedder.network.session = remembered
        remembered.foresee(lambda: embed_all(embedder, written=written))
        return embedder, contents

    def _parts(self, quantized: Quantized | None) -> tuple[Any, ...]:
        """What a graph is built of."""
        return (self.weights,) if quantized is None else (quantized.weights, quantized.layers, quantized.table)

    def _written(
        self, quantized: Quantized | None, kept: WeightsFile | None, *, packed: bool = False
    ) -> tuple[dict[str, Content], list[str]]:
        """The files of the bundle, and the names of the states of tokens. packed: see `build`"""
        weights, states, parts = kept or WeightsFile(self.shop.folder()), list[str](), self._parts(quantized)
        asked = None if self.spec.filled else states  # of filled texts nobody finds them by their places
        model = build(self.spec, *parts, apart=weights, states=asked, packed=packed)
        if self.request.options.portable:
            if weights.used:
                raise too_large_for_portable(self.request)
            model = standard(model)
        graph = model.SerializeToString()
        apart: dict[str, Content] = {WEIGHTS: weights.path} if weights.used else {}
        return {MODEL: beside(weights, graph, MODEL), **apart, TOKENIZER: self._tokenizer_bytes}, states

    def _bundle(self, contents: Mapping[str, Content], quantized: Quantized | None, states: list[str]) -> Bundle:
        model, target = contents[MODEL], self.request.target
        manifest = self._manifest(contents, quantized)
        weights = self.weights if quantized is None else quantized.weights
        moved = {} if quantized is None else quantized.moved
        if self.request.options.portable:
            manifest = replace(manifest, quantization={**manifest.quantization, "operators": STANDARD_OPERATORS})
        manifest = replace(
            with_adapters(manifest, self.variants),
            architecture={**manifest.architecture, **blockwise.architecture(self.spec, weights)},
            layers=layer_states(states, self.spec, self.weights, moved) if states else [],
            **self._cut,
            **RECEIPTS[self.spec.kind].describe(self.spec, self._checkpoint.head),
        )
        if self.sides:  # chosen as adapters are
            manifest = replace(manifest, adapters=[Adapter(side, [side]) for side in self.sides])
        where = (target, ()) if isinstance(model, bytes) else (model.parent, stamp_of(model.parent, manifest))
        return Bundle(where[0], manifest, model, self._tokenizer_bytes, where[1], parsed=self.tokenizer)

    def _manifest(self, contents: Mapping[str, Content], quantized: Quantized | None) -> Manifest:
        spec, checkpoint, request = self.spec, self._checkpoint, self.request
        notes = [*request.notes, *checkpoint.notes, *notes_of_attention(checkpoint)]
        return Manifest(
            name=request.name,
            files=file_records(contents),
            dim=spec.dim,
            max_tokens=spec.max_tokens,
            pooling=spec.pooling,
            architecture={"family": checkpoint.architecture, "layers": spec.layers, **spec.sizes}
            | ({"decoded": True} if spec.kind is SPARSE else {})
            | ({"batches": "single"} if spec.filled else {}),  # however short they are, all take as much memory
            prompts=checkpoint.prompts,
            default_role=checkpoint.default_role,
            left_out=spec.left_out,
            side=checkpoint.side,
            quantization=FLOAT32 if quantized is None else quantized.describe() | in_float(spec),
            codes=CODES,
            provenance=request.provenance(checkpoint.sha256, licence=checkpoint.licence, **noted(notes)),
        )


def too_large_for_portable(request: Request) -> InputError:
    return InputError(f"{request.source} is too large for a portable bundle, which is one file: leave --portable out")


def fast_manifest(manifest: Manifest) -> Manifest:
    """The manifest of the same model in the fast form."""
    return replace(manifest, quantization={**manifest.quantization, "operators": "onnxruntime's own too"})


def in_float(spec: Spec) -> dict[str, str]:
    """What of an int8 model is computed in float32."""
    return {"head": "float32"} if spec.kind is RERANK else {}


def load_bundle(bundle: Bundle) -> Loaded:
    """A bundle as its kind is used, on one thread."""
    return (Reranker if bundle.manifest.output is RERANK else Embedder)(bundle, threads=1)


def _quantized(maker: Maker, reference: Loaded, recipes: Mapping[str, Recipe] | None) -> Made:
    """The int8 form.

    A model of tasks is never used without one. One that was given adapters stays what it is without them, bit for bit,
    unless they take values out of the range that it has itself.
    """
    options = maker.request.options
    every = options.task == EVERY_TASK or bool(maker.sides)
    made = _in_int8(maker, recipes, len(maker.variants or maker.sides) if every else 0)
    if (
        isinstance(reference, Embedder)
        and isinstance(made[0], Embedder)
        and not every
        and lowest_mean(reference, made[0], measured_texts()) < FLOORS[options.precision]
    ):
        made = _in_int8(maker, recipes, len(maker.variants))
    return made


def _in_int8(maker: Maker, recipes: Mapping[str, Recipe] | None, adapters: int) -> Made:
    """The int8 form, calibrated with so many of the adapters."""
    options, shop = maker.request.options, maker.shop
    progress = options.progress
    if maker.by_layer:
        progress("calibrating and rounding weights, layer by layer")
        kept = WeightsFile(shop.folder())
        layered = LayerQuantizer(maker.spec, maker.weights, maker.tokenizer, shop, kept)
        return maker.make(layered.run(recipes, options), kept)
    progress(f"calibrating{f' with {adapters} adapters' if adapters else ''}")
    texts = Texts(maker.spec, maker.weights, maker.tokenizer, adapters)
    quantizer = Quantizer(texts, maker.weights, shop)
    quantized = quantizer.run(recipes, options)
    del quantizer  # which holds what it computed
    return maker.make(quantized)
