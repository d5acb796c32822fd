"""Folders of models of other kinds, as the release of sentence-transformers that is installed saves them."""

import json
import string
from pathlib import Path
from typing import Any

import numpy as np

WORDS = [
    "the", "a", "river", "bank", "money", "house", "garden", "night", "cat", "dog", "blue", "red",
    "green", "is", "in", "on", "at", "of", "and", "who", "what", "where", "un", "##der",
    "stand", "##ing", "walk", "##ed", "[Q]", "[D]",
]  # fmt: skip
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCAB = [*SPECIAL, "[unused0]", "[unused1]", *string.punctuation, *WORDS]
TEXTS = [
    "the river bank",
    "",
    "what is the red cat, and where? at night!",
    "a",
    "the dog is in the garden; money at the bank. " * 7,
    "understanding walked",
]


def backbone(folder: Path, kind: str = "Bert", head: str = "Model", seed: int = 0, **settings: Any) -> Path:
    """A small model of a class of transformers, its weights random and not small, with a WordPiece tokenizer."""
    import torch
    import transformers

    torch.manual_seed(seed)
    sizes = {"vocab_size": len(VOCAB), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 48, "max_position_embeddings": 64, "pad_token_id": 0}
    if kind == "ModernBert":
        sizes |= {"global_attn_every_n_layers": 2, "local_attention": 8, "cls_token_id": 2, "sep_token_id": 3}
        sizes |= {"bos_token_id": 2, "eos_token_id": 3}
    config = getattr(transformers, f"{kind}Config")(**{**sizes, **settings})
    config._attn_implementation = "eager"
    model = getattr(transformers, kind + head)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer(folder)
    return folder


def tokenizer(folder: Path) -> None:
    """The files of a BERT's tokenizer, as the installed release saves them."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(VOCAB) + "\n")
    made = transformers.BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64)
    made.save_pretrained(folder)


def change(path: Path, **values: Any) -> None:
    """Set keys of a JSON file; None takes a key out."""
    held = json.loads(path.read_text()) if path.exists() else {}
    held = {name: value for name, value in {**held, **values}.items() if value is not None}
    path.write_text(json.dumps(held))


def largest(found: Any, expected: Any) -> float:
    """How much two lists of arrays differ, infinite where their shapes do."""
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(found, expected, strict=True)]
    if any(a.shape != b.shape for a, b in pairs):
        return float("inf")
    return max(float(np.abs(a - b).max(initial=0.0)) for a, b in pairs)
