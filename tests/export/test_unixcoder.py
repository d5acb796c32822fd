"""UniXcoder as its authors publish it: a token for the mode before every text, as its own code puts it."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.architectures import roberta, write
from builders.bert import WORDS, word_tokenizer

from edge_embed import Embedder
from edge_embed_export import export_model
from edge_embed_export.tokenizer.authors import MODES

pytestmark = pytest.mark.usefixtures("short_receipt")
# <s>, <pad>, </s>, <unk>, <encoder-only>, ...
START, END, MODE = 0, 2, 4


def tokenizer(*, modes: bool = True) -> dict[str, Any]:
    """A WordPiece tokenizer with RoBERTa's special tokens and, as plain tokens, UniXcoder's modes."""
    found = word_tokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokens = [*special, *(MODES if modes else ["x1", "x2", "x3"]), *WORDS[:18]]
    found["model"] |= {"vocab": {token: i for i, token in enumerate(tokens)}, "unk_token": "<unk>"}
    found["added_tokens"] = [{**found["added_tokens"][0], "id": i, "content": t} for i, t in enumerate(special)]
    found["post_processor"] = {
        "type": "RobertaProcessing",
        "sep": ["</s>", END],
        "cls": ["<s>", START],
        "trim_offsets": True,
        "add_prefix_space": False,
    }
    return found


def source(folder: Path, *, published: bool = True, modes: bool = True) -> Path:
    """published: as the authors publish it, without sentence-transformers' files."""
    model = roberta()
    write(replace(model, pooling=None) if published else model, folder)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(modes=modes)))
    return folder


def test_the_mode_is_put_before_a_text(tmp_path: Path) -> None:
    """<s> <encoder-only> </s> text </s>, cut to the limit behind it, empty texts too; the mean of all tokens."""
    manifest = export_model(source(tmp_path / "source"), tmp_path / "b", precision="fp32")
    assert (manifest.pooling, manifest.max_tokens) == ("mean", 40)  # as many positions as the small model has
    assert "notes" not in manifest.provenance
    tokens = Embedder(tmp_path / "b", threads=1).tokenizer
    the = tokens.vocabulary()["the"]
    assert tokens.encode("the the").tolist() == [START, MODE, END, the, the, END]
    assert tokens.encode("").tolist() == [START, MODE, END, END]
    assert tokens.encode("the " * 99).tolist() == [START, MODE, END, *[the] * 36, END]


@pytest.mark.parametrize(("published", "modes"), [(False, True), (True, False)])
def test_other_folders_have_no_mode(tmp_path: Path, published: bool, modes: bool) -> None:
    """sentence-transformers' folders are taken as that library takes them, other RoBERTas as what they are."""
    export_model(source(tmp_path / "source", published=published, modes=modes), tmp_path / "b", precision="fp32")
    tokens = Embedder(tmp_path / "b", threads=1).tokenizer
    assert tokens.encode("").tolist() == [START, END]


def test_a_named_folder_of_the_library_is_noted(tmp_path: Path) -> None:
    """Named so, but with modules.json: what is left out is said."""
    folder = source(tmp_path / "unixcoder-base-finetuned", published=False)
    manifest = export_model(folder, tmp_path / "b", precision="fp32")
    assert "<encoder-only>" in manifest.provenance["notes"]


def test_limit(tmp_path: Path) -> None:
    """512 tokens where the caller does not say, as in its own code, though it has more positions."""
    model = roberta()
    model.tensors.add("embeddings.position_embeddings.weight", 1026, 32)
    write(replace(model, pooling=None, config={**model.config, "max_position_embeddings": 1026}), tmp_path / "source")
    (tmp_path / "source" / "tokenizer.json").write_text(json.dumps(tokenizer()))
    assert export_model(tmp_path / "source", tmp_path / "b", precision="fp32").max_tokens == 512
    assert export_model(tmp_path / "source", tmp_path / "c", precision="fp32", max_tokens=700).max_tokens == 700


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif(not (find_spec("torch") and find_spec("transformers")), reason="needs torch and transformers")
def test_agrees_with_its_own_code(tmp_path: Path) -> None:
    """What its code computes: RoBERTa as a decoder whose mask lets every token see every other, then the mean.

    transformers 5 no longer takes such masks; there it is RoBERTa as an encoder.
    """
    import torch
    from transformers import RobertaConfig, RobertaModel, __version__

    folder = source(tmp_path / "source")
    export_model(folder, tmp_path / "b", precision="fp32")
    embedder = Embedder(tmp_path / "b", threads=1)
    config = RobertaConfig.from_pretrained(folder)
    config.is_decoder = __version__.startswith("4.")
    network = RobertaModel.from_pretrained(folder, config=config, add_pooling_layer=False).eval()
    vocabulary = tokenizer()["model"]["vocab"]
    for text in ("the bank of the river", "", "cat " * 60):
        words = [vocabulary.get(word, vocabulary["<unk>"]) for word in text.split()]
        ids = torch.tensor([[START, MODE, END, *words[:36], END]])
        mask = ids.ne(1)
        square = mask.unsqueeze(1) * mask.unsqueeze(2)
        with torch.no_grad():
            states = network(ids, attention_mask=square if config.is_decoder else mask)[0]
        mean = (states * mask.unsqueeze(-1)).sum(1) / mask.sum(-1).unsqueeze(-1)
        expected = torch.nn.functional.normalize(mean).numpy()[0]
        assert np.abs(embedder.encode([text])[0] - expected).max() < 1e-5
