"""One guarded import for everything that is not in the base install."""

import importlib
import importlib.util
import sysconfig
from types import ModuleType

from edge_embed_runtime.errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, or say which extra brings it.

    require("onnx", "export") -> the module, or MissingExtraError with the pip line
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing(module.split(".", maxsplit=1)[0], extra, f" ({error})") from error


def missing(package: str, extra: str, why: str = "") -> MissingExtraError:
    """The error that says which extra brings a package."""
    return MissingExtraError(
        f"this needs the package {package!r}, which is not installed{why}: pip install 'edge-embed[{extra}]'",
        package=package,
        extra=extra,
    )


def is_installed(module: str) -> bool:
    """Whether there is such a module, which may fail when it is imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def without_onnxruntime(what: str, error: ImportError) -> MissingExtraError:
    """What to say where onnxruntime cannot be imported: it is missing, is none for this system, or does not load here.

    what: what needs it, as "bundle all-minilm-l6-v2"
    """
    if is_installed("onnxruntime"):
        reason = f"cannot be imported here ({error}); edge-embed doctor says more"
    elif "musl" in (sysconfig.get_config_var("EXT_SUFFIX") or ""):
        reason = "does not exist for this system: its C library is musl, as in Alpine, and onnxruntime needs glibc"
    else:
        reason = "is not installed: pip install 'onnxruntime>=1.22' (some systems have none, as Alpine)"
    static = 'Embedder("static"), --bundle static or EDGE_EMBED_BUNDLE=static'
    instead = f". A static bundle works without it: {static}" if what.startswith("bundle") else ""
    return MissingExtraError(f"{what} needs onnxruntime, which {reason}{instead}", package="onnxruntime")


def require_onnxruntime(what: str) -> None:
    """Import onnxruntime. Raises MissingExtraError, see `without_onnxruntime`."""
    try:
        importlib.import_module("onnxruntime")
    except ImportError as error:
        raise without_onnxruntime(what, error) from error


def without_library(what: str, reason: str) -> MissingExtraError:
    """What to say where the native library is needed and cannot be used, and why not."""
    return MissingExtraError(
        f"{what} needs the native library of edge-embed, which cannot be used here: {reason}. A platform wheel has it, "
        "and an install from source makes it where there is a C compiler (or `pip install ziglang`): pip install "
        "--force-reinstall --no-deps edge-embed. Or install onnxruntime, which runs the bundle too: pip install "
        "'onnxruntime>=1.22', and leave engine out",
        package="edge-embed native library",
    )
