"""One guarded import for everything that is not in the base install."""

import importlib
from types import ModuleType

from edge_embed_runtime.errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, or say which extra brings it.

    require("onnx", "export") -> the module, or MissingExtraError with the pip line
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"this needs the package {module.split('.', maxsplit=1)[0]!r}, which is not installed "
            f"({error}): pip install 'edge-embed[{extra}]'"
        ) from error
