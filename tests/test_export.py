"""export/: the graph computes what the checkpoint means; what cannot be exported is refused by name."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from conftest import TINY, Checkpoints, bert_tensors
from safetensors.numpy import save_file

from edge_embed import Embedder
from edge_embed.errors import ExportError, InputError, MissingExtraError, SourceError, UnsupportedModelError
from edge_embed_export import export_model
from edge_embed_export.checkpoint import read_checkpoint
from edge_embed_export.exporter import calibration_texts
from edge_embed_export.families import read_family
from edge_embed_export.transformer import Spec, build, prepare
from edge_embed_runtime import extras
from edge_embed_runtime.bundle import read_bundle

TEXTS = ["the river bank", "money at the bank and in the house", "a cat", "", "the dog is in the garden at night " * 9]

ACTIVATIONS = {
    "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "gelu_new": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


def bert(tensors: dict[str, Any], config: dict[str, Any], ids: list[int]) -> np.ndarray[Any, Any]:
    """BERT for one text, written from the paper in float64: hidden states [tokens, hidden]."""
    t = {name: array.astype(np.float64) for name, array in tensors.items()}

    def norm(x: Any, name: str) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + config["layer_norm_eps"])
        return scaled * t[f"{name}.weight"] + t[f"{name}.bias"]

    def linear(x: Any, name: str) -> Any:
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    n, heads = len(ids), config["num_attention_heads"]
    x = t["embeddings.word_embeddings.weight"][ids] + t["embeddings.position_embeddings.weight"][:n]
    x = norm(x + t["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        q, k, v = (
            linear(x, f"{layer}.attention.self.{part}").reshape(n, heads, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = np.exp(q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1]))
        context = (scores / scores.sum(-1, keepdims=True)) @ v
        attended = linear(context.swapaxes(0, 1).reshape(n, -1), f"{layer}.attention.output.dense")
        x = norm(x + attended, f"{layer}.attention.output.LayerNorm")
        inner = ACTIVATIONS[config["hidden_act"]](linear(x, f"{layer}.intermediate.dense"))
        x = norm(x + linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return x


POOLING = {
    "mean_tokens": lambda x: x.mean(0),
    "cls_token": lambda x: x[0],
    "max_tokens": lambda x: x.max(0),
    "mean_sqrt_len_tokens": lambda x: x.sum(0) / math.sqrt(len(x)),
}


@pytest.mark.parametrize(
    ("hidden_act", "pooling", "dense"),
    [
        ("gelu", "mean_tokens", None),
        ("gelu_new", "cls_token", None),
        ("relu", "max_tokens", None),
        ("silu", "mean_sqrt_len_tokens", None),
        ("gelu", "mean_tokens", "torch.nn.modules.activation.Tanh"),
    ],
)
def test_float_graph_is_the_model(
    checkpoint: Checkpoints, tmp_path: Path, hidden_act: str, pooling: str, dense: str | None
) -> None:
    """The float32 bundle agrees with the model computed by hand to 1e-5, padded batch or not."""
    source = checkpoint(hidden_act=hidden_act, pooling=pooling, dense=dense)
    export_model(source, tmp_path / "fp32", precision="fp32")
    embedder = Embedder(tmp_path / "fp32")
    config = json.loads((source / "config.json").read_text())
    checkpoint_tensors = read_checkpoint(source)
    for text, vector in zip(TEXTS, embedder.encode(TEXTS), strict=True):
        ids = embedder.tokenizer.encode(text).tolist()
        expected = POOLING[pooling](bert(checkpoint_tensors.tensors, config, ids))
        for layer in checkpoint_tensors.dense:
            expected = np.tanh(expected @ layer.weight + layer.bias)
        assert np.abs(vector - expected / np.linalg.norm(expected)).max() < 1e-5


@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new", "relu", "silu"])
def test_int8_stays_close_and_has_one_vector(checkpoint: Checkpoints, tmp_path: Path, hidden_act: str) -> None:
    """int8 keeps a cosine of 0.99 on a random model (trained ones do better), the same bits in any batch."""
    source = checkpoint(hidden_act=hidden_act, dense="torch.nn.modules.linear.Identity")
    export_model(source, tmp_path / "int8")
    export_model(source, tmp_path / "fp32", precision="fp32")
    int8, fp32 = Embedder(tmp_path / "int8"), Embedder(tmp_path / "fp32")
    texts = [text for text in TEXTS if text] + ["red", "night and day", "the the the"]
    vectors = int8.encode(texts)
    assert (vectors * fp32.encode(texts)).sum(axis=1).min() > 0.99
    alone = np.vstack([int8.encode([text]) for text in texts])
    assert np.array_equal(vectors.view(np.uint32), alone.view(np.uint32))


def test_pre_norm_graph_runs_as_written(checkpoint: Checkpoints) -> None:
    """Norm placement is a parameter: with identity layers, pre-norm leaves the residual as it is."""
    spec, weights = read_family(read_checkpoint(checkpoint()))
    zero = {name: np.zeros_like(a) for name, a in weights.items() if ".out." in name or ".down." in name}
    pre = Spec(**{**vars(spec), "norm": "pre"})
    model = build(pre, prepare(pre, {**weights, **zero}))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ids = np.array([[2, 5, 6, 3]])
    (vector,) = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
    x = weights["embedding.word"][ids[0]] + weights["embedding.position"][:4]
    x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    pooled = (x * weights["embedding.norm.weight"] + weights["embedding.norm.bias"]).mean(0)
    assert np.abs(vector - pooled / np.linalg.norm(pooled)).max() < 1e-5


def test_same_checkpoint_same_bytes(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Two exports are equal byte for byte, and the manifest says where the weights came from."""
    source = checkpoint()
    export_model(source, tmp_path / "a", name="tiny")
    manifest = export_model(source, tmp_path / "b", name="tiny", source_name="checkpoint")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert manifest.provenance["source"] == "checkpoint"
    assert manifest.provenance["licence"] == "apache-2.0"
    assert manifest.max_tokens == 24
    assert read_bundle(tmp_path / "b").manifest == manifest


def test_plain_transformers_folder(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Without sentence-transformers' files: mean pooling, the limit of the position table, a head's prefix in names."""
    source = checkpoint()
    for name in ("modules.json", "sentence_bert_config.json", "README.md"):
        (source / name).unlink()
    save_file({f"bert.{k}": v for k, v in bert_tensors(TINY).items()}, source / "model.safetensors")
    manifest = export_model(source, tmp_path / "b", precision="fp32")
    assert (manifest.pooling, manifest.max_tokens) == ("mean", 40)
    assert manifest.provenance["licence"] is None


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_unknown_architecture_is_named(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """The message names the architecture, those that are known, and the general path."""
    with pytest.raises(UnsupportedModelError, match=r"'xlnet'.*bert.*edge-embed\[optimum\]"):
        export_model(checkpoint(model_type="xlnet"), tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_act": "mish"}, "activation 'mish'"),
        ({"position_embedding_type": "relative_key"}, "'relative_key' positions"),
        ({"is_decoder": True}, "decoder"),
        ({"num_attention_heads": 5}, "heads"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"num_hidden_layers": "two"}, "num_hidden_layers"),
        ({"num_hidden_layers": -1}, "num_hidden_layers"),
        ({"layer_norm_eps": -1}, "layer_norm_eps"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps"),
    ],
)
def test_unsupported_config(checkpoint: Checkpoints, tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    """What the family cannot express is refused by name."""
    source = checkpoint()
    change(source / "config.json", **fields)
    with pytest.raises(ExportError, match=message):
        export_model(source, tmp_path / "b")


def test_missing_or_odd_tensors(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A missing tensor, a wrong shape and NaN are named."""
    source = checkpoint()
    name, ours = "encoder.layer.1.output.dense.weight", "layers.1.down.weight"
    whole = bert_tensors(TINY)
    broken = {
        "no tensor": {k: v for k, v in whole.items() if k != name},
        "shape": {**whole, name: np.zeros((3, 3), np.float32)},
        "NaN": {**whole, name: np.full_like(whole[name], np.nan)},
    }
    for message, tensors in broken.items():
        save_file(tensors, source / "model.safetensors")
        with pytest.raises(ExportError, match=rf"{message} '{name}|{ours} has {message}|{name}' holds {message}"):
            export_model(source, tmp_path / "b")


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5])
def test_cut_off_weights(checkpoint: Checkpoints, tmp_path: Path, keep: float) -> None:
    """A safetensors file that is cut off is refused."""
    source = checkpoint()
    data = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(data[: int(keep * len(data)) if keep < 1 else int(keep)])
    with pytest.raises(ExportError, match="not a whole safetensors"):
        export_model(source, tmp_path / "b")


def test_pickle_is_refused(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Weights that could run code are never read, and the message says why."""
    source = checkpoint()
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(ExportError, match="pickle"):
        export_model(source, tmp_path / "b")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"])
def test_missing_file_is_named(checkpoint: Checkpoints, tmp_path: Path, name: str) -> None:
    """Every file that is needed is named when it is missing."""
    source = checkpoint()
    (source / name).unlink()
    with pytest.raises(SourceError, match=f"{name}.*missing"):
        export_model(source, tmp_path / "b")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "modules.json"])
def test_malformed_json_is_named(checkpoint: Checkpoints, tmp_path: Path, name: str) -> None:
    """So is a file that is not JSON, or holds something else."""
    for content in ("{", "3", '"text"', "[3]"):
        source = checkpoint(f"with-{name}-{ord(content[0])}")
        (source / name).write_text(content)
        with pytest.raises((SourceError, ExportError), match=name):
            export_model(source, tmp_path / "b")


def test_tokenizer_must_fit_the_table(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A tokenizer with more tokens than the table has rows belongs to another model."""
    source = checkpoint(vocab_size=10)
    with pytest.raises(ExportError, match=r"25 tokens.*10 rows"):
        export_model(source, tmp_path / "b")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("sentence_bert_config.json", {"max_seq_length": "x"}),
        ("sentence_bert_config.json", {"max_seq_length": 0}),
        ("1_Pooling/config.json", {}),
        ("config_sentence_transformers.json", {"prompts": "query: "}),
        ("config_sentence_transformers.json", {"prompts": {"query": 3}}),
    ],
)
def test_malformed_settings_are_named(checkpoint: Checkpoints, tmp_path: Path, file: str, content: Any) -> None:
    """Settings of sentence-transformers that make no sense are errors that name their file."""
    source = checkpoint()
    (source / file).write_text(json.dumps(content))
    with pytest.raises(ExportError, match=file.split("/", maxsplit=1)[0]):
        export_model(source, tmp_path / "b")


def test_weights_without_a_use(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A model that gives no vector is not exported."""
    source = checkpoint()
    save_file({k: np.zeros_like(v) for k, v in bert_tensors(TINY).items()}, source / "model.safetensors")
    for precision in ("int8", "fp32"):
        with pytest.raises(ExportError, match="not usable"):
            export_model(source, tmp_path / "b", precision=precision)


def test_module_that_is_not_supported(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """Modules of sentence-transformers that the graph has no form for are named."""
    source = checkpoint()
    modules = [
        *json.loads((source / "modules.json").read_text()),
        {"type": "sentence_transformers.models.CNN", "path": "x"},
    ]
    (source / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ExportError, match="'CNN'"):
        export_model(source, tmp_path / "b")


def test_bad_arguments(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """A missing source, an unknown precision, and a target that is there already."""
    with pytest.raises(SourceError, match="not a folder"):
        export_model(tmp_path / "none", tmp_path / "b")
    source = checkpoint()
    with pytest.raises(InputError, match="'int3'"):
        export_model(source, tmp_path / "b", precision="int3")
    with pytest.raises(InputError, match="exists"):
        export_model(source, source)


def test_missing_extra_names_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without onnx the error says what to install."""
    with pytest.raises(MissingExtraError, match=r"pip install 'edge-embed\[export\]'"):
        extras.require("a_package_that_is_not_there", "export")


def test_calibration_and_receipt_texts_differ() -> None:
    """What sets the ranges does not also measure the loss."""
    calibration, receipt = calibration_texts("calibration"), calibration_texts("receipt")
    assert len(calibration) == len(receipt) == 128
    assert not set(calibration) & set(receipt)
