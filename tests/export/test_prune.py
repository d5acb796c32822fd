"""Pruning of a bundle's vocabulary: prune.py, vocabulary.py, cut.py and scripts.py of the exporter, and the command."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.bert import Checkpoints, word_tokenizer
from click.testing import CliRunner

from edge_embed import Embedder
from edge_embed.cli.main import main
from edge_embed.errors import BundleFormatError, ExportError, FidelityError, InputError
from edge_embed_export import export_model
from edge_embed_export.pruning import prune
from edge_embed_export.pruning.prune import prune_bundle
from edge_embed_export.pruning.rows import cut_model, cut_table
from edge_embed_export.pruning.scripts import indistinct, script_of, scripts_of_languages
from edge_embed_export.pruning.vocabulary import Vocabulary
from edge_embed_runtime.bundle.bundle import read_bundle
from edge_embed_runtime.model.static import read_table, write_table

pytestmark = pytest.mark.usefixtures("short_receipt")

LATIN = ["the river bank", "a cat sleeps at night", "water in the garden", "the bank gives money", "a red house"]
CYRILLIC = ["река течёт", "кот спит ночью", "вода в саду", "красный дом"]
HAN = ["河流在夜里", "猫睡在花园里", "红色的房子"]
TEXTS = [*LATIN, *CYRILLIC, *HAN]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SENTENCE = ["<s>", "<pad>", "</s>", "<unk>"]


def wordpiece() -> dict[str, Any]:
    """Every character alone and inside words, and every word and its end as pieces; two placeholders."""
    letters = sorted({c for text in TEXTS for c in text if c != " "})
    words = [word for text in [*LATIN, *CYRILLIC] for word in text.split()]
    pieces = [*words, *(f"##{word[1:]}" for word in words if len(word) > 3)]
    tokens = ["[PAD]", "[unused0]", *SPECIAL[1:], "[unused1]", "γ", *letters, *(f"##{c}" for c in letters), *pieces]
    definition = word_tokenizer()
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    special = {"[CLS]": vocab["[CLS]"], "[SEP]": vocab["[SEP]"]}
    template = {name: {"id": name, "ids": [i], "tokens": [name]} for name, i in special.items()}
    return {
        **definition,
        "added_tokens": [{**token, "id": vocab[token["content"]]} for token in definition["added_tokens"]],
        "post_processor": {**definition["post_processor"], "special_tokens": template},
        "normalizer": {**definition["normalizer"], "strip_accents": False},
        "model": {**definition["model"], "vocab": vocab},
    }


def around(vocab: list[str]) -> dict[str, Any]:
    """<s> and </s> around a text, and a token beside the model's own."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    special = [*enumerate(SENTENCE), (len(vocab), "<mask>")]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": token, **plain} for i, token in special],
        "normalizer": None,
        "decoder": None,
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": ["</s>", 2],
            "cls": ["<s>", 0],
            "trim_offsets": True,
            "add_prefix_space": False,
        },
    }


def unigram() -> dict[str, Any]:
    """Every character and every word as pieces, words with the better scores; one is worse than all."""
    letters = sorted({c for text in TEXTS for c in text if c != " "})
    words = dict.fromkeys(f"▁{word}" for text in TEXTS for word in text.split())
    scores = {"▁": -3.0, **dict.fromkeys(letters, -9.0), **dict.fromkeys(words, -5.0), "▁zebra": -20.0}
    vocab = [*((token, 0.0) for token in SENTENCE), *scores.items()]
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    model = {"type": "Unigram", "unk_id": 3, "vocab": [list(entry) for entry in vocab], "byte_fallback": False}
    return {**around([token for token, _ in vocab]), "pre_tokenizer": space, "model": model}


def bpe() -> dict[str, Any]:
    """All bytes, and merges that make every word from its left end."""
    from tokenizers.pre_tokenizers import ByteLevel

    vocab, merges = dict.fromkeys([*SENTENCE, *sorted(ByteLevel.alphabet())]), dict[tuple[str, str], None]()
    for text in TEXTS:
        for word, _ in ByteLevel(add_prefix_space=False).pre_tokenize_str(f" {text}"):
            for end in range(1, len(word)):
                merges[word[:end], word[end]] = None
                vocab[word[: end + 1]] = None
    split = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    ids = {token: i for i, token in enumerate(vocab)}
    model = {"type": "BPE", "unk_token": None, "vocab": ids, "merges": [list(pair) for pair in merges]}
    return {**around(list(vocab)), "pre_tokenizer": split, "model": model}


TOKENIZERS = {"wordpiece": wordpiece, "unigram": unigram, "bpe": bpe}


def packed(definition: dict[str, Any]) -> bytes:
    return json.dumps({**definition, "padding": None, "truncation": None}).encode()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture
def made(checkpoint: Checkpoints, bundles: Path) -> Callable[..., Path]:
    """A bundle of a small random BERT with one of the tokenizers, the same for all tests: made("bpe", table="int4")."""

    def make(kind: str = "wordpiece", **options: str) -> Path:
        target = bundles / "-".join([kind, *options.values()])
        if not target.exists():
            definition = TOKENIZERS[kind]()
            size = max(len(definition["model"]["vocab"]), 1 + definition["added_tokens"][-1]["id"])
            folder = checkpoint(vocab_size=size)
            (folder / "tokenizer.json").write_text(json.dumps(definition))
            prompts = {"query": "вода: "}
            export_model(folder, target, floor=0.5, prompts=prompts, **options)  # type: ignore[arg-type]
        return target

    return make


def tokens(embedder: Embedder, text: str) -> list[str]:
    names = {number: token for token, number in embedder.tokenizer.vocabulary().items()}
    return [names[number] for number in embedder.tokenizer.encode(text).tolist()]


def same_bits(before: Path, after: Path, texts: list[str]) -> bool:
    old, new = (Embedder(path, threads=1).encode(texts) for path in (before, after))
    return np.array_equal(old.view(np.uint32), new.view(np.uint32))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("wordpiece", {}),
        ("wordpiece", {"precision": "fp32"}),
        ("wordpiece", {"table": "int4"}),
        ("wordpiece", {"table": "int3"}),
        ("unigram", {}),
        ("bpe", {}),
    ],
)
def test_texts_of_kept_scripts_keep_their_vectors(
    made: Callable[..., Path], tmp_path: Path, kind: str, options: dict[str, str]
) -> None:
    """With one script left, its texts have the same tokens and the same bits, special tokens among them."""
    bundle = made(kind, **options)
    manifest = prune_bundle(bundle, tmp_path / "out", scripts=["cyrillic"])
    before, after = Embedder(bundle), Embedder(tmp_path / "out")
    assert after.tokenizer.largest_id + 1 == manifest.architecture["vocab"] < before.tokenizer.largest_id + 1
    assert [tokens(after, text) for text in CYRILLIC] == [tokens(before, text) for text in CYRILLIC]
    assert same_bits(bundle, tmp_path / "out", [*CYRILLIC, "", "вода дом, 1 + 2?"])
    assert not {"bank", "▁bank", "Ġbank"} & after.tokenizer.vocabulary().keys()
    assert manifest.receipt["bytes"] < before.manifest.receipt["bytes"]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_tokens_of_texts_stay(made: Callable[..., Path], tmp_path: Path, kind: str) -> None:
    """Of texts alone: these keep their bits, and words that were not in them are spelled, never unknown."""
    bundle = made(kind)
    learned = LATIN[:3]
    prune_bundle(bundle, tmp_path / "out", texts=learned, floor=-1)
    assert same_bits(bundle, tmp_path / "out", learned)
    after = Embedder(tmp_path / "out")
    assert "money" not in "".join(after.tokenizer.vocabulary())
    spelled = tokens(after, "the bank gives money")
    assert not {"[UNK]", "<unk>"} & set(spelled)
    assert len(spelled) > len(tokens(Embedder(bundle), "the bank gives money"))


def test_what_always_stays(made: Callable[..., Path], tmp_path: Path) -> None:
    """Special tokens, ASCII letters and what prompts hold; placeholders that no text gives go."""
    bundle = made()
    prune_bundle(bundle, tmp_path / "out", scripts=["Han"])
    after = Embedder(tmp_path / "out")
    left = after.tokenizer.vocabulary().keys()
    assert {*SPECIAL, "вода", "a", "##a", "猫"} <= left
    assert not left & {"[unused0]", "[unused1]", "γ", "bank", "река"}
    assert tokens(after, "") == ["[CLS]", "[SEP]"]
    assert same_bits(bundle, tmp_path / "out", ["вода", ""])


def test_rare_tokens_go(made: Callable[..., Path], tmp_path: Path) -> None:
    """min_count and keep leave the tokens that come most often."""
    bundle = made()
    prune_bundle(bundle, tmp_path / "out", texts=[*LATIN, "the river", "the water"], min_count=2, floor=-1)
    left = Embedder(tmp_path / "out").tokenizer.vocabulary()
    assert {"the", "river", "bank", "water"} <= left.keys()
    assert not {"cat", "gives", "house"} & left.keys()
    kept = prune_bundle(bundle, tmp_path / "few", texts=[*LATIN, "the"], keep=len(left), floor=-1)
    assert kept.architecture["vocab"] == len(left)
    assert "the" in Embedder(tmp_path / "few").tokenizer.vocabulary()
    with pytest.raises(InputError, match="tokens must stay"):
        prune_bundle(bundle, tmp_path / "none", keep=7)


def test_texts_and_scripts_together(made: Callable[..., Path], tmp_path: Path) -> None:
    """Of texts in several scripts, tokens of the named scripts stay, and single characters of these."""
    prune_bundle(made(), tmp_path / "out", languages=["ru"], texts=["the river", "река"], floor=-1)
    left = Embedder(tmp_path / "out").tokenizer.vocabulary().keys()
    assert {"река", "ж", "##ж"} & left == {"река"}
    assert {"к", "##к", "д", "##д"} <= left
    assert not {"the", "river", "кот", "猫"} & left


def test_a_static_bundle(made: Callable[..., Path], tmp_path: Path) -> None:
    """Rows of a table go as well; texts of what is left keep their bits, one without tokens its row."""
    from edge_embed_export.static.distill import distill_model

    distill_model(made(), tmp_path / "s", dim=16)
    manifest = prune_bundle(tmp_path / "s", tmp_path / "out", scripts=["Latin"])
    assert same_bits(tmp_path / "s", tmp_path / "out", [*LATIN, ""])
    rows = read_table(tmp_path / "out" / "table.safetensors", "it")["rows"]
    assert len(rows) == manifest.architecture["vocab"] + 1 == manifest.architecture["rows"] + 1


def test_tables_whose_tokens_share_rows() -> None:
    """Rows stay that a kept token has; places are left out where every token has a row of its own."""
    rows = np.arange(12, dtype=np.int8).reshape(6, 2)
    scale = np.ones(2, np.float32)
    table = write_table({"place": np.array([0, 4, 1, 1, 3], np.int32), "scale": scale, "rows": rows})
    shared = read_table(cut_table(table, np.array([1, 2, 3])), "it")
    assert np.array_equal(shared["rows"][shared["place"]], rows[[4, 1, 1]])
    assert shared["rows"].tolist() == [[2, 3], [8, 9], [10, 11]]
    alone = read_table(cut_table(table, np.array([1, 2])), "it")
    assert "place" not in alone
    assert alone["rows"].tolist() == [[8, 9], [2, 3], [10, 11]]


def test_merges_that_a_token_goes_through() -> None:
    """A token of BPE stays with what it is made of, and merges of others go."""
    definition = bpe()
    vocab = {token: i for i, token in enumerate(["a", "b", "c", "bc", "abc", "ab", "abcab"])}
    merges = [["b", "c"], ["a", "bc"], ["a", "b"], ["abc", "ab"]]
    definition |= {"added_tokens": [], "post_processor": None}
    definition["model"] |= {"vocab": vocab, "merges": merges, "unk_token": None}
    vocabulary = Vocabulary(packed(definition))
    assert vocabulary.parts("abc") == {"a", "b", "c", "bc", "abc"}
    assert vocabulary.parts("abcab") == set(vocab)
    left = json.loads(vocabulary.pruned([vocab[token] for token in vocabulary.parts("abc")]))["model"]
    assert left["merges"] == [["b", "c"], ["a", "bc"]]
    assert left["vocab"] == {"a": 0, "b": 1, "c": 2, "bc": 3, "abc": 4}


def test_pieces_of_bytes_belong_to_scripts() -> None:
    """A piece that begins or ends inside a character stays where a character of the script has these bytes."""
    definition = bpe()
    codes = {bytes([byte]): character for character, byte in Vocabulary(packed(definition)).byte_codes.items()}

    def spelled(raw: bytes) -> str:
        return "".join(codes[bytes([byte])] for byte in raw)

    pieces = {"猫".encode()[:2], "ж".encode() + b"\xd0", b"ab", " с".encode(), b"\xb0\xd0", b"\xff\xfe"}
    definition["model"]["vocab"] |= {spelled(raw): 9000 + i for i, raw in enumerate(sorted(pieces))}
    occurring = Vocabulary(packed(definition)).occurring
    found = {script: {raw for raw in pieces if spelled(raw) in occurring([script])} for script in ("Cyrillic", "Han")}
    assert found["Cyrillic"] == {"ж".encode() + b"\xd0", " с".encode(), b"\xb0\xd0"}
    assert found["Han"] == {"猫".encode()[:2]}


def test_the_lowest_score_stays() -> None:
    """Unigram measures unknown characters against the lowest score: its piece is special."""
    vocabulary = Vocabulary(packed(unigram()))
    assert {*SENTENCE, "<mask>", "▁zebra"} == vocabulary.special


def test_what_cannot_be_pruned(made: Callable[..., Path], tmp_path: Path) -> None:
    """Marks for parts of words in BPE, and a tokenizer whose numbers cannot be kept, are refused."""
    definition = bpe()
    definition["model"]["end_of_word_suffix"] = "</w>"
    with pytest.raises(ExportError, match="marks for parts of words"):
        Vocabulary(packed(definition))
    bundle = made()
    whole = read_bundle(bundle)
    for field, value in (("kind", "sparse"), ("kind", "multi"), ("inputs", "characters")):
        other = replace(whole, manifest=replace(whole.manifest, **{field: value}))
        with pytest.raises(ExportError, match=r"vector.*cannot be pruned|characters.*cannot be pruned"):
            prune._Source(other)
    for options, message in (
        ({"languages": ["xx"]}, "'xx' is not known"),
        ({"scripts": ["Klingon"]}, "'Klingon' is not known"),
        ({"languages": ["am"]}, "no token has a letter of Ethiopic"),
        ({"texts": [" ", ""], "texts_name": "t.txt"}, "t.txt holds no text"),
        ({}, "nothing says which"),
        ({"min_count": 0, "keep": 9}, "min_count"),
        ({"scripts": ["Cyrillic"], "floor": 0.9}, "a floor needs texts"),
    ):
        with pytest.raises(InputError, match=message):
            prune_bundle(bundle, tmp_path / "out", **options)  # type: ignore[arg-type]
    with pytest.raises(FidelityError, match=r"the floor is 1\.0"):
        prune_bundle(bundle, tmp_path / "out", texts=LATIN[:1] * 2, min_count=2, floor=1.0)
    with pytest.raises(BundleFormatError):
        prune_bundle(tmp_path / "none", tmp_path / "out", keep=200)
    assert not (tmp_path / "out").exists()
    prune_bundle(bundle, tmp_path / "out", scripts=["Latin", "Cyrillic", "Han"])
    with pytest.raises(InputError, match="tokens would stay"):
        prune_bundle(tmp_path / "out", tmp_path / "again", scripts=["Latin", "Cyrillic", "Han"])
    with pytest.raises(InputError, match="exists"):
        prune_bundle(bundle, tmp_path / "out", scripts=["Latin"])


def test_models_that_do_more_with_ids_than_look_them_up() -> None:
    """A comparison of ids, a table that something else reads, and a model without ids are named."""
    from onnx import TensorProto, helper, numpy_helper

    table = numpy_helper.from_array(np.zeros((9, 4), np.float32), "table")
    numbers = [numpy_helper.from_array(np.array(n, np.int64), str(n)) for n in (0, 1)]
    gather = helper.make_node("Gather", ["table", "input_ids"], ["rows"])

    def model(*nodes: Any) -> bytes:
        ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
        rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, None)
        graph = helper.make_graph([*nodes], "g", [ids], [rows], [table, *numbers])
        return bytes(helper.make_model(graph).SerializeToString())

    kept = np.arange(3)
    assert len(cut_model(model(gather), kept)) < len(model(gather))
    compared = helper.make_node("Equal", ["input_ids", "input_ids"], ["mask"], name="compared")
    with pytest.raises(ExportError, match="Equal 'compared'"):
        cut_model(model(gather, compared), kept)
    padding = helper.make_node("Equal", ["input_ids", "1"], ["padding"], name="padding")
    zeros = helper.make_node("Mul", ["input_ids", "0"], ["types"])
    assert len(cut_model(model(gather, padding, zeros), kept)) < len(model(gather, padding, zeros))
    with pytest.raises(ExportError, match="Equal 'padding'"):
        cut_model(model(gather, padding), kept[::2])  # 1 goes, or is another token
    tied = helper.make_node("MatMul", ["x", "table"], ["logits"], name="head")
    with pytest.raises(ExportError, match="MatMul 'head'"):
        cut_model(model(gather, tied), kept)
    with pytest.raises(ExportError, match="looks up no table"):
        cut_model(model(), kept)
    with pytest.raises(ExportError, match="9 rows"):
        cut_model(model(gather), np.arange(10))


def test_characters_have_scripts() -> None:
    """Letters, marks and digits of a script belong to it; all else is common."""
    expected = {"a": "Latin", "É": "Latin", "Ａ": "Latin", "ß": "Latin", "ж": "Cyrillic", "λ": "Greek", "中": "Han",
                "々": "Han", "の": "Hiragana", "ｶ": "Katakana", "한": "Hangul", "ع": "Arabic", "٣": "Arabic",
                "ि": "Devanagari", "ท": "Thai", "7": "Common", "。": "Common", "▁": "Common", "😀": "Common",
                "\u0301": "Common", "\n": "Common", "\ue000": "Common"}  # fmt: skip
    assert {character: script_of(character) for character in expected} == expected


def test_languages_have_scripts() -> None:
    """A language may have several; those that are written like others are said to be."""
    assert scripts_of_languages(["JA", "de", "en"]) == ["Han", "Hiragana", "Katakana", "Latin"]
    assert indistinct(["de", "el", "ru"]) == ["de", "ru"]


def test_long_texts_are_read_in_parts() -> None:
    """No block is longer than the limit, and together they are the text."""
    text = "word " * 9000 + "x" * 30_000
    parts = prune.blocks(text)
    assert "".join(parts) == text
    assert max(map(len, parts)) <= prune.BLOCK
    assert all(part.endswith("word") for part in parts[:2])


def test_texts_held_out(made: Callable[..., Path], tmp_path: Path) -> None:
    """Of many texts every tenth chooses no tokens for the receipt, and yet keeps its own."""
    texts = [f"the cat at {'night ' * i}" for i in range(1, 120)]
    texts[40] = "a garden"
    manifest = prune_bundle(made(), tmp_path / "out", texts=texts, texts_name="t.txt", floor=-1)
    receipt = manifest.receipt["pruning"]
    assert receipt["measured_on"] == "t.txt, texts that chose no tokens"
    assert (receipt["texts"], receipt["unchanged_texts"]) == (12, round(11 / 12, 4))
    assert receipt["cosine_to_unpruned"]["min"] < 0.99
    assert "garden" in Embedder(tmp_path / "out").tokenizer.vocabulary()


def test_prune_command(made: Callable[..., Path], tmp_path: Path) -> None:
    """The command says what was lost, in words and in JSON, and the manifest what was pruned from what."""
    bundle, out = made(), str(tmp_path / "out")
    arguments = ["prune", str(bundle), out, "--languages", "de,fr", "--scripts", "Han", "--floor", "-1"]
    shown = CliRunner().invoke(main, arguments)
    assert shown.exit_code == 0, shown.output
    assert "the script of de, fr" in shown.output
    assert "cosine to the vectors before" in shown.output
    (tmp_path / "texts.jsonl").write_text('{"id": 1, "title": "the", "text": "river"}\n')
    texts = ["--texts", str(tmp_path / "texts.jsonl"), "--force", "--json"]
    result = CliRunner().invoke(main, ["prune", str(bundle), out, *texts])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.output)
    before = read_bundle(bundle).manifest
    assert facts["vocabulary"]["after"] == len(Embedder(out).tokenizer.vocabulary()) < facts["vocabulary"]["before"]
    assert facts["kept"]["fingerprint"] == before.fingerprint != facts["fingerprint"]
    assert facts["kept"]["texts"]["name"] == "texts.jsonl"
    assert facts["cosine_to_unpruned"] == {"mean": 1.0, "p5": 1.0, "min": 1.0}
    assert read_bundle(out).manifest.receipt["before_pruning"] == before.receipt
    without = CliRunner().invoke(main, ["prune", str(bundle), out, "--scripts", "Cyrillic", "--force"])
    assert "give --texts" in without.output


@pytest.mark.parametrize("arguments", [[], ["--scripts", "Han", "--min-count", "2"], ["--keep", "0"]])
def test_wrong_usage(arguments: list[str], tmp_path: Path) -> None:
    """What says nothing, or counts nothing, is wrong usage."""
    result = CliRunner().invoke(main, ["prune", "minilm", str(tmp_path / "out"), *arguments])
    assert result.exit_code == 2
