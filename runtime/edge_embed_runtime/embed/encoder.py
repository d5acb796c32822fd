"""What makes vectors of texts for an index: an `Embedder`, or several as one (`ComposedEmbedder`)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from edge_embed_runtime.embed.embedder import Embedder

if TYPE_CHECKING:
    from edge_embed_runtime.inputs.tokenizer import Tokenizer
    from edge_embed_runtime.vectors.int8 import Vectors
    from edge_embed_runtime.vectors.kinds import Kind
    from edge_embed_runtime.vectors.rotation import Frame


class Encoder(Protocol):
    """See `Embedder` for what each of these is."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def dim(self) -> int: ...

    @property
    def max_tokens(self) -> int: ...

    @property
    def output(self) -> "Kind": ...

    @property
    def is_static(self) -> bool: ...

    @property
    def predicted_peak(self) -> int: ...

    @property
    def frame(self) -> "Frame": ...

    @property
    def prompts(self) -> dict[str, str]: ...

    @property
    def tokenizer(self) -> "Tokenizer": ...

    def encode(self, texts: Sequence[str], *, role: str | None = None, show_progress: bool = False) -> "Vectors": ...

    def encode_query(self, texts: Sequence[str], **options: Any) -> "Vectors": ...

    def encode_document(self, texts: Sequence[str], **options: Any) -> "Vectors": ...


def is_encoder(given: object) -> bool:
    """Whether it is an `Embedder`, or several as one."""
    if isinstance(given, Embedder):
        return True
    from edge_embed_runtime.embed.composed import ComposedEmbedder  # most indexes have none

    return isinstance(given, ComposedEmbedder)
