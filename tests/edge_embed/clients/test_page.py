"""The code of docs/clients.md."""

from typing import Any

import pytest
from builders.marks import CLIENTS
from builders.services import running
from whole import pages

from edge_embed import Embedder, Reranker
from edge_embed.service.service import Service

pytestmark = CLIENTS
NEEDED = ("openai", "ollama", "cohere", "langchain_openai", "huggingface_hub")


def test_code_runs(embedder: Embedder, reranker: Reranker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of the page runs, in order, against a service at another address."""
    for package in NEEDED:
        pytest.importorskip(package, exc_type=ImportError)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    page = pages.ROOT / "docs" / "clients.md"
    blocks = [block for block in pages.blocks(page) if block.not_run == "needs packages of others"]
    assert len(blocks) >= 7
    names: dict[str, Any] = {}
    with running(Service({embedder.name: embedder}, {"reranker": reranker})) as service:
        for block in blocks:
            assert block.language == "python"
            code = block.code.replace("http://127.0.0.1:8080", service.url)
            exec(compile("\n" * (block.line - 1) + code, page.name, "exec"), names)  # noqa: S102 - our page
