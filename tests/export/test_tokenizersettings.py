"""tokenizersettings.py, tokenizerclasses.py, tokenizerrebuild.py and textmodule.py: what lies beside tokenizer.json.

What is right was seen with transformers 4.57.6 and 5.24.0; test_tokenizer_parity.py compares with the one installed.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from builders.bert import Checkpoints, word_tokenizer
from builders.tokenizerfolders import PLAIN, byte_tokenizer, folder

from edge_embed_export import export_model
from edge_embed_export.files.reading import read_json
from edge_embed_export.modules.folder import Folder
from edge_embed_export.tokenizer.files import Text, read_text
from edge_embed_runtime.errors import ExportError


def read(place: Path, definition: dict[str, Any] | None = None) -> Text:
    if definition is not None:
        (place / "tokenizer.json").write_text(json.dumps(definition, ensure_ascii=False), encoding="utf-8")
    return read_text(place, Folder(place), read_json(place / "config.json"))


@pytest.mark.parametrize("version", ["4.57.6", "5.24.0"])
def test_bert_normalizer_obeys_the_settings(tmp_path: Path, version: str) -> None:
    """Both releases replace what tokenizer.json says by tokenizer_config.json, and lower where that says nothing."""
    cased = word_tokenizer()
    cased["normalizer"]["lowercase"] = False
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "strip_accents": False}
    text = read(folder(tmp_path / "a", "bert", version, **settings), cased)
    assert text.tokenizer["normalizer"]["lowercase"] is True
    assert text.tokenizer["normalizer"]["strip_accents"] is False
    assert text.notes == (f"normalizer of tokenizer.json by tokenizer_config.json, as in transformers {version[0]}",)
    assert read(folder(tmp_path / "b", "bert", version), cased).tokenizer["normalizer"]["lowercase"] is True
    generic = read(folder(tmp_path / "c", "bert", version, tokenizer_class="PreTrainedTokenizerFast"), cased)
    assert (generic.tokenizer, generic.notes) == (cased, ())


@pytest.mark.parametrize("version", ["4.57.6", "5.24.0"])
def test_settings_that_agree_change_nothing(tmp_path: Path, version: str) -> None:
    """The same folder gives the same tokenizer.json, to the byte."""
    place = folder(tmp_path / "a", "bert", version, tokenizer_class="BertTokenizer", do_lower_case=True)
    assert read(place, word_tokenizer()) == Text(word_tokenizer(), None, ())


def test_prefix_space(tmp_path: Path) -> None:
    """Transformers 4 sets it by the settings for any class, 5 by those of classes that it builds anew."""
    for version, name, said, expected in (
        ("4.57.6", "RobertaTokenizer", True, True),
        ("5.24.0", "RobertaTokenizer", True, True),
        ("4.57.6", "PreTrainedTokenizerFast", True, True),
        ("5.24.0", "PreTrainedTokenizerFast", True, False),
    ):
        settings = {"tokenizer_class": name, "add_prefix_space": said}
        text = read(folder(tmp_path / f"{version}{name}", "roberta", version, **settings), byte_tokenizer())
        assert text.tokenizer["pre_tokenizer"]["add_prefix_space"] is expected


def ends(text: Text) -> list[str]:
    single = text.tokenizer["post_processor"]["single"]
    return [piece["SpecialToken"]["id"] if "SpecialToken" in piece else "$A" for piece in single]


def test_begin_and_end_tokens(tmp_path: Path) -> None:
    """Llama's class of transformers 4 writes its own template; 5 keeps that of tokenizer.json."""
    definition = byte_tokenizer(post_processor=None)
    cases = [(True, True, ["<s>", "$A", "</s>"]), (False, True, ["$A", "</s>"]), (True, False, ["<s>", "$A"])]
    for begin, end, expected in cases:
        settings = {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": begin, "add_eos_token": end}
        made = read(folder(tmp_path / f"4{begin}{end}", "mistral", **settings), definition)
        assert ends(made) == expected
        kept = read(folder(tmp_path / f"5{begin}{end}", "mistral", "5.24.0", **settings), definition)
        assert kept.tokenizer["post_processor"] is None
    qwen = read(folder(tmp_path / "q", "qwen3", tokenizer_class="Qwen2Tokenizer", add_eos_token=True), definition)
    assert qwen.tokenizer["post_processor"] is None
    gone = {"tokenizer_class": "LlamaTokenizer", "add_eos_token": True, "eos_token": "<gone>"}
    with pytest.raises(ExportError, match="eos_token is '<gone>', which is no token of"):
        read(folder(tmp_path / "x", "llama", **gone), definition)


def test_class_that_builds_the_tokenizer_anew(tmp_path: Path) -> None:
    """DebertaV2's of transformers 5 normalises in its own way; 4 takes tokenizer.json as it stands."""
    vocab = [["[PAD]", 0.0], ["[CLS]", 0.0], ["[SEP]", 0.0], ["[UNK]", 0.0], ["▁the", -1.0], ["▁", -2.0], ["a", -3.0]]
    definition = byte_tokenizer(
        normalizer={"type": "NFKC"},
        pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        post_processor=None,
        model={"type": "Unigram", "unk_id": 3, "vocab": vocab, "byte_fallback": False},
    )
    settings = {"tokenizer_class": "DebertaV2Tokenizer", "do_lower_case": True}
    assert read(folder(tmp_path / "4", "deberta-v2", **settings), definition).tokenizer == definition
    built = read(folder(tmp_path / "5", "deberta-v2", "5.24.0", **settings), definition)
    steps = [step["type"] for step in built.tokenizer["normalizer"]["normalizers"]]
    assert steps == ["Lowercase", "Replace", "NFC", "Strip"]
    assert ends(built) == ["[CLS]", "$A", "[SEP]"]
    assert built.tokenizer["pre_tokenizer"] == definition["pre_tokenizer"]


def test_added_tokens_of_both_files(tmp_path: Path) -> None:
    """The flags of tokenizer_config.json win; a token that it alone has is added with the next number."""
    definition = byte_tokenizer()
    size = len(definition["model"]["vocab"])
    definition["added_tokens"] = [{"id": size, "content": "<a>", **PLAIN}]
    decoder = {str(size): {"content": "<a>", **PLAIN, "lstrip": True}, str(size + 1): {"content": "<b>", **PLAIN}}
    text = read(folder(tmp_path / "a", "roberta", added_tokens_decoder=decoder), definition)
    assert text.tokenizer["added_tokens"] == [
        {"id": size, "content": "<a>", **PLAIN, "lstrip": True},
        {"id": size + 1, "content": "<b>", **PLAIN},
    ]


def test_release_decides_where_the_two_differ(tmp_path: Path) -> None:
    """The model's own config says it; sentence-transformers' where it does not; a tokenizer saved by 5 is read by 5."""
    uncased = word_tokenizer()
    uncased["post_processor"] = None
    place = folder(tmp_path / "a", "bert")
    assert read(place, uncased).tokenizer["post_processor"] is None
    (place / "config.json").write_text('{"model_type": "bert"}')
    versions = {"__version__": {"transformers": "5.2.0", "sentence_transformers": "5.3.0"}}
    (place / "config_sentence_transformers.json").write_text(json.dumps(versions))
    assert ends(read(place)) == ["[CLS]", "$A", "[SEP]"]
    (place / "config_sentence_transformers.json").unlink()
    assert read(place).tokenizer["post_processor"] is None
    (place / "tokenizer_config.json").write_text('{"backend": "tokenizers", "tokenizer_class": "BertTokenizer"}')
    assert ends(read(place)) == ["[CLS]", "$A", "[SEP]"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shuffle_words": True}, r"the key 'shuffle_words' \(True\) is not known"),
        ({"truncation_side": "left"}, "truncation_side 'left' keeps the end"),
        ({"from_slow": True}, "from_slow asks for a tokenizer made again"),
        ({"fix_mistral_regex": True}, "fix_mistral_regex is not supported"),
        ({"tokenizer_class": "BertJapaneseTokenizer"}, "tokenizer_class 'BertJapaneseTokenizer' is not known"),
        ({"auto_map": {"AutoTokenizer": ["own.Tok", None]}}, r"auto_map names code of the folder's own \(own.Tok\)"),
        ({"do_lower_case": "yes"}, "do_lower_case is 'yes', expected true or false"),
        ({"added_tokens_decoder": {"x": {}}}, "its added tokens are not numbers with tokens"),
        ({"model_max_length": "long"}, "model_max_length is 'long', expected a positive whole number"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ExportError, match=f"tokenizer_config.json: {said}"):
        read(folder(tmp_path / "a", "bert", **settings), word_tokenizer())


def test_types_of_tokens_and_left_truncation_in_the_definition(tmp_path: Path) -> None:
    """What tokenizer.json itself says and no bundle has."""
    typed = word_tokenizer()
    typed["post_processor"]["single"][0]["SpecialToken"]["type_id"] = 2
    with pytest.raises(ExportError, match="the template gives a token the type 2"):
        read(folder(tmp_path / "a", "bert"), typed)
    left = word_tokenizer()
    left["truncation"]["direction"] = "Left"
    with pytest.raises(ExportError, match="truncation_side 'Left'"):
        read(folder(tmp_path / "b", "bert"), left)


@pytest.mark.parametrize(
    ("module", "settings", "expected"),
    [
        ({"max_seq_length": 24}, {"model_max_length": 16}, 24),
        ({"max_seq_length": None}, {"model_max_length": 16}, 16),
        ({}, {"max_len": 17}, 17),
        ({}, {"model_max_length": 10**30}, None),
        ({}, {"model_max_length": 1e30}, None),
        ({}, {"model_max_length": 100_000}, 8192),
        ({"tokenizer_args": {"model_max_length": 12}}, {"model_max_length": 16}, 12),
        ({"processing_kwargs": {"text": {"max_length": 11, "truncation": True}}}, {"model_max_length": 16}, 11),
    ],
)
def test_limit(tmp_path: Path, module: dict[str, Any], settings: dict[str, Any], expected: int | None) -> None:
    """max_seq_length wins, then what the tokenizer is given, then its own."""
    place = folder(tmp_path / "a", "bert", **settings)
    (place / "sentence_bert_config.json").write_text(json.dumps(module))
    assert read(place, word_tokenizer()).limit == expected


def test_limit_of_the_tokenizer_in_a_bundle(checkpoint: Checkpoints, tmp_path: Path) -> None:
    """As sentence-transformers 5.4 saves it, in tokenizer_config.json alone; --max-tokens still wins."""
    source = checkpoint()
    (source / "sentence_bert_config.json").write_text(json.dumps({
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        "module_output_name": "token_embeddings",
    }))  # fmt: skip
    (source / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 16}))
    assert export_model(source, tmp_path / "b", precision="fp32").max_tokens == 16
    assert export_model(source, tmp_path / "c", precision="fp32", max_tokens=20).max_tokens == 20


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ({"stride": 3}, r"the key 'stride' \(3\) is not known"),
        ({"max_seq_length": 0}, "max_seq_length is 0, expected a positive"),
        ({"do_lower_case": 1}, "do_lower_case is 1, expected true or false"),
        ({"model_args": {"num_hidden_layers": 1}}, "the argument of model_args 'num_hidden_layers'"),
        ({"tokenizer_args": {"shuffle": 1}}, "the key 'shuffle'"),
        ({"transformer_task": "text-generation"}, "is 'text-generation', whose model gives no vectors"),
        ({"modality_config": {"message": {}}}, "texts are no input as they stand"),
        ({"query_length": 9}, "query_length 9 is not supported"),
        ({"processing_kwargs": {"text": {"truncation": False}}}, "turn truncation off"),
    ],
)
def test_text_module_that_is_not_understood(tmp_path: Path, module: dict[str, Any], said: str) -> None:
    place = folder(tmp_path / "a", "bert")
    (place / "sentence_bert_config.json").write_text(json.dumps(module))
    with pytest.raises(ExportError, match=said):
        read(place, word_tokenizer())
