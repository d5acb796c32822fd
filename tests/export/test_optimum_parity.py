"""Checkpoints through optimum's exporters where it has the architecture, and through torch alone where it has not."""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from builders.kindfolders import TEXTS, backbone

from edge_embed import Embedder
from edge_embed_export import GraphOptions, export_model
from edge_embed_export.general import trace as tracing
from edge_embed_runtime.extras import is_installed

OPTIMUM = is_installed("optimum.exporters.onnx")

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not (find_spec("torch") and find_spec("transformers")), reason="needs torch and transformers"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("short_receipt"),
]
needs_optimum = pytest.mark.skipif(not OPTIMUM, reason="needs optimum and optimum-onnx")
KNOWN: dict[str, dict[str, Any]] = {
    "Bloom": {"n_layer": 2, "n_head": 4},
    "Camembert": {"max_position_embeddings": 66, "pad_token_id": 1},
    "ConvBert": {"embedding_size": 32, "conv_kernel_size": 3},
    "Electra": {"embedding_size": 32},
    "GPT2": {"n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4},
    "IBert": {"pad_token_id": 1, "max_position_embeddings": 66},
    "MobileBert": {"embedding_size": 32, "intra_bottleneck_size": 32},
    "RemBert": {"input_embedding_size": 32},
    "RoFormer": {"embedding_size": 32},
    "SqueezeBert": {"embedding_size": 32},
}
# optimum gives XLM token_type_ids, for which it adds the row of the token 0, trained or not
ALONE: dict[str, tuple[dict[str, Any], str]] = {
    "Ernie": ({}, "has no exporter for the architecture 'ernie'"),
    "Bart": ({"d_model": 32, "encoder_layers": 2, "decoder_layers": 1}, "takes input_ids, attention_mask, decoder_"),
    "XLM": ({"emb_dim": 32, "n_layers": 2, "n_heads": 4}, "the graph gives other vectors than torch"),
}


def convert(source: Path, bundle: Path, **changes: Any) -> tuple[Any, str]:
    """The vectors of TEXTS of a bundle that the general path makes, and what it says of the conversion."""
    options: dict[str, Any] = {"verify": "skip", "floor": 0.9, "max_tokens": 48, **changes}
    manifest = export_model(source, bundle, graph=GraphOptions(convert=True, pooling="mean"), **options)
    return Embedder(bundle, threads=1).encode(TEXTS), manifest.provenance["conversion"]


def reference(source: Path, bundle: Path) -> Any:
    """The vectors of TEXTS by transformers: means of the tokens' vectors, with unit length."""
    import torch
    import transformers

    model, tokenizer = transformers.AutoModel.from_pretrained(source).eval(), Embedder(bundle, threads=1).tokenizer
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    found = []
    for text in TEXTS:
        ids = torch.tensor(tokenizer.encode(text)[None])
        with torch.no_grad():
            found.append(model(input_ids=ids, attention_mask=torch.ones_like(ids))[0].mean(dim=1)[0].numpy())
    return np.stack([vector / np.linalg.norm(vector) for vector in found])


@needs_optimum
@pytest.mark.parametrize("kind", sorted(KNOWN))
def test_architectures_that_optimum_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Its graph gives torch's vectors and those of torch alone, and the manifest says which way was taken."""
    source = backbone(tmp_path / "model", kind, **KNOWN[kind])
    found, said = convert(source, tmp_path / "optimum", precision="fp32")
    assert said.startswith("converted through optimum 2.")
    assert np.abs(found - reference(source, tmp_path / "optimum")).max() < 1e-5
    monkeypatch.setattr(tracing, "is_installed", lambda _: False)
    alone, said = convert(source, tmp_path / "torch", precision="fp32")
    assert "optimum" not in said
    assert np.abs(found - alone).max() < 1e-5


@needs_optimum
def test_int8_of_a_graph_of_optimums(tmp_path: Path) -> None:
    """It is quantized as any other graph."""
    source = backbone(tmp_path / "model", "Electra", **KNOWN["Electra"])
    found, said = convert(source, tmp_path / "int8")
    assert said.startswith("converted through optimum 2.")
    assert (found * reference(source, tmp_path / "int8")).sum(axis=1).min() > 0.9


@needs_optimum
@pytest.mark.parametrize("kind", sorted(ALONE))
def test_architectures_through_torch_alone(tmp_path: Path, kind: str) -> None:
    """What optimum does not have, or has wrong, torch alone converts, and the manifest says why."""
    settings, why = ALONE[kind]
    source = backbone(tmp_path / "model", kind, **settings)
    found, said = convert(source, tmp_path / "bundle", precision="fp32")
    assert said.startswith("converted through torch alone: ")
    assert why in said
    assert np.abs(found - reference(source, tmp_path / "bundle")).max() < 1e-5


def test_an_optimum_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a release of transformers that it does not know: one line says so, and torch alone converts."""
    monkeypatch.setattr(tracing, "is_installed", lambda _: True)
    monkeypatch.setattr(tracing, "version", lambda _: "1.2.3")
    monkeypatch.setitem(sys.modules, "optimum.exporters.onnx", ModuleType("optimum.exporters.onnx"))
    lines: list[str] = []
    source = backbone(tmp_path / "model", "Electra", **KNOWN["Electra"])
    found, said = convert(source, tmp_path / "bundle", precision="fp32", progress=lines.append)
    (line,) = [line for line in lines if line.startswith("converted")]
    assert line == (
        "converted through torch alone: optimum 1.2.3 and optimum-onnx 1.2.3 cannot be imported with transformers "
        "1.2.3: cannot import name 'export' from 'optimum.exporters.onnx'"
    )
    assert said.startswith(line)
    assert np.abs(found - reference(source, tmp_path / "bundle")).max() < 1e-5
