"""whitespace.py: what sentence-transformers does to a text before the tokenizer, as steps of its normalizer."""

import json
from pathlib import Path
from typing import Any

import pytest
from builders.bert import word_tokenizer
from builders.tokenizerfolders import PLAIN, byte_tokenizer

from edge_embed_export.modules.folder import Folder
from edge_embed_export.tokenizer.files import read_text
from edge_embed_export.tokenizer.whitespace import SPACES, lowered, lowers, stripped, strips
from edge_embed_runtime.inputs.tokenizer import Tokenizer, sanitize


def encoder(definition: dict[str, Any]) -> Any:
    tokenizer = Tokenizer(sanitize(definition), 64)
    return lambda text: tokenizer.encode(text).tolist()


def test_spaces_are_those_of_python() -> None:
    assert {chr(i) for i in range(0x110000) if chr(i).isspace()} == set(SPACES)


@pytest.mark.parametrize("text", ["the cat", "a\n b", "", "x", "Ünï", "\x00 the"])
def test_stripped_is_what_python_strips(text: str) -> None:
    """Around, in front and behind, each white space; what stands within stays."""
    strip, plain = encoder(stripped(byte_tokenizer())), encoder(byte_tokenizer())
    for sign in SPACES:
        for given in (f"{sign}{text}{sign}", f"{sign}{sign} {text}", f"{text}\n{sign}"):
            assert strip(given) == plain(given.strip())


def test_tokenizers_that_strip_anyway() -> None:
    """Nothing is to be changed where white space around a text makes no difference."""
    assert strips(word_tokenizer())
    assert not strips(byte_tokenizer())
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    words = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]}
    assert strips(byte_tokenizer(pre_tokenizer=words))
    added = byte_tokenizer(pre_tokenizer=words, added_tokens=[{"id": 300, "content": "  ", **PLAIN}])
    assert not strips(added)


def test_stripped_beside_words_that_are_looked_for() -> None:
    """Added tokens do not come before: a space between one and the text stays; tokens of spaces stay tokens."""
    size = len(byte_tokenizer()["model"]["vocab"])
    words = [{"id": size, "content": "<tool>", **PLAIN}, {"id": size + 1, "content": "  ", **PLAIN, "normalized": True}]
    definition = byte_tokenizer(added_tokens=words)
    strip, plain = encoder(stripped(definition)), encoder(definition)
    for text in ("the <tool> cat\n", " a  b ", "<tool>", "\n\t "):
        assert strip(text) == plain(text.strip())
        assert (size in strip(text)) == ("<tool>" in text)


def test_lowered() -> None:
    """As Python lowers, a sigma at a word's end too; or as tokenizers does."""
    plain = encoder(byte_tokenizer())
    for text in ("The CAT", "ΟΔΥΣΣΕΥΣ Σ ΣΑΣ", "İstanbul", "ẞ"):
        assert encoder(lowered(byte_tokenizer(), as_python=True))(text) == plain(text.lower())
    assert encoder(lowered(byte_tokenizer(), as_python=False))("ΟΔΥΣ") == plain("οδυσ")
    assert lowers(word_tokenizer())
    assert not lowers(byte_tokenizer())
    assert lowers(lowered(byte_tokenizer(), as_python=False))


@pytest.mark.parametrize(
    ("release", "modules", "expected", "note"),
    [
        ("5.3.1", True, False, "taken off, as sentence-transformers does before 5.4"),
        ("2.2.2", True, False, "taken off, as sentence-transformers does before 5.4"),
        ("6.2.0", True, True, "kept, as sentence-transformers does from 5.4"),
        (None, True, True, "kept, as sentence-transformers does from 5.4; the folder names "
                           "no release, and those before take it off"),
        (None, False, True, None),
    ],
)  # fmt: skip
def test_release_decides(tmp_path: Path, release: str | None, modules: bool, expected: bool, note: str | None) -> None:
    """The folder's own release; a folder of transformers alone keeps it, and says nothing."""
    (tmp_path / "tokenizer.json").write_text(json.dumps(byte_tokenizer()))
    (tmp_path / "config.json").write_text('{"model_type": "roberta", "transformers_version": "4.57.6"}')
    (tmp_path / "modules.json").write_text("[]") if modules else None
    if release:
        versions = {"__version__": {"sentence_transformers": release, "transformers": "4.57.6"}}
        (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(versions))
    text = read_text(tmp_path, Folder(tmp_path), {"model_type": "roberta", "transformers_version": "4.57.6"})
    encode = encoder(text.tokenizer)
    assert (encode("the\n") != encode("the")) is expected
    assert text.notes == (() if note is None else (f"white space around a text is {note}",))


def test_lower_case_of_the_text_module(tmp_path: Path) -> None:
    """do_lower_case of sentence_bert_config.json lowers before a tokenizer that does not."""
    cased = word_tokenizer()
    cased["normalizer"]["lowercase"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(cased))
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    (tmp_path / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    text = read_text(tmp_path, Folder(tmp_path), {"model_type": "bert"})
    assert encoder(text.tokenizer)("The RIVER") == encoder(word_tokenizer())("the river")
    assert text.notes == ("texts are lowered, as sentence_bert_config.json says",)
