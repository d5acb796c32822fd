"""Float models of any size: onnxruntime finds their weights in a file next to the graph, which is gone afterwards."""

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnxruntime

from edge_embed_export.transformer.builder import FLOAT, Graph
from edge_embed_export.transformer.encoder import OUTPUT, build
from edge_embed_export.transformer.spec import Spec, Weights
from edge_embed_export.transformer.workshop import WeightsFile
from edge_embed_runtime.bundle.adapters import INPUT
from edge_embed_runtime.bundle.bundle import Bundle
from edge_embed_runtime.bundle.manifest import LEFT_OUT_INPUT, TYPES_INPUT
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.model import deadline

# Weights of so many bytes are not kept once more in the order that kernels like.
MANY_BYTES = 2**29


class Scratch(WeightsFile):
    """Takes the weights of a float model, for a session that has them mapped: memory holds what it touches."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.least = 0

    def session(self, model: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
        """The session; then the file has no name any more (on Windows it has until its folder is removed)."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4
        options.enable_mem_pattern = False
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        folder = os.path.realpath(self.path.parent)
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        if self.bytes > MANY_BYTES:
            options.add_session_config_entry("session.disable_prepacking", "1")
        loaded = deadline.load(model, options)
        with suppress(OSError):
            self.path.unlink()
        return loaded


def float_session(spec: Spec, weights: Weights, folder: Path, *, observe: bool = False) -> onnxruntime.InferenceSession:
    """A session of a float model. folder: an empty one; options are those of `encoder.build`"""
    scratch = Scratch(folder)
    return scratch.session(build(spec, weights, observe=observe, apart=scratch).SerializeToString())


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
    if spec.types:
        g.of_tokens(TYPES_INPUT)
    numbers = [g.optional(name, np.zeros(1, np.int64)) for name in (INPUT, LEFT_OUT_INPUT)]  # of the models that ask
    sums = g.op("Add", sums, g.op("Cast", g.op("Add", *numbers), to=FLOAT))
    zeros = g.op("Mul", sums, g.constant("zeros", np.zeros((1, spec.dim), np.float32)))
    model = g.model({g.op("Identity", zeros, name=OUTPUT): ["batch", spec.dim]}, "edge_embed")
    return bytes(model.SerializeToString())
