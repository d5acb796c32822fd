"""Weights that torch pickled: read by torch in a process of its own, without running code."""

import os
import pickle
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.bert import Checkpoints
from safetensors.numpy import load_file

from edge_embed.errors import ExportError, SourceError
from edge_embed_export import export_model
from edge_embed_export.files.tensors import read_tensors, read_weights
from edge_embed_export.sources.folding import fold_adapter

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not find_spec("torch"), reason="needs torch"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("short_receipt"),
]


def pickled(path: Path, target: Path, **options: Any) -> Path:
    """A safetensors file as torch pickles it; the file itself is removed."""
    import torch

    tensors = {name: torch.from_numpy(array) for name, array in load_file(path).items()}
    torch.save(tensors, target, **options)
    path.unlink()
    return target


@pytest.mark.parametrize("zipped", [True, False])
def test_same_bundle(checkpoint: Checkpoints, tmp_path: Path, zipped: bool) -> None:
    """The network and a Dense module; the file of torch before 1.6 as well."""
    source = checkpoint()
    first = export_model(source, tmp_path / "a", precision="fp32", verify="skip")
    for folder in (source, *source.glob("*_Dense")):
        pickled(folder / "model.safetensors", folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    second = export_model(source, tmp_path / "b", precision="fp32", verify="skip")
    assert first.fingerprint == second.fingerprint
    assert first.provenance["weights_sha256"] != second.provenance["weights_sha256"]


def test_shards(tmp_path: Path) -> None:
    import json

    import torch

    halves = [{"a": torch.ones(3, 2), "tied": torch.ones(2)}, {"b": torch.arange(6.0).view(2, 3).T}]
    halves[1]["half"] = torch.ones(4, dtype=torch.bfloat16)
    names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    for name, half in zip(names, halves, strict=True):
        torch.save(half, tmp_path / name)
    shards = {key: name for name, half in zip(names, halves, strict=True) for key in half}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": shards}))
    tensors, _ = read_weights(tmp_path)
    assert np.array_equal(tensors["b"], [[0, 3], [1, 4], [2, 5]])
    assert np.array_equal(tensors["half"], np.ones(4))
    (tmp_path / names[1]).unlink()
    with pytest.raises(SourceError, match=r"00002-of-00002.bin is missing"):
        read_weights(tmp_path)


def test_adapter(tmp_path: Path) -> None:
    import json

    import torch

    name = "base_model.model.a.lora_{}.weight"
    torch.save({name.format("A"): torch.ones(1, 3), name.format("B"): torch.ones(2, 1)}, tmp_path / "adapter_model.bin")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 2}))
    assert np.array_equal(
        fold_adapter({"a.weight": np.zeros((2, 3), np.float32)}, tmp_path)["a.weight"], np.full((2, 3), 2)
    )


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_no_code_is_run(tmp_path: Path) -> None:
    import torch

    ran, path = tmp_path / "ran", tmp_path / "pytorch_model.bin"
    path.write_bytes(pickle.dumps({"a": Evil(ran)}))
    with pytest.raises(ExportError, match=r"pytorch_model.bin, a pickle, holds other things .*UnpicklingError"):
        read_tensors(tmp_path / "model.safetensors")
    torch.save({"a": Evil(ran)}, path)
    with pytest.raises(ExportError, match="UnpicklingError"):
        read_tensors(tmp_path / "model.safetensors")
    assert not ran.exists()


@pytest.mark.parametrize("content", ["nothing", "list", "nested", "complex", "nan", "cut"])
def test_what_is_refused(tmp_path: Path, content: str) -> None:
    import torch

    path = tmp_path / "pytorch_model.bin"
    held: dict[str, Any] = {
        "list": [torch.ones(2)],
        "nested": {"state_dict": {"a": torch.ones(2)}},
        "complex": {"a": torch.ones(2, dtype=torch.complex64)},
        "nan": {"a": torch.tensor([float("nan")])},
        "cut": {"a": torch.ones(2000)},
    }
    path.write_bytes(b"nothing")
    if content != "nothing":
        torch.save(held[content], path)
    if content == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ExportError, match=r"pytorch_model\.bin"):
        read_tensors(tmp_path / "model.safetensors")
