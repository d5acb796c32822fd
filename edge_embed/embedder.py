"""The embedder with the bundle that ships in the package."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_embed_runtime.bundle.adapters import BASE, Adapters
from edge_embed_runtime.bundle.bundle import Bundle, open_bundle
from edge_embed_runtime.bundle.manifest import MANIFEST, ONNXRUNTIME, TEXT, read_manifest
from edge_embed_runtime.embed import embedder
from edge_embed_runtime.errors import BundleError, BundleMismatchError, InputError, MemoryBudgetError, about

if TYPE_CHECKING:
    from edge_embed_runtime.embed.reranker import Reranker

# Embedded bundles by the names that stand for them wherever a bundle's folder is given.
BUNDLES = {"minilm": "all-minilm-l6-v2", "static": "static-minilm-l6-v2"}
DEFAULT_BUNDLE = BUNDLES["minilm"]
# Names the bundle that the command line takes where --bundle is not given.
BUNDLE_VARIABLE = "EDGE_EMBED_BUNDLE"


def default_bundle() -> Path:
    """The folder of the embedded default bundle."""
    return _embedded(DEFAULT_BUNDLE)


def bundle_path(bundle: str | os.PathLike[str] | None) -> Path:
    """The folder that a name of BUNDLES stands for; None is the default; anything else is a path ("./static" is a
    folder of that name)."""
    if bundle is None:
        return default_bundle()
    return _embedded(BUNDLES[bundle]) if isinstance(bundle, str) and bundle in BUNDLES else Path(bundle)


def modalities_of(bundle: str | os.PathLike[str] | None) -> frozenset[str]:
    """What a bundle embeds, of "text", "image" and "audio", from its manifest alone. One that cannot be read counts as
    one for texts: whoever loads it says what is wrong."""
    try:
        return frozenset(read_manifest(bundle_path(bundle) / MANIFEST).modalities)
    except BundleError:
        return frozenset({TEXT})


def _embedded(folder: str) -> Path:
    return Path(__file__).parent / "bundles" / folder


class Embedder(embedder.Embedder):
    __doc__ = (embedder.Embedder.__doc__ or "").replace(
        "a bundle folder,", 'a bundle folder, or the name of an embedded one ("minilm", the default; "static"),'
    )

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle | None = None,
        *,
        threads: int | None = None,
        truncate_dim: int | None = None,
        exact: bool | None = None,
        max_rss_mb: float | None = None,
        background: bool = False,
        adapter: str | None = None,
        engine: str | None = None,
        towers: Sequence[str] | None = None,
    ) -> None:
        found = bundle_path(bundle) if bundle is None or isinstance(bundle, str) else bundle
        with about(found.path if isinstance(found, Bundle) else found, BundleError, MemoryBudgetError):
            super().__init__(
                found,
                threads=threads,
                truncate_dim=truncate_dim,
                exact=exact,
                max_rss_mb=max_rss_mb,
                background=background,
                adapter=adapter,
                engine=engine,
                towers=towers,
            )

    def _bundle_name(self) -> str:
        """An embedded bundle keeps its name, by which another install finds its own."""
        names = {_embedded(folder): name for name, folder in BUNDLES.items()}
        return names.get(self.path, super()._bundle_name())


def load_any(bundle: str | os.PathLike[str] | Bundle | None, **options: Any) -> "Embedder | Reranker":
    """A bundle of any kind as what runs it; options are those that both take, and engine."""
    from edge_embed_runtime.vectors.kinds import RERANK

    found = bundle if isinstance(bundle, Bundle) else open_bundle(bundle_path(bundle))
    if found.manifest.output is not RERANK:
        return Embedder(found, **options)
    from edge_embed_runtime.embed.reranker import Reranker

    if (engine := options.pop("engine", None)) not in (None, ONNXRUNTIME):
        raise InputError(f"bundle {found.path} scores pairs: engine {engine!r} does not run it", option="engine")
    return Reranker(found, **options)


def own_embedder(path: str | os.PathLike[str], bundle: str | None = None, **options: Any) -> Embedder | None:
    """The embedder that the vectors of an index come from: one of `bundle`, which EDGE_EMBED_BUNDLE names where it is
    None, or of an embedded bundle. For a file that is not there yet, what the command line takes; None for an index of
    given vectors.

    options: of `Embedder`, but for truncate_dim; the adapter is the index's own unless it is given

    Raises BundleMismatchError for vectors of another bundle, BundleError for a folder that is no bundle, IndexFileError
    for what is no index.
    """
    from edge_embed_runtime.index.stats import read_stats

    named = bundle or os.environ.get(BUNDLE_VARIABLE) or None
    if not Path(path).exists():
        return Embedder(named, **options)
    stats = read_stats(path)
    if stats["space"] or not stats["dim"]:
        return None
    for name in [named, *BUNDLES] if named else BUNDLES:
        manifest = open_bundle(bundle_path(name), text=False).manifest
        for adapter in (None, BASE, *(one.name for one in manifest.adapters)):
            if Adapters(manifest.adapters, adapter, name).fingerprint(manifest.fingerprint) == stats["fingerprint"]:
                options["adapter"] = options.get("adapter") or adapter
                return Embedder(name, truncate_dim=None if stats["dim"] == manifest.dim else stats["dim"], **options)
    raise BundleMismatchError(
        f"{path} holds vectors of the bundle {stats['bundle']!r} ({stats['fingerprint'][:8]}), which does not come "
        f"with edge_embed: give an embedder of it, or name its folder in {BUNDLE_VARIABLE}",
        path=path,
        bundle=stats["bundle"],
    )
