"""A model, whatever it is made of: a loaded bundle that turns inputs into arrays."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from edge_embed_runtime.bundle.bundle import Bundle
from edge_embed_runtime.bundle.manifest import TABLE
from edge_embed_runtime.inputs.tokenizer import Tokenizer
from edge_embed_runtime.model.options import Call, Loaded, RunOptions
from edge_embed_runtime.system.background import Background

if TYPE_CHECKING:
    from edge_embed_runtime.model.network import Network
    from edge_embed_runtime.vectors.types import Vectors


class Model(Protocol):
    """threads: cores that are used; may be set."""

    threads: int

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def loaded(self) -> Loaded: ...

    @property
    def network(self) -> "Network":
        """The model itself, where it runs a network. Raises InputError for one that has none."""

    def encode(self, texts: Sequence[str], call: Call) -> "Iterator[tuple[Sequence[int], Vectors]]":
        """Positions of texts and their vectors [n, dim] of length 1, some at a time."""

    def one(self, text: str, call: Call) -> "Vectors":
        """The vector [1, dim] of one text: the bits that `encode` gives, by a shorter way."""


def load_model(bundle: Bundle, options: RunOptions) -> Model:
    """The model of a bundle, whose files are verified meanwhile.

    Raises BundleError where this machine cannot use it, MissingExtraError where it needs onnxruntime and there is none.
    """
    verified = Background(bundle.verify)
    verified.begin()  # while modules are imported
    load = _static() if bundle.manifest.model_file == TABLE else _network(f"bundle {bundle.path}")
    verified.result()
    return load(bundle, options)


def _static() -> Callable[[Bundle, RunOptions], Model]:
    from edge_embed_runtime.model.static import StaticModel

    return StaticModel


def _network(what: str) -> Callable[[Bundle, RunOptions], Model]:
    """Imports onnxruntime, which static bundles do without."""
    try:
        from edge_embed_runtime.model.network import Network
    except ImportError as error:
        from edge_embed_runtime.extras import without_onnxruntime

        raise without_onnxruntime(what, error) from error
    return Network
