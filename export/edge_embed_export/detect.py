"""What a source is: one entry for each way in which a model comes, and the first that fits is taken."""

from dataclasses import replace

from edge_embed_export.elmo.bundle import ElmoFolder
from edge_embed_export.families.declined import declined
from edge_embed_export.files.formats import check_file
from edge_embed_export.files.reading import is_there
from edge_embed_export.from_checkpoint import CheckpointFolder
from edge_embed_export.from_graph import Converted, OnnxGraph
from edge_embed_export.request import Request, Source
from edge_embed_export.sources.purpose import notes_of
from edge_embed_export.static.bundle import StaticFolder, WordVectorFile
from edge_embed_export.towers.folder import TowersFolder
from edge_embed_export.towers.onnx import TowerGraph
from edge_embed_export.verify.compare import Verifier
from edge_embed_runtime.bundle.manifest import NATIVE, Manifest
from edge_embed_runtime.errors import InputError, UnsupportedModelError
from edge_embed_runtime.vectors.kinds import RERANK

SOURCES: tuple[Source, ...] = (
    TowerGraph(),
    WordVectorFile(),
    StaticFolder(),
    ElmoFolder(),
    Converted(),
    OnnxGraph(),
    TowersFolder(),
    CheckpointFolder(),  # fits always
)


def export(request: Request) -> Manifest:
    """Export the source of a request, whatever it is. Raises InputError for options that have no use with it."""
    if request.source.is_file():
        check_file(request.source)
    source = next(source for source in SOURCES if source.fits(request))
    if (why := declined(request.folder.config)) and source.has_configs and not isinstance(source, OnnxGraph):
        kind = str(request.folder.config.get("model_type"))
        raise UnsupportedModelError(f"{request.source}: {why}", architecture=kind)
    if refused := source.refuses(request):
        raise InputError(refused)
    if request.options.engine == NATIVE and not source.runs_native:
        raise InputError(
            f"{request.source}: the native engine runs models that are exported from the checkpoint alone: a folder "
            "with config.json and model.safetensors, without --general, and no ONNX file. Leave --engine out"
        )
    if request.options.portable and not source.portable:
        raise InputError(
            f"{request.source}: portable bundles are made of the checkpoint of a model of texts alone: a folder with "
            "config.json and model.safetensors, without --general, and no ONNX file, static table or model of pictures "
            "or sounds. Leave --portable out"
        )
    pairs = request.options.output is RERANK or (request.options.output is None and request.folder.scores_pairs)
    if pairs and source.has_configs and not source.scores_pairs:
        raise UnsupportedModelError(
            f"{request.source}: cross-encoders, which score pairs of texts, are exported from the checkpoint alone: a "
            "folder with config.json and model.safetensors, without --general, and no ONNX file"
        )
    if request.options.output is RERANK and not source.scores_pairs:
        raise InputError(f"{request.source} holds no cross-encoder: there is no use for --kind rerank")
    verifier = Verifier(request.source, request.options, _without_reference(source, request))
    notes = notes_of(request.folder, request.options) if source.has_configs and request.source.exists() else []
    return source.export(replace(request, notes=tuple(notes), verifier=verifier))


def _without_reference(source: Source, request: Request) -> str:
    """Why no reference gives vectors of a source; "" where one does."""
    if source.unverifiable:
        return source.unverifiable
    if request.source.is_file():
        return "the source is a file, and no folder that it loads"
    if not any(is_there(request.source / name) for name in ("config.json", "modules.json")):
        return "the folder has neither config.json nor modules.json"
    return "" if request.options.task is None else "tasks are code of the model's own, which is never run"
