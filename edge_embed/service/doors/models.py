"""The models of a service, as lists of models describe them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from edge_embed.service.service import Service
from edge_embed_runtime.bundle.manifest import MANIFEST, Manifest
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.embed.reranker import Reranker


@dataclass(frozen=True)
class Served:
    """A model under the name that clients call it by.

    changed: when its bundle was written to this disk
    """

    name: str
    manifest: Manifest
    changed: datetime

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(record.size for record in self.manifest.files.values())

    @property
    def is_reranker(self) -> bool:
        return self.manifest.kind == "rerank"

    @property
    def family(self) -> str:
        """Of its architecture, such as "bert"."""
        return str(self.manifest.architecture.get("family", "static" if self.manifest.is_static else "unknown"))

    @property
    def weights(self) -> str:
        """How its weights are stored, such as "int8"."""
        return str(self.manifest.quantization.get("weights", "float32")).split(",")[0].split(" ")[0]


def served(service: Service) -> Iterator[Served]:
    """Every model of the service: those for vectors, then rerankers."""
    models: list[tuple[str, Embedder | Reranker]] = [*service.embedders.items(), *service.rerankers.items()]
    for name, model in models:
        changed = datetime.fromtimestamp((model.path / MANIFEST).stat().st_mtime, UTC)
        yield Served(name, model.manifest, changed)
