"""The code of the pages on Haystack, Chroma and scikit-learn."""

from pathlib import Path
from typing import Any

import pytest
from whole import pages

pytestmark = pytest.mark.frameworks


@pytest.mark.parametrize(
    ("name", "package", "least"),
    [("haystack", "haystack", 4), ("chroma", "chromadb", 2), ("scikit-learn", "sklearn", 1)],
)
def test_code_runs(name: str, package: str, least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block runs, in order."""
    pytest.importorskip(package, exc_type=ImportError)
    monkeypatch.chdir(tmp_path)
    page = pages.ROOT / "docs" / f"{name}.md"
    found = [block for block in pages.blocks(page) if block.not_run == "needs packages of others"]
    assert len(found) >= least
    names: dict[str, Any] = {}
    for block in found:
        assert block.language == "python"
        exec(compile("\n" * (block.line - 1) + block.code, page.name, "exec"), names)  # noqa: S102 - our page
