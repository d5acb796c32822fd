"""Folders with models of several modalities, as CLIP's and CLAP's: each becomes a tower, and all of them one bundle."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed_export.calibration.recipes import Quantized
from edge_embed_export.families.known import is_known, read_family
from edge_embed_export.families.leftovers import account
from edge_embed_export.files.accounting import Keys, check_ignored
from edge_embed_export.files.openclip import read_config
from edge_embed_export.files.reading import is_there
from edge_embed_export.files.tensors import read_weights
from edge_embed_export.from_checkpoint import make_texts, read_asked
from edge_embed_export.receipt.finish import measured, with_notes
from edge_embed_export.request import Request, Source
from edge_embed_export.sources.checkpoint import Checkpoint, licence_of
from edge_embed_export.sources.purpose import noted
from edge_embed_export.towers.decoding import decoded
from edge_embed_export.towers.inputs import PLURAL, calibration_feeds
from edge_embed_export.towers.made import FLOATS, Made, Sample, bundle_of, finished
from edge_embed_export.towers.media import MediaModel, modality_of, read_media_model
from edge_embed_export.transformer.spec import Weights
from edge_embed_export.transformer.workshop import WeightsFile, Workshop, beside, workshop
from edge_embed_runtime.bundle.bundle import Content, check_replaceable, file_records, write_bundle
from edge_embed_runtime.bundle.manifest import TEXT, TOWER_FILES, Manifest
from edge_embed_runtime.bundle.towers import Tower
from edge_embed_runtime.checks import listed
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.inputs.base import read_front

# The lowest mean cosine to float32 of a tower that is written where the caller names no other.
FLOORS = {"int8": 0.99, "int4": 0.95, "fp32": 0.0}
# What a folder has where its tokenizer can be read.
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json")
# Beginnings of names of tensors that belong to a model of texts; numbers that scores are made of.
OF_TEXTS = ("text_model.", "text_projection", "text.")
LOGITS = ("logit_scale", "logit_bias", "logit_scale_a", "logit_scale_t")


class TowersFolder(Source):
    """A folder whose config.json names a model of pictures or sounds that is known, with one of texts or without."""

    def fits(self, request: Request) -> bool:
        return request.source.is_dir() and bool(modality_of(request.folder.config))

    def refuses(self, request: Request) -> str:
        options = ("recipes", "adapter", "adapters", "task", "side", "attention")
        if used := request.unused("a folder with a model of pictures or sounds", *options):
            return used
        if refused := request.without_graph:
            return refused
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
            made = [_tower(request, folder, shop)] if options.towers.wants(folder.media.modality) else []
            return _write(request, folder, made, (texts, of_texts))


def _modalities(request: Request) -> tuple[str, ...]:
    """What the folder has models for."""
    config = request.folder.config
    return (*([TEXT] if is_known(config.get("model_type")) else []), modality_of(config))


@dataclass(frozen=True)
class _Folder:
    """What was read of a folder: all models have the same config and tensors, so that both are accounted for.

    checkpoint: without a tokenizer where there is no model for texts, or none that can be read
    """

    checkpoint: Checkpoint
    media: MediaModel

    @property
    def space(self) -> str:
        """One name for all that is exported from these weights, in whatever precision, together or apart."""
        return f"checkpoint:{self.checkpoint.sha256[:32]}"


def _read(request: Request) -> _Folder:
    """Config, tensors and the model of pictures or sounds, which is read in any case: what neither model reads is
    refused."""
    path = request.folder.path
    wanted = request.options.towers.wants(TEXT)
    if TEXT in _modalities(request) and (wanted or any(is_there(path / name) for name in TOKENIZERS)):
        checkpoint = read_asked(request)
    else:
        tensors, sha256 = read_weights(path)
        config = Keys(read_config(path))
        checkpoint = Checkpoint(path, config, tensors, {}, None, None, (), {}, sha256, licence_of(path))
    media = read_media_model(checkpoint, path)
    media.front = decoded(media.front, media.modality, request.options.towers.decode)
    return _Folder(checkpoint, media)


def _texts(request: Request, folder: _Folder, shop: Workshop) -> tuple[dict[str, Content], Manifest | None]:
    """Files and manifest of the model for texts; nothing where there is none, or it is not wanted."""
    checkpoint = folder.checkpoint
    if checkpoint.tokenizer and request.options.towers.wants(TEXT):
        contents, embedders = make_texts(request, checkpoint, shop)
        return contents, measured(request, embedders)
    if checkpoint.tokenizer:
        read_family(checkpoint)  # what neither model reads is refused all the same
    else:
        _pass_over_texts(checkpoint)
        account(checkpoint)
    check_ignored()
    return {}, None


def _pass_over_texts(checkpoint: Checkpoint) -> None:
    """Ask for what belongs to a model of texts that cannot be read, because there is no tokenizer."""
    for name in checkpoint.tensors:
        if name.startswith(OF_TEXTS):
            _ = checkpoint.tensors[name]
    for key in ("text_config", "text_config_dict"):
        _mark(checkpoint.config.get(key))


def _mark(config: object) -> None:
    for value in config.values() if isinstance(config, Keys) else ():
        _mark(value)


def _tower(request: Request, folder: _Folder, shop: Workshop) -> Made:
    """The tower of pictures or sounds: in float32, and where it is asked for in int8."""
    options, media = request.options, folder.media
    options.progress(f"building the {media.modality} tower in float32")
    reference = _made(request, folder, shop, media.weights, None)
    if options.precision == "fp32":
        return finished(reference, None, Sample("nothing"), request.target, 0.0)
    options.progress(f"calibrating the {media.modality} tower")
    front, chosen = read_front(media.modality, media.front), options.towers.calibration
    feeds, sample = calibration_feeds(front, None if chosen is None else Path(chosen))
    quantized = media.quantize(feeds, options, shop)
    made = _made(request, folder, shop, quantized.weights, quantized)
    options.progress(f"measuring the {media.modality} tower")
    floor = FLOORS[options.precision] if options.floor is None else options.floor
    return finished(made, reference, sample, request.target, floor)


def _made(request: Request, folder: _Folder, shop: Workshop, weights: Weights, quantized: Quantized | None) -> Made:
    media = folder.media
    name, apart_name = TOWER_FILES[media.modality]
    apart = WeightsFile(shop.folder(), apart_name)
    graph = media.build(weights, None if quantized is None else quantized.layers, apart).SerializeToString()
    model = beside(apart, graph, name)
    tensors = folder.checkpoint.tensors
    logits = {key: float(np.asarray(tensors[key]).reshape(-1)[0]) for key in LOGITS if key in tensors}
    tower = Tower(
        front=media.front,
        kind=media.spec.kind.name,
        architecture={**media.facts, **logits},
        quantization=FLOATS if quantized is None else _described(quantized, media.modality),
        provenance=_provenance(request, folder),
    )
    contents: dict[str, Content] = {name: model, **({apart_name: apart.path} if apart.used else {})}
    return Made(media.modality, media.spec.dim, contents, tower)


def _described(quantized: Quantized, modality: str) -> dict[str, Any]:
    """What the manifest says of an int8 tower: as of a model of texts, which has a table of words besides."""
    said = {name: value for name, value in quantized.describe().items() if name != "embedding_table"}
    return {**said, "rounding": f"GPTQ on the calibration {PLURAL[modality]}"}


def _provenance(request: Request, folder: _Folder) -> dict[str, Any]:
    checkpoint = folder.checkpoint
    notes = [*request.notes, *checkpoint.notes, *folder.media.notes]
    return request.provenance(checkpoint.sha256, licence=checkpoint.licence, **noted(notes))


def _write(
    request: Request, folder: _Folder, made: list[Made], texts: tuple[dict[str, Content], Manifest | None]
) -> Manifest:
    (contents, manifest), options = texts, request.options
    together = {**contents, **{name: content for one in made for name, content in one.contents.items()}}
    if manifest is None:
        provenance = _provenance(request, folder)
        manifest = bundle_of(request.name, made[0].dim, folder.space, made, provenance=provenance)
    else:
        if wrong := [one.modality for one in made if one.dim != manifest.dim]:
            raise ExportError(f"{request.source}: models of texts and of {listed(wrong)} give vectors of other dims")
        towers = {one.modality: one.tower for one in made}
        manifest = replace(manifest, files=file_records(together), towers=towers, space=folder.space)
    manifest = with_notes(manifest, check_ignored())
    options.progress(f"writing {request.target}")
    write_bundle(request.target, manifest, together, overwrite=options.overwrite)
    return manifest
