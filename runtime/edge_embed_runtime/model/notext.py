"""In the place of a model for texts, where a bundle has none or the caller asked for towers only."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn

from edge_embed_runtime.bundle.bundle import Bundle
from edge_embed_runtime.checks import listed
from edge_embed_runtime.errors import InputError
from edge_embed_runtime.model.options import Call, Loaded, RunOptions

if TYPE_CHECKING:
    from edge_embed_runtime.inputs.tokenizer import Tokenizer
    from edge_embed_runtime.model.network import Network
    from edge_embed_runtime.vectors.types import Vectors


class NoText:
    """A `Model` that says, whatever it is asked, what there is instead."""

    def __init__(self, bundle: Bundle, options: RunOptions) -> None:
        self._path, manifest = bundle.path, bundle.manifest
        self.threads: int = options.most_cores
        self.loaded: Loaded = Loaded(1.0)
        there = listed(manifest.towers)
        self._why = f"bundle {bundle.path} has no model for texts: it has one for {there}"
        if manifest.has_text:
            self._why = f"bundle {bundle.path} was loaded without its model for texts: towers said {options.towers}"

    def _refuse(self) -> NoReturn:
        raise InputError(self._why, path=self._path)

    @property
    def tokenizer(self) -> "Tokenizer":
        self._refuse()

    @property
    def network(self) -> "Network":
        self._refuse()

    def encode(self, texts: Sequence[str], call: Call) -> "Iterator[tuple[Sequence[int], Vectors]]":  # noqa: ARG002
        self._refuse()

    def one(self, text: str, call: Call) -> "Vectors":  # noqa: ARG002
        self._refuse()
