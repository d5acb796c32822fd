"""vetting.py, patterns.py, charmap.py: no tokenizer ends the process or works for minutes; public forms are taken."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from builders.hostile_tokenizers import BAD_PATTERNS, KINDS, SOUND_PATTERNS, TEXTS, base, charmap, sound, trie

from edge_embed import Embedder
from edge_embed_runtime.errors import BundleFormatError
from edge_embed_runtime.inputs.charmap import check_charmap
from edge_embed_runtime.inputs.patterns import check_pattern
from edge_embed_runtime.inputs.tokenizer import Tokenizer
from edge_embed_runtime.inputs.vetting import check_tokenizer

resource = pytest.importorskip("resource", reason="limits of POSIX")
SECONDS = 240  # of a kind; each of its tokenizers takes less than a few
MEMORY = 4 * 2**30
CHILD = """
import sys
from builders.hostile_tokenizers import KINDS, attempt, hostile
for name, raw in hostile(KINDS[int(sys.argv[1])]):
    print(name, flush=True)
    print(attempt(raw), flush=True)
"""


# Tens of tokenizers each.
SLOW = ("templates", "added_tokens")
NAMES = [kind.__name__.strip("_") for kind in KINDS]


@pytest.mark.parametrize(
    "kind",
    [pytest.param(i, id=name, marks=pytest.mark.slow if name in SLOW else []) for i, name in enumerate(NAMES)],
)
def test_hostile_tokenizers(kind: int) -> None:
    """Each is refused, or used on texts that are hard, in a process with little memory and time."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(kind)],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=Path(__file__).parents[2],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
    )
    said = done.stdout.splitlines()
    assert done.returncode == 0, f"{said[-1:]} ended the process with {done.returncode}: {done.stderr[-500:]}"
    ends = said[1::2]
    assert set(ends) <= {"refused", "works"}
    assert ends.count("refused") > len(ends) // 3


@pytest.mark.parametrize(
    ("name", "definition"), list(sound()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_public_forms_are_taken(name: str, definition: dict[str, object]) -> None:
    """As the library itself takes a text apart."""
    raw = json.dumps(definition).encode()
    ours, theirs = Tokenizer(raw, 4096), tokenizers.Tokenizer.from_buffer(raw)
    theirs.encode_special_tokens = True
    for text in ("the cat at the river 1234567", "Ab  AB\n\n don't 日本"):
        ids = theirs.encode(text).ids
        assert ours.encode(text).tolist() == ids, name
        assert ids


def test_hard_texts(embedder: Embedder) -> None:
    """Texts of marks, ligatures, spaces and one letter are cut like every other."""
    for text in TEXTS:
        assert len(embedder.tokenizer.encode(text * 20)) <= 256


def test_patterns_are_told_apart() -> None:
    """What takes more than the square of a text's length is refused; what public tokenizers have is not."""
    for pattern in SOUND_PATTERNS.values():
        check_pattern(pattern, "here")
    for pattern in BAD_PATTERNS:
        if pattern != r"\p{Nope}":  # well formed; the engine knows no such class
            with pytest.raises(BundleFormatError, match="here: "):
                check_pattern(pattern, "here")


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(a+)+b", "repeats what is repeated"),
        (r"(a)\1", "refers to another part"),
        ("(?<!a", "not closed"),
        ("a{2000}", "more than 1000 times"),
        ("(?{1})", "no known kind of group"),
        ("a" * 5000, "at most 4096 characters"),
        (None, "must be a text"),
    ],
)
def test_a_pattern_is_refused_with_its_reason(pattern: object, why: str) -> None:
    with pytest.raises(BundleFormatError, match=why):
        check_pattern(pattern, "here")


def test_a_character_map_says_how_much_it_grows() -> None:
    """A becomes b, B becomes bbb; the parser agrees that it is whole."""
    normalizer = charmap(trie({"A": 0, "B": 2}), b"b\0bbb\0")
    assert check_charmap(normalizer["precompiled_charsmap"]) == 3
    parsed = tokenizers.normalizers.Precompiled(base64.b64decode(normalizer["precompiled_charsmap"]))
    assert parsed.normalize_str("ABC") == "bbbbC"


def test_a_name_that_comes_twice_is_refused() -> None:
    """The parser may read the other of the two. Twice in a vocabulary is what both pass over."""
    twice = json.dumps(base()).replace('"normalizer":', '"normalizer": null, "normalizer":')
    with pytest.raises(BundleFormatError, match="a name twice"):
        check_tokenizer(twice.encode())
    check_tokenizer(json.dumps(base()).replace('"[PAD]": 0', '"[PAD]": 0, "[PAD]": 0').encode())


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": "b" * 100}}, "100 times as long"),
        ({"normalizer": {"type": "Lowercase", "normalizers": [{"type": "NFC"}] * 70}}, "more than 64 steps"),
        ({"added_tokens": [{"id": 0, "content": " ", "lstrip": True}]}, "takes the spaces around it"),
        ({"post_processor": {"type": "BertProcessing", "sep": ["x", 99], "cls": ["y", 2]}}, "token 99 .* has not"),
        ({"model": {**base()["model"], "dropout": 0.1}}, "other tokens each time"),
        ({"model": {**base()["model"], "max_input_chars_per_word": 10**6}}, "not a number up to 1000"),
        ({"model": {"type": "Unigram", "unk_id": 7, "vocab": [["a", 0.0]]}}, "unk_id 7 is no token"),
    ],
)
def test_what_is_refused_is_named(changes: dict[str, object], why: str) -> None:
    with pytest.raises(BundleFormatError, match=why):
        check_tokenizer(json.dumps(base(**changes)).encode())
