"""The embedder with the bundle that ships in the package."""

import os
from importlib.resources import files
from pathlib import Path

from edge_embed_runtime import embedder
from edge_embed_runtime.bundle import Bundle

DEFAULT_BUNDLE = "all-minilm-l6-v2"


def default_bundle() -> Path:
    """The folder of the embedded default bundle."""
    return Path(str(files("edge_embed") / "bundles" / DEFAULT_BUNDLE))


class Embedder(embedder.Embedder):
    __doc__ = (embedder.Embedder.__doc__ or "").replace(
        "a bundle folder,", "a bundle folder; None means the embedded default,"
    )

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle | None = None,
        *,
        threads: int | None = None,
        truncate_dim: int | None = None,
    ) -> None:
        super().__init__(default_bundle() if bundle is None else bundle, threads=threads, truncate_dim=truncate_dim)
