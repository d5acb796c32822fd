"""Tokenizers that no parser should be trusted with, and texts that are hard on those that are sound.

`hostile`: each is refused, or does its work in bounded time. `sound`: of the forms that public tokenizers have, which
must be taken.
"""

import base64
import contextlib
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

from builders.bert import word_tokenizer
from edge_embed_runtime.errors import BundleFormatError, InputError
from edge_embed_runtime.inputs.tokenizer import Tokenizer

Definition = dict[str, Any]
Cases = Iterator[tuple[str, Definition | bytes]]

TEXTS = [
    "",
    "the cat at the river",
    "a" * 2048,
    "a" * 32_768,
    "ab" * 16_384,
    " " * 32_768,
    "\n " * 16_384,
    "1" * 2048,
    "the " * 8192,
    "z\u0351\u0489\u0316" * 700,
    "\u0301" * 2048,
    "\ufdfa" * 2048,
    "\u0130" * 2048,
    "日" * 2048,
    "👩\u200d👩\u200d👧" * 400,
    "\u202e\ufeff\x00\x1b[31m" * 200,
    "['<[CLS]" * 400,
]


def base(**parts: Any) -> Definition:
    return {**word_tokenizer(), "padding": None, "truncation": None, **parts}


def replace(content: str, string: str | None = None, regex: str | None = None) -> Definition:
    pattern = {"Regex": regex} if regex is not None else {"String": string}
    return {"type": "Replace", "pattern": pattern, "content": content}


def split(regex: str) -> Definition:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def normalizers(*steps: Definition) -> Definition:
    return {"type": "Sequence", "normalizers": list(steps)}


def charmap(units: list[int], replacements: bytes, size: int | None = None) -> Definition:
    raw = struct.pack("<I", 4 * len(units) if size is None else size) + struct.pack(f"<{len(units)}I", *units)
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(raw + replacements).decode()}


def trie(changes: dict[str, int]) -> list[int]:
    """The double array of a map of texts to places in the replacements: 256 units for each beginning of a text."""
    beginnings = {text.encode()[:end] for text in changes for end in range(len(text.encode()) + 1)}
    first = {part: 256 * (i + 1) for i, part in enumerate(sorted(beginnings))}
    units = [0] * 256 * (len(first) + 1)
    units[0] = first[b""] << 10
    for part in beginnings - {b""}:
        at = first[part[:-1]] ^ part[-1]
        units[at] = part[-1] | (at ^ first[part]) << 10
    for text, place in changes.items():
        part = text.encode()
        units[first[part[:-1]] ^ part[-1]] |= 1 << 8
        units[first[part]] = 1 << 31 | place
    return units


def added(count: int, content: Callable[[int], str], **changes: Any) -> list[Definition]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    return [*word_tokenizer()["added_tokens"]] + [
        {"id": 25 + i, "content": content(i), **plain, **changes} for i in range(count)
    ]


def template(pieces: int = 1, **special: Any) -> Definition:
    token = {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"], **special}
    single = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}] * pieces + [{"Sequence": {"id": "A", "type_id": 0}}]
    return {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": {"[CLS]": token}}


def model(**changes: Any) -> Definition:
    return {**word_tokenizer()["model"], **changes}


def unigram(vocab: Any, **changes: Any) -> Definition:
    return {"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": False, **changes}


def bpe(vocab: dict[str, Any], merges: Any, **changes: Any) -> Definition:
    return {"type": "BPE", "vocab": vocab, "merges": merges, "unk_token": None, "dropout": None, **changes}


BAD_PATTERNS = [
    "(a+)+$", "(a+)+b", "(a*)*b", "(a|a)*b", "(a|aa)+b", "(aa?)*b", "a*a*a*b", "(.*)(.*)(.*)x", "(a?){30}a{30}",
    "a?" * 40 + "a" * 40, r"(\w+\s?)+x", r"(a+)\1+b", r"\k<x>(?<x>a)", r"(?<x>a\g<x>?)", "(" * 500 + "a" + ")" * 500,
    "a{100000}", "(?:(?:a{1000}){1000}){1000}", "a**b", "(?{1})", "(*FAIL)", "(?~ab)*b", "[", "(", ")", "a{3,1}",
    "a" * 10_000, "[a-z]+[a-z]+[a-z]+1", "(?:a|b|ab)*c", "(?x)a #(", r"(?=(a+)+b)", r"(?<!(a|a)*)b", "*a", r"\p{Nope}",
    "(a{1,500}){1,500}b", "(?:[ab]{0,50}){40}c", r"(?i)(ſ+|s+)*K", "[" * 300 + "a" + "]" * 300,
]  # fmt: skip


def _patterns() -> Cases:
    """What takes a backtracking engine for ever, and what it does not take at all."""
    for i, pattern in enumerate(BAD_PATTERNS):
        yield f"split on pattern {i}", base(pre_tokenizer=split(pattern))
        yield f"replace pattern {i}", base(normalizer=replace("x", regex=pattern))


def _character_maps() -> Cases:
    """Compiled maps whose numbers lead elsewhere."""
    for name, junk in {
        "junk": "/////w8PDw8PDw8P" * 50, "empty": "", "four bytes": "AAAA", "huge length": "/////w==",
        "zero": "AAAAAAAAAAA=", "not base64": "%%%%", "odd": "QQAAAAAAAAA=", "number": 7, "null": None,
    }.items():  # fmt: skip
        yield f"character map: {name}", base(normalizer={"type": "Precompiled", "precompiled_charsmap": junk})
    good, text = trie({"a": 0}), b"b\0"
    yield "character map: leads out", base(normalizer=charmap([*good[:256], *[(1 << 20) << 10] * 768], text))
    yield "character map: steps of 256", base(normalizer=charmap([256 << 10 | 1 << 9, *good[1:]], text))
    yield "character map: cut off in the middle of 256", base(normalizer=charmap(good[:300], text))
    yield "character map: a value behind the end", base(normalizer=charmap(trie({"a": 99}), text))
    yield "character map: a value in a letter", base(normalizer=charmap(trie({"a": 1}), "é\0".encode()))
    yield "character map: no end", base(normalizer=charmap(good, b"b"))
    yield "character map: not UTF-8", base(normalizer=charmap(good, b"\xff\0"))
    yield "character map: the root is a value", base(normalizer=charmap([1 << 31, *good[1:]], text))
    yield "character map: grows", base(normalizer=charmap(good, b"b" * 100_000 + b"\0"))
    yield "character map: four grow", base(normalizer=normalizers(*[charmap(good, b"a" * 40 + b"\0")] * 4))
    yield "character map: length is not of whole numbers", base(normalizer=charmap(good, text, size=4097))


def _growing() -> Cases:
    """Steps that make texts longer and longer."""
    yield "a letter becomes a million", base(normalizer=replace("b" * 1_000_000, "a"))
    yield "a letter becomes a thousand", base(normalizer=replace("b" * 1000, "a"))
    yield "forty doublings", base(normalizer=normalizers(*[replace("aa", "a")] * 40))
    yield "forty doublings by a pattern", base(normalizer=normalizers(*[replace("aa", regex="a")] * 40))
    yield "seven doublings", base(normalizer=normalizers(*[replace("aa", "a")] * 7))
    yield "doublings in sequences", base(normalizer=normalizers(*[normalizers(*[replace("aa", "a")] * 8)] * 8))
    yield "an empty pattern", base(normalizer=replace("aa", ""))
    yield "an empty regular expression", base(normalizer=replace("a" * 100, regex=""))
    yield "fifty in front", base(normalizer=normalizers(*[{"type": "Prepend", "prepend": "a" * 1000}] * 50))
    yield "a million in front", base(normalizer={"type": "Prepend", "prepend": "a" * 1_000_000})
    yield "twenty byte levels", base(normalizer=normalizers(*[{"type": "ByteLevel"}] * 20))
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    yield "twenty byte levels of words", base(pre_tokenizer={"type": "Sequence", "pretokenizers": [level] * 20})
    yield "a thousand steps", base(normalizer=normalizers(*[{"type": "NFKD"}] * 1000))


def _deep() -> Cases:
    """Sequences in sequences."""
    for kind in ("normalizer", "pre_tokenizer"):
        for depth in (50, 120, 600, 100_000):
            children = "normalizers" if kind == "normalizer" else "pretokenizers"
            definition = json.dumps(base(**{kind: None}), separators=(",", ":"))
            inner = f'{{"type":"Sequence","{children}":[' * depth + "null" + "]}" * depth
            yield f"{kind} {depth} deep", definition.replace(f'"{kind}":null', f'"{kind}":{inner}').encode()
    yield "sequence in post-processor", base(post_processor={"type": "Sequence", "processors": [template(60)] * 60})


def _added_tokens() -> Cases:
    """Too many, too long, of odd numbers, or taking the spaces around them."""
    for count, length in ((100_000, 300), (60_000, 30), (100_000, 5), (1000, 1024), (20, 100_000)):
        yield (
            f"{count} added tokens of {length}",
            base(added_tokens=added(count, lambda i, n=length: f"z{i}".ljust(n, "z"))),
        )
    yield "added tokens in each other", base(added_tokens=added(1000, lambda i: "a" * (i + 1)))
    yield (
        "added tokens that grow",
        base(normalizer=replace("a" * 64, "z"), added_tokens=added(5000, lambda i: f"z{i}" + "z" * 190)),
    )
    yield (
        "added tokens of ligatures",
        base(normalizer={"type": "NFKD"}, added_tokens=added(1000, lambda i: f"{i}" + "\ufdfa" * 1000)),
    )
    yield "an empty added token", base(added_tokens=added(1, lambda _: ""))
    yield "an added space", base(added_tokens=added(1, lambda _: " ", lstrip=True, rstrip=True))
    yield "added tokens of one number", base(added_tokens=[{**t, "id": 7} for t in added(50, str)])
    for number in (-1, 2**31, 2**32, 2**64, 1.5, "7", None, True):
        yield f"an added token of number {number!r}", base(added_tokens=[{**added(1, str)[-1], "id": number}])
        yield f"a token of number {number!r}", base(model=model(vocab={**model()["vocab"], "x": number}))
        yield f"a template with the token {number!r}", base(post_processor=template(ids=[number]))
    yield "added tokens are numbers", base(added_tokens=[1, 2])
    yield "an added token is a list", base(added_tokens=[{**added(1, str)[-1], "content": ["a"]}])


def _templates() -> Cases:
    """Special tokens without end, or unknown."""
    yield "a template of a million", base(post_processor=template(1_000_000))
    yield "a template of a thousand", base(post_processor=template(1000))
    yield (
        "a special token of a million",
        base(post_processor=template(ids=[2] * 1_000_000, tokens=["[CLS]"] * 1_000_000)),
    )
    yield "a special token without names", base(post_processor=template(tokens=[]))
    yield "a special token of none", base(post_processor=template(ids=[], tokens=[]))
    yield "a template of an unknown name", base(post_processor={**template(), "special_tokens": {}})
    yield "a template of text", base(post_processor={**template(), "single": "[CLS] $A"})
    yield "a template twice the text", base(post_processor={**template(), "single": template()["single"] * 2})
    yield (
        "a template of the second text",
        base(post_processor={**template(), "single": [{"Sequence": {"id": "B", "type_id": 0}}]}),
    )
    for kind in ("BertProcessing", "RobertaProcessing"):
        for sep in (["[SEP]", 10**6], ["[SEP]", -1], ["[SEP]"], [], "x"):
            processor = {"type": kind, "sep": sep, "cls": ["[CLS]", 2], "trim_offsets": True, "add_prefix_space": False}
            yield f"{kind} with {sep}", base(post_processor=processor)


def _word_pieces() -> Cases:
    """Long words and pieces, and numbers that fit nothing."""
    for size in (10**6, 10**9, 2**64, -1, "x", None, 1001):
        yield f"words of {size!r}", base(model=model(max_input_chars_per_word=size))
    yield (
        "words of 1000 and long pieces",
        base(
            model=model(max_input_chars_per_word=1000, vocab={**model()["vocab"], "a" * 999: 25, "##" + "a" * 999: 26})
        ),
    )
    yield "a prefix of a million", base(model=model(continuing_subword_prefix="#" * 1_000_000))
    yield "an unknown token of a million", base(model=model(unk_token="u" * 1_000_000))
    yield "no unknown token", base(model=model(**{"unk_token": "[NOTHING]"}))
    yield "no vocabulary", base(model=model(vocab={}))
    yield "a vocabulary of null", base(model=model(vocab=None))
    yield "a token of a million", base(model=model(vocab={**model()["vocab"], "a" * 1_000_000: 25}))
    yield "numbers with gaps", base(model=model(vocab={**model()["vocab"], "z": 2**31 - 1}))
    yield "one number for all", base(model=model(vocab=dict.fromkeys(model()["vocab"], 2)))


def _unigrams() -> Cases:
    """Scores, tokens and unknown tokens that are none."""
    words = [["<unk>", 0.0], ["▁the", -1.0], ["a", -2.0], ["▁", -3.0]]
    for name, vocab in {
        "no tokens": [], "NaN": [*words, ["b", float("nan")]], "infinity": [*words, ["b", float("-inf")]],
        "a text": [*words, ["b", "1"]], "one": [*words, ["b"]], "three": [*words, ["b", 1, 1]],
        "empty": [*words, ["", 0.0]], "twice": [*words, ["a", 9.0]], "deep": [*words, ["a" * 200_000, 0.0]],
        "huge": [*words, ["b", 1e308], ["c", 1e308]],
        "numbers": [1, 2], "dictionary": {"<unk>": 0}, "mapping": {"<unk>": 0.0},
    }.items():  # fmt: skip
        yield f"Unigram: {name}", base(model=unigram(vocab), post_processor=None, added_tokens=[])
    for unk in (4, -1, 2**40, None, "x", 1.0):
        yield f"Unigram: unk_id {unk!r}", base(model=unigram(words, unk_id=unk), post_processor=None, added_tokens=[])
    yield "Unigram: bytes", base(model=unigram(words, byte_fallback=True), post_processor=None, added_tokens=[])
    yield (
        "Unigram without type",
        base(
            model={k: v for k, v in unigram([["a" * 200_000, 0.0]]).items() if k != "type"},
            post_processor=None,
            added_tokens=[],
        ),
    )


def _merges() -> Cases:
    """Merges that fit nothing."""
    chain = {"a" * 2**i: i for i in range(10)}
    merges = [f"{'a' * 2**i} {'a' * 2**i}" for i in range(9)]
    for name, changed in {
        "merges that double": bpe(chain, merges), "unknown merges": bpe(chain, ["x y"]), "one part": bpe(chain, ["aa"]),
        "three parts": bpe(chain, ["a a a"]), "pairs": bpe(chain, [["a", "a"]]), "numbers": bpe(chain, [1]),
        "a merge twice": bpe(chain, ["a a"] * 1000), "dropout": bpe(chain, merges, dropout=0.5),
        "dropout of 7": bpe(chain, merges, dropout=7), "dropout of text": bpe(chain, merges, dropout="x"),
        "a long prefix": bpe(chain, merges, continuing_subword_prefix="#" * 600),
        "a prefix in letters": bpe({"é": 0, "a": 1, "aé": 2}, ["a é"], continuing_subword_prefix="x"),
        "a prefix longer than a part": bpe({"a": 0, "aa": 1}, ["a a"], continuing_subword_prefix="##"),
        "a long end": bpe(chain, merges, end_of_word_suffix="x" * 100_000), "no merges": bpe(chain, None),
        "cached": bpe(chain, merges, cache_capacity=2**62), "bytes": bpe(chain, merges, byte_fallback=True),
        "unknown": bpe(chain, merges, **{"unk_token": "x", "fuse_unk": True}), "not there": bpe({}, []),
    }.items():  # fmt: skip
        yield f"BPE: {name}", base(model=changed, post_processor=None, added_tokens=[])
    yield (
        "WordLevel: no unknown token",
        base(model={"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "x"}, post_processor=None, added_tokens=[]),
    )


def _broken() -> Cases:
    """Other types, two meanings of one file, and no JSON."""
    for part in ("normalizer", "pre_tokenizer", "post_processor", "model", "decoder"):
        for value in ({"type": "Nothing"}, {"type": None}, {}, [], 7, "text", [{"type": "Sequence"}], {"type": ["a"]}):
            yield f"{part} is {json.dumps(value)}", base(**{part: value})
    yield "decoder with a pattern", base(decoder=replace("x", regex="(a+)+b"))
    yield "decoder of a million", base(decoder=replace("x" * 1_000_000, "a"))
    yield (
        "two normalizers",
        json.dumps(base(normalizer=None))
        .replace(
            '"normalizer": null',
            '"normalizer": {"type": "Precompiled", "precompiled_charsmap": "/////w=="}, "normalizer": null',
        )
        .encode(),
    )
    yield (
        "two patterns",
        json.dumps(base(normalizer=replace("x", regex="b")))
        .replace('"Regex": "b"', '"Regex": "(a+)+$", "Regex": "b"')
        .encode(),
    )
    yield "UTF-16", json.dumps(base()).encode("utf-16")
    yield "a lone surrogate", json.dumps(base(normalizer=replace("\ud800", "a"))).encode()
    yield "a byte order mark", b"\xef\xbb\xbf" + json.dumps(base()).encode()
    yield "null bytes", b"\0" * 1_000_000
    yield "a number of a million digits", b'{"model": ' + b"9" * 1_000_000 + b"}"
    yield "a deep list", b"[" * 1_000_000
    yield (
        "metaspace of words",
        base(pre_tokenizer={"type": "Metaspace", "replacement": "aaa", "prepend_scheme": "always", "split": True}),
    )
    yield (
        "metaspace of nothing",
        base(pre_tokenizer={"type": "Metaspace", "replacement": "", "prepend_scheme": "always", "split": True}),
    )
    yield "punctuation of nothing", base(pre_tokenizer={"type": "Punctuation", "behavior": "Nothing"})
    yield "fixed length of nothing", base(pre_tokenizer={"type": "FixedLength", "length": 0})


KINDS = (
    _patterns, _character_maps, _growing, _deep, _added_tokens, _templates, _word_pieces, _unigrams, _merges, _broken,
)  # fmt: skip


def hostile(*kinds: Callable[[], Cases]) -> Iterator[tuple[str, bytes]]:
    """(name, tokenizer.json) of some kinds, or of all; some have many megabytes."""
    for kind in kinds or KINDS:
        for name, found in kind():
            raw = found if isinstance(found, bytes) else json.dumps(found).encode("utf-8", "surrogatepass")
            yield name, raw


def attempt(raw: bytes) -> str:
    """How a tokenizer ends: "works", or the kind of our error. Any other error is raised."""
    try:
        tokenizer = Tokenizer(raw, 256)
    except BundleFormatError:
        return "refused"
    for text in TEXTS:
        with contextlib.suppress(InputError):  # a tokenizer without an unknown token does not know every text
            assert len(tokenizer.encode(text)) <= 256
    return "works"


# --- those that must work

SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SOUND_PATTERNS = {
    "GPT-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|"
    r"\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    "Llama 3": ENDINGS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES,
    "o200k": rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{ENDINGS}?|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{ENDINGS}?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACES,
    "CLIP": r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    "BLOOM": r" ?[^(\s|[.,!?…。，、।۔،])]+",
    "DeepSeek": r"[!#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
    r" ?[\p{P}\p{S}]+[\r\n]*|" + SPACES,
    "Chinese and kana": "[一-龥\u3040-ゟ゠-ヿ]+",
    "digits from the right": r"(?=(\d{3})+(?!\d))",
    "digits": "[0-9][0-9][0-9]",
    "spaces": " {2,}",
    "words": r"\w+|[^\w\s]+",
    "classes in classes": r"[\p{L}&&[^\p{Han}]]+|[\p{Han}]",
    "nothing": "",
}


def sound() -> Iterator[tuple[str, Definition]]:
    """Forms of public tokenizers over a small vocabulary."""
    plain = {"post_processor": None, "added_tokens": []}
    yield "BERT", base()
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    for name, pattern in SOUND_PATTERNS.items():
        yield f"{name}, split", base(pre_tokenizer={"type": "Sequence", "pretokenizers": [split(pattern), level]})
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    words = [["<unk>", 0.0], ["▁the", -1.0], ["▁cat", -2.0], ["▁", -3.0], *([letter, -9.0] for letter in "abcdefghi")]
    mapped = charmap(trie({"A": 0, "B": 2}), b"a\0" + b"bbb" + b"\0")
    yield (
        "XLM-R",
        base(
            normalizer=normalizers(mapped, replace(" ", regex=" {2,}")),
            pre_tokenizer=space,
            model=unigram(words),
            **plain,
        ),
    )
    quotes = [replace('"', "``"), replace('"', "''")]
    albert = [*quotes, {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}, mapped]
    yield "ALBERT", base(normalizer=normalizers(*albert), pre_tokenizer=space, model=unigram(words), **plain)
    llama = normalizers({"type": "Prepend", "prepend": "▁"}, replace("▁", " "))
    vocab = {"<unk>": 0, "▁": 1, "t": 2, "h": 3, "e": 4, "▁t": 5, "he": 6, "▁the": 7}
    merges = ["▁ t", "h e", "▁t he"]
    fallback = bpe(vocab, merges, **{"unk_token": "<unk>"}, fuse_unk=True, byte_fallback=True)
    yield "Llama 2", base(normalizer=llama, pre_tokenizer=None, model=fallback, **plain)
    yield "Gemma", base(normalizer=replace("▁", " "), pre_tokenizer=None, model=fallback, **plain)
    parts = bpe({"t": 0, "##h": 1, "th": 2}, ["t ##h"], continuing_subword_prefix="##", **{"unk_token": "t"})
    yield "BPE with ##", base(model=parts, **plain)
    yield "T5's extra tokens", base(added_tokens=added(100, lambda i: f"<extra_id_{i}>", lstrip=True, special=True))
    yield "Gemma's unused tokens", base(added_tokens=added(6242, lambda i: f"<unused{i}>"))
    yield "spaces of GPT-NeoX", base(added_tokens=added(23, lambda i: " " * (i + 2)))
    yield "Whisper's template", base(post_processor=template(4))
