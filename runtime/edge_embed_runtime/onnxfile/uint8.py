"""Int8 models for x86 CPUs whose products of uint8 and int8 saturate: their weights as uint8, 128 higher.

onnxruntime turns weights itself when told to ("session.x64quantprecision"), in more time than all the rest of loading
takes, and with a copy of them more in memory. Here they are turned before it sees them: the model that it reads is a
file in memory (https://man7.org/linux/man-pages/man2/memfd_create.2.html), whose other weights lie in the bundle.
"""

import mmap
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnxruntime

from edge_embed_runtime.onnxfile.mapped import Piece, model_parts
from edge_embed_runtime.onnxfile.nodes import read_nodes
from edge_embed_runtime.onnxfile.wire import Read, bytes_reader

# The first release that looks for the weights of a model read from a file in the folder that it is told.
LEAST_RELEASE = (1, 28)
PRODUCT = "MatMulIntegerToFloat"
WEIGHT, ZERO_POINT = 1, 5  # inputs of it
# Operators that onnxruntime also turns weights for, or whose graphs inside could read them.
OTHERS = {
    "ConvInteger", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "If", "Loop", "MatMulInteger", "QAttention", "QGemm",
    "QLinearConv", "QLinearMatMul", "QMoE", "Scan",
}  # fmt: skip


@contextmanager
def unsigned_model(model: Path) -> Iterator[str | None]:
    """Where onnxruntime finds a checked model (see `check_model`) with unsigned weights, while the context lasts.

    None where onnxruntime must turn them: on other systems than Linux, in older releases, and for models with products
    whose weights are computed or are not int8.
    """
    release = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2] if part.isdecimal())
    if not hasattr(os, "memfd_create") or release < LEAST_RELEASE:
        yield None
        return
    with model.open("rb") as source, mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as data:
        parts = _parts(bytes_reader(data), len(data), model.name)
        file = None if parts is None else os.fdopen(os.memfd_create("edge_embed model"), "wb")
        if file is not None:
            file.writelines(map(bytes, parts or ()))
    if file is None:
        yield None
        return
    with file:
        file.flush()
        path = Path(f"/proc/self/fd/{file.fileno()}")
        yield str(path) if path.exists() else None


def _parts(read: Read, size: int, name: str) -> list[Piece] | None:
    """The pieces of the model, or None where not all its products can be turned."""
    nodes = list(read_nodes(read, size))
    wanted = Counter[str]()
    for node in nodes:
        if node.kind in OTHERS:
            return None
        if node.kind == PRODUCT:
            if len(node.inputs) <= ZERO_POINT:
                return None
            wanted.update((node.inputs[WEIGHT], node.inputs[ZERO_POINT]))
    read_by = Counter(value for node in nodes for value in node.inputs)
    if any(read_by[value] != count for value, count in wanted.items()):
        return None  # something else reads them, as they are
    turned: set[str] = set()
    parts = model_parts(read, size, name, frozenset(wanted), turned)
    return parts if turned == wanted.keys() else None
