"""onnxruntime sessions for small machines: the form of a model that its CPU needs, loaded with its weights mapped."""

import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime

from edge_embed_runtime.bundle.adapters import INPUT
from edge_embed_runtime.bundle.bundle import Bundle
from edge_embed_runtime.bundle.manifest import LEFT_OUT_INPUT, ONNXRUNTIME, TEXT, TYPES_INPUT, Manifest
from edge_embed_runtime.errors import BundleFormatError, DeadlineError, EdgeEmbedError
from edge_embed_runtime.model import deadline
from edge_embed_runtime.onnxfile.mapped import without_weights

# What `Manifest.quantization["operators"]` says of a graph without operators of onnxruntime's own.
STANDARD_OPERATORS = "standard, opset 17"
# The module of onnxruntime that is its library.
LIBRARY = "onnxruntime.capi.onnxruntime_pybind11_state"
# An ONNX model of one product, uint8 x [m, 64] by int8 weights [64, 32] that are all 127 (the test of it makes it).
PROBE_SHAPE = (64, 32)
PROBE = (
    b'\x08\n:\x8b\x11\n8\n\x01x\n\x01w\n\x03one\n\x03one\x12\x01y"\x14MatMulIntegerToFloat:\rcom.microsoft\x12\x05'
    b'probe*\r\x10\x01"\x04\x00\x00\x80?B\x03one*\x8c\x10\x08@\x08 \x10\x03B\x01wJ\x80\x10%bZ\x14\n\x01x\x12\x0f\n\r'
    b"\x08\x02\x12\t\n\x03\x12\x01m\n\x02\x08@b\x14\n\x01y\x12\x0f\n\r\x08\x01\x12\t\n\x03\x12\x01m\n\x02\x08 "
    b"B\x04\n\x00\x10\x11B\x11\n\rcom.microsoft\x10\x01"
) % (b"\x7f" * 64 * 32)


def make_session(
    model: bytes | Path,
    threads: int,
    *,
    exact: bool = False,
    prepacked: bool = True,
    values: Sequence[str] = (),
    portable: bool = False,
) -> onnxruntime.InferenceSession:
    """An onnxruntime session for small machines: no spinning threads, activations from an arena.

    exact: turn int8 weights to uint8 (x86 only), so that products cannot saturate. Where they would that costs 15 % of
           the speed, with VNNI it is 1.6 times slower and changes nothing. See `products_saturate`.

    prepacked: let kernels keep weights in the order that they like, besides in the file: faster by a third.

    values: inner values of the model that are its outputs in place of its own; only what they need is run.

    portable: the graph has standard operators alone; without being fused its products would be computed in float32.

    The arena does not shrink, but batches have a token budget, so it stops growing: with it a process needs less
    memory than without (144 against 211 MB, mallocs of many sizes fragment the heap) and is a sixth faster.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_mem_pattern = False
    level = onnxruntime.GraphOptimizationLevel
    # the graph is written in its final form, if not for others too; fusions beyond this level find nothing
    options.graph_optimization_level = level.ORT_ENABLE_EXTENDED if portable else level.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not prepacked:
        options.add_session_config_entry("session.disable_prepacking", "1")
    # a model given as bytes would read external data from the working directory
    folder = os.path.realpath(model.parent) if isinstance(model, Path) else os.devnull
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    if exact and not values and not portable and isinstance(model, Path):
        from edge_embed_runtime.onnxfile.uint8 import unsigned_model  # for CPUs whose products saturate

        with unsigned_model(model) as path:
            if path is not None:
                return deadline.load(path, options)
    if exact:  # onnxruntime reads the entry at this level only
        options.graph_optimization_level = level.ORT_ENABLE_EXTENDED
        options.add_session_config_entry("session.x64quantprecision", "1")
    source = without_weights(model) if isinstance(model, Path) else model
    if values:
        from edge_embed_runtime.onnxfile.outputs import part  # most processes want a text's vector

        source = part(source, values)
    return deadline.load(source, options)


@cache
def products_saturate() -> bool:
    """Whether uint8 x int8 products come out too small on this CPU. Measured once per process, in about 2 ms.

    x86 CPUs with AVX2 or AVX-512 and without VNNI add pairs of products in 16 bits, where 255 * 127 + 255 * 127 does
    not fit. The probe has the operator, the prepacked weights and the session of a real model, and so its kernel.
    """
    inner, outer = PROBE_SHAPE
    try:
        (products,) = make_session(PROBE, threads=1).run(None, {"x": np.full((4, inner), 255, np.uint8)})
    except Exception as error:
        raise EdgeEmbedError(f"onnxruntime {onnxruntime.__version__} cannot multiply int8 matrices: {error}") from error
    return not np.array_equal(products, np.full((4, outer), inner * 255 * 127))


def forms_to_try(asked: bool | None, tuned: bool | None = None) -> tuple[bool, ...]:
    """Whether the form to load first is the exact one (see `make_session`), and the next one, if any.

    asked: the form that the caller wants and no other; tuned: what was measured on this machine
    """
    if asked is not None:
        return (asked,)
    first = products_saturate() if tuned is None else tuned
    return (first, not first)


def engine_file() -> tuple[str, str | None]:
    """Name and release of onnxruntime, and the file of its library, for `golden.golden_stamp`."""
    return f"{ONNXRUNTIME} {onnxruntime.__version__}", getattr(sys.modules.get(LIBRARY), "__file__", None)


def is_portable(manifest: Manifest) -> bool:
    """Whether the graph for texts has standard operators alone, which onnxruntime has to fuse when it loads them."""
    return manifest.quantization.get("operators") == STANDARD_OPERATORS


def load_session(
    bundle: Bundle, *, exact: bool, prepacked: bool = True, values: Sequence[str] = ()
) -> onnxruntime.InferenceSession:
    """The session of a bundle's model; options are those of `make_session`. Raises BundleError."""
    session = _loaded(bundle, TEXT, exact=exact, prepacked=prepacked, values=values)
    if values:
        return session
    taken = [value.name for value in session.get_overridable_initializers()]
    if bundle.manifest.adapters and INPUT not in taken:
        raise BundleFormatError(
            f"bundle {bundle.path}: the manifest names adapters, which the model does not have", path=bundle.path
        )
    if bundle.manifest.left_out and LEFT_OUT_INPUT not in taken:
        raise BundleFormatError(
            f"bundle {bundle.path}: the manifest leaves prompts out, which the model cannot do", path=bundle.path
        )
    inputs = sorted(value.name for value in session.get_inputs())
    expected = ["attention_mask", "input_ids", *([TYPES_INPUT] if bundle.manifest.head.get("types") else [])]
    shapes = [value.shape for value in session.get_outputs()]
    if inputs != expected or [s[-1:] for s in shapes] != [[bundle.manifest.dim]]:
        raise BundleFormatError(
            f"bundle {bundle.path}: the model takes {inputs} and gives {shapes}, "
            f"which is not an encoder of dim {bundle.manifest.dim}",
            path=bundle.path,
        )
    return session


def load_tower(bundle: Bundle, modality: str, *, exact: bool, prepacked: bool = True) -> onnxruntime.InferenceSession:
    """The session of a bundle's tower; options are those of `make_session`. Raises BundleError."""
    session = _loaded(bundle, modality, exact=exact, prepacked=prepacked)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    takes, gives = [(value.name, value.type) for value in inputs], [(value.name, value.shape) for value in outputs]
    dim, kind = bundle.manifest.dim, bundle.manifest.towers[modality].output
    fits = len(inputs) == len(outputs) == 1 and inputs[0].type == "tensor(float)" and len(inputs[0].shape) > 1
    if not fits or outputs[0].shape[-1:] != [dim] or len(outputs[0].shape) != 2 + kind.by_token:
        raise BundleFormatError(
            f"bundle {bundle.path}: the {modality} tower takes {takes} and gives {gives}, expected one input of "
            f"float32 numbers and one output of {'several vectors' if kind.by_token else 'a vector'} of dim {dim}",
            path=bundle.path,
        )
    return session


def _loaded(
    bundle: Bundle, modality: str, *, exact: bool, prepacked: bool, values: Sequence[str] = ()
) -> onnxruntime.InferenceSession:
    try:
        form = {"exact": exact, "prepacked": prepacked, "portable": modality == TEXT and is_portable(bundle.manifest)}
        session = make_session(bundle.model_of(modality), 1, values=values, **form)
        bundle.check_unchanged(modality)
    except DeadlineError as error:
        raise DeadlineError(
            f"bundle {bundle.path}: {error}", path=bundle.path, limit_seconds=error.limit_seconds
        ) from error
    except EdgeEmbedError:
        raise
    except Exception as error:
        raise BundleFormatError(
            f"bundle {bundle.path}: onnxruntime {onnxruntime.__version__} cannot load the model: {error}",
            path=bundle.path,
        ) from error
    return session
