"""Small random BERTs in the shape of real checkpoints, their tokenizer, and BERT in plain numpy."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

WORDS = ["the", "a", "bank", "of", "river", "money", "at", "is", "in", "to", "and", "cat", "dog", "house", "garden",
         "water", "night", "day", "red", "blue"]  # fmt: skip
TINY = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 5 + len(WORDS),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "hidden_act": "gelu",
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}

# Of a tokenizer that knows no capitals, as most BERTs have one.
NORMALIZER = {
    "type": "BertNormalizer",
    "clean_text": True,
    "handle_chinese_chars": True,
    "strip_accents": None,
    "lowercase": True,
}


def word_tokenizer() -> dict[str, Any]:
    """A WordPiece tokenizer definition over WORDS, in the form of a BERT checkpoint's tokenizer.json."""
    vocab = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    special = [{"id": i, "content": token, **plain} for token, i in list(vocab.items())[:5]]
    cls, sep = ({"SpecialToken": {"id": token, "type_id": 0}} for token in ("[CLS]", "[SEP]"))
    return {
        "version": "1.0",
        "truncation": {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {
            "strategy": {"Fixed": 8},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
        "added_tokens": special,
        "normalizer": dict(NORMALIZER),
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [cls, {"Sequence": {"id": "A", "type_id": 0}}, sep],
            "pair": [cls, {"Sequence": {"id": "A", "type_id": 0}}, sep, {"Sequence": {"id": "B", "type_id": 1}}, sep],
            "special_tokens": {
                "[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]},
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocab,
        },
    }


def bert_tensors(config: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Random weights under the names of transformers' BertModel."""
    random = np.random.default_rng(seed)
    h, f = config["hidden_size"], config["intermediate_size"]

    def normal(*shape: int) -> np.ndarray[Any, Any]:
        return (random.standard_normal(shape) * 0.2).astype(np.float32)

    tensors = {
        "embeddings.word_embeddings.weight": normal(config["vocab_size"], h),
        "embeddings.position_embeddings.weight": normal(config["max_position_embeddings"], h),
        "embeddings.token_type_embeddings.weight": normal(config["type_vocab_size"], h),
    }
    shapes = {
        "attention.self.query": (h, h),
        "attention.self.key": (h, h),
        "attention.self.value": (h, h),
        "attention.output.dense": (h, h),
        "intermediate.dense": (f, h),
        "output.dense": (h, f),
    }
    norms = ["embeddings.LayerNorm"]
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        for name, shape in shapes.items():
            tensors[f"{layer}.{name}.weight"], tensors[f"{layer}.{name}.bias"] = normal(*shape), normal(shape[0])
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for name in norms:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = 1 + normal(h), normal(h)
    return tensors


Checkpoints = Callable[..., Path]


def bert_folder(folder: Path, *, pooling: str = "mean_tokens", dense: str | None = None, **config: Any) -> Path:
    """Write a sentence-transformers folder with a small random BERT."""
    from safetensors.numpy import save_file

    folder.mkdir()
    merged = {**TINY, **config}
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
    (folder / "config.json").write_text(json.dumps(merged))
    (folder / "tokenizer.json").write_text(json.dumps(word_tokenizer()))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 24}))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A random model\n")
    save_file(bert_tensors(merged), folder / "model.safetensors")
    (folder / "1_Pooling").mkdir()
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    pooled = {f"pooling_mode_{mode}": mode == pooling for mode in modes}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **pooled}))
    if dense is not None:
        modules.append(("Dense", "2_Dense"))
        (folder / "2_Dense").mkdir()
        (folder / "2_Dense" / "config.json").write_text(
            json.dumps({"in_features": 32, "out_features": 16, "bias": True, "activation_function": dense})
        )
        random = np.random.default_rng(1)
        arrays = {
            "linear.weight": random.standard_normal((16, 32)).astype(np.float32),
            "linear.bias": random.standard_normal(16).astype(np.float32),
        }
        save_file(arrays, folder / "2_Dense" / "model.safetensors")
    modules.append(("Normalize", "3_Normalize"))
    kinds = "sentence_transformers.models."
    listed = [{"idx": i, "name": str(i), "path": p, "type": kinds + k} for i, (k, p) in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(listed))
    return folder


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


def pair_folder(folder: Path, *, labels: int = 1, **config: Any) -> Path:
    """Write transformers' folder of a small random BERT with a pooler and a classifier: a cross-encoder."""
    from safetensors.numpy import save_file

    folder.mkdir()
    names = {str(i): f"LABEL_{i}" for i in range(labels)}
    merged = {**TINY, "architectures": ["BertForSequenceClassification"], "id2label": names, **config}
    tensors = {f"bert.{name}": array for name, array in bert_tensors(merged).items()}
    random, h = np.random.default_rng(2), merged["hidden_size"]
    for name, shape in (("bert.pooler.dense", (h, h)), ("classifier", (labels, h))):
        tensors[f"{name}.weight"] = (random.standard_normal(shape) * 0.3).astype(np.float32)
        tensors[f"{name}.bias"] = (random.standard_normal(shape[0]) * 0.3).astype(np.float32)
    (folder / "config.json").write_text(json.dumps(merged))
    (folder / "tokenizer.json").write_text(json.dumps(word_tokenizer()))
    settings = {"tokenizer_class": "BertTokenizer", "model_max_length": 24}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    save_file(tensors, folder / "model.safetensors")
    return folder


def pair_logits(tensors: dict[str, Any], config: dict[str, Any], ids: list[int], types: list[int]) -> Any:
    """The numbers of a pair, in float64: `bert` with types of tokens, the pooler and the classifier."""
    own = {name.removeprefix("bert."): array.astype(np.float64) for name, array in tensors.items()}
    table = own["embeddings.token_type_embeddings.weight"]
    # position and type are added up: rows of positions that have the type's vector less that of type 0
    positions = own["embeddings.position_embeddings.weight"][: len(ids)] + table[types] - table[0]
    state = bert({**own, "embeddings.position_embeddings.weight": positions}, config, ids)[0]
    pooled = np.tanh(state @ own["pooler.dense.weight"].T + own["pooler.dense.bias"])
    return pooled @ own["classifier.weight"].T + own["classifier.bias"]
