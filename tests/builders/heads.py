"""Small random models that give weights of tokens, or a vector for each token: a folder of the fixture `checkpoint`
with another head."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

KINDS = "sentence_transformers.sparse_encoder.models."


def mlm_tensors(vocab: int, hidden: int, seed: int = 3) -> dict[str, np.ndarray[Any, Any]]:
    """A BertForMaskedLM's head, whose decoder is the embedding table; half of the weights it gives are 0."""
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray[Any, Any]:
        return (random.standard_normal(shape) * 0.3).astype(np.float32)

    head = "cls.predictions"
    return {
        f"{head}.bias": normal(vocab),
        f"{head}.transform.dense.weight": normal(hidden, hidden),
        f"{head}.transform.dense.bias": normal(hidden),
        f"{head}.transform.LayerNorm.weight": 1 + normal(hidden),
        f"{head}.transform.LayerNorm.bias": normal(hidden),
    }


def rewrite(folder: Path, changes: dict[str, np.ndarray[Any, Any]]) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, **changes}, folder / "model.safetensors")


def sparse_folder(folder: Path, *, modules: bool = True, pooling: str = "max", activation: str = "relu") -> Path:
    """A SparseEncoder folder of sentence-transformers, or with modules=False a plain BertForMaskedLM."""
    config = {**json.loads((folder / "config.json").read_text()), "architectures": ["BertForMaskedLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    rewrite(folder, mlm_tensors(config["vocab_size"], config["hidden_size"]))
    (folder / "modules.json").unlink()
    if modules:
        listed = [("MLMTransformer", ""), ("SpladePooling", "1_SpladePooling")]
        entries = [{"idx": i, "name": str(i), "path": p, "type": KINDS + k} for i, (k, p) in enumerate(listed)]
        (folder / "modules.json").write_text(json.dumps(entries))
        (folder / "1_SpladePooling").mkdir()
        (folder / "1_SpladePooling" / "config.json").write_text(
            json.dumps({"pooling_strategy": pooling, "activation_function": activation, "word_embedding_dimension": 25})
        )
    return folder


def multi_folder(folder: Path, dim: int = 16, **settings: Any) -> Path:
    """A ColBERT folder of PyLate: its markers are words of the vocabulary here ("a" and "the")."""
    random = np.random.default_rng(5)
    (folder / "1_Dense").mkdir()
    (folder / "1_Dense" / "config.json").write_text(
        json.dumps({"in_features": 32, "out_features": dim, "bias": False, "activation_function": "torch.nn.Identity"})
    )
    save_file(
        {"linear.weight": random.standard_normal((dim, 32)).astype(np.float32)}, folder / "1_Dense/model.safetensors"
    )
    kinds = [("sentence_transformers.models.Transformer", ""), ("pylate.models.Dense.Dense", "1_Dense")]
    entries = [{"idx": i, "name": str(i), "path": p, "type": k} for i, (k, p) in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(entries))
    given = {
        "query_prefix": "a",
        "document_prefix": "the",
        "query_length": 12,
        "document_length": 24,
        "do_query_expansion": True,
        "attend_to_expansion_tokens": False,
        "skiplist_words": ["of", "is"],
    }
    (folder / "config_sentence_transformers.json").write_text(json.dumps({**given, **settings}))
    return folder
