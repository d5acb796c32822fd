"""What a loaded bundle says of itself: an Embedder's properties."""

from pathlib import Path
from typing import TYPE_CHECKING

from edge_embed_runtime.bundle.adapters import Adapters
from edge_embed_runtime.bundle.manifest import ROLES, Manifest
from edge_embed_runtime.errors import BundleFormatError
from edge_embed_runtime.model.model import Model
from edge_embed_runtime.vectors.kinds import Kind

if TYPE_CHECKING:
    from edge_embed_runtime.model.network import Network
    from edge_embed_runtime.vectors.rotation import Frame


class Described:
    """A bundle, loaded. What makes one sets these."""

    manifest: Manifest
    path: Path
    _model: Model
    _adapters: Adapters
    _dim: int

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self._dim

    @property
    def kind(self) -> str:
        """What it gives for a text: "dense" (`encode`), "sparse" (`encode_sparse`) or "multi" (`encode_multi`)."""
        return self.manifest.kind

    @property
    def name(self) -> str:
        """The bundle's."""
        return self.manifest.name

    @property
    def output(self) -> Kind:
        """`kind`, as the object that knows its shape, and how an index stores it."""
        return self.manifest.output

    @property
    def is_static(self) -> bool:
        """Whether the bundle is a table of token vectors, without a network."""
        return self.manifest.is_static

    @property
    def network(self) -> "Network":
        """The model as it is run. Raises InputError for a static bundle, which has none."""
        return self._model.network

    @property
    def predicted_peak(self) -> int:
        """Bytes that the process was predicted to take at most, or 0 without `max_rss_mb`."""
        return self._model.loaded.peak

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that count, special tokens included; the rest is left out."""
        return self.manifest.max_tokens

    @property
    def fingerprint(self) -> str:
        """Names the bundle's contents, and the adapter that was chosen for all texts: indexes made under another
        fingerprint are refused."""
        return self._adapters.fingerprint(self.manifest.fingerprint)

    def check_adapter(self, name: str | None) -> None:
        """Raise InputError where the bundle has no adapter of this name; None and "base" are right in any case."""
        self._adapters.choose(name, None)

    @property
    def adapters(self) -> tuple[str, ...]:
        """What `adapter` can be, besides "base"."""
        return self._adapters.names

    @property
    def frame(self) -> "Frame":
        """How binary codes are made of the vectors; that of the bundle is for vectors of all its dimensions."""
        from edge_embed_runtime.vectors.rotation import Frame  # for indexes

        stored = self.manifest.codes.get("frame") if self.dim == self.manifest.dim else None
        try:
            return Frame() if stored is None else Frame.from_json(stored, self.dim)
        except ValueError as error:
            raise BundleFormatError(f"bundle {self.path}: {error}", path=self.path) from error

    @property
    def prompts(self) -> dict[str, str]:
        """Text put before the input, by role."""
        return self._adapters.prompts({**dict.fromkeys(ROLES, ""), **self.manifest.prompts})
