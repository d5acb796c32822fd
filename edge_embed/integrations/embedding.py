"""The models behind a door. Options are checked before a bundle is loaded."""

import inspect
import os
import threading
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from edge_embed.embedder import Embedder, bundle_path
from edge_embed_runtime.bundle.bundle import Bundle
from edge_embed_runtime.bundle.manifest import Manifest
from edge_embed_runtime.embed.encoder import Encoder, is_encoder
from edge_embed_runtime.embed.reranker import Reranker
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.vectors.kinds import DENSE

BundlePath = str | os.PathLike[str] | Bundle
Model = TypeVar("Model", Embedder, Reranker)


def checked_options(options: Mapping[str, Any] | None, kind: type[Embedder | Reranker] = Embedder) -> dict[str, Any]:
    """Options of an Embedder, or a Reranker, but its bundle: {"threads": 1}. Raises TypeError for any other."""
    given = dict(options or {})
    known = [name for name in inspect.signature(kind).parameters if name != "bundle"]
    if unknown := sorted(set(given) - set(known)):
        raise TypeError(f"{kind.__name__} has no option {', '.join(unknown)}; it has {', '.join(known)}")
    return given


def check_device(device: object) -> None:
    """Raise InputError for a device that is not the CPU; None is."""
    if device is not None and str(device) not in ("cpu", "cpu:0"):
        raise InputError(f"device {device!r}: bundles run on the CPU only", option="device")


def check_dense(manifest: Manifest, path: str | os.PathLike[str], who: str) -> None:
    """Raise InputError for a bundle that gives no single vector for a text. who: what takes no other"""
    if manifest.output is not DENSE:
        raise InputError(
            f"bundle {path} gives {manifest.output.gives}: {who} takes bundles of kind {DENSE.name!r}", path=path
        )


def embedder_of(bundle: BundlePath | Encoder | None, options: Mapping[str, Any]) -> Any:
    """The Embedder of a bundle, or the one that is given. Raises InputError for options of that one."""
    if not is_encoder(bundle):
        return Embedder(bundle, **checked_options(options))  # type: ignore[arg-type]
    if options:
        raise InputError("the Embedder that was given has options of its own", option=next(iter(options)))
    return bundle


def reranker_of(bundle: BundlePath | Reranker, options: Mapping[str, Any]) -> Reranker:
    """The Reranker of a bundle, or the one that is given. Raises InputError for options of that one."""
    if not isinstance(bundle, Reranker):
        return Reranker(
            bundle if isinstance(bundle, Bundle) else bundle_path(bundle), **checked_options(options, Reranker)
        )
    if options:
        raise InputError("the Reranker that was given has options of its own", option=next(iter(options)))
    return bundle


class Loaded(Generic[Model]):
    """A bundle that is loaded when it is first needed, once.

    kind: what runs it, `Embedder` or `Reranker`
    """

    def __init__(
        self, kind: type[Model], bundle: str | os.PathLike[str] | None, options: Mapping[str, Any] | None
    ) -> None:
        self.bundle = None if bundle is None else os.fspath(bundle)
        self.options = checked_options(options, kind)
        self._kind: type[Model] = kind
        self._model: Model | None = None
        self._lock = threading.Lock()

    def get(self) -> Model:
        with self._lock:
            if self._model is None:
                self._model = self._kind(bundle_path(self.bundle), **self.options)
            return self._model
