"""WordEmbeddings of sentence-transformers (GloVe, Levy, Komninos), with WordWeights: a table of rows for words.

The library's WhitespaceTokenizer looks a word up as it stands between white space, then without punctuation around it,
then in lower case; the first that is a stop word or in the vocabulary counts. The runtime does the same
(inputs/whitespace.py) with stop words as words whose rows are zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed_export.files.accounting import HARMLESS, refuse_unknown
from edge_embed_export.files.reading import optional_json, read_json
from edge_embed_export.files.stored import Array
from edge_embed_export.files.tensors import read_tensors
from edge_embed_export.modules.pooling import read_pooling
from edge_embed_export.modules.routers import kind_of
from edge_embed_export.tokenizer.parts import word_level
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.inputs.whitespace import PUNCTUATION

KIND = "WordEmbeddings"
# No word: text gives a bracket, a word and a bracket.
UNKNOWN = "[UNK]"
TOKENIZER = "WhitespaceTokenizer"
HARMLESS["wordembedding_config.json"] = frozenset({"update_embeddings"})


@dataclass(frozen=True)
class Words:
    """A table of words: rows [n, dim] and weights [n] of `vocabulary`, in its order.

    used:    how many of the modules' entries it took
    squared: the sum of rows is divided by the square root of their count, else by that
    """

    vocabulary: list[str]
    rows: Array
    weights: Array
    max_tokens: int
    lowercase: bool
    used: int
    squared: bool


def read_words(folder: Path, entries: Sequence[Mapping[str, Any]]) -> Words:
    """The table of a folder whose first module is a WordEmbeddings. Raises ExportError for what cannot be one."""
    path = folder / str(entries[0]["path"])
    config = read_json(path / "wordembedding_config.json")
    read = {"tokenizer_class", "max_seq_length"}
    refuse_unknown(path / "wordembedding_config.json", config, read | HARMLESS["wordembedding_config.json"])
    name = str(config.get("tokenizer_class"))
    if name.rsplit(".", 1)[-1] != TOKENIZER:
        raise ExportError(f"{path}: tokenizer_class is {name!r:.100}; a bundle has the words of {TOKENIZER} alone")
    settings = read_json(path / "whitespacetokenizer_config.json")
    refuse_unknown(path / "whitespacetokenizer_config.json", settings, {"vocab", "stop_words", "do_lower_case"})
    words, stop = settings.get("vocab"), settings.get("stop_words") or []
    table = read_tensors(path / "model.safetensors").get("emb_layer.weight")
    lists = isinstance(words, list) and isinstance(stop, list)
    if not lists or not all(isinstance(word, str) for word in [*words, *stop]):
        raise ExportError(f"{path / 'whitespacetokenizer_config.json'}: vocab and stop_words must be lists of words")
    if table is None or table.ndim != 2 or len(table) != len(words):
        raise ExportError(f"{path}: emb_layer.weight has not a row for each of the {len(words)} words of vocab")
    used, weights = 1, np.ones(len(words), np.float32)
    if len(entries) > 1 and kind_of(entries[1]) == "WordWeights":
        used, weights = 2, _weights(folder / str(entries[1]["path"]), words)
    squared = _pooling(folder, entries[used:])
    places = {word: i for i, word in enumerate(words) if word not in set(stop)}  # of a word twice the last, as there
    kept = [*places.values()]
    nothing = len(set(stop)) + 1
    return Words(
        vocabulary=[*places, *dict.fromkeys(stop), UNKNOWN],
        rows=np.concatenate([table[kept], np.zeros((nothing, table.shape[1]), np.float32)]).astype(np.float32),
        weights=np.concatenate([weights[kept], np.zeros(nothing, np.float32)]),
        max_tokens=int(config.get("max_seq_length", 10**6)),
        lowercase=settings.get("do_lower_case") is True,
        used=used + 1,
        squared=squared,
    )


def _weights(path: Path, words: list[str]) -> Array:
    """What each word counts [n]: of the config alone, which the library's older releases have saved without a file."""
    config = read_json(path / "config.json")
    refuse_unknown(path / "config.json", config, {"vocab", "word_weights", "unknown_word_weight"})
    given, other = config.get("word_weights"), config.get("unknown_word_weight", 1)
    if config.get("vocab") != words or not isinstance(given, dict):
        raise ExportError(f"{path / 'config.json'}: vocab is not that of the table, or word_weights has no words")
    numbers = [given.get(word, given.get(word.lower(), other)) for word in words]
    found = [float(n) if isinstance(n, int | float) and not isinstance(n, bool) else -1.0 for n in numbers]
    if not all(0 <= number < np.inf for number in found):
        raise ExportError(f"{path / 'config.json'}: a word's weight is no number of 0 or more")
    return np.array(found, np.float32)


def _pooling(folder: Path, entries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the sum of rows is divided by the square root of their count; anything but that and means is refused."""
    if not entries or kind_of(entries[0]) != "Pooling":
        found = kind_of(entries[0]) if entries else "nothing"
        raise ExportError(f"{folder / 'modules.json'}: {found!r} follows {KIND}, expected Pooling")
    path = folder / str(entries[0]["path"])
    how, config = read_pooling(path), optional_json(path / "config.json")
    # their directions are that of the sum of rows
    if how not in ("mean", "mean_sqrt_len") or config.get("include_prompt", True) is not True:
        raise ExportError(f"{path}: rows of words are pooled by their mean, prompts included; it says {config}")
    return how == "mean_sqrt_len"


def definition(words: Words) -> dict[str, Any]:
    """A tokenizer.json with these words, for what is no vector: places of passages, and counts of tokens."""
    around = f"^[{PUNCTUATION}]+|[{PUNCTUATION}]+$"
    split = {"type": "Split", "pattern": {"Regex": around}, "behavior": "Removed", "invert": False}
    return word_level(
        words.vocabulary,
        normalizer={"type": "Lowercase"} if words.lowercase else None,
        pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, split]},
    )
