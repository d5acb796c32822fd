"""Without any training: what a published classifier says of a picture or sound, as a mean of vectors of class names.

vector = the sum over classes of probability times the text model's vector of the class's name, brought to length 1. The
names' vectors are a constant of the graph, so the result is a tower in the text model's space.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.align.backbone import FEATURES
from edge_embed_export.towers.graph import with_int8_weights
from edge_embed_export.towers.made import FLOATS, Made, Sample, bundle_of, finished
from edge_embed_export.towers.memory import activation_bytes
from edge_embed_runtime.bundle.manifest import TOWER_FILES, Manifest
from edge_embed_runtime.bundle.towers import Tower

Array = NDArray[np.float32]

OUTPUT, POOLED = "embedding", "pooled_features"


def with_names(backbone: Any, weight: Array, bias: Array, names: Array, activation: str) -> Any:
    """A backbone (onnx.ModelProto) that gives features, with its classifier and the vectors of the classes' names.

    weight:     [classes, features]; bias: [classes]; names: [classes, dim]
    activation: "Softmax" where one class is right, "Sigmoid" where several may be
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    graph = backbone.graph
    nodes = list(graph.node)
    for node in nodes:
        node.output[:] = [POOLED if name == graph.output[0].name else name for name in node.output]
    nodes += [
        helper.make_node("Gemm", [POOLED, "class.weight", "class.bias"], ["class.scores"], transB=1),
        helper.make_node(activation, ["class.scores"], ["class.shares"]),
        helper.make_node("MatMul", ["class.shares", "class.names"], ["class.mean"]),
        helper.make_node("LpNormalization", ["class.mean"], [OUTPUT], axis=-1, p=2),
    ]
    arrays = {"class.weight": weight, "class.bias": bias, "class.names": names}
    whole = helper.make_graph(
        nodes,
        graph.name,
        list(graph.input),
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", names.shape[1]])],
        [*graph.initializer, *(numpy_helper.from_array(np.float32(array), name) for name, array in arrays.items())],
    )
    model = helper.make_model(whole, opset_imports=backbone.opset_import, ir_version=backbone.ir_version)
    checker.check_model(model, full_check=True)
    return model


def write_tower(
    model: Any,
    modality: str,
    front: dict[str, Any],
    target: Path,
    space: str,
    provenance: dict[str, Any],
    inputs: Sequence[object],
) -> Manifest:
    """The graph as a bundle with one tower, its weights in int8, measured on `inputs`."""
    from edge_embed_runtime.bundle.bundle import write_bundle

    shape = tuple(dim.dim_value or 1 for dim in model.graph.input[0].type.tensor_type.shape.dim)
    facts = {"graph": "general", FEATURES: POOLED, "activation_bytes": activation_bytes(model, shape)}
    file, dim = TOWER_FILES[modality][0], model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    whole = Made(
        modality,
        dim,
        {file: model.SerializeToString()},
        Tower(front=front, architecture=facts, quantization=dict(FLOATS), provenance=provenance),
    )
    made = finished(with_int8_weights(whole), whole, Sample("the receipt inputs", inputs), target, 0.98)
    manifest = bundle_of(target.name, dim, space, [made])
    write_bundle(target, manifest, made.contents, overwrite=True)
    return manifest
