"""export/tensors.py: safetensors of every float type, in one file or several, with adapters added."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.bert import TINY, Checkpoints, bert_tensors
from builders.checkpoints import read_checkpoint
from safetensors.numpy import save_file

from edge_embed import Embedder
from edge_embed.errors import ExportError, SourceError
from edge_embed_export import export_model
from edge_embed_export.files.tensors import read_tensors, read_weights
from edge_embed_export.sources.folding import fold_adapter

pytestmark = pytest.mark.usefixtures("short_receipt")

Array = np.ndarray[Any, Any]


def write_bfloat16(path: Path, arrays: dict[str, Array]) -> None:
    """A safetensors file of bfloat16, which numpy's own writer has no form for."""
    header, data = {}, b""
    for name, array in arrays.items():
        raw = (array.astype(np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
        header[name] = {
            "dtype": "BF16",
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def test_every_float_type_is_read(tmp_path: Path) -> None:
    """float16, float32 and float64, and bfloat16 as the upper half of float32; positions are left out."""
    values = np.array([[1.5, -2.25, 0], [1e-3, 3e4, -0.5]])
    kinds = {str(kind): values.astype(kind) for kind in ("float16", "float32", "float64")}
    save_file({**kinds, "position_ids": np.arange(3)}, tmp_path / "a.safetensors")
    read = read_tensors(tmp_path / "a.safetensors")
    assert sorted(read) == ["float16", "float32", "float64"]
    assert all(array.dtype == np.float32 for array in read.values())
    assert all(np.allclose(array, values, rtol=1e-3) for array in read.values())
    write_bfloat16(tmp_path / "b.safetensors", {"zero": np.zeros(()), "x": values, "empty": np.zeros((0, 3))})
    found = read_tensors(tmp_path / "b.safetensors")
    assert {name: array.shape for name, array in found.items()} == {"zero": (), "x": (2, 3), "empty": (0, 3)}
    assert np.allclose(found["x"], values, rtol=1 / 128)
    assert found["x"][0].tolist() == [1.5, -2.25, 0]


def test_nan_of_bfloat16_is_named(tmp_path: Path) -> None:
    """As of any other type."""
    write_bfloat16(tmp_path / "a.safetensors", {"x": np.array([1.0, np.nan])})
    with pytest.raises(ExportError, match="'x' holds NaN"):
        read_tensors(tmp_path / "a.safetensors")


def shard(folder: Path, tensors: dict[str, Array]) -> dict[str, str]:
    """The model's file as two, with their index; gives tensor -> file."""
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / file)
    index = {name: file for file, held in parts.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return index


def test_shards_are_one_model(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A model in two files gives the vectors of the model in one; the hash in the manifest is of both files' hashes."""
    export_model(checkpoint("whole"), tmp_path / "one", precision="fp32")
    source = checkpoint("sharded")
    index = shard(source, bert_tensors(TINY))
    manifest = export_model(source, tmp_path / "two", precision="fp32")
    texts = ["the river bank", "a cat"]
    one, two = (Embedder(tmp_path / name, threads=1).encode(texts) for name in ("one", "two"))
    assert np.array_equal(one, two)
    hashes = "".join(hashlib.sha256((source / name).read_bytes()).hexdigest() for name in sorted(set(index.values())))
    assert manifest.provenance["weights_sha256"] == hashlib.sha256(hashes.encode()).hexdigest()


@pytest.mark.parametrize("entry", ["../model.safetensors", "/etc/passwd", "model.bin", 3])
def test_shards_are_files_of_the_folder(checkpoint: Checkpoints, entry: object) -> None:
    """An index that names anything else is refused."""
    source = checkpoint()
    index = shard(source, bert_tensors(TINY))
    index[next(iter(index))] = entry  # type: ignore[assignment]
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    with pytest.raises(ExportError, match="weight_map must name a file of this folder"):
        read_weights(source)


def test_missing_shard_is_named(checkpoint: Checkpoints) -> None:
    """A file that the index names and the folder has not."""
    source = checkpoint()
    shard(source, bert_tensors(TINY))
    (source / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(SourceError, match=r"00002-of-00002\.safetensors is missing"):
        read_weights(source)


MODULE = "encoder.layer.0.attention.self.query"


def adapter(folder: Path, tensors: dict[str, Array] | None = None, **config: Any) -> Path:
    """A LoRA adapter of rank 2 for one layer, in peft's format."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(5)
    own = {
        f"base_model.model.{MODULE}.lora_A.weight": random.standard_normal((2, 32)).astype(np.float32),
        f"base_model.model.{MODULE}.lora_B.weight": random.standard_normal((32, 2)).astype(np.float32),
    }
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    save_file(own if tensors is None else tensors, folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize(("rslora", "scale"), [(False, 2), (True, 4 / 2**0.5)])
def test_adapter_is_added(checkpoint: Checkpoints, tmp_path: Path, rslora: bool, scale: float) -> None:
    """W + B A alpha / rank, or alpha by the root of the rank, in the layer that the adapter names and no other."""
    tensors = bert_tensors(TINY)
    folder = adapter(tmp_path / "adapter", use_rslora=rslora)
    changes = read_tensors(folder / "adapter_model.safetensors")
    down, up = (changes[f"base_model.model.{MODULE}.lora_{part}.weight"] for part in "AB")
    for prefix in ("", "bert."):
        folded = fold_adapter({prefix + name: array for name, array in tensors.items()}, folder)
        different = [name for name in folded if not np.array_equal(folded[name], tensors[name.removeprefix(prefix)])]
        assert different == [f"{prefix}{MODULE}.weight"]
        assert np.allclose(folded[different[0]], tensors[f"{MODULE}.weight"] + scale * up @ down, atol=1e-5)


def test_adapter_changes_the_bundle(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Given by name, or beside the model's weights: other vectors than without, the same ones in both ways."""
    source = checkpoint()
    apart = adapter(tmp_path / "adapter")
    export_model(source, tmp_path / "without", precision="fp32")
    export_model(source, tmp_path / "with", precision="fp32", adapter=apart)
    adapter(source)
    export_model(source, tmp_path / "beside", precision="fp32")
    without, given, beside = (
        Embedder(tmp_path / name, threads=1).encode(["the cat"])[0] for name in ("without", "with", "beside")
    )
    assert np.array_equal(given, beside)
    assert without @ given < 0.999


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"peft_type": "IA3"}, "no peft_type LORA"),
        ({"use_dora": True}, "use_dora"),
        ({"rank_pattern": {"query": 4}}, "has rank 2, adapter_config.json says 4"),
        ({"rank_pattern": {"(": 4}}, "rank_pattern has"),
        ({"modules_to_save": ["pooler"]}, "modules_to_save names 'pooler'"),
        ({"bias": "some"}, "bias is 'some'"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices, of which"),
        ({"target_parameters": ["x"]}, "target_parameters"),
        ({"r": 0}, "must be positive"),
        ({"r": "2"}, "must be positive"),
        ({"lora_alpha": None}, "must be positive"),
    ],
)
def test_other_adapters_are_refused(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    """What is not understood, and what the tensors do not agree with."""
    with pytest.raises(ExportError, match=message):
        fold_adapter(bert_tensors(TINY), adapter(tmp_path / "adapter", **config))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((f"{MODULE}.lora_A.weight",), "no pair of lora_A and lora_B"),
        (("x.lora_A.weight", "x.lora_B.weight"), r"adapter of x\.weight fits no tensor"),
        (
            ("pooler.lora_A.weight", "pooler.lora_B.weight", "modules_to_save.weight"),
            "of modules_to_save.weight fits no",
        ),
        ((), "holds no pairs"),
    ],
)
def test_adapter_of_another_model(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    """Layers that the model has not, halves of pairs, layers that were trained whole."""
    tensors = {name: np.ones((2, 32) if "lora_A" in name else (32, 2), np.float32) for name in names}
    with pytest.raises(ExportError, match=message):
        fold_adapter(bert_tensors(TINY), adapter(tmp_path / "adapter", tensors))


def test_adapter_of_another_width(tmp_path: Path) -> None:
    """An adapter whose product is not of the layer's shape."""
    tensors = {f"{MODULE}.lora_A.weight": np.ones((2, 16), np.float32)}
    tensors[f"{MODULE}.lora_B.weight"] = np.ones((32, 2), np.float32)
    with pytest.raises(ExportError, match="fits no tensor"):
        fold_adapter(bert_tensors(TINY), adapter(tmp_path / "adapter", tensors))


def test_pickles_of_shards_are_refused(checkpoint: Checkpoints) -> None:
    """An index of pickles is no better than a pickle."""
    source = checkpoint()
    (source / "model.safetensors").rename(source / "pytorch_model.bin.index.json")
    with pytest.raises(ExportError, match="pickle"):
        read_checkpoint(source)
