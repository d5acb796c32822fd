"""A model, whatever it is made of: a loaded bundle that turns inputs into arrays."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from edge_embed_runtime.bundle.bundle import Bundle
from edge_embed_runtime.bundle.manifest import NATIVE, ONNXRUNTIME, TABLE
from edge_embed_runtime.errors import InputError
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

    Raises BundleError where this machine cannot use it, InputError for an engine that cannot run it, MissingExtraError
    where it needs onnxruntime, or the native library, and there is none.
    """
    if not (bundle.manifest.has_text and options.runs_texts):
        from edge_embed_runtime.model.notext import NoText

        if options.engine == NATIVE:
            raise InputError(f"bundle {bundle.path}: no model runs in the native engine", option="engine")
        return NoText(bundle, options)
    verified = Background(bundle.verify)
    verified.begin()  # while modules are imported
    load = _loader(bundle, options)
    verified.result()
    return load(bundle, options)


Load = Callable[[Bundle, RunOptions], Model]


def _loader(bundle: Bundle, options: RunOptions) -> Load:
    """What loads the model: the bundle's own engine does, or the one that was asked for."""
    manifest, what = bundle.manifest, f"bundle {bundle.path}"
    if manifest.model_file == TABLE:
        if options.engine is not None:
            raise InputError(f"{what} is static: a table of token vectors, which needs no engine", option="engine")
        return _static()
    chosen = options.engine or manifest.engine
    if chosen == ONNXRUNTIME:
        return _network(what)
    if manifest.native is None:
        raise InputError(
            f"{what} was not exported for the native engine: edge-embed export --engine native makes one, where the "
            "model can be",
            option="engine",
            path=bundle.path,
        )
    return _native(what, needed=options.engine is not None)


def _static() -> Load:
    from edge_embed_runtime.model.static import StaticModel

    return StaticModel


def _network(what: str, why: str = "") -> Load:
    """Imports onnxruntime, which static bundles and the native engine do without. why: see `Loaded`"""
    try:
        from edge_embed_runtime.model.network import Network
    except ImportError as error:
        from edge_embed_runtime.extras import without_onnxruntime

        raise without_onnxruntime(what, error) from error
    return partial(Network, why=why)


def _native(what: str, *, needed: bool) -> Load:
    """The native engine, or where its library is not there and not `needed`, onnxruntime."""
    from edge_embed_runtime.native.library import native, reason

    found = native()
    if found is None:
        return _instead(what, reason(), needed=needed)
    from edge_embed_runtime.model.native import NativeModel
    from edge_embed_runtime.native.encoder import NativeError

    def load(bundle: Bundle, options: RunOptions) -> Model:
        try:
            return NativeModel(bundle, options, found)
        except NativeError as error:  # of this CPU
            return _instead(what, str(error), needed=needed)(bundle, options)

    return load


def _instead(what: str, reason: str, *, needed: bool) -> Load:
    """onnxruntime in place of the native engine, which cannot run here for a reason. Raises MissingExtraError."""
    from edge_embed_runtime.extras import without_library

    if needed:
        raise without_library(what, reason)
    try:
        return _network(what, f"the native library cannot be used here: {reason}")
    except ImportError as error:
        raise without_library(what, f"{reason}; nor is onnxruntime here") from error
