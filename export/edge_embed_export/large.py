"""Float models of more than 2 GiB, where protobuf ends: onnxruntime gets their weights beside the graph."""

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_embed_export.graph import FLOAT, Graph
from edge_embed_export.spec import Spec, Weights
from edge_embed_export.transformer import OUTPUT, build
from edge_embed_runtime.session import make_session


def float_session(spec: Spec, weights: Weights, *, observe: bool = False) -> onnxruntime.InferenceSession:
    """A session of a float model of any size. Options are those of `transformer.build`."""
    apart: dict[str, NDArray[Any]] = {}
    model = build(spec, weights, observe=observe, apart=apart).SerializeToString()
    if not apart:
        return make_session(model, threads=1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_mem_pattern = False
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in apart.values()]
    options.add_external_initializers(list(apart), values)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def placeholder(spec: Spec) -> bytes:
    """A model with the inputs and the output of `spec`, which gives zeros."""
    g = Graph()
    sums = g.op("ReduceSum", g.op("Cast", "input_ids", to=FLOAT), g.shape(1), keepdims=1)
    zeros = g.op("Mul", sums, g.constant("zeros", np.zeros((1, spec.dim), np.float32)))
    model = g.model({g.op("Identity", zeros, name=OUTPUT): ["batch", spec.dim]}, "edge_embed")
    return bytes(model.SerializeToString())
