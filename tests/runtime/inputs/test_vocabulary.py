"""vocabulary.py: a vocabulary is cut out of a tokenizer.json only where its bytes say all that its parser would see."""

import json
from pathlib import Path
from typing import Any

import pytest
from builders.bert import word_tokenizer
from builders.hostile_tokenizers import KINDS, hostile

from edge_embed_runtime.errors import BundleFormatError
from edge_embed_runtime.inputs.tokenizer import Tokenizer, sanitize
from edge_embed_runtime.inputs.vetting import MAX_TOKEN, check_parts, check_tokenizer
from edge_embed_runtime.inputs.vocabulary import NUMBER, cut_vocabulary

# Kinds that have megabytes.
HUGE = ("_deep", "_added_tokens", "_templates", "_growing", "_patterns")
GOOD = b'{"model":{"vocab":{"a":0,"b\\"}":12,"\\\\":3,"\xc3\xa9":2147483647},"type":"WordPiece"}}'


def cut(definition: bytes) -> bool:
    return cut_vocabulary(definition, MAX_TOKEN) is not None


def test_ids_and_the_rest() -> None:
    """Quotes, braces and backslashes in names are part of them."""
    found = cut_vocabulary(GOOD, MAX_TOKEN)
    assert found is not None
    rest, ids = found
    assert ids.tolist() == [0, 12, 3, 2**31 - 1] == list(json.loads(GOOD)["model"]["vocab"].values())
    assert json.loads(rest) == {"model": {"vocab": [NUMBER], "type": "WordPiece"}}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b":0,", b":00,"), (b":0,", b":-1,"), (b":0,", b":1.5,"), (b":0,", b":,"), (b":0,", b":1e3,"),
        (b":0,", b": 0,"), (b":0,", b":0 ,"), (b":0,", b":null,"), (b":0,", b":12345678901,"), (b":0,", b":0,,"),
        (b'"a":0,', b'"a":0'), (b'"a":0,', b'"a",0,'), (b'"a":0,', b'"a\n":0,'), (b'"a":0,', b'"a\\n":0,'),
        (b'"a":0,', b'"\\u0061":0,'), (b'"a":0,', b'"a"":0,'), (b'"a":0,', b'"a":0,"b":{},'), (b'"a"', b'"\xff"'),
        (b'"a"', b'"%s"' % (b"a" * 1025)), (b'"a":0,', b""), (b"2147483647}", b"2147483647,}"), (b'"vocab"', b'"v"'),
        (b"2147483647}", b"2147483647]"), (b'2147483647},"type":"WordPiece"}}', b"2147483647"),
        (b'"type"', b'"%d":1,"type"' % NUMBER),
    ],
)  # fmt: skip
def test_other_forms_are_left_to_the_parser(old: bytes, new: bytes) -> None:
    """What is written in another way, or is no JSON, is not cut out, or gives what JSON gives."""
    changed = GOOD.replace(old, new, 1)
    assert changed != GOOD
    found = cut_vocabulary(changed, MAX_TOKEN)
    if found is not None:
        assert found[1].tolist() == list(json.loads(changed)["model"]["vocab"].values())
    else:
        assert cut(GOOD)


def test_all_that_is_refused_with_the_vocabulary_is_refused_without() -> None:
    """Every hostile tokenizer, written as bundles write theirs, has one fate in both ways, and the same parts."""
    both = 0
    for name, raw in hostile(*(kind for kind in KINDS if kind.__name__ not in HUGE)):
        try:
            packed = json.dumps(json.loads(raw), separators=(",", ":"), ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            packed = raw
        ends: list[Any] = []
        for check in (check_tokenizer, check_parts):
            try:
                ends.append(check(packed))
            except BundleFormatError as error:
                ends.append(str(error))
        if isinstance(ends[0], dict):
            vocab = ends[0]["model"].pop("vocab")
            assert ends[1].content == ends[0], name
            assert ends[1].ids.tolist() == list(vocab.values() if isinstance(vocab, dict) else range(len(vocab))), name
            both += cut(packed)
        else:
            assert isinstance(ends[1], str), name
    assert both > 20


@pytest.mark.parametrize(
    "hide",
    [
        # another object of that name comes first, or lies in a text; the model's own is none
        lambda good, bad: f'{{"x":{{"vocab":{good}}},"model":{{"type":"WordPiece","vocab":{bad}}}}}',
        lambda good, bad: (
            f'{{"x":{json.dumps(json.dumps({"vocab": good}))},"model":{{"type":"WordPiece","vocab":{bad}}}}}'
        ),
        lambda good, bad: f'{{"model":{{"type":"WordPiece","vocab":{good},"vocab":{bad}}}}}',
        lambda good, bad: f'{{"model":{{"type":"WordPiece","vocab":{bad},"vocab":{good}}}}}',
        lambda good, bad: f'{{"model":{{"vocab":{good},"vocab":{bad}}}}}',
        lambda good, bad: f'{{"model":{{"vocab":{good}}},"model":{{"type":"WordPiece","vocab":{bad}}}}}',
        lambda good, bad: f'{{"model":{{"type":"WordPiece","vocab":{bad}}},"x":{{"vocab":{good}}}}}',
    ],
)
@pytest.mark.parametrize("bad", ['{"a":-1}', '{"a":1.5}', "7", f"[{NUMBER}]", '{"a":4294967296}', "{}", "null"])
def test_a_vocabulary_cannot_hide_behind_another(hide: Any, bad: str) -> None:
    raw = hide('{"a":0,"b":1}', bad).encode()
    for check in (check_tokenizer, check_parts):
        with pytest.raises(BundleFormatError):
            check(raw)


def test_largest_id(bundle: Path) -> None:
    """Added tokens count; their numbers are those that the parser gives them."""
    raw = (bundle / "tokenizer.json").read_bytes()
    assert cut(raw)
    tokenizer = Tokenizer(raw, 256)
    assert tokenizer.largest_id == max(tokenizer.vocabulary().values())
    assert "vocab" not in tokenizer.settings["model"]
    token = {**word_tokenizer()["added_tokens"][0], "content": "[NEW]", "id": 90}
    tokenizer = Tokenizer(
        sanitize({**word_tokenizer(), "added_tokens": [*word_tokenizer()["added_tokens"], token]}), 24
    )
    assert tokenizer.largest_id == max(tokenizer.vocabulary().values())
