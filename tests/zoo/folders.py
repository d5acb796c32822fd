"""A row of the table as the folder that its model is published in, with small random weights."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save, save_file

from zoo.models import SMALL, Row
from zoo.networks import Arrays, tensors
from zoo.vocabularies import VOCABULARIES, Vocabulary

TYPES = "sentence_transformers.models."
SPARSE = "sentence_transformers.sparse_encoder.models."


def write(row: Row, parent: Path) -> Path:
    """The folder, named as the model is."""
    folder = parent / row.folder
    folder.mkdir(parents=True)
    vocabulary = VOCABULARIES[row.vocabulary](**row.tokenizer)
    if row.network == "static":
        _static(row, folder, vocabulary)
    else:
        _network(row, folder, vocabulary)
    if row.modules is not None:
        _modules(row, folder)
    if row.settings is not None:
        _write(folder / "config_sentence_transformers.json", row.settings)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return folder


def config(row: Row, vocabulary: Vocabulary) -> dict[str, Any]:
    """config.json, with the ids that the vocabulary gives."""
    ids = {key: value for key, value in vocabulary.ids.items() if key[:3] in ("pad", "bos", "eos", "cls", "sep")}
    kept = {**ids, **row.config, "vocab_size": vocabulary.size}
    if "text_config" in kept:
        kept["text_config"] = {**kept["text_config"], "vocab_size": vocabulary.size}
    return kept


def arrays(row: Row, settings: dict[str, Any]) -> Arrays:
    """The network's tensors, in the type in which they are stored; the same for a row in every process."""
    made = tensors(row.network, settings, zlib.crc32(row.name.encode()))
    if row.network.startswith("modernbert"):  # the embeddings' own norm is the first layer's
        del made["layers.0.attn_norm.weight"]
    kind = str(settings.get("torch_dtype", "float32"))
    return {
        name: array.astype(np.float16).astype(np.float32)
        if kind == "float16"
        else short(array)
        if kind == "bfloat16"
        else array
        for name, array in made.items()
    }


def short(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Numbers of the next bfloat16 towards 0: the first half of each."""
    return (array.view(np.uint32) & 0xFFFF0000).view(np.float32)


def _store(made: Arrays, kind: str, path: Path) -> None:
    """Weights in the type that config.json names: numpy has no bfloat16, so its halves of numbers are put there."""
    if kind == "bfloat16":
        halves = {name: (array.view(np.uint32) >> 16).astype(np.uint16) for name, array in made.items()}
        content = save(halves, metadata={"format": "pt"})
        size = int.from_bytes(content[:8], "little")
        header = content[8 : 8 + size].replace(b'"U16"', b'"BF16"')
        path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])
        return
    stored = np.float16 if kind == "float16" else np.float32
    save_file({name: array.astype(stored) for name, array in made.items()}, path, metadata={"format": "pt"})


def _network(row: Row, folder: Path, vocabulary: Vocabulary) -> None:
    settings = config(row, vocabulary)
    _write(folder / "config.json", settings)
    _store(arrays(row, settings), str(settings.get("torch_dtype")), folder / "model.safetensors")
    _tokenizer(folder, vocabulary)
    _write(folder / "tokenizer_config.json", vocabulary.settings)
    roles = {
        key: value for key, value in vocabulary.settings.items() if key.endswith("_token") and isinstance(value, str)
    }
    _write(folder / "special_tokens_map.json", roles)


def _static(row: Row, folder: Path, vocabulary: Vocabulary) -> None:
    place = folder / dict(row.modules or ())["StaticEmbedding"].get("folder", ".")
    place.mkdir(exist_ok=True)
    random = np.random.default_rng(zlib.crc32(row.name.encode()))
    table = random.standard_normal((vocabulary.size, SMALL["hidden_size"])).astype(np.float32)
    name = "embeddings" if row.config else "embedding.weight"
    save_file({name: table}, place / "model.safetensors", metadata={"format": "pt"})
    _tokenizer(place, vocabulary)
    if row.config:
        _write(folder / "config.json", row.config)


def _tokenizer(folder: Path, vocabulary: Vocabulary) -> None:
    (folder / "tokenizer.json").write_text(json.dumps(vocabulary.definition, ensure_ascii=False, indent=2))


def _modules(row: Row, folder: Path) -> None:
    """modules.json and the folders of modules; sentence_bert_config.json."""
    assert row.modules is not None
    first = {"sparse": f"{SPARSE}MLMTransformer"}.get(row.kind, f"{TYPES}Transformer")
    listed = [] if row.network == "static" else [(first, "")]
    for kind, said in row.modules:
        path = said.get("folder", f"{len(listed)}_{kind}" if kind != "StaticEmbedding" else ".")
        listed.append((f"{SPARSE if kind == 'SpladePooling' else TYPES}{kind}", path))
        if kind in ("Normalize", "StaticEmbedding"):
            continue
        (folder / path).mkdir()
        _write(folder / path / "config.json", said)
        if kind == "Dense":
            save_file(dense_arrays(said), folder / path / "model.safetensors")
    _write(
        folder / "modules.json", [{"idx": i, "name": str(i), "path": p, "type": k} for i, (k, p) in enumerate(listed)]
    )
    if row.bert:
        _write(folder / "sentence_bert_config.json", {"max_seq_length": row.limit, **row.bert})


def dense_arrays(said: dict[str, Any]) -> Arrays:
    """The weights of a Dense module: numbers that every type holds, as libraries bring it to that of the model."""
    random = np.random.default_rng(said["out_features"])
    linear = {"linear.weight": random.standard_normal((said["out_features"], said["in_features"])) * 0.3}
    if said["bias"]:
        linear["linear.bias"] = random.standard_normal(said["out_features"]) * 0.3
    whole = {name: short(array.astype(np.float32)) for name, array in linear.items()}
    return {name: np.where(np.abs(array) < 1e-3, np.float32(0), array) for name, array in whole.items()}


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
