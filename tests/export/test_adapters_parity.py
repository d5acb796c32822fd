"""Adapters that peft saves, folded in, beside transformers with the same adapter."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.kindfolders import TEXTS, backbone, change

from edge_embed import Embedder
from edge_embed.errors import ExportError
from edge_embed_export import export_model

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not (find_spec("peft") and find_spec("torch")), reason="needs peft and torch"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("short_receipt"),
]
ADAPTERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "dora of a table": {"use_dora": True, "target_modules": ["word_embeddings", "key"]},
    "table": {"target_modules": ["word_embeddings", "query"]},
    "patterns": {"rank_pattern": {"query": 2, "layer.1.attention.self.value": 3}, "alpha_pattern": {"value": 40}},
    "rslora and patterns": {"use_rslora": True, "rank_pattern": {"query": 2}},
    "regular expressions": {"rank_pattern": {r"layer\.[01]\.attention\.self\.(query|key)": 5}},
    "all biases": {"bias": "all"},
    "their biases": {"bias": "lora_only"},
    "own biases": {"lora_bias": True},
    "whole modules": {"modules_to_save": ["intermediate"]},
    "some layers": {"layers_to_transform": [1], "layers_pattern": "layer"},
    "transposed": {"fan_in_fan_out": True},
    "rows of tokens": {"trainable_token_indices": [40, 42, 52]},
    "rows of tokens of a layer": {"trainable_token_indices": {"word_embeddings": [41, 39]}},
}


def adapted(source: Path, folder: Path, settings: dict[str, Any]) -> Path:
    """An adapter with random weights for a model."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    torch.manual_seed(2)
    config = LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": ["query", "value"], **settings})
    model = get_peft_model(AutoModel.from_pretrained(source), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                away = 0.3 * torch.randn_like(parameter)
                parameter.add_(away.abs() if "magnitude" in name else away)
    model.save_pretrained(folder)
    return folder


def reference(source: Path, folder: Path) -> np.ndarray:
    import torch
    from peft import PeftModel
    from transformers import AutoModel, AutoTokenizer

    model = PeftModel.from_pretrained(AutoModel.from_pretrained(source), folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(source)
    rows = []
    with torch.no_grad():
        for text in TEXTS:
            found = model(**tokenizer([text], truncation=True, return_tensors="pt"))[0][0].mean(0)
            rows.append((found / found.norm()).numpy())
    return np.array(rows)


@pytest.mark.parametrize("name", ADAPTERS)
def test_folded_in(tmp_path: Path, name: str) -> None:
    source = backbone(tmp_path / "model")
    folder = adapted(source, tmp_path / "adapter", ADAPTERS[name])
    export_model(source, tmp_path / "bundle", precision="fp32", floor=-1, adapter=folder, verify="skip")
    export_model(source, tmp_path / "without", precision="fp32", floor=-1, verify="skip")
    found = Embedder(tmp_path / "bundle", threads=1).encode(TEXTS)
    assert np.abs(found - reference(source, folder)).max() < 1e-5
    assert np.abs(found - Embedder(tmp_path / "without", threads=1).encode(TEXTS)).max() > 1e-3


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"target_modules": ["word_embeddings"]}])
def test_kept_apart(tmp_path: Path, settings: dict[str, Any]) -> None:
    source = backbone(tmp_path / "model")
    folder = adapted(source, tmp_path / "adapter", settings)
    export_model(source, tmp_path / "bundle", precision="fp32", floor=-1, verify="skip", adapters={"mine": folder})
    found = Embedder(tmp_path / "bundle", threads=1).encode(TEXTS, adapter="mine")
    assert np.abs(found - reference(source, folder)).max() < 1e-5


def test_folder_of_an_adapter_alone(tmp_path: Path) -> None:
    """The base that adapter_config.json names, where it is a folder here, with the modules beside the adapter."""
    import json

    source = backbone(tmp_path / "model")
    folder = adapted(source, tmp_path / "adapter", {"use_dora": True})
    with pytest.raises(ExportError, match=r"does not say how vectors are pooled: export .*model, with --adapter"):
        export_model(folder, tmp_path / "bundle", verify="skip")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((source / name).read_bytes())
    (folder / "1_Pooling").mkdir()
    change(folder / "1_Pooling/config.json", pooling_mode_mean_tokens=True, word_embedding_dimension=32)
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling")]
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    export_model(folder, tmp_path / "bundle", precision="fp32", floor=-1, verify="skip")
    assert np.abs(Embedder(tmp_path / "bundle").encode(TEXTS) - reference(source, folder)).max() < 1e-5
    change(folder / "adapter_config.json", base_model_name_or_path="owner/gone")
    with pytest.raises(ExportError, match=r"for the model 'owner/gone', which is no folder here: export .* --adapter"):
        export_model(folder, tmp_path / "bundle2", verify="skip")
