"""`--modality`: an ONNX file, or the folder of one, whose graph reads pictures or sounds."""

from pathlib import Path

from edge_embed_export.families import audiofront, imagefront
from edge_embed_export.request import Request, Source
from edge_embed_export.sources.checkpoint import licence_of
from edge_embed_export.sources.onnxfile import find_onnx
from edge_embed_export.sources.purpose import noted
from edge_embed_export.towers.decoding import decoded
from edge_embed_export.towers.graph import FLOOR, GraphTower, tower_from_onnx
from edge_embed_export.towers.inputs import measured_by
from edge_embed_runtime.bundle.bundle import open_bundle
from edge_embed_runtime.bundle.join import space_of
from edge_embed_runtime.bundle.manifest import Manifest
from edge_embed_runtime.errors import SourceError

UNUSED = (
    *("search", "recipes", "max_tokens", "prompts", "adapter", "adapters", "task", "truncate_dims", "truncate_norm"),
    *("kind", "similarity", "attention", "side", "engine", "table"),
)


class TowerGraph(Source):
    """An ONNX graph of pictures or sounds."""

    has_configs = False
    unverifiable = "the graph reads pictures or sounds"

    def fits(self, request: Request) -> bool:
        return request.options.towers.modality is not None

    def refuses(self, request: Request) -> str:
        if used := request.unused("taken as a graph of pictures or sounds", *UNUSED):
            return used
        graph = request.options.graph
        if graph.convert or graph.tokenizer or graph.pooling:
            return f"{request.source} is taken as a graph of pictures or sounds: there is no use for options of texts"
        if request.options.towers.only is not None:
            return f"{request.source} holds one model: there is no use for towers"
        return super().refuses(request)

    def export(self, request: Request) -> Manifest:
        options = request.options
        file = find_onnx(request.source, options.graph.file)
        if file is None:
            raise SourceError(f"{request.source} holds no ONNX model", path=request.source)
        modality, path = str(options.towers.modality), Path(str(options.towers.front))
        front = (imagefront if modality == "image" else audiofront).read_front_file(path)
        front = decoded(front, modality, options.towers.decode)
        chosen = options.towers.calibration
        return tower_from_onnx(
            file,
            request.target,
            GraphTower(modality, front, options.graph.output),
            name=request.name,
            space=_named_space(options.towers.space),
            precision=options.precision,
            floor=FLOOR if options.floor is None else options.floor,
            source_name=request.source_name,
            facts={"licence": licence_of(file.parent), **noted(request.notes)},
            sample=measured_by(modality, front, None if chosen is None else Path(chosen)),
            overwrite=options.overwrite,
            progress=options.progress,
        )


def _named_space(said: object) -> str:
    """The name of a space that a caller names by a bundle in it, or by itself."""
    if said is None:
        return ""
    if not Path(str(said)).is_dir():
        return str(said)
    return space_of(open_bundle(Path(str(said)), text=False).manifest)
