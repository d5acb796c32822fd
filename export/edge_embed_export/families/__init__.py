"""One small module per model family: it maps a checkpoint's config and tensor names onto `transformer.Spec`."""

from collections.abc import Callable

from edge_embed_export.checkpoint import Checkpoint
from edge_embed_export.families import bert
from edge_embed_export.transformer import Spec, Weights
from edge_embed_runtime.errors import UnsupportedModelError

FAMILIES: dict[str, Callable[[Checkpoint], tuple[Spec, Weights]]] = {"bert": bert.read}


def read_family(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    """Spec and weights of a checkpoint, by its `model_type`."""
    family = FAMILIES.get(checkpoint.architecture)
    if family is None:
        raise UnsupportedModelError(
            f"{checkpoint.folder}: the architecture {checkpoint.architecture!r} is not known to this exporter "
            f"(known: {', '.join(sorted(FAMILIES))}). The general path: pip install 'edge-embed[optimum]', then "
            f"edge-embed export --general {checkpoint.folder} BUNDLE"
        )
    return family(checkpoint)
