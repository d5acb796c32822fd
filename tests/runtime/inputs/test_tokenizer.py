"""tokenizer.py: bounded work, special tokens only where the model puts them."""

import json
from pathlib import Path

import pytest
from builders.bert import word_tokenizer

from edge_embed import Embedder
from edge_embed.errors import BundleFormatError, InputError
from edge_embed_runtime.checks import check_text
from edge_embed_runtime.inputs import tokenizer as module
from edge_embed_runtime.inputs.tokenizer import Tokenizer, sanitize

CLS, SEP = 101, 102


def test_special_tokens_surround_the_text(embedder: Embedder) -> None:
    """[CLS] text [SEP], as the model was trained."""
    assert embedder.tokenizer.encode("hello world").tolist() == [CLS, 7592, 2088, SEP]
    assert embedder.tokenizer.encode("").tolist() == [CLS, SEP]


def test_typed_special_token_is_text(embedder: Embedder) -> None:
    """A user who types [SEP] gets no control token."""
    ids = embedder.tokenizer.encode("a [SEP] b").tolist()
    assert ids.count(SEP) == 1
    assert ids[-1] == SEP
    assert len(ids) > 5


def test_long_text_is_cut_at_the_limit(embedder: Embedder) -> None:
    """The limit counts special tokens, and the last is still [SEP]."""
    ids = embedder.tokenizer.encode("word " * 1000)
    assert len(ids) == 256
    assert ids[-1] == SEP


@pytest.mark.parametrize("unit", ["word ", "incomprehensibilities ", "x" * 99 + " ", "日本", "a  \n\t   ", "!?"])
def test_cutting_first_changes_nothing(embedder: Embedder, unit: str) -> None:
    """Tokens of a text cut before tokenizing equal the first tokens of the whole text."""
    text = unit * (12_000 // len(unit))
    whole = embedder.tokenizer._tokenizer.encode(text, add_special_tokens=False).ids
    assert embedder.tokenizer.encode(text).tolist() == [CLS, *whole[:254], SEP]


def test_huge_text_is_never_read_whole(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten megabytes on one line reach the tokenizer only in part."""
    seen: list[int] = []
    original = Tokenizer._encode
    monkeypatch.setattr(Tokenizer, "_encode", lambda self, text: (seen.append(len(text)), original(self, text))[1])
    for text in ("x" * 10_000_000, " " * 10_000_000, "word " * 2_000_000):
        assert len(embedder.tokenizer.encode(text)) <= 256
    assert max(seen) <= module.LAST_CUT * 256


def test_sanitize_removes_baked_in_limits() -> None:
    """Padding to 8 and truncation at 8 of the checkpoint's file are gone, the rest stays."""
    definition = word_tokenizer()
    clean = json.loads(sanitize(definition))
    assert clean["padding"] is None
    assert clean["truncation"] is None
    assert clean["model"] == definition["model"]
    assert len(Tokenizer(sanitize(definition), 24).encode("the cat and the dog in the house at night")) == 12


def test_endless_added_token_is_refused() -> None:
    """tokenizers would need minutes for it; one without content is none."""
    definition = json.loads(sanitize(word_tokenizer()))
    for token, why in (
        ({"id": 0, "content": "a" * 100_000}, "more than 1024 characters"),
        ({"id": 0}, "cannot be used"),
    ):
        raw = json.dumps({**definition, "added_tokens": [token]}).encode()
        with pytest.raises(BundleFormatError, match=why):
            Tokenizer(raw, 24)


def test_limits_in_the_file_are_refused() -> None:
    """A bundle's tokenizer.json must leave limits to the manifest."""
    with pytest.raises(BundleFormatError, match="padding or truncation"):
        Tokenizer(json.dumps(word_tokenizer()).encode(), 24)


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"model": 3}', b'{"model": {"type": "WordPiece"}}', b"\xff\xfe"])
def test_malformed_file_is_refused(raw: bytes) -> None:
    """Broken definitions are format errors, not panics."""
    with pytest.raises(BundleFormatError):
        Tokenizer(raw, 24)


@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer", "post_processor", "model"])
def test_unknown_component_is_refused(part: str) -> None:
    """Component types outside the allow-list are refused by name, nested ones too."""
    definition = json.loads(sanitize(word_tokenizer()))
    definition[part] = {**definition[part], "type": "Custom"}
    with pytest.raises(BundleFormatError, match="Custom"):
        Tokenizer(json.dumps(definition).encode(), 24)
    nested = json.loads(sanitize(word_tokenizer()))
    nested["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Custom"}]}
    with pytest.raises(BundleFormatError, match="Custom"):
        Tokenizer(json.dumps(nested).encode(), 24)


def test_max_tokens_must_leave_room() -> None:
    """Two special tokens and a limit of two leave no room for text."""
    with pytest.raises(BundleFormatError, match="no room"):
        Tokenizer(sanitize(word_tokenizer()), 2)


def test_special_tokens_must_surround_the_text() -> None:
    """A template without the text, or a normalizer that removes the probe, is refused."""
    without = json.loads(sanitize(word_tokenizer()))
    without["post_processor"]["single"] = without["post_processor"]["single"][:1]
    removing = json.loads(sanitize(word_tokenizer()))
    removing["normalizer"] = {"type": "Replace", "pattern": {"String": "a"}, "content": ""}
    for definition in (without, removing):
        with pytest.raises(BundleFormatError, match="do not surround"):
            Tokenizer(json.dumps(definition).encode(), 24)


def test_panic_becomes_an_error() -> None:
    """A Rust panic, which is no Exception, is caught by its name; other BaseExceptions pass."""
    PanicException = type("PanicException", (BaseException,), {})

    def panic() -> None:
        raise PanicException("index out of range")

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(InputError, match="panicked"):
        module._guarded(panic, "tokenizer.json")
    with pytest.raises(KeyboardInterrupt):
        module._guarded(interrupt, "tokenizer.json")


def test_check_text() -> None:
    """Only Unicode text passes; a lone surrogate is found by its place."""
    assert check_text("é", "x") == "é"
    for value in (3, None, b"bytes", ["list"]):
        with pytest.raises(InputError, match="expected str"):
            check_text(value, "text 0")
    with pytest.raises(InputError, match="text 7 holds a lone surrogate at character 2"):
        check_text("ab\ud800", "text 7")


def test_vocabulary_of_default_bundle_fits(bundle: Path, embedder: Embedder) -> None:
    """Every token has a row in the embedding table."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert embedder.tokenizer.largest_id + 1 == manifest["architecture"]["vocab"]
