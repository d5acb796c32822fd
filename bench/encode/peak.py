"""The integer peak of a core: the best int8 matrix product that onnxruntime does here."""

import time
from typing import Any

import numpy as np

from edge_embed_runtime.extras import require

# m = k = n, from what fits into the L1 cache's reach to what no cache level but the last holds.
SIZES = (256, 384, 512, 768, 1024, 1536)
SAMPLES = 5
SAMPLE_SECONDS = 0.02


def integer_peak(threads: int) -> float:
    """Operations (a multiplication or an addition) per CPU second, uint8 by int8, best of several sizes and samples."""
    return max(_rate(size, threads) for size in SIZES)


def gemm_model(size: int) -> bytes:
    """uint8 [m, size] by constant int8 [size, size] to float32, with constant scales."""
    onnx = require("onnx", "bench-peers")
    helper, kinds = onnx.helper, onnx.TensorProto
    weights = np.random.default_rng(0).integers(-127, 128, (size, size)).astype(np.int8)
    constants = {
        "b": weights,
        "a_scale": np.float32(0.01),
        "b_scale": np.full(size, 0.01, np.float32),
        "a_zero": np.uint8(128),
        "b_zero": np.zeros(size, np.int8),
    }
    node = helper.make_node(
        "MatMulIntegerToFloat", ["a", "b", "a_scale", "b_scale", "a_zero", "b_zero"], ["y"], domain="com.microsoft"
    )
    graph = helper.make_graph(
        [node],
        "gemm",
        [helper.make_tensor_value_info("a", kinds.UINT8, ["m", size])],
        [helper.make_tensor_value_info("y", kinds.FLOAT, ["m", size])],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model: bytes = helper.make_model(graph, opset_imports=imports, ir_version=9).SerializeToString()
    return model


def _rate(size: int, threads: int) -> float:
    from edge_embed_runtime.model.session import make_session

    session: Any = make_session(gemm_model(size), threads)
    feed = {"a": np.random.default_rng(1).integers(0, 256, (size, size)).astype(np.uint8)}
    session.run(None, feed)
    best = 0.0
    for _ in range(SAMPLES):
        runs, start = 0, time.process_time()
        while time.process_time() - start < SAMPLE_SECONDS:
            session.run(None, feed)
            runs += 1
        best = max(best, runs * 2.0 * size**3 / (time.process_time() - start))
    return best
