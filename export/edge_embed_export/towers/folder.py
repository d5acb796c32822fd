"""Folders with models of several modalities, as CLIP's: each becomes a tower, and all of them one bundle."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from edge_embed_export.calibration.images import quantize_image
from edge_embed_export.calibration.recipes import Quantized
from edge_embed_export.families.imagefront import read_image_front
from edge_embed_export.families.known import is_known
from edge_embed_export.families.leftovers import account
from edge_embed_export.families.pictures import ImageTower
from edge_embed_export.families.vision import is_image_model, read_image_tower
from edge_embed_export.files.accounting import Keys, check_ignored
from edge_embed_export.files.reading import read_json
from edge_embed_export.files.tensors import read_weights
from edge_embed_export.from_checkpoint import make_texts, read_asked
from edge_embed_export.options import GraphOptions
from edge_embed_export.receipt.finish import measured, with_notes
from edge_embed_export.request import Request, Source
from edge_embed_export.sources.checkpoint import Checkpoint, licence_of
from edge_embed_export.sources.purpose import noted
from edge_embed_export.towers.inputs import calibration_feeds
from edge_embed_export.towers.made import FLOATS, Made, Sample, bundle_of, finished
from edge_embed_export.transformer.spec import Weights, prepare
from edge_embed_export.transformer.vision import build_image
from edge_embed_export.transformer.workshop import WeightsFile, Workshop, workshop
from edge_embed_runtime.bundle.bundle import Content, check_replaceable, file_records, write_bundle
from edge_embed_runtime.bundle.manifest import TEXT, TOWER_FILES, Manifest
from edge_embed_runtime.bundle.towers import Tower
from edge_embed_runtime.checks import listed
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.inputs.base import read_front

IMAGE = "image"
# The lowest mean cosine to float32 of a tower that is written where the caller names no other.
FLOORS = {"int8": 0.99, "int4": 0.95, "fp32": 0.0}
# Beginnings of names of tensors that belong to a model of texts; numbers that scores are made of.
OF_TEXTS = ("text_model.", "text_projection.")
LOGITS = ("logit_scale", "logit_bias")
ALPHA = "pictures with alpha are laid on white"
# Bytes of a model that is written to a file before it is loaded.
MAPPED_BYTES = 2**26


class TowersFolder(Source):
    """A folder whose config.json names a model of pictures that is known, with one of texts or without."""

    def fits(self, request: Request) -> bool:
        return request.source.is_dir() and is_image_model(request.folder.config)

    def refuses(self, request: Request) -> str:
        options = ("recipes", "adapter", "adapters", "task", "side", "attention")
        if used := request.unused("a folder with a model of pictures", *options):
            return used
        if request.options.graph != GraphOptions():
            return f"{request.source} holds no graph: tokenizer, pooling and output say how to take an ONNX model"
        if request.options.towers.modality is not None:
            return f"{request.source} says itself what its models read: there is no use for modality and front"
        has, only = _modalities(request), request.options.towers.only
        if only is not None and (missing := [name for name in only if name not in has]):
            return f"{request.source} has no model for {listed(missing)}: it has those for {listed(has)}"
        return super().refuses(request)

    def export(self, request: Request) -> Manifest:
        options = request.options
        check_replaceable(request.target, options.overwrite)
        options.progress(f"reading {request.source}")
        with workshop(request.target) as shop:
            folder = _read(request)
            texts, of_texts = _texts(request, folder, shop)
            made = _pictures(request, folder, shop) if options.towers.wants(IMAGE) else []
            return _write(request, folder, made, (texts, of_texts))


def _modalities(request: Request) -> tuple[str, ...]:
    """What the folder has models for."""
    return (*([TEXT] if is_known(request.folder.config.get("model_type")) else []), IMAGE)


@dataclass(frozen=True)
class _Folder:
    """What was read of a folder: all models have the same config and tensors, so that both are accounted for.

    checkpoint: without a tokenizer where the model for texts is not wanted, or there is none
    """

    checkpoint: Checkpoint
    image: ImageTower

    @property
    def space(self) -> str:
        """One name for all that is exported from these weights, in whatever precision, together or apart."""
        return f"checkpoint:{self.checkpoint.sha256[:32]}"


def _read(request: Request) -> _Folder:
    """Config, tensors and the image model, which is read in any case: what neither model reads is refused."""
    path = request.folder.path
    if request.options.towers.wants(TEXT) and TEXT in _modalities(request):
        checkpoint = read_asked(request)
    else:
        tensors, sha256 = read_weights(path)
        config = Keys(read_json(path / "config.json"))
        checkpoint = Checkpoint(path, config, tensors, {}, None, None, (), {}, sha256, licence_of(path))
    front = read_image_front(path)
    return _Folder(checkpoint, read_image_tower(cast("Keys", checkpoint.config), checkpoint.tensors, path, front))


def _texts(request: Request, folder: _Folder, shop: Workshop) -> tuple[dict[str, Content], Manifest | None]:
    """Files and manifest of the model for texts; nothing where there is none, or it is not wanted."""
    if folder.checkpoint.tokenizer:
        contents, embedders = make_texts(request, folder.checkpoint, shop)
        return contents, measured(request, embedders)
    _pass_over_texts(folder.checkpoint)
    account(folder.checkpoint)
    check_ignored()
    return {}, None


def _pass_over_texts(checkpoint: Checkpoint) -> None:
    """Ask for what belongs to a model of texts that is not wanted."""
    for name in checkpoint.tensors:
        if name.startswith(OF_TEXTS):
            _ = checkpoint.tensors[name]
    for key in ("text_config", "text_config_dict"):
        _mark(checkpoint.config.get(key))


def _mark(config: object) -> None:
    for value in config.values() if isinstance(config, Keys) else ():
        _mark(value)


def _pictures(request: Request, folder: _Folder, shop: Workshop) -> list[Made]:
    """The image tower: in float32, and where it is asked for in int8."""
    options, image = request.options, folder.image
    spec, weights = image.spec, prepare(image.spec.body, image.weights)
    options.progress("building the image tower in float32")
    front = read_front(IMAGE, image.front)
    if options.precision == "fp32":
        reference = _made(request, folder, shop, weights, None)
        return [finished(reference, None, Sample("nothing"), request.target, 0.0)]
    reference = _made(request, folder, shop, weights, None)
    options.progress("calibrating the image tower")
    chosen = options.towers.calibration
    feeds, sample = calibration_feeds(front, None if chosen is None else Path(chosen))
    quantized = quantize_image(spec, weights, feeds, options, shop)
    made = _made(request, folder, shop, quantized.weights, quantized)
    options.progress("measuring the image tower")
    floor = FLOORS[options.precision] if options.floor is None else options.floor
    return [finished(made, reference, sample, request.target, floor)]


def _made(request: Request, folder: _Folder, shop: Workshop, weights: Weights, quantized: Quantized | None) -> Made:
    image, (name, apart_name) = folder.image, TOWER_FILES[IMAGE]
    apart = WeightsFile(shop.folder(), apart_name)
    layers = None if quantized is None else quantized.layers
    graph = build_image(image.spec, weights, layers, apart=apart).SerializeToString()
    model: Content = graph
    if apart.used or len(graph) > MAPPED_BYTES:  # of a file onnxruntime holds what it needs
        model = apart.path.with_name(name)
        model.write_bytes(graph)
    tensors = folder.checkpoint.tensors
    logits = {key: float(np.asarray(tensors[key]).reshape(-1)[0]) for key in LOGITS if key in tensors}
    tower = Tower(
        front=image.front,
        kind=image.spec.body.kind.name,
        architecture={**image.facts, **logits},
        quantization=FLOATS if quantized is None else _described(quantized),
        provenance=_provenance(request, folder),
    )
    contents: dict[str, Content] = {name: model, **({apart_name: apart.path} if apart.used else {})}
    return Made(IMAGE, image.spec.body.dim, contents, tower)


def _described(quantized: Quantized) -> dict[str, Any]:
    """What the manifest says of an int8 tower: as of a model of texts, which has a table of words besides."""
    said = {name: value for name, value in quantized.describe().items() if name != "embedding_table"}
    return {**said, "rounding": "GPTQ on the calibration pictures"}


def _provenance(request: Request, folder: _Folder) -> dict[str, Any]:
    checkpoint = folder.checkpoint
    notes = [*request.notes, *checkpoint.notes, ALPHA]
    return request.provenance(checkpoint.sha256, licence=checkpoint.licence, **noted(notes))


def _write(
    request: Request, folder: _Folder, made: list[Made], texts: tuple[dict[str, Content], Manifest | None]
) -> Manifest:
    (contents, manifest), options = texts, request.options
    towers = {one.modality: one.tower for one in made}
    if manifest is None:
        provenance = _provenance(request, folder)
        manifest = bundle_of(request.name, made[0].dim, folder.space, made, provenance=provenance)
    else:
        if wrong := [one.modality for one in made if one.dim != manifest.dim]:
            raise ExportError(f"{request.source}: models of texts and of {listed(wrong)} give vectors of other dims")
        together = {**contents, **{name: content for one in made for name, content in one.contents.items()}}
        manifest = replace(manifest, files=file_records(together), towers=towers, space=folder.space)
        contents = together
    contents = contents or {name: content for one in made for name, content in one.contents.items()}
    manifest = with_notes(manifest, check_ignored())
    options.progress(f"writing {request.target}")
    write_bundle(request.target, manifest, contents, overwrite=options.overwrite)
    return manifest
