"""Text towers of picture models against transformers (and its Python tokenizer of SigLIP): extra `parity`."""

import importlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import texttowers
from builders.texttowers import PIECES

from edge_embed import Embedder
from edge_embed_export import export_model
from edge_embed_export.files.tensors import read_tensors

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.usefixtures("short_receipt", "with_reference"),
    pytest.mark.skipif(
        not (find_spec("torch") and find_spec("transformers")), reason="needs torch and transformers (extra parity)"
    ),
]
TEXTS = [
    "the river bank",
    "",
    " ! ",
    "The  Money in the BANK, at night!",
    " leading, and ! trailing ",
    "money " * 40,
    "it's 1,234 Größe; naïve\n\tcat",
    "日本語 🙂 x",
    "ＦＵＬＬ　width ½ ﬁ",
    "under_score ▁▁ x",
    "ΟΔΟΣ ΣΑΣ İstanbul",
    "a\u00a0nbsp\u2003em\u200bzero\u00adsoft",
]


def verified(folder: Path) -> float:
    """The largest difference to transformers' vectors of 64 texts of all lengths and signs, in float32."""
    manifest = export_model(folder, folder.parent / "fp32", precision="fp32", verify="require")
    said = manifest.provenance["verified"]
    assert said["texts"] > 50
    return float(said["largest_difference"])


@pytest.mark.parametrize("changed", [{}, {"eos_token_id": 2}, {"hidden_act": "gelu"}])
def test_clips_text_tower_agrees_with_transformers(tmp_path: Path, changed: dict[str, Any]) -> None:
    source = texttowers.clip_text(tmp_path / "clip", **changed)
    assert verified(source) < 1e-5
    reference = importlib.import_module("transformers").AutoTokenizer.from_pretrained(source)
    embedder = Embedder(tmp_path / "fp32", threads=1)
    for text in TEXTS:
        expected = reference([text], truncation=True, max_length=20).input_ids[0]
        assert embedder.tokenizer.encode(text).tolist() == expected


def test_clips_tokenizer_of_a_vocabulary_agrees_with_transformers(tmp_path: Path) -> None:
    source = texttowers.clip_text(tmp_path / "clip")
    texttowers.as_vocabulary(source)
    export_model(source, tmp_path / "fp32", precision="fp32", verify="skip")
    embedder = Embedder(tmp_path / "fp32", threads=1)
    reference = importlib.import_module("transformers").AutoTokenizer.from_pretrained(source)
    for text in TEXTS:
        expected = reference([text], truncation=True, max_length=20).input_ids[0]
        assert embedder.tokenizer.encode(text).tolist() == expected


def test_metaclip_2_pools_at_the_first_end_token(tmp_path: Path) -> None:
    """XLM-R's end token has the id 2, which only CLIP's own old configs take for something else."""
    source = texttowers.clip_text(
        tmp_path / "metaclip", model_type="metaclip_2_text_model", eos_token_id=2, bos_token_id=0
    )
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    names = list(vocab)
    for place, special in ((0, "<s>"), (2, "</s>")):  # in the place of tokens that texts below have not
        del vocab[names[place]]
        vocab[special] = place
    tokenizer["added_tokens"] = [texttowers.added("<s>", 0), texttowers.added("</s>", 2)]
    tokenizer["post_processor"] |= {"cls": ["<s>", 0], "sep": ["</s>", 2]}
    tokenizer["model"]["unk_token"] = None
    (source / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    assert verified(source) < 1e-5


def test_siglips_text_tower_and_tokenizer_agree_with_transformers(tmp_path: Path) -> None:
    """Also where the file of sentencepiece has NFKC's table of characters (see `charsmap`)."""
    pytest.importorskip("sentencepiece")
    source = texttowers.siglip_text(tmp_path / "siglip")
    assert verified(source) < 1e-5
    embedder = Embedder(tmp_path / "fp32", threads=1)
    reference = importlib.import_module("transformers").AutoTokenizer.from_pretrained(source)
    for text in TEXTS:
        expected = reference([text], truncation=True, max_length=12).input_ids[0]
        assert embedder.tokenizer.encode(text).tolist() == expected


@pytest.mark.parametrize("name", ["Siglip2Tokenizer", "GemmaTokenizer"])
def test_siglip_2s_texts_are_lowered_as_by_its_class(tmp_path: Path, name: str) -> None:
    """The class that transformers 5 has for it lowers texts, Gemma's, which published folders name, does not."""
    transformers = importlib.import_module("transformers")
    if not hasattr(transformers, name) and name == "Siglip2Tokenizer":
        pytest.skip("transformers 4 has no Siglip2Tokenizer")
    source = texttowers.siglip2_text(tmp_path / "siglip2", name)
    export_model(source, tmp_path / "fp32", precision="fp32", verify="skip")
    embedder = Embedder(tmp_path / "fp32", threads=1)
    reference = transformers.AutoTokenizer.from_pretrained(source)
    assert reference.padding_side == "right"
    for text in TEXTS:
        expected = reference([text], truncation=True, max_length=12).input_ids[0]
        assert embedder.tokenizer.encode(text).tolist() == expected


def _as_large(source: Path, vocab: int) -> Path:
    """A folder whose table has at least so many rows."""
    tensors = read_tensors(source / "model.safetensors")
    name = "text_model.embeddings.token_embedding.weight"
    tensors[name] = np.resize(tensors[name], (vocab, tensors[name].shape[1]))
    importlib.import_module("safetensors.numpy").save_file(tensors, source / "model.safetensors")
    return source


def test_siglips_tokenizer_has_the_characters_of_its_file(tmp_path: Path) -> None:
    """A file that sentencepiece itself makes, with its table of characters."""
    sentencepiece = pytest.importorskip("sentencepiece")
    source = texttowers.siglip_text(tmp_path / "siglip")
    made = tmp_path / "made"
    lines = [*TEXTS, *(" ".join(PIECES[3:23]).replace("▁", "") for _ in range(20)), "abcdefghijklmnopqrstuvwxyz"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(made),
        vocab_size=120,
        model_type="unigram",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (source / "spiece.model").write_bytes(made.with_suffix(".model").read_bytes())
    export_model(_as_large(source, 120), tmp_path / "fp32", precision="fp32", verify="skip")
    embedder = Embedder(tmp_path / "fp32", threads=1)
    reference = importlib.import_module("transformers").AutoTokenizer.from_pretrained(source)
    for text in TEXTS:
        expected = reference([text], truncation=True, max_length=12).input_ids[0]
        assert embedder.tokenizer.encode(text).tolist() == expected


def test_blip2s_text_tower_agrees_with_transformers(tmp_path: Path) -> None:
    """The half of the Q-Former that reads texts, of a folder with both halves."""
    transformers = importlib.import_module("transformers")
    source = texttowers.blip2_text(tmp_path / "blip")
    torch = importlib.import_module("torch")
    model = transformers.Blip2TextModelWithProjection.from_pretrained(source).eval()
    checkpoint_vectors = texttowers.text_vectors(source)
    for ids in ([2, 3], [2, 7, 9, 11, 3]):
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([ids])).text_embeds[0, 0].numpy()
        assert np.abs(checkpoint_vectors(np.array(ids)) - expected).max() < 1e-5
