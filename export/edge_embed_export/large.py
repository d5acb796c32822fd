"""Float models of any size: onnxruntime gets their weights beside the graph, and no file ever holds them."""

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_embed_export.graph import FLOAT, Graph
from edge_embed_export.spec import Spec, Weights
from edge_embed_export.transformer import OUTPUT, build
from edge_embed_runtime import deadline
from edge_embed_runtime.bundle import Bundle
from edge_embed_runtime.errors import ExportError

MANY_BYTES = 2**31


class Given:
    """Takes the large weights of a model, for a session: see `graph.Apart`. Those that lie in a file are not copied."""

    least = 0

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def __call__(self, name: str, array: NDArray[Any]) -> dict[str, str]:
        self._arrays[name] = np.ascontiguousarray(array)
        return {"location": "given"}  # a file that is never opened

    def session(self, model: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
        """Weights of many bytes are not kept once more in the order that kernels like."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4
        options.enable_mem_pattern = False
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if sum(array.nbytes for array in self._arrays.values()) > MANY_BYTES:
            options.add_session_config_entry("session.disable_prepacking", "1")
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in self._arrays.values()]
        options.add_external_initializers(list(self._arrays), values)
        return deadline.load(model, options)


def float_session(spec: Spec, weights: Weights, *, observe: bool = False) -> onnxruntime.InferenceSession:
    """A session of a float model. Options are those of `transformer.build`."""
    given = Given()
    return given.session(build(spec, weights, observe=observe, apart=given).SerializeToString())


def check_loads(bundle: Bundle) -> None:
    """Raise ExportError where onnxruntime does not take the model of a bundle, without reading its weights: run as a
    whole it may need more memory than there is here."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        deadline.load(str(bundle.model), options)
    except Exception as error:
        raise ExportError(f"onnxruntime {onnxruntime.__version__} cannot load the model: {error}") from error


def placeholder(spec: Spec) -> bytes:
    """A model with the inputs and the output of `spec`, which gives zeros."""
    g = Graph()
    sums = g.op("ReduceSum", g.op("Cast", "input_ids", to=FLOAT), g.shape(1), keepdims=1)
    zeros = g.op("Mul", sums, g.constant("zeros", np.zeros((1, spec.dim), np.float32)))
    model = g.model({g.op("Identity", zeros, name=OUTPUT): ["batch", spec.dim]}, "edge_embed")
    return bytes(model.SerializeToString())
