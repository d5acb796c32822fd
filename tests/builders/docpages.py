"""Code of docs/ that needs packages of others: run by the tests that have these, in an empty folder."""

from pathlib import Path
from typing import Any

import pytest
from whole import pages


def run_page(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **names: Any) -> int:
    """Run the blocks of a page that are left out elsewhere, in their order; gives their number.

    names: what the blocks find defined
    """
    monkeypatch.chdir(folder)
    page = pages.ROOT / "docs" / name
    blocks = [block for block in pages.blocks(page) if block.not_run == "needs packages of others"]
    for block in blocks:
        assert block.language == "python"
        code = compile("\n" * (block.line - 1) + block.code, name, "exec")
        exec(code, names)  # noqa: S102 - our page
    return len(blocks)
