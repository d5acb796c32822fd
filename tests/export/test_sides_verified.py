"""`--verify` of models with sides, default prompts, and prompts that are not pooled: what the reference is asked.
That it gives the same vectors is in test_sides_parity.py."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.bert import Checkpoints

from edge_embed_export import export_model
from edge_embed_export.modules.folder import Folder
from edge_embed_export.sources.prompts import left_out
from edge_embed_export.verify import compare as verifying
from edge_embed_export.verify.reference import leave_out, needs_role

pytestmark = pytest.mark.usefixtures("short_receipt")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, with_reference: None) -> Callable[..., Mapping[str, Any]]:
    """What the reference is asked about a bundle that is exported."""
    found: list[Mapping[str, Any]] = []

    def run(request: Mapping[str, Any], **_: Any) -> tuple[list[Any], dict[str, Any]]:
        found.append(request)
        return [np.full(1, np.nan) for _ in request["texts"]], {"against": "nothing"}

    def export(source: Path, bundle: Path, **options: Any) -> Mapping[str, Any]:
        export_model(source, bundle, precision="fp32", overwrite=True, **options)
        return found[-1]

    monkeypatch.setattr(verifying, "run_reference", run)
    monkeypatch.setattr(verifying, "installed", lambda: True)
    return export


def test_request(checkpoint: Checkpoints, tmp_path: Path, asked: Callable[..., Mapping[str, Any]]) -> None:
    """The default role with its prompt, and which prompts are not pooled, also where only the folder's name says it."""
    source = checkpoint()
    settings = {"prompts": {"retrieval": "money to "}, "default_prompt_name": "retrieval"}
    (source / "config_sentence_transformers.json").write_text(json.dumps(settings))
    request = asked(source, tmp_path / "b")
    assert (request["default"], request["left_out"]) == ("retrieval", "")
    assert request["prompts"].keys() == {"query", "document", "retrieval"}
    assert all(prompt == {"text": "money to ", "said": False} for prompt in request["prompts"].values())
    request = asked(source, tmp_path / "b", prompts={"retrieval": "the "}, source_name="hkunlp/instructor-base")
    assert request["prompts"]["retrieval"] == {"text": "the ", "said": True}
    assert request["left_out"] == "prompt"


@pytest.mark.parametrize(
    ("said", "which"),
    [
        ({}, "instruction"),
        ({"is_mask_instruction": True, "padding_side": "right"}, "instruction"),
        ({"is_mask_instruction": False}, ""),
        ({"padding_side": "left"}, ""),
    ],
)
def test_instructions_of_nv_embed(tmp_path: Path, said: dict[str, Any], which: str) -> None:
    """Its code leaves an instruction out of pooling where both keys say so, which is also where they are missing."""
    assert left_out(Folder(tmp_path), {"model_type": "nvembed", **said}, ()) == which


def test_reference_is_told() -> None:
    """A reference that pools prompts is told not to; a Router without a default has no vectors for texts of no role."""

    class Router:
        default_route = None

    class Told:
        included = True

        def set_pooling_include_prompt(self, include: bool) -> None:
            self.included = include

        def children(self) -> list[Any]:
            return [Router()]

    told = Told()
    leave_out(told, "")
    assert told.included
    leave_out(told, "prompt")
    assert not told.included
    assert needs_role(told)
    Router.default_route = "query"  # type: ignore[assignment]
    assert not needs_role(told)
