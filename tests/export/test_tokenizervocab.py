"""tokenizervocab.py: folders with vocab.txt, or vocab.json and merges.txt, and no tokenizer.json."""

from pathlib import Path

import pytest
from builders.tokenizerfolders import folder, with_pairs, with_words

from edge_embed_export.files.reading import read_json
from edge_embed_export.modules.folder import Folder
from edge_embed_export.tokenizer.files import read_text
from edge_embed_runtime.errors import EdgeEmbedError, ExportError, SourceError
from edge_embed_runtime.inputs.tokenizer import Tokenizer, sanitize


def tokens(place: Path, text: str) -> list[str]:
    read = read_text(place, Folder(place), read_json(place / "config.json"))
    assert read.notes == ("tokenizer.json was made of the vocabulary",)
    return Tokenizer(sanitize(read.tokenizer), 64).tokens(text).names


@pytest.mark.parametrize("version", ["4.57.6", "5.24.0"])
def test_words_of_bert(tmp_path: Path, version: str) -> None:
    """[CLS] and [SEP] around pieces of words, lowered and without accents, or not."""
    lower = with_words(folder(tmp_path / "a", "bert", version))
    assert tokens(lower, "The CATÉ") == ["[CLS]", "the", "cat", "##e", "[SEP]"] or tokens(lower, "The CATÉ") == [
        "[CLS]", "the", "c", "##a", "##t", "##e", "[SEP]",
    ]  # fmt: skip
    cased = with_words(folder(tmp_path / "b", "bert", version, do_lower_case=False, tokenizer_class="BertTokenizer"))
    assert tokens(cased, "The") == ["[CLS]", "The", "[SEP]"]


def test_words_of_mpnet(tmp_path: Path) -> None:
    place = with_words(folder(tmp_path / "a", "mpnet"), ("<s>", "<pad>", "</s>", "[UNK]", "<mask>"))
    assert tokens(place, "the cat") == ["<s>", "the", "cat", "</s>"]


@pytest.mark.parametrize("version", ["4.57.6", "5.24.0"])
def test_bytes(tmp_path: Path, version: str) -> None:
    """RoBERTa's with and without a space in front, Qwen2's with an end where transformers 5 is asked for one."""
    plain = with_pairs(folder(tmp_path / "a", "roberta", version))
    assert tokens(plain, "the cat") == ["<s>", "the", "Ġcat", "</s>"]
    spaced = with_pairs(folder(tmp_path / "b", "roberta", version, add_prefix_space=True))
    assert tokens(spaced, "the cat") == ["<s>", "Ġthe", "Ġcat", "</s>"]
    qwen = with_pairs(folder(tmp_path / "c", "qwen2", version, add_eos_token=True), ("<|endoftext|>",))
    end = ["<|endoftext|>"] if version[0] == "5" else []
    assert tokens(qwen, "the cat") == ["the", "Ġcat", *end]


def test_merges_without_a_version(tmp_path: Path) -> None:
    """GPT-2's class of transformers 4 passes over the first line all the same; 5 does not."""
    for version, expected in (("4.57.6", ["t", "h", "e"]), ("5.24.0", ["the"])):
        place = with_pairs(folder(tmp_path / version, "gpt2", version), ("<|endoftext|>",))
        lines = (place / "merges.txt").read_text().splitlines()[1:]
        (place / "merges.txt").write_text("\n".join(lines) + "\n")
        assert tokens(place, "the") == expected


def test_vocabularies_that_cannot_be(tmp_path: Path) -> None:
    place = folder(tmp_path / "a", "bert")
    (place / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ExportError, match="is not UTF-8"):
        tokens(place, "")
    (place / "vocab.txt").write_text("[UNK]\n")
    with pytest.raises(ExportError, match=r"vocab.txt lacks the token '\[CLS\]'"):
        tokens(place, "")
    pairs = with_pairs(folder(tmp_path / "b", "roberta"))
    (pairs / "merges.txt").write_text("#version\nt h e\n")
    with pytest.raises(ExportError, match="'t h e' is not two parts"):
        tokens(pairs, "")
    (pairs / "merges.txt").write_text("#version\nt q\n")
    with pytest.raises(EdgeEmbedError, match=r"tokenizer.json"):
        tokens(pairs, "")
    other = with_words(folder(tmp_path / "c", "bert", tokenizer_class="BertJapaneseTokenizer"))
    with pytest.raises(SourceError, match=r"holds vocab.txt and no tokenizer.json"):
        tokens(other, "")
