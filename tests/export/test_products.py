"""Weights of exported bundles: on no CPU do their int8 products saturate, and what reads the file can map them."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from builders.bert import Checkpoints
from builders.heads import sparse_folder
from builders.products import largest_pair, product_weights

from edge_embed_export import export_model
from edge_embed_export.transformer.aligned import ALIGNMENT, LEAST_BYTES, align
from edge_embed_export.transformer.builder import Graph
from edge_embed_quantize.linear import PAIR_LIMIT, Int8Linear, StaticActivation
from edge_embed_quantize.panels import pack_panels, unpack_panels, why_no_panels
from edge_embed_runtime.bundle.manifest import WITHIN_LIMIT, read_manifest
from edge_embed_runtime.model.session import make_session
from edge_embed_runtime.onnxfile.tensors import mapped_tensors

pytestmark = pytest.mark.usefixtures("short_receipt")


def check_products(bundle: Path, count: int) -> None:
    """The manifest says that products cannot saturate, and all weights are so."""
    manifest = read_manifest(bundle / "manifest.json")
    assert (manifest.quantization["pairs"], manifest.never_saturates) == (WITHIN_LIMIT, True)
    weights = product_weights(bundle)
    assert len(weights) == count
    for name, weight in weights.items():
        assert largest_pair(weight) <= PAIR_LIMIT, name


def test_the_embedded_bundle(bundle: Path) -> None:
    check_products(bundle, 36)


@pytest.mark.parametrize("options", [{}, {"precision": "int4"}], ids=["int8", "int4"])
def test_linear_layers(checkpoint: Checkpoints, tmp_path: Path, options: dict[str, Any]) -> None:
    """Weights of strong neighbours: a scale grows where they need it, also where they are stored in four bits."""
    export_model(checkpoint(), tmp_path / "b", floor=0.9, **options)
    check_products(tmp_path / "b", 12)
    assert max(map(largest_pair, product_weights(tmp_path / "b").values())) > 120


def test_the_table_that_a_sparse_model_multiplies_with(checkpoint: Checkpoints, tmp_path: Path) -> None:
    export_model(sparse_folder(checkpoint()), tmp_path / "b")
    check_products(tmp_path / "b", 14)


def test_a_published_graph(checkpoint: Checkpoints, tmp_path: Path) -> None:
    source = checkpoint()
    export_model(source, tmp_path / "fp32", precision="fp32")
    assert not read_manifest(tmp_path / "fp32" / "manifest.json").never_saturates
    (source / "model.safetensors").unlink()
    shutil.copy(tmp_path / "fp32" / "model.onnx", source / "model.onnx")
    export_model(source, tmp_path / "b", floor=0.9)
    check_products(tmp_path / "b", 12)


def test_panels() -> None:
    """Four inputs of one output channel stand side by side, then those of the next one; 16 channels are a panel."""
    weight = np.arange(8 * 32, dtype=np.uint8).view(np.int8).reshape(8, 32)
    panels = pack_panels(weight)
    assert panels.shape == (2, 2, 16, 4)
    assert panels[1, 0, 3].tolist() == weight[:4, 19].tolist()
    assert np.array_equal(unpack_panels(panels), weight)
    assert why_no_panels((8, 32)) is None
    assert why_no_panels((6, 32)) == "is [6, 32], not a multiple of [4, 16]"
    assert why_no_panels((8, 24)) == "is [8, 24], not a multiple of [4, 16]"
    assert why_no_panels((16388, 16)) == "has 16388 inputs, more than 16384"


def test_packed_weights_are_the_same_product(tmp_path: Path) -> None:
    """onnxruntime brings panels back to [n, m]: the same bits; and they lie in the file where they can be mapped."""
    random = np.random.default_rng(0)
    codes = random.integers(-64, 65, (24, 48)).astype(np.int8)
    layer = Int8Linear(codes, np.linspace(0.01, 0.1, 48, dtype=np.float32), None, StaticActivation(0.05, 120))
    x, found = random.standard_normal((7, 24)).astype(np.float32), []
    for packed in (False, True):
        g = Graph()
        g.packed = packed
        y = g.op("Identity", g.int8_matmul(*g.int8_input(g.state("x", 24), layer, "in"), layer, "it"), name="y")
        file = tmp_path / f"{packed}.onnx"
        file.write_bytes(g.model({y: ["tokens", 48]}, "test").SerializeToString())
        feed = {"input_ids": np.zeros((1, 1), np.int64), "attention_mask": np.zeros((1, 1), np.int64), "x": x}
        found.append(make_session(file, 1).run(None, feed)[0])
        stored = mapped_tensors(file, "it")["it.weight"]
        assert np.array_equal(stored, pack_panels(codes) if packed else codes)
        assert stored.ctypes.data % ALIGNMENT == 0
    assert np.array_equal(found[0].view(np.uint32), found[1].view(np.uint32))


@pytest.mark.parametrize("seed", range(6))
def test_where_numbers_begin(tmp_path: Path, seed: int) -> None:
    """Every tensor that is not small, but the first, begins at a multiple of 64 bytes, whatever its name and size."""
    random = np.random.default_rng(seed)
    model = onnx.ModelProto(ir_version=10, producer_name="x" * seed)
    model.graph.name = "g"
    sizes = random.choice([0, 1, 3, 63, 64, 65, 90, 127, 128, 129, 200, 16_300, 16_384, 70_000], 40)
    for i, size in enumerate([8, *sizes]):
        numbers = np.full(size, i, np.uint8)
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(numbers, "n" * int(random.integers(1, 140)) + f"{i}")
        )
    align(model)
    align(model)  # what was aligned stays so
    file = tmp_path / "m.onnx"
    onnx.save(model, file)
    tensors = list(mapped_tensors(file, "it").values())
    assert [len(tensor) for tensor in tensors] == [8, *sizes]
    for i, tensor in enumerate(tensors):
        assert (tensor == i).all()
        assert len(tensor) < LEAST_BYTES or tensor.ctypes.data % ALIGNMENT == 0
