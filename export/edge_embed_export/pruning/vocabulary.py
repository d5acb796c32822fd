"""A tokenizer's vocabulary as something that tokens can be taken out of.

What holds for each kind, so that a text whose tokens are all kept is taken apart as before:

WordPiece, WordLevel  the longest piece that fits is taken: with fewer pieces the same one, where it is still there
Unigram               the best path stays the best of fewer; the lowest score, which unknown characters are measured
                      against, stays as well
BPE                   a token needs the tokens that its merges go through; they stay with it, and with them the merges
"""

import codecs
import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from itertools import pairwise
from typing import Any

from edge_embed_export.pruning.scripts import COMMON, script_of
from edge_embed_runtime.errors import ExportError
from edge_embed_runtime.inputs.tokenizer import parse_tokenizer

PLACEHOLDER = re.compile(r"\[unused\d+\]|<unused\d+>")
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
UNASSIGNED = ("Cn", "Co", "Cs")
# Beyond lie tags, variation selectors and private characters.
LAST_LETTER = 0x32400
PRINTABLE = (*range(33, 127), *range(161, 173), *range(174, 256))


class Vocabulary:
    """The tokens of a tokenizer.json.

    ids: token to id, added tokens included

    Raises ExportError for a tokenizer of which no tokens can be taken.
    """

    def __init__(self, definition: bytes) -> None:
        self.definition: dict[str, Any] = json.loads(definition)
        self._model: dict[str, Any] = self.definition["model"]
        self.kind: str = self._model.get("type", "BPE")
        marks = [self._model.get(field) for field in ("continuing_subword_prefix", "end_of_word_suffix")]
        if self.kind == "BPE" and any(marks):
            raise ExportError("a BPE tokenizer with marks for parts of words cannot be pruned")
        self.ids: dict[str, int] = parse_tokenizer(definition).get_vocab(with_added_tokens=True)
        self._mark: str = (marks[0] or "") if self.kind == "WordPiece" else ""
        self._added = {token["content"]: int(token["id"]) for token in self.definition.get("added_tokens") or []}

    @cached_property
    def byte_level(self) -> bool:
        """Whether pieces are made of bytes, so that there is no unknown character."""
        parts = (self.definition.get("pre_tokenizer"), self.definition.get("normalizer"))
        return self.kind == "BPE" and any(c.get("type") == "ByteLevel" for part in parts for c in _components(part))

    @cached_property
    def byte_codes(self) -> dict[str, int]:
        """How byte-level BPE writes bytes: printable ones as themselves, the others as characters from 256 on."""
        others = [byte for byte in range(256) if byte not in PRINTABLE]
        return {**{chr(b): b for b in PRINTABLE}, **{chr(256 + i): b for i, b in enumerate(others)}}

    @property
    def falls_back(self) -> bool:
        """Whether a character without a piece of its own is written in bytes."""
        return self.byte_level or (bool(self._model.get("byte_fallback")) and any(map(BYTE.fullmatch, self.ids)))

    @cached_property
    def unknown(self) -> int | None:
        """The id that stands for what has no token."""
        if self.kind == "Unigram":
            found = self._model.get("unk_id")
            return None if found is None else int(found)
        return self.ids.get(self._model.get("unk_token") or "")

    @cached_property
    def special(self) -> set[str]:
        """Tokens that stay whatever is chosen: added and unknown ones, those put around texts, and bytes."""
        by_id = {number: token for token, number in self.ids.items()}
        stay = {token for token in self._added if not PLACEHOLDER.fullmatch(token)}
        stay |= {by_id[number] for number in _numbers(self.definition.get("post_processor"))}
        stay |= {token for token in self.ids if BYTE.fullmatch(token) or (self.byte_level and len(token) == 1)}
        if self.unknown is not None:
            stay.add(by_id[self.unknown])
        if self.kind == "Unigram":
            stay.add(min(self._model["vocab"], key=lambda entry: entry[1])[0])
        return stay

    def spelled(self, token: str) -> str:
        """A token without the mark of pieces inside words: "##ing" -> "ing"."""
        return token.removeprefix(self._mark) if self._mark else token

    def occurring(self, scripts: Collection[str] | None) -> set[str]:
        """Tokens that texts in these scripts can hold (None means any), without special ones and placeholders."""
        tokens = {token for token in self.ids if token not in self.special and not PLACEHOLDER.fullmatch(token)}
        if scripts is None:
            return tokens
        wanted = {*scripts, COMMON}
        if self.byte_level:
            heads = _heads(wanted)
            return {token for token in tokens if self._bytes_fit(token, wanted, heads)}
        return {token for token in tokens if wanted.issuperset(map(script_of, self.spelled(token)))}

    def of_script(self, script: str) -> bool:
        """Whether any token has a letter of a script, or can be written without one."""
        return self.falls_back or any(script in map(script_of, token) for token in self.ids)

    def _bytes_fit(self, token: str, wanted: set[str], heads: set[bytes]) -> bool:
        """Whether a piece of bytes is a part of a text in these scripts; it may begin and end inside characters."""
        if not self.byte_codes.keys() >= set(token):
            return False
        raw = bytes(self.byte_codes[character] for character in token)
        start = next((i for i, byte in enumerate(raw) if byte & 0xC0 != 0x80), len(raw))
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            text = decoder.decode(raw[start:])
        except UnicodeDecodeError:
            return False
        rest = decoder.getstate()[0]
        return wanted.issuperset(map(script_of, text)) and (not rest or rest in heads)

    def irreplaceable(self, tokens: Iterable[str]) -> set[str]:
        """Those of the tokens that single characters cannot stand in for, single characters among them."""
        if self.falls_back or self.kind == "WordLevel":
            return set()
        return {token for token in tokens if not self._single_pieces(token)}

    def _single_pieces(self, token: str) -> bool:
        spelled = self.spelled(token)
        if len(spelled) < 2:
            return False
        first = token[: len(token) - len(spelled)] + spelled[0]
        return first in self.ids and all(self._mark + character in self.ids for character in spelled[1:])

    def singles(self, tokens: Iterable[str]) -> set[str]:
        """Those of the tokens that are one character."""
        return {token for token in tokens if len(self.spelled(token)) == 1}

    @cached_property
    def _ranks(self) -> dict[tuple[str, str], int]:
        pairs = (tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in self._model.get("merges") or [])
        return {(left, right): rank for rank, (left, right) in enumerate(pairs)}

    def parts(self, token: str) -> set[str]:
        """A token and those that its merges go through.

        "abc", merges (b, c), (a, bc) -> {"abc", "a", "b", "c", "bc"}
        """
        if self.kind != "BPE" or token in self._added:
            return {token}
        symbols, made = list(token), {token, *token}
        while len(symbols) > 1:
            rank, place = min((self._ranks.get(pair, len(self._ranks)), i) for i, pair in enumerate(pairwise(symbols)))
            if rank == len(self._ranks):
                return {token}  # no merges make it: it is found whole, or never
            symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
            made.add(symbols[place])
        return made & self.ids.keys()

    def pruned(self, kept: Iterable[int]) -> bytes:
        """The tokenizer with these tokens alone, with new numbers in the order of their ids.

        Raises ExportError where the tokens would get other numbers than their rows.
        """
        new = {old: number for number, old in enumerate(sorted(kept))}
        tokens = {token: new[number] for token, number in self.ids.items() if number in new}
        model = dict(self._model)
        if self.kind == "Unigram":
            model["vocab"] = [entry for number, entry in enumerate(model["vocab"]) if number in new]
            model["unk_id"] = None if self.unknown is None else new[self.unknown]
        else:
            own = {token: new[number] for token, number in model["vocab"].items() if number in new}
            model["vocab"] = dict(sorted(own.items(), key=lambda item: item[1]))
        if self.kind == "BPE":
            stay = model["vocab"].keys()
            pairs = zip(self._ranks, model["merges"], strict=True)
            model["merges"] = [merge for (left, right), merge in pairs if {left, right, left + right} <= stay]
        added = [token for token in self.definition.get("added_tokens") or [] if int(token["id"]) in new]
        definition = {
            **self.definition,
            "model": model,
            "added_tokens": [{**token, "id": new[int(token["id"])]} for token in added],
            "post_processor": _renumbered(self.definition.get("post_processor"), new),
        }
        packed = json.dumps(definition, ensure_ascii=False, separators=(",", ":")).encode()
        if parse_tokenizer(packed).get_vocab(with_added_tokens=True) != tokens:
            raise ExportError("the tokenizer numbers its tokens in a way that cannot be kept: it cannot be pruned")
        return packed


def _components(part: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """A component of a tokenizer and those inside it."""
    if part is not None:
        yield part
        for children in ("normalizers", "pretokenizers", "processors"):
            for child in part.get(children, []):
                yield from _components(child)


def _numbers(post_processor: dict[str, Any] | None) -> Iterator[int]:
    """The ids that a post-processor puts around texts."""
    for part in _components(post_processor):
        for token in part.get("special_tokens", {}).values():
            yield from token["ids"]
        yield from (part[field][1] for field in ("sep", "cls") if field in part)


def _renumbered(post_processor: dict[str, Any] | None, new: dict[int, int]) -> dict[str, Any] | None:
    if post_processor is None:
        return None
    part = dict(post_processor)
    if "processors" in part:
        part["processors"] = [_renumbered(child, new) for child in part["processors"]]
    if "special_tokens" in part:
        entries = part["special_tokens"].items()
        part["special_tokens"] = {name: {**token, "ids": [new[i] for i in token["ids"]]} for name, token in entries}
    return {**part, **{field: [part[field][0], new[part[field][1]]] for field in ("sep", "cls") if field in part}}


def _heads(scripts: set[str]) -> set[bytes]:
    """The first bytes of characters of these scripts, without the last ones: "é" -> b"\\xc3"."""
    heads: set[bytes] = set()
    for start in range(128, LAST_LETTER, 64):  # 64 characters have all bytes but the last in common
        block = map(chr, range(start, start + 64))
        if any(unicodedata.category(c) not in UNASSIGNED and script_of(c) in scripts for c in block):
            raw = chr(start).encode()
            heads.update(raw[:length] for length in range(1, len(raw)))
    return heads
