"""A small bundle whose roles and dimensions differ, for what names them."""

from pathlib import Path

import pytest

from builders.bert import bert_folder
from edge_embed_export import export_model
from edge_embed_export.verify import compare as verifying


def prompted_bundle(folder: Path) -> Path:
    """A random BERT with prompts for three roles, whose vectors of 32 numbers may be cut to 16 or 8."""
    prompts = {"query": "river ", "document": "", "clustering": "a bank "}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verifying, "installed", lambda: False)
        export_model(bert_folder(folder / "checkpoint"), folder / "tiny", prompts=prompts, truncate_dims=[16, 8])
    return folder / "tiny"
