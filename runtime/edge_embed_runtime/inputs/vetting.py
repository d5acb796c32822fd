"""Tokenizers looked at before their parser sees them: tokenizers aborts the process or works for minutes on some.

Limits lie far above what public tokenizers have. What the parser passes over, as keys that it does not know, is passed
over here too: a tokenizer does here what it does in its own library.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from edge_embed_runtime.errors import BundleFormatError
from edge_embed_runtime.inputs.vocabulary import Ids, cut_vocabulary, is_stand_in

# Bytes of a tokenizer.json; the largest known, of a million tokens, has 60 MB.
MAX_BYTES = 2**27
MAX_TOKENS = 2**22
# Characters of a token; a trie is as deep, and taken down by recursion.
MAX_TOKEN = 1024
# Added tokens, and all their characters: an automaton is made of them, normalised.
MAX_ADDED = 2**16
MAX_ADDED_CHARACTERS = 2**20
# Times that replacing may make a text longer, all steps together; Unicode's own forms make 18 characters of one.
MAX_GROWTH = 64
# Steps in a row, and of all sequences inside of each other.
MAX_STEPS = 64
# Special tokens around a text.
MAX_SPECIAL = 64
# Characters of a word that WordPiece looks at; its work grows with the cube.
MAX_WORD = 1000
MAX_ID = 2**31 - 1

SEQUENCES = ("normalizers", "pretokenizers", "processors", "decoders")
COMPONENTS = {
    "normalizer": {
        "BertNormalizer", "ByteLevel", "Lowercase", "Metaspace", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled",
        "Prepend", "Replace", "Sequence", "Strip", "StripAccents",
    },
    "pre_tokenizer": {
        "BertPreTokenizer", "ByteLevel", "Digits", "Metaspace", "Punctuation", "Sequence", "Split", "UnicodeScripts",
        "Whitespace", "WhitespaceSplit",
    },
    "post_processor": {"BertProcessing", "ByteLevel", "RobertaProcessing", "Sequence", "TemplateProcessing"},
    "decoder": {
        "BPEDecoder", "ByteFallback", "ByteLevel", "CTC", "Fuse", "Metaspace", "Replace", "Sequence", "Strip",
        "WordPiece",
    },
    "model": {"BPE", "Unigram", "WordLevel", "WordPiece"},
}  # fmt: skip


class Parts(NamedTuple):
    """What a tokenizer.json says besides its vocabulary, and the ids of that, in no order."""

    content: dict[str, Any]
    ids: Ids


def check_tokenizer(definition: bytes) -> dict[str, Any]:
    """The content of a tokenizer.json that can be given to tokenizers.

    Raises BundleFormatError for what would abort the process, take minutes, or mean nothing here.
    """
    content = _content(definition)
    with _refusing():
        _check_definition(content, _vocabulary_ids(content))
        return dict(content)


def check_parts(definition: bytes) -> Parts:
    """`check_tokenizer`, of which the vocabulary does not become Python's objects where it is written as bundles do."""
    cut = cut_vocabulary(definition, MAX_TOKEN) if len(definition) <= MAX_BYTES else None
    if cut is not None and len(cut[1]) <= MAX_TOKENS and cut[1].max() <= MAX_ID:
        rest, ids = cut
        content = _content(rest)
        model = content.get("model") if isinstance(content, dict) else None
        if isinstance(model, dict) and is_stand_in(model.pop("vocab", None)):
            with _refusing():
                _check_definition(content, ids)
            return Parts(content, ids)
    content = check_tokenizer(definition)
    vocab = content["model"].pop("vocab")
    ids = np.fromiter(vocab.values() if isinstance(vocab, dict) else range(len(vocab)), np.int64)
    return Parts(content, ids)


def _content(definition: bytes) -> Any:
    if len(definition) > MAX_BYTES:
        raise BundleFormatError(f"tokenizer.json has {len(definition):,} bytes; at most {MAX_BYTES:,} are read")
    with _refusing():
        return json.loads(definition, object_pairs_hook=_unique)


@contextmanager
def _refusing() -> Iterator[None]:
    """What malformed content leads to, as TypeError, becomes BundleFormatError."""
    try:
        yield
    except (ValueError, AttributeError, TypeError, KeyError, IndexError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise BundleFormatError(f"tokenizer.json cannot be used: {reason:.200}") from error


def _check_definition(content: dict[str, Any], ids: Ids) -> None:
    """ids: of the vocabulary, which is checked already"""
    growth = 1.0
    for part, allowed in COMPONENTS.items():
        components = list(_flat(content.get(part)))
        for component in components:
            # models of older files carry no type
            kind = component.get("type", "BPE" if part == "model" else None)
            if kind not in allowed:
                raise BundleFormatError(f"tokenizer.json: {part} of type {kind!r:.60} is not supported")
            _check_strings(component, part)
        if part in ("normalizer", "pre_tokenizer"):
            growth = max(growth, _check_growth(components, part))
    _check_model(content["model"], len(ids))
    added = _check_added(content.get("added_tokens") or [], growth)
    special = sum(_special_tokens(component, added, ids) for component in _flat(content.get("post_processor")))
    if special > MAX_SPECIAL:
        raise BundleFormatError(f"tokenizer.json puts {special} special tokens around a text; at most {MAX_SPECIAL} do")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Of two entries with one name the parser may take the other: only a vocabulary may have them."""
    found = dict(pairs)
    if len(found) < len(pairs) and not all(type(value) is int for value in found.values()):
        raise ValueError("an object has a name twice")
    return found


def _flat(component: Any) -> Iterator[dict[str, Any]]:
    """A component, and what it is a sequence of."""
    pending, steps = [component], 0
    while pending:
        found = pending.pop()
        if found is None:
            continue
        steps += 1
        if steps > MAX_STEPS:
            raise BundleFormatError(f"tokenizer.json has more than {MAX_STEPS} steps in a row")
        yield found
        for children in SEQUENCES:
            pending += found.get(children) or []


def _check_strings(component: Mapping[str, Any], part: str) -> None:
    """Patterns that an engine can do in time, and short strings."""
    pattern = component.get("pattern")
    if isinstance(pattern, dict) and "Regex" in pattern:
        from edge_embed_runtime.inputs.patterns import check_pattern

        check_pattern(pattern["Regex"], f"tokenizer.json: {part}")
    for value in (pattern.get("String") if isinstance(pattern, dict) else pattern, *map(component.get, STRINGS)):
        if isinstance(value, str) and len(value) > MAX_TOKEN:
            raise BundleFormatError(
                f"tokenizer.json: {part} has a string of {len(value):,} characters; at most {MAX_TOKEN} are used"
            )


STRINGS = (
    "content", "prepend", "replacement", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "prefix",
    "suffix", "pad_token", "word_delimiter_token",
)  # fmt: skip


def _check_growth(components: list[dict[str, Any]], part: str) -> float:
    """How much longer a text can become, all steps together."""
    growth = 1.0
    for component in components:
        growth *= _growth(component)
    if growth > MAX_GROWTH:
        raise BundleFormatError(
            f"tokenizer.json: {part} can make a text {growth:,.0f} times as long; at most {MAX_GROWTH} times is done"
        )
    return growth


def _growth(component: Mapping[str, Any]) -> float:
    """Characters that a step makes of one at most, where the tokenizer and not Unicode decides that."""
    kind = component["type"]
    if kind == "Precompiled":
        from edge_embed_runtime.inputs.charmap import check_charmap

        return check_charmap(component.get("precompiled_charsmap"))
    if kind == "ByteLevel":  # a character for each byte
        return 4
    if kind == "Prepend":  # to each piece of a text, which may be one character
        return 1 + len(component["prepend"])
    if kind != "Replace":
        return 1
    pattern, content = component["pattern"], len(component["content"])
    given = pattern.get("String") if isinstance(pattern, dict) else pattern
    # of a regular expression it is not known how little it fits
    return max(1.0, content / len(given) if given else 1 + content if content > 1 else content)


def _vocabulary_ids(content: Any) -> Ids:
    """The ids of a model's tokens, as Python's objects have them."""
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise BundleFormatError("tokenizer.json is not a tokenizer")
    vocab = content["model"].get("vocab")
    if not isinstance(vocab, dict | list) or len(vocab) > MAX_TOKENS:
        raise BundleFormatError(f"tokenizer.json has no vocabulary, or more than {MAX_TOKENS:,} tokens")
    tokens = vocab if isinstance(vocab, dict) else [token for token, _ in vocab]
    ids: Collection[Any] = vocab.values() if isinstance(vocab, dict) else range(len(vocab))
    if len(max(tokens, key=len, default="")) > MAX_TOKEN:
        raise BundleFormatError(f"tokenizer.json has a token of more than {MAX_TOKEN} characters")
    if not ids or not {type(number) for number in ids} <= {int} or min(ids) < 0 or max(ids) > MAX_ID:
        raise BundleFormatError(f"tokenizer.json has no tokens, or ids that are no numbers from 0 to {MAX_ID}")
    return np.fromiter(ids, np.int64)


def _check_model(model: Mapping[str, Any], tokens: int) -> None:
    unknown = model.get("unk_id")
    if len(model.get("merges") or ()) > 4 * MAX_TOKENS:
        raise BundleFormatError(f"tokenizer.json has more than {4 * MAX_TOKENS:,} merges")
    if unknown is not None and not (type(unknown) is int and 0 <= unknown < tokens):
        raise BundleFormatError(f"tokenizer.json: unk_id {unknown!r:.40} is no token of the vocabulary")
    if model.get("dropout"):
        raise BundleFormatError("tokenizer.json has dropout set: a text would get other tokens each time")
    prefix = model.get("continuing_subword_prefix")
    if prefix and not all(_second(merge).startswith(prefix) for merge in model.get("merges") or ()):
        # the parser takes so many bytes off each, whatever they are
        raise BundleFormatError(f"tokenizer.json: a merge lacks the continuing_subword_prefix {prefix!r:.40}")
    word = model.get("max_input_chars_per_word", 1)
    if type(word) is not int or not 0 <= word <= MAX_WORD:
        raise BundleFormatError(
            f"tokenizer.json: max_input_chars_per_word {word!r:.40} is not a number up to {MAX_WORD}"
        )


def _second(merge: Any) -> str:
    """What a merge puts behind its first part: "a b" or ["a", "b"] -> "b"."""
    return str(merge.split(" ")[-1] if isinstance(merge, str) else merge[-1])


def _check_added(added: list[dict[str, Any]], growth: float) -> set[int]:
    """The ids of added tokens. growth: how much longer they can become when they are normalised."""
    if not all(isinstance(token["content"], str) and type(token["id"]) is int for token in added):
        raise BundleFormatError("tokenizer.json: an added token has no text or no number")
    lengths = [len(token["content"]) for token in added]
    if max(lengths, default=0) > MAX_TOKEN:
        raise BundleFormatError(f"tokenizer.json has an added token of more than {MAX_TOKEN} characters")
    # Unicode's forms make 18 characters of one that has three bytes
    characters = int(
        sum(n if token["content"].isascii() else 18 * n for token, n in zip(added, lengths, strict=True)) * growth
    )
    if len(lengths) > MAX_ADDED or characters > MAX_ADDED_CHARACTERS:
        raise BundleFormatError(
            f"tokenizer.json has {len(lengths):,} added tokens with {characters:,} characters, normalised; at most "
            f"{MAX_ADDED:,} with {MAX_ADDED_CHARACTERS:,} are used"
        )
    # each of them would be looked for to the end of the spaces behind it, and begin anew with the next space
    if any(token["content"].isspace() and (token.get("lstrip") or token.get("rstrip")) for token in added):
        raise BundleFormatError("tokenizer.json: an added token of spaces takes the spaces around it")
    return {token["id"] for token in added}


def _special_tokens(component: Mapping[str, Any], added: set[int], ids: Ids) -> int:
    """How many tokens a post-processor puts around a text, all of them known."""
    kind, named = component["type"], []
    if kind == "TemplateProcessing":
        special = component.get("special_tokens") or {}
        pieces = component["single"]
        for template in (pieces, component.get("pair") or []):
            if len(template) > MAX_SPECIAL + 2:
                raise BundleFormatError(f"tokenizer.json: a template has {len(template):,} pieces")
        # a template may also be written as "[CLS] $A [SEP]"
        if not all(isinstance(piece, dict) for piece in pieces):
            raise BundleFormatError("tokenizer.json: a template is not a list of pieces")
        for piece in pieces:
            if "SpecialToken" in piece:
                token = special.get(piece["SpecialToken"]["id"], {"ids": ["?"], "tokens": ["?"]})
                if len(token["ids"]) != len(token["tokens"]):
                    raise BundleFormatError("tokenizer.json: a special token has other numbers than names")
                named += token["ids"]
    elif kind in ("BertProcessing", "RobertaProcessing"):
        named = [component["sep"][1], component["cls"][1]]
    if len(named) > MAX_SPECIAL:
        return len(named)
    unknown = next((n for n in named if n not in added and not _is_among(ids, n)), None)
    if unknown is not None:
        raise BundleFormatError(f"tokenizer.json puts the token {unknown!r:.40} around a text, which it has not")
    return len(named)


def _is_among(ids: Ids, number: Any) -> bool:
    return type(number) is int and 0 <= number <= MAX_ID and bool((ids == number).any())
