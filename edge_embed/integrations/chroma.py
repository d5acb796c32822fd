"""Chroma: an embedding function that a collection remembers, so that it opens again by itself."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from edge_embed.embedder import BUNDLES, Embedder, bundle_path
from edge_embed.integrations.embedding import Loaded, check_dense
from edge_embed_runtime.bundle.adapters import Adapters
from edge_embed_runtime.bundle.bundle import open_bundle
from edge_embed_runtime.errors import BundleError, BundleMismatchError, InputError
from edge_embed_runtime.extras import require

require("chromadb", "chroma")

from chromadb.api.types import Documents, EmbeddingFunction, Embeddings, Space
from chromadb.utils.embedding_functions import known_embedding_functions, register_embedding_function

NAME = "edge_embed"
# Options that change vectors: a collection remembers them.
KEPT = ("truncate_dim", "adapter")


class _Name:
    """`EdgeEmbeddingFunction.name()` names the class, `function.name()` the bundle's contents, too.

    Chroma refuses a function of another name than the collection's; of one name it would take vectors of any bundle.
    """

    def __get__(self, function: "EdgeEmbeddingFunction | None", cls: type) -> Callable[[], str]:
        return lambda: NAME if function is None else f"{NAME}-{function.fingerprint[:16]}"


@register_embedding_function
class EdgeEmbeddingFunction(EmbeddingFunction[Documents]):
    """Embeds documents, and queries with the prompt that the bundle has for queries, on this device.

    bundle:  a name ("minilm", the default; "static") or a bundle's folder
    options: of `edge_embed.Embedder`, such as threads=1 or truncate_dim=128

    The bundle is loaded when something is embedded first. A collection remembers the bundle, its fingerprint,
    truncate_dim and adapter. Where this module is imported it opens again by itself if the bundle is an embedded one;
    for a folder make this function first, or give it to `get_collection`. Another bundle is refused by name. Raises
    BundleError for what is no bundle, InputError for one that does not embed a text as one vector.
    """

    name = _Name()

    def __init__(self, bundle: str | os.PathLike[str] | None = None, **options: Any) -> None:
        self.bundle = None if bundle is None else os.fspath(bundle)
        if self.bundle is not None and self.bundle not in BUNDLES:
            self.bundle = str(Path(self.bundle).absolute())
        self._loaded = Loaded(Embedder, self.bundle, options)
        self.options = self._loaded.options
        folder = bundle_path(self.bundle)
        manifest = open_bundle(folder).manifest
        check_dense(manifest, folder, type(self).__name__)
        adapters = Adapters(manifest.adapters, options.get("adapter"), f"bundle {folder}")
        self.fingerprint = adapters.fingerprint(manifest.fingerprint)
        known_embedding_functions[self.name()] = type(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), self.bundle, **self.options), ()

    def __call__(self, input: Documents) -> Embeddings:
        """The vectors of documents: arrays float32 [dim], of length 1. One that is longer than the model reads is a
        TruncationWarning."""
        return list(self._load().encode_document(input, on_truncation="warn"))

    def embed_query(self, input: Documents) -> Embeddings:
        """The vectors of queries: arrays float32 [dim], of length 1."""
        return list(self._load().encode_query(input))

    def default_space(self) -> Space:
        return "cosine"

    def supported_spaces(self) -> list[Space]:
        return ["cosine", "l2", "ip"]

    def get_config(self) -> dict[str, Any]:
        kept = {name: self.options[name] for name in KEPT if self.options.get(name) is not None}
        return {"bundle": self.bundle, "fingerprint": self.fingerprint, **kept}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> "EdgeEmbeddingFunction":
        """Raises BundleMismatchError where the bundle is another one than it was."""
        EdgeEmbeddingFunction.validate_config(config)
        function = EdgeEmbeddingFunction(config["bundle"], **{name: config[name] for name in KEPT if name in config})
        _check_same(config, function.get_config())
        return function

    @staticmethod
    def validate_config(config: dict[str, Any]) -> None:
        known = {"bundle", "fingerprint", *KEPT}
        if not {"bundle", "fingerprint"} <= config.keys() <= known:
            raise InputError(f"the configuration of {NAME} has {sorted(config)}, expected {sorted(known)}")

    def validate_config_update(self, old_config: dict[str, Any], new_config: dict[str, Any]) -> None:
        """A bundle may lie in another folder; its contents stay."""
        _check_same(old_config, new_config)

    def _load(self) -> Embedder:
        embedder = self._loaded.get()
        if embedder.fingerprint != self.fingerprint:
            raise _other(self.bundle, self.fingerprint, embedder.fingerprint)
        return embedder


def _check_same(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    for name in ("fingerprint", *KEPT):
        if old.get(name) != new.get(name):
            raise _other(old.get("bundle"), old.get(name), new.get(name), name)


def _other(bundle: str | None, expected: object, found: object, what: str = "fingerprint") -> BundleMismatchError:
    return BundleMismatchError(
        f"the collection holds vectors of the bundle {bundle or 'minilm'!r} ({what} {expected}); what is there now has "
        f"the {what} {found}: embed the documents again, in a new collection",
        bundle=bundle,
    )


# The names of the embedded bundles are known from the start: collections of theirs open by themselves.
for _bundle in BUNDLES:
    with suppress(BundleError):  # which says so where it is asked for
        EdgeEmbeddingFunction(_bundle)
