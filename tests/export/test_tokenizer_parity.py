"""Tokenizers of model folders against transformers, id by id, and texts against sentence-transformers (extra parity).

What transformers 4 and 5 differ in is asked of the one that is installed.
"""

import json
import shutil
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import architectures
from builders.tokenizerfolders import HARD, folder, with_pairs, with_words

from edge_embed import Embedder
from edge_embed_export import export_model
from edge_embed_export.files.reading import read_json
from edge_embed_export.modules.folder import Folder
from edge_embed_export.tokenizer.files import read_text
from edge_embed_runtime.inputs.tokenizer import Tokenizer, sanitize

needs_torch = pytest.mark.skipif(
    not (find_spec("torch") and find_spec("transformers")), reason="needs torch and transformers (extra parity)"
)
needs_sentences = pytest.mark.skipif(
    not find_spec("sentence_transformers"), reason="needs sentence-transformers (extra parity)"
)
needs_pieces = pytest.mark.skipif(not find_spec("sentencepiece"), reason="needs sentencepiece (extra parity)")
pytestmark = [
    pytest.mark.parity,
    needs_torch,
    pytest.mark.usefixtures("short_receipt"),
    pytest.mark.filterwarnings("ignore"),  # what the libraries warn of while they are imported
]
RELEASE = version("transformers") if find_spec("transformers") else "4"
MPNET = ("<s>", "<pad>", "</s>", "[UNK]", "<mask>")
QWEN = ("<|endoftext|>",)
BERT_SETTINGS: list[dict[str, Any]] = [
    {"do_lower_case": low, "strip_accents": strip} for low in (True, False) for strip in (None, True, False)
]


def same_ids(place: Path) -> None:
    """Ours and AutoTokenizer's, for every hard text; special tokens in a text are plain text on both sides."""
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(str(place))
    text = read_text(place, Folder(place), read_json(place / "config.json"))
    ours = Tokenizer(sanitize(text.tokenizer), 128)
    for given in HARD:
        expected = reference(given, truncation=True, max_length=128, split_special_tokens=True)["input_ids"]
        assert ours.encode(given).tolist() == expected, given


def saved(place: Path, target: Path, **settings: Any) -> Path:
    """The folder as the installed transformers saves it, with other settings in tokenizer_config.json."""
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(str(place)).save_pretrained(str(target))
    shutil.copy(place / "config.json", target)
    path = target / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return target


@pytest.mark.parametrize("settings", [{}, *BERT_SETTINGS, {"tokenize_chinese_chars": False}])
@pytest.mark.parametrize("model_type", ["bert", "distilbert", "electra", "mpnet"])
def test_word_pieces(tmp_path: Path, model_type: str, settings: dict[str, Any]) -> None:
    """From vocab.txt, and from the tokenizer.json that is saved of it, with these settings beside it."""
    special = MPNET if model_type == "mpnet" else None
    same_ids(with_words(folder(tmp_path / "a", model_type, RELEASE, **settings), special))
    plain = with_words(folder(tmp_path / "b", model_type, RELEASE), special)
    same_ids(saved(plain, tmp_path / "c", **settings))


@pytest.mark.parametrize("settings", [{}, {"add_prefix_space": True}, {"add_bos_token": True}, {"add_eos_token": True}])
@pytest.mark.parametrize("model_type", ["roberta", "gpt2", "qwen2", "qwen3", "deberta"])
def test_byte_pairs(tmp_path: Path, model_type: str, settings: dict[str, Any]) -> None:
    """From vocab.json with merges.txt, and from the tokenizer.json that is saved of it."""
    special = {"roberta": None, "deberta": ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")}.get(model_type, QWEN)
    name = {"qwen3": "Qwen2Tokenizer", "gpt2": "GPT2Tokenizer"}.get(model_type, f"{model_type.title()}Tokenizer")
    if not (RELEASE[0] == "4" and name == "Qwen2Tokenizer" and "add_prefix_space" in settings):  # it fails itself
        same_ids(with_pairs(folder(tmp_path / "a", model_type, RELEASE, tokenizer_class=name, **settings), special))
    plain = with_pairs(folder(tmp_path / "b", model_type, RELEASE, tokenizer_class=name), special)
    same_ids(saved(plain, tmp_path / "c", tokenizer_class=name, **settings))
    same_ids(saved(plain, tmp_path / "d", tokenizer_class="PreTrainedTokenizerFast", **settings))


def test_added_tokens(tmp_path: Path) -> None:
    """A word that is looked for, with every flag, in tokenizer_config.json alone or in both files with other flags."""
    plain = saved(with_pairs(folder(tmp_path / "a", "roberta", RELEASE)), tmp_path / "b")
    definition = json.loads((plain / "tokenizer.json").read_text())
    size = len(definition["model"]["vocab"])
    given = {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in definition["added_tokens"]}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    for flag in flags:
        token = {"content": "<tool_call>", **flags, flag: True}
        config = {"added_tokens_decoder": {**given, str(size): token}, "tokenizer_class": "RobertaTokenizer"}
        (plain / "tokenizer_config.json").write_text(json.dumps(config))
        for held in ([], [{"id": size, **token, "rstrip": True}]):
            tokens = [*definition["added_tokens"], *held]
            (plain / "tokenizer.json").write_text(json.dumps({**definition, "added_tokens": tokens}))
            same_ids(plain)


def pieces(place: Path, file: str, **options: Any) -> None:
    """Train a small model of sentencepiece into a folder."""
    import sentencepiece

    corpus = place / "corpus.txt"
    corpus.write_text("\n".join(" ".join(text.split()) for text in HARD for _ in range(8) if text.strip()), "utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(place / "made"), hard_vocab_limit=False, minloglevel=2, **options
    )
    (place / "made.model").rename(place / file)
    for name in ("made.vocab", "corpus.txt"):
        (place / name).unlink()


UNIGRAM = {"model_type": "unigram", "vocab_size": 150}
BYTES = {
    "model_type": "bpe", "vocab_size": 450, "byte_fallback": True, "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
}  # fmt: skip
PIECES: dict[str, tuple[str, dict[str, Any]]] = {
    "xlm-roberta": ("sentencepiece.bpe.model", UNIGRAM),
    "camembert": ("sentencepiece.bpe.model", UNIGRAM),
    "t5": ("spiece.model", {**UNIGRAM, "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}),
    "albert": ("spiece.model", {**UNIGRAM, "pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1,
                                "control_symbols": "[CLS],[SEP]", "user_defined_symbols": "[MASK]"}),
    "deberta-v2": ("spm.model", {**UNIGRAM, "pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "bos_piece": "[CLS]",
                                 "eos_piece": "[SEP]", "pad_piece": "[PAD]", "unk_piece": "[UNK]"}),
    "llama": ("tokenizer.model", BYTES),
    "mistral": ("tokenizer.model", BYTES),
    "gemma": ("tokenizer.model", {**BYTES, "pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "bos_piece": "<bos>",
                                  "eos_piece": "<eos>", "add_dummy_prefix": False}),
}  # fmt: skip
CLASSES = {
    "xlm-roberta": "XLMRobertaTokenizer", "camembert": "CamembertTokenizer", "t5": "T5Tokenizer",
    "albert": "AlbertTokenizer", "deberta-v2": "DebertaV2Tokenizer", "llama": "LlamaTokenizer",
    "mistral": "LlamaTokenizer", "gemma": "GemmaTokenizer",
}  # fmt: skip


@needs_pieces
@pytest.mark.parametrize("model_type", PIECES)
def test_sentence_pieces(tmp_path: Path, model_type: str) -> None:
    """Converted where no tokenizer.json is there; from the tokenizer.json saved of it, with several settings."""
    file, options = PIECES[model_type]
    place = folder(tmp_path / "a", model_type, RELEASE, tokenizer_class=CLASSES[model_type])
    pieces(place, file, **options)
    same_ids(place)
    name = {"tokenizer_class": CLASSES[model_type]}
    variants: list[dict[str, Any]] = [{}, {"do_lower_case": False}, {"do_lower_case": True, "keep_accents": True}]
    if file == "tokenizer.model":
        ways = ((True, False), (True, True), (False, True), (False, False))
        variants = [{"add_bos_token": bos, "add_eos_token": eos} for bos, eos in ways]
        variants += [{"legacy": legacy} for legacy in (True, False)]
    for i, settings in enumerate(variants):
        same_ids(saved(place, tmp_path / f"b{i}", **name, **settings))


@needs_pieces
@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("prefix", [True, False])
def test_llama_with_a_space_in_front(tmp_path: Path, prefix: bool, legacy: bool) -> None:
    """add_prefix_space beside tokenizer.json: version 4 converts anew, which gives what we make of tokenizer.json."""
    settings = {"tokenizer_class": "LlamaTokenizer", "legacy": legacy}
    place = folder(tmp_path / "a", "llama", RELEASE, **settings)
    pieces(place, "tokenizer.model", **BYTES)
    made = saved(place, tmp_path / "b", **settings, add_prefix_space=prefix)
    shutil.copy(place / "tokenizer.model", made)
    same_ids(made)


@needs_sentences
@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("spaces", [False, True])
def test_texts_as_sentence_transformers_reads_them(tmp_path: Path, lower: bool, spaces: bool) -> None:
    """White space, lower case and prompts, each as the installed release has them: vectors within 1e-5."""
    from sentence_transformers import SentenceTransformer

    model = architectures.MODELS["roberta"]()
    made = saved(with_pairs(folder(tmp_path / "a", "roberta", RELEASE)), tmp_path / "b")
    definition = json.loads((made / "tokenizer.json").read_text())
    size = len(definition["model"]["vocab"])
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    if spaces:
        words = ("  ", "<tool_call>")
        definition["added_tokens"] += [{"id": size + i, "content": word, **plain} for i, word in enumerate(words)]
        size += len(words)
    config = {**model.config, "vocab_size": size, "transformers_version": RELEASE, "max_position_embeddings": 130}
    tensors = architectures.Tensors()
    for name, tensor in model.tensors.items():
        rows = {"word_embeddings.weight": size, "position_embeddings.weight": 130}
        new = next((n for part, n in rows.items() if name.endswith(part)), None)
        tensors.add(name, new, tensor.shape[1]) if new else tensors.__setitem__(name, tensor)
    source = architectures.write(architectures.Model(config, tensors, pooling="mean_tokens"), tmp_path / "m")
    (source / "tokenizer.json").write_text(json.dumps(definition))
    modules = json.loads((source / "modules.json").read_text())
    (source / "modules.json").write_text(json.dumps([{**module, "name": str(module["idx"])} for module in modules]))
    pooling = source / "1_Pooling" / "config.json"
    pooling.write_text(
        json.dumps({**json.loads(pooling.read_text()), "word_embedding_dimension": config["hidden_size"]})
    )
    generic = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "model_max_length": 64}
    (source / "tokenizer_config.json").write_text(json.dumps(generic))
    (source / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": lower}))
    versions = {"sentence_transformers": version("sentence_transformers"), "transformers": RELEASE}
    prompts = {"query": " Query: ", "document": "passage: "}
    settings = source / "config_sentence_transformers.json"
    settings.write_text(json.dumps({"__version__": versions, "prompts": prompts}))
    reference = SentenceTransformer(str(source), device="cpu")
    manifest = export_model(source, tmp_path / "bundle", precision="fp32")
    embedder = Embedder(tmp_path / "bundle", threads=1)
    assert manifest.max_tokens == 64
    texts = [text for text in HARD if "[SEP]" not in text and text != " "]
    for role, prompt in (("query", prompts["query"]), ("document", prompts["document"]), (None, "")):
        expected = [reference.encode([text], prompt=prompt, normalize_embeddings=True)[0] for text in texts]
        ours = embedder.encode(texts, role=role) if role else embedder.encode(texts)
        assert np.abs(np.stack(expected) - ours).max() < 1e-5
