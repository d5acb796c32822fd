"""Static models of several kinds become one: rows for tokens, and a tokenizer (see edge_embed_runtime.model.static).

model2vec         model.safetensors with `embeddings`, may have `weights` and `mapping`; tokenizer.json
StaticEmbedding   sentence-transformers: modules.json names the folder with `embedding.weight` and tokenizer.json, and
                  what follows (see modules/static.py)
WordEmbeddings    sentence-transformers: words of GloVe, ... as modules (see modules/words.py)
WordLlama         the folder of its package: weights/*.safetensors, tokenizers/*.json
word vectors      a file of GloVe or word2vec; the tokenizer is made here
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from edge_embed_export.modules.listed import listed
from edge_embed_export.modules.routers import Side, kind_of
from edge_embed_export.modules.static import fold, read_behind
from edge_embed_export.modules.words import KIND as WORDS
from edge_embed_export.modules.words import definition, read_words
from edge_embed_export.receipt.finish import finish
from edge_embed_export.sources.accounting import refuse_tensors
from edge_embed_export.sources.checkpoint import _licence
from edge_embed_export.sources.files import check_size, is_there, optional_json, read_definition, read_json, sha256_of
from edge_embed_export.sources.formats import missing_tokenizer
from edge_embed_export.sources.prompts import SETTINGS, check_prompts, completed, default_role, read_prompts, with_roles
from edge_embed_export.sources.tensors import read_tensors
from edge_embed_export.sources.wordvectors import WordVectors, read_word_vectors
from edge_embed_export.verify.compare import Verifier
from edge_embed_runtime.bundle.bundle import Bundle, file_records
from edge_embed_runtime.bundle.manifest import TABLE, TOKENIZER, Manifest
from edge_embed_runtime.checks import check_text
from edge_embed_runtime.embed.embedder import Embedder
from edge_embed_runtime.errors import BundleFormatError, ExportError, InputError, SourceError
from edge_embed_runtime.extras import require
from edge_embed_runtime.inputs.tokenizer import Tokenizer, sanitize
from edge_embed_runtime.inputs.whitespace import INPUTS
from edge_embed_runtime.model.static import write_table
from edge_embed_runtime.system.files import check_regular

Array = NDArray[np.float32]

WORD_FILES = (".txt", ".vec", ".bin", ".gz", ".glove", ".w2v")
# Tokens of a text that count: more change its mean vector little. model2vec has the same limit.
MAX_TOKENS = 512
# Of models of sentence-transformers, which read a text whole: what a device has the memory for, fifty pages.
LONGEST = 32_768
# No word: text gives a bracket, a word and a bracket.
UNKNOWN = "[UNK]"
CODES = 127


@dataclass(frozen=True)
class StaticSource:
    """A static model as its maker has it.

    vectors:   float32 [n, dim]
    place:     the row of each token [vocab]; None means that a token's id is its row
    weights:   what each token counts [vocab]; None means 1
    tokenizer: a tokenizer.json definition
    unknown:   the token that stands for unknown ones where these are to be left out
    empty:     the vector [dim] of a text without tokens; None means that of all tokens
    inputs, prompts, default_role, side: as in the manifest
    """

    kind: str
    vectors: Array
    tokenizer: dict[str, Any]
    place: NDArray[np.int32] | None = None
    weights: Array | None = None
    unknown: int | None = None
    sha256: str = ""
    licence: str | None = None
    notes: dict[str, Any] | None = None
    empty: Array | None = None
    max_tokens: int = MAX_TOKENS
    inputs: str = ""
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_role: str = ""
    side: str = ""

    def with_prompts(self, given: Mapping[str, str] | None) -> "StaticSource":
        """With prompts of the caller, by role, beside and instead of its own."""
        checked = {role: check_text(text, f"the prompt of {role!r}") for role, text in (given or {}).items()}
        return replace(self, prompts=completed({**self.prompts, **with_roles(checked)}, self.default_role))

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])


def find_kind(source: Path, side: Side | None = None) -> str | None:
    """What kind of static model lies at a path, or None for anything else. side: of a Router, whose route"""
    if source.is_file():
        return "word vectors" if source.suffix.lower() in WORD_FILES else None
    if is_there(source / "modules.json"):
        first = next(iter(listed(source, side)), None)
        if first is not None and kind_of(first) in ("StaticEmbedding", WORDS):
            return kind_of(first)
    config = source / "config.json"
    if is_there(config):
        said = read_json(config).get("model_type")
        # older releases of model2vec wrote no type
        if said == "model2vec" or (said is None and "embeddings" in _names(source / "model.safetensors")):
            return "model2vec"
    if list(source.glob("weights/*.safetensors")) and list(source.glob("tokenizers/*.json")):
        return "WordLlama"
    return None


def read_static(
    source: Path,
    *,
    words: int | None = None,
    sif: float | None = None,
    side: Side | None = None,
    names: tuple[str, ...] = (),
) -> StaticSource:
    """Read a static model of any kind.

    words: the vocabulary's size for word vectors: so many from the file's beginning
    sif:   weight words by a / (a + p), for this a and p from their place in the file (see `zipf_weights`)
    side:  of a Router whose sides differ, which one
    names: what else the model is known by (see prompts.CARDS)

    Raises SourceError for what is missing or malformed, ExportError for parts that do not belong together.
    """
    kind = find_kind(source, side)
    if kind == "word vectors":
        return _from_words(source, read_word_vectors(source, words), sif)
    if kind is None:
        raise SourceError(f"{source} is no static model (model2vec, StaticEmbedding, WordLlama, word vectors)")
    if words is not None or sif is not None:
        raise InputError(f"{source} is a {kind} model with weights of its own: words and sif are for word vectors")
    prompts = read_prompts(source, (*names, source.resolve().name))
    said: dict[str, Any] = {"prompts": prompts, "default_role": default_role(source, prompts), "side": side or ""}
    entries = listed(source, side)
    if kind == WORDS:
        return replace(_from_modules(source, entries), **said)
    weights, path, card = _files(source, kind, entries)
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
        licence=_licence(card),
        **said,
    )
    found = replace(found, place=_checked_place(found, weights))
    if kind != "StaticEmbedding":
        return found
    vectors, empty = fold(found.vectors, read_behind(source, entries[1:]), source)
    width = optional_json(source / SETTINGS).get("truncate_dim")
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
        licence=_licence(source),
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


def _files(source: Path, kind: str, entries: Sequence[Mapping[str, Any]]) -> tuple[Path, Path, Path]:
    """The weights, the tokenizer and the folder of the model card."""
    if kind == "WordLlama":
        tables, definitions = (sorted(source.glob(p)) for p in ("weights/*.safetensors", "tokenizers/*.json"))
        if len(tables) != 1 or len(definitions) != 1:
            names = ", ".join(path.name for path in [*tables, *definitions])
            raise ExportError(
                f"{source} holds more than one model: {names}. Keep the files of one in a folder of its own"
            )
        return tables[0], definitions[0], source
    inner = source
    if kind == "StaticEmbedding":
        inner = source / str(entries[0]["path"])
    return inner / "model.safetensors", inner / "tokenizer.json", source


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


def _checked_place(source: StaticSource, path: Path) -> NDArray[np.int32] | None:
    place, rows = source.place, len(source.vectors)
    if place is not None and not 0 <= int(place.min(initial=0)) <= int(place.max(initial=0)) < rows:
        raise ExportError(f"{path}: 'mapping' names rows that are not among the {rows} of the table")
    tokens = rows if place is None else len(place)
    if source.weights is not None and len(source.weights) != tokens:
        raise ExportError(f"{path}: {len(source.weights)} weights for {tokens} tokens")
    return place


def _unknown(tokenizer: dict[str, Any]) -> int | None:
    model = tokenizer.get("model") or {}
    if isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    vocab = model.get("vocab")
    return vocab.get(model.get("unk_token")) if isinstance(vocab, dict) else None


def zipf_weights(ranks: Sequence[int] | NDArray[Any], a: float) -> Array:
    """SIF weights a / (a + p) of words by their rank, 0 for the most frequent, where p = 1 / (rank + 2), normalised.

    Words' frequencies follow Zipf's law, so that their order is enough. Arora, Liang, Ma: A simple but tough-to-beat
    baseline for sentence embeddings (ICLR 2017).
    """
    places = np.asarray(ranks, np.float64) + 2
    frequency = 1 / places / (1 / (np.arange(int(places.max(initial=2)) - 1) + 2)).sum()
    return np.asarray(a / (a + frequency), np.float32)


def _from_words(path: Path, found: WordVectors, sif: float | None) -> StaticSource:
    """A word-level model: words that no text gives (such as "10,000", which is three) are left out."""
    lowercase = all(word == word.lower() for word in found.words)
    definition = word_tokenizer(lowercase=lowercase)
    kept = _reachable(found.words, definition)
    if not kept:
        raise ExportError(f"{path}: none of its {len(found.words)} words can come out of a text")
    words = [found.words[i] for i in kept]
    vectors = np.vstack([found.vectors[kept], np.zeros((1, found.vectors.shape[1]), np.float32)])
    weights = None if sif is None else np.append(zipf_weights(kept, sif), np.float32(1))
    return StaticSource(
        kind="word vectors",
        vectors=vectors,
        tokenizer=word_tokenizer(lowercase=lowercase, words=words),
        weights=weights,
        unknown=len(words),
        sha256=sha256_of(path),
        notes={"words": len(words), "words_read": len(found.words), "lowercase": lowercase, "sif": sif},
    )


def word_tokenizer(*, lowercase: bool, words: Sequence[str] = ()) -> dict[str, Any]:
    """A tokenizer.json whose tokens are whole words and punctuation; unknown words become UNKNOWN, the last id."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": False,
            "lowercase": lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: i for i, word in enumerate([*words, UNKNOWN])},
            "unk_token": UNKNOWN,
        },
    }


def _reachable(words: Sequence[str], definition: dict[str, Any]) -> list[int]:
    """Which words the tokenizer gives for themselves."""
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(definition))
    kept = []
    for i, word in enumerate(words):
        pieces = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(word))
        if [piece for piece, _ in pieces] == [word]:
            kept.append(i)
    return kept


def weighted_rows(source: StaticSource, vocab: int) -> tuple[Array, NDArray[np.int32] | None]:
    """Rows as they are summed, with the weights in them, and one at the end for texts without tokens of their own.

    vocab: tokens of the tokenizer
    """
    vectors, place, unknown = source.vectors, source.place, source.unknown
    tokens = len(vectors) if place is None else len(place)
    if vocab > tokens:
        raise ExportError(f"the tokenizer has {vocab} tokens, the table {tokens} rows; they do not belong together")
    if source.weights is not None:
        if place is not None:
            vectors, place = vectors[place], None  # tokens that share a row count differently
        vectors = vectors * source.weights[:, None]
    whole = vectors[unknown] if unknown is not None and place is None else vectors.mean(axis=0)
    whole = whole if source.empty is None else source.empty
    if not whole.any():
        whole = vectors.mean(axis=0)
    if unknown is not None and place is None:
        vectors = vectors.copy()
        vectors[unknown] = 0
    elif unknown is not None and place is not None:
        place = place.copy()
        place[unknown] = len(vectors)
        vectors = np.vstack([vectors, np.zeros_like(vectors[:1])])
    return np.vstack([vectors, whole]), place


def make_table(rows: Array, place: NDArray[np.int32] | None, *, int8: bool) -> bytes:
    """The table file of weighted rows [n + 1, dim]: int8 with a scale for each column, or float32."""
    scale = np.ones(rows.shape[1], np.float32)
    if int8:
        scale = np.maximum(np.abs(rows[:-1]).max(axis=0) / CODES, np.float32(1e-12)).astype(np.float32)
    last = rows[-1] / scale
    last *= CODES / max(float(np.abs(last).max()), 1e-12)  # its length says nothing
    last[0] = last[0] if abs(last[0]) >= 1 else 1  # so that its first dimensions alone have a direction
    codes: NDArray[Any] = np.vstack([rows[:-1] / scale, last]).astype(np.float32)
    if int8:
        codes = np.rint(codes).astype(np.int8)
    places = {} if place is None else {"place": place}
    return write_table({**places, "scale": scale, "rows": codes})


def write_static(
    static: StaticSource,
    target: Path,
    *,
    name: str | None = None,
    source_name: str = "",
    precision: str = "int8",
    floor: float | None = None,
    truncate_dims: Sequence[int] = (),
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    verifier: Verifier | None = None,
) -> Manifest:
    """Write a bundle of a static model. Options and errors are those of `export_model`."""
    tokenizer_bytes = sanitize({**static.tokenizer, "post_processor": None})  # special tokens would say nothing
    try:
        tokenizer = Tokenizer(tokenizer_bytes, static.max_tokens)
    except BundleFormatError as error:
        raise ExportError(f"{source_name}: {error}") from error
    check_prompts(tokenizer, static.prompts, Path(source_name))
    vocab = tokenizer.largest_id + 1
    rows, place = weighted_rows(static, vocab)

    def in_memory(precision: str) -> tuple[Embedder, dict[str, bytes]]:
        contents = {TABLE: make_table(rows, place, int8=precision == "int8"), TOKENIZER: tokenizer_bytes}
        manifest = Manifest(
            name=name or target.absolute().name,
            files=file_records(contents),
            dim=static.dim,
            max_tokens=static.max_tokens,
            pooling="weighted sum of token vectors",
            architecture={"family": "static", "kind": static.kind, "vocab": vocab, "rows": len(rows) - 1},
            prompts=dict(static.prompts),
            default_role=static.default_role,
            side=static.side,
            inputs=static.inputs,
            truncate_dims=list(truncate_dims),
            quantization={"embedding_table": "int8, one scale per column" if precision == "int8" else "float32"},
            codes={"int8": "symmetric, one scale per vector", "binary": "sign, in the frame"},
            provenance={
                "source": source_name,
                "weights_sha256": static.sha256,
                "licence": static.licence,
                **(static.notes or {}),
                "versions": {"tokenizers": version("tokenizers")},
            },
        )
        return Embedder(Bundle(target, manifest, contents[TABLE], tokenizer_bytes), threads=1), contents

    reference, _ = in_memory("fp32")
    embedder, contents = in_memory(precision)
    source = Path(source_name)
    return finish(source, target, contents, (reference, embedder), precision, floor, overwrite, progress, verifier)
