"""One small module per model family: it maps a checkpoint's config and tensor names onto `transformer.Spec`."""

from collections.abc import Callable

from edge_embed_export.checkpoint import Checkpoint
from edge_embed_export.families import bert
from edge_embed_export.transformer import Spec, Weights, check
from edge_embed_runtime.errors import ExportError, UnsupportedModelError

FAMILIES: dict[str, Callable[[Checkpoint], tuple[Spec, Weights]]] = {"bert": bert.read}


def read_family(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    """Spec and weights of a checkpoint, by its `model_type`."""
    family = FAMILIES.get(checkpoint.architecture)
    if family is None:
        raise UnsupportedModelError(
            f"{checkpoint.folder}: the architecture {checkpoint.architecture!r} is not known to this exporter "
            f"(known: {', '.join(sorted(FAMILIES))}). The general path is optimum: pip install 'edge-embed[optimum]', "
            f"then optimum-cli export onnx --library transformers -m {checkpoint.folder} FOLDER. It gives an ONNX file "
            "for onnxruntime; making a bundle of that is not supported yet"
        )
    spec, weights = family(checkpoint)
    try:
        check(spec, weights)
    except ExportError as error:
        raise ExportError(f"{checkpoint.folder}: {error}; the weights and config.json do not belong together") from None
    return spec, weights
