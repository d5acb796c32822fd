"""Small bundles that a service serves, made without torch."""

import json
from pathlib import Path

import numpy as np
import pytest

from builders.bert import TINY, bert_folder, bert_tensors, word_tokenizer
from edge_embed_export import export_model
from edge_embed_export.verify import compare as verifying


def prompted_bundle(folder: Path) -> Path:
    """A random BERT with prompts for three roles, whose vectors of 32 numbers may be cut to 16 or 8."""
    prompts = {"query": "river ", "document": "", "clustering": "a bank "}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verifying, "installed", lambda: False)
        export_model(bert_folder(folder / "checkpoint"), folder / "tiny", prompts=prompts, truncate_dims=[16, 8])
    return folder / "tiny"


def reranker_bundle(folder: Path, labels: int = 1) -> Path:
    """A random BERT that gives so many numbers for a pair of texts, without an activation; it reads 40 tokens."""
    from safetensors.numpy import save_file

    source = folder / "cross-encoder"
    source.mkdir()
    names = {str(i): f"LABEL_{i}" for i in range(labels)}
    own = {"activation_fn": "torch.nn.modules.linear.Identity"}
    config = {
        **TINY,
        "architectures": ["BertForSequenceClassification"],
        "id2label": names,
        "sentence_transformers": own,
    }
    random = np.random.default_rng(2)
    shapes = {"bert.pooler.dense.weight": (32, 32), "bert.pooler.dense.bias": (32,),
              "classifier.weight": (labels, 32), "classifier.bias": (labels,)}  # fmt: skip
    tensors = {f"bert.{name}": tensor for name, tensor in bert_tensors(TINY).items()}
    tensors |= {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(tensors, source / "model.safetensors")
    (source / "config.json").write_text(json.dumps(config))
    (source / "tokenizer.json").write_text(json.dumps({**word_tokenizer(), "truncation": None, "padding": None}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verifying, "installed", lambda: False)
        export_model(source, folder / "reranker", precision="fp32")
    return folder / "reranker"
