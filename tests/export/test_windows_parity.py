"""Models of any architecture through torch: equal to torch on texts longer than their windows, or refused."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.kindfolders import TEXTS, VOCAB, backbone

from edge_embed import Embedder
from edge_embed.errors import UnsupportedModelError
from edge_embed_export import GraphOptions, export_model
from edge_embed_export.general import trace as tracing

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not (find_spec("torch") and find_spec("transformers")), reason="needs torch and transformers"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("short_receipt"),
]
WINDOWED: dict[str, dict[str, Any]] = {
    "Gemma2": {"head_dim": 8, "num_key_value_heads": 2, "sliding_window": 16, "hidden_activation": "gelu_pytorch_tanh"},
    "Mistral": {"num_key_value_heads": 2, "sliding_window": 16},
    "ModernBert": {"local_attention": 16},
}


def reference(source: Path, text: str) -> np.ndarray:
    import torch
    import transformers

    options = {"attn_implementation": "eager"}
    model = transformers.AutoModel.from_pretrained(source, **options).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    tokens = tokenizer([text], truncation=True, max_length=250, return_tensors="pt")
    with torch.no_grad():
        found = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])[0][0].mean(0)
    return (found / found.norm()).numpy()


@pytest.mark.parametrize("kind", ["Gemma2", "Mistral", "ModernBert"])
def test_windows_are_kept(tmp_path: Path, kind: str) -> None:
    source = backbone(tmp_path / "model", kind, max_position_embeddings=256, **WINDOWED[kind])
    options: dict[str, Any] = {"precision": "fp32", "floor": -1, "verify": "skip", "max_tokens": 250}
    export_model(source, tmp_path / "bundle", graph=GraphOptions(convert=True, pooling="mean"), **options)
    embedder = Embedder(tmp_path / "bundle", threads=1)
    for text in (*TEXTS, TEXTS[4] * 3):
        assert np.abs(embedder.encode([text])[0] - reference(source, text)).max() < 1e-5


def test_windows_that_are_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that is right for short texts alone is refused."""
    source = backbone(tmp_path / "model", "Gemma2", max_position_embeddings=256, **WINDOWED["Gemma2"])
    monkeypatch.setattr(tracing, "is_installed", lambda _: False)  # optimum's graph keeps them
    monkeypatch.setattr(tracing, "MASKS", ("causal",))
    with pytest.raises(UnsupportedModelError, match="'gemma2': of 254 tokens the graph gives other vectors than torch"):
        export_model(source, tmp_path / "bundle", graph=GraphOptions(convert=True, pooling="mean"), verify="skip")
    assert len(VOCAB) > 40
