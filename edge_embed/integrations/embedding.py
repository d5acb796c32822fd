"""The models behind a door. Options of an Embedder are checked before its bundle is loaded."""

import inspect
import os
import threading
from collections.abc import Mapping
from typing import Any

from edge_embed.embedder import Embedder, bundle_path
from edge_embed_runtime.bundle.bundle import Bundle
from edge_embed_runtime.embed.encoder import Encoder, is_encoder
from edge_embed_runtime.embed.reranker import Reranker
from edge_embed_runtime.errors import InputError

BundlePath = str | os.PathLike[str] | Bundle


def checked_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options of `edge_embed.Embedder` but its bundle, such as {"threads": 1}. Raises TypeError for any other."""
    given = dict(options or {})
    known = [name for name in inspect.signature(Embedder.__init__).parameters if name not in ("self", "bundle")]
    if unknown := sorted(set(given) - set(known)):
        raise TypeError(f"Embedder has no option {', '.join(unknown)}; it has {', '.join(known)}")
    return given


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
        return Reranker(bundle if isinstance(bundle, Bundle) else bundle_path(bundle), **options)
    if options:
        raise InputError("the Reranker that was given has options of its own", option=next(iter(options)))
    return bundle


class Loaded:
    """A bundle that is loaded when it is first needed, once."""

    def __init__(self, bundle: str | os.PathLike[str] | None, options: Mapping[str, Any] | None) -> None:
        self.bundle = None if bundle is None else os.fspath(bundle)
        self.options = checked_options(options)
        self._embedder: Embedder | None = None
        self._lock = threading.Lock()

    def get(self) -> Embedder:
        with self._lock:
            if self._embedder is None:
                self._embedder = Embedder(self.bundle, **self.options)
            return self._embedder
