"""Static models of several kinds become one: rows for tokens, and a tokenizer (see edge_embed_runtime.model.static).

model2vec         model.safetensors with `embeddings`, may have `weights` and `mapping`; tokenizer.json
StaticEmbedding   sentence-transformers: modules.json names the folder with `embedding.weight` and tokenizer.json, and
                  what follows (see behind.py)
WordEmbeddings    sentence-transformers: words of GloVe, ... as modules (see words.py)
WordLlama         the folder of its package: weights/*.safetensors, tokenizers/*.json
word vectors      a file of GloVe or word2vec (see wordfile.py)
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.files.accounting import refuse_tensors
from edge_embed_export.files.formats import missing_tokenizer
from edge_embed_export.files.reading import check_size, is_there, sha256_of
from edge_embed_export.files.tensors import read_tensors
from edge_embed_export.modules.folder import SETTINGS, Folder
from edge_embed_export.modules.routers import kind_of
from edge_embed_export.sources.checkpoint import licence_of
from edge_embed_export.sources.prompts import default_role, read_prompts
from edge_embed_export.static.behind import fold, read_behind
from edge_embed_export.static.table import StaticSource
from edge_embed_export.static.words import KIND as WORDS
from edge_embed_export.static.words import definition, read_words
from edge_embed_export.tokenizer.definition import read_definition
from edge_embed_runtime.errors import ExportError, SourceError
from edge_embed_runtime.extras import require
from edge_embed_runtime.inputs.whitespace import INPUTS
from edge_embed_runtime.system.files import check_regular

# Tokens of a text of models of sentence-transformers, which read a text whole: what a device has the memory for, fifty
# pages.
LONGEST = 32_768


def find_kind(folder: Folder) -> str | None:
    """What kind of static model a folder holds, or None for anything else."""
    first = next(iter(folder.modules), None)
    if first is not None and kind_of(first) in ("StaticEmbedding", WORDS):
        return kind_of(first)
    path = folder.path
    if is_there(path / "config.json"):
        said = folder.config.get("model_type")
        # older releases of model2vec wrote no type
        if said == "model2vec" or (said is None and "embeddings" in _names(path / "model.safetensors")):
            return "model2vec"
    if list(path.glob("weights/*.safetensors")) and list(path.glob("tokenizers/*.json")):
        return "WordLlama"
    return None


def read_static(folder: Folder, names: tuple[str, ...] = ()) -> StaticSource:
    """Read a static model of any kind. names: what else it is known by (see prompts.CARDS)

    Raises SourceError for what is missing or malformed, ExportError for parts that do not belong together.
    """
    source, kind = folder.path, find_kind(folder)
    if kind is None:
        raise SourceError(f"{source} is no static model (model2vec, StaticEmbedding, WordLlama, word vectors)")
    prompts = read_prompts(folder, (*names, source.resolve().name))
    found = _from_modules(source, folder.modules) if kind == WORDS else _from_table(folder, kind)
    return replace(found, prompts=prompts, default_role=default_role(folder, prompts), side=folder.side or "")


def _from_table(folder: Folder, kind: str) -> StaticSource:
    """A table in a file of its own, with a tokenizer."""
    source = folder.path
    weights, path = _files(source, kind, folder.modules)
    tensors = _tensors(weights)
    name = "embeddings" if "embeddings" in tensors else "embedding.weight"
    if name not in tensors or tensors[name].ndim != 2:
        raise ExportError(f"{weights} has no table of token vectors; it holds {sorted(tensors)}")
    refuse_tensors(weights, tensors, sorted(tensors.keys() - {name, "mapping", "weights"}), f"a {kind} model")
    if not path.exists():
        raise missing_tokenizer(path)
    tokenizer = read_definition(path)
    found = StaticSource(
        kind=kind,
        vectors=tensors[name].astype(np.float32),
        tokenizer=tokenizer,
        place=_vector(tensors, "mapping", weights, np.int32),
        weights=_vector(tensors, "weights", weights, np.float32),
        unknown=_unknown(tokenizer) if kind == "model2vec" else None,  # model2vec leaves unknown tokens out
        sha256=sha256_of(weights),
        licence=licence_of(source),
    )
    _check_place(found, weights)
    if kind != "StaticEmbedding":
        return found
    vectors, empty = fold(found.vectors, read_behind(source, folder.modules[1:]), source)
    width = folder.settings.get("truncate_dim")
    if width is not None:  # the library cuts what the modules give
        width = check_size(width, "truncate_dim", source / SETTINGS)
        vectors, empty = vectors[:, :width], None if empty is None else empty[:width]
    return replace(found, vectors=vectors, empty=empty, max_tokens=LONGEST)


def _from_modules(source: Path, entries: Sequence[Mapping[str, Any]]) -> StaticSource:
    """A table of words, with what follows it."""
    found = read_words(source, entries)
    behind = read_behind(source, entries[found.used :])
    rows, empty = fold(found.rows, behind, source)
    if found.squared and empty is not None:
        raise ExportError(f"{source}: a Dense module with a bias behind mean_sqrt_len_tokens cannot be folded in")
    return StaticSource(
        kind=WORDS,
        vectors=rows,
        weights=found.weights,
        tokenizer=definition(found),
        unknown=len(rows) - 1,
        sha256=sha256_of(source / str(entries[0]["path"]) / "model.safetensors"),
        licence=licence_of(source),
        empty=empty,
        max_tokens=min(found.max_tokens, LONGEST),
        inputs=INPUTS,
    )


def _names(path: Path) -> list[str]:
    """The names of the tensors in a file, where there is one."""
    if not is_there(path):
        return []
    check_regular(path)
    try:
        with require("safetensors", "export").safe_open(str(path), framework="numpy") as file:
            return list(file.keys())
    except Exception:  # what is wrong with it is said where it is read  # noqa: BLE001
        return []


def _files(source: Path, kind: str, entries: Sequence[Mapping[str, Any]]) -> tuple[Path, Path]:
    """The weights and the tokenizer."""
    if kind != "WordLlama":
        inner = source / str(entries[0]["path"]) if kind == "StaticEmbedding" else source
        return inner / "model.safetensors", inner / "tokenizer.json"
    tables, definitions = (sorted(source.glob(p)) for p in ("weights/*.safetensors", "tokenizers/*.json"))
    if len(tables) != 1 or len(definitions) != 1:
        names = ", ".join(path.name for path in [*tables, *definitions])
        raise ExportError(f"{source} holds more than one model: {names}. Keep the files of one in a folder of its own")
    return tables[0], definitions[0]


def _tensors(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file, those of whole numbers too."""
    arrays: dict[str, NDArray[Any]] = {**read_tensors(path, others=True)}
    with require("safetensors", "export").safe_open(str(path), framework="numpy") as file:
        for name in file.keys() - arrays.keys():
            arrays[name] = file.get_tensor(name)
    return arrays


def _vector(tensors: dict[str, NDArray[Any]], name: str, path: Path, kind: type) -> Any:
    if name not in tensors:
        return None
    if tensors[name].ndim != 1:
        raise ExportError(f"{path}: {name!r} has shape {list(tensors[name].shape)}, expected one number for each token")
    return tensors[name].astype(kind)


def _check_place(source: StaticSource, path: Path) -> None:
    place, rows = source.place, len(source.vectors)
    if place is not None and not 0 <= int(place.min(initial=0)) <= int(place.max(initial=0)) < rows:
        raise ExportError(f"{path}: 'mapping' names rows that are not among the {rows} of the table")
    tokens = rows if place is None else len(place)
    if source.weights is not None and len(source.weights) != tokens:
        raise ExportError(f"{path}: {len(source.weights)} weights for {tokens} tokens")


def _unknown(tokenizer: dict[str, Any]) -> int | None:
    model = tokenizer.get("model") or {}
    if isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    vocab = model.get("vocab")
    return vocab.get(model.get("unk_token")) if isinstance(vocab, dict) else None
