"""The three outputs of a BGE-M3 folder beside what its authors' code computes (FlagEmbedding, written anew here)."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.kindfolders import TEXTS, WORDS, largest

from edge_embed import Embedder
from edge_embed.errors import ExportError
from edge_embed_export import export_model

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not (find_spec("torch") and find_spec("transformers")), reason="needs torch and transformers"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("short_receipt"),
]
VOCAB = ["<s>", "<pad>", "</s>", "<unk>", *WORDS, ",", "?", "!", ";", "."]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    import tokenizers
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.XLMRobertaConfig(
        vocab_size=len(VOCAB), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=66, pad_token_id=1, bos_token_id=0, eos_token_id=2, type_vocab_size=1,
    )  # fmt: skip
    model = transformers.XLMRobertaModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    path = tmp_path / "bge-m3"
    model.save_pretrained(path)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(VOCAB)}, unk_token=VOCAB[3]))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    special = {"cls_token": "<s>", "bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "unk_token": VOCAB[3]}
    special["pad_token"] = VOCAB[1]
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=64, **special).save_pretrained(path)
    torch.save({"weight": torch.randn(1, 32), "bias": torch.ones(1) * 5}, path / "sparse_linear.pt")
    torch.save({"weight": torch.randn(32, 32), "bias": torch.randn(32)}, path / "colbert_linear.pt")
    return path


def reference(folder: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Rows of weights [vocab], and vectors of tokens."""
    import torch
    import transformers

    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    sparse, multi = (torch.load(folder / f"{kind}_linear.pt") for kind in ("sparse", "colbert"))
    rows, vectors = [], []
    with torch.no_grad():
        for text in TEXTS:
            tokens = tokenizer([text], truncation=True, max_length=64, return_tensors="pt")
            states = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state[0]
            row = np.zeros(len(VOCAB), np.float32)
            weights = torch.relu(torch.nn.functional.linear(states, sparse["weight"], sparse["bias"]))[:, 0]
            for id_, weight in zip(tokens["input_ids"][0].tolist(), weights.tolist(), strict=True):
                if id_ > 3:
                    row[id_] = max(row[id_], weight)
            rows.append(row)
            found = torch.nn.functional.linear(states[1:], multi["weight"], multi["bias"])
            vectors.append(torch.nn.functional.normalize(found, dim=-1).numpy())
    return rows, vectors


def assert_close(found: Any, expected: Any, precision: str) -> None:
    if precision == "fp32":
        assert largest(found, expected) < 1e-5
        return
    a, b = (np.concatenate([np.ravel(one) for one in many]) for many in (found, expected))
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.98


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_three_outputs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    """One bundle for each output; the same bits alone and in a batch."""
    from edge_embed_export.receipt import finish

    monkeypatch.setattr(finish, "GOLDEN_TEXTS", ("the river bank", "a cat and the dog"))
    rows, vectors = reference(folder)
    options: dict[str, Any] = {"precision": precision, "floor": -1, "verify": "skip"}
    sparse = export_model(folder, tmp_path / "sparse", kind="sparse", **options)
    assert sparse.head == {"saturations": 0}
    embedder = Embedder(tmp_path / "sparse", threads=1)
    found = embedder.encode_sparse(TEXTS)
    assert found == [embedder.encode_sparse([text])[0] for text in TEXTS] == embedder.encode_sparse(TEXTS * 9)[-6:]
    dense = np.zeros((len(TEXTS), len(VOCAB)), np.float32)
    for row, vector in zip(dense, found, strict=True):
        row[vector.ids] = vector.weights
    assert_close(dense, rows, precision)
    multi = export_model(folder, tmp_path / "multi", kind="multi", **options)
    assert multi.schema == 2  # earlier releases would not leave the first vector out
    embedder = Embedder(tmp_path / "multi", threads=1)
    for role in ("query", "document"):
        assert_close(embedder.encode_multi(TEXTS, role=role), vectors, precision)
    assert export_model(folder, tmp_path / "dense", **options).kind == "dense"


@pytest.mark.parametrize("kind", ["sparse", "multi"])
def test_heads_that_are_refused(folder: Path, tmp_path: Path, kind: Any) -> None:
    import torch

    name = {"sparse": "sparse_linear.pt", "multi": "colbert_linear.pt"}[kind]
    for held, said in (
        ({"weight": torch.ones(1, 32)}, "expected weight and bias"),
        ({"weight": torch.ones(1, 31), "bias": torch.ones(1)}, "do not fit tokens of 32 numbers"),
        ([1], "holds other things than tensors by name"),
    ):
        torch.save(held, folder / name)
        with pytest.raises(ExportError, match=said):
            export_model(folder, tmp_path / "refused", kind=kind, verify="skip")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "unk_token": "gone"}))
    torch.save({"weight": torch.ones(1, 32), "bias": torch.ones(1)}, folder / name)
    if kind == "sparse":
        with pytest.raises(ExportError, match="unk_token"):
            export_model(folder, tmp_path / "refused", kind=kind, verify="skip")
