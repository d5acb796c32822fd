"""Public models in the layout of their own folders: each exports, gives a text one vector, and agrees with its library.

The table docs/models.md is made from the same folders: see tests/zoo.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from builders.marks import slow_but
from zoo import measuring, page
from zoo.folders import write
from zoo.models import ROWS, Row

pytestmark = [
    pytest.mark.usefixtures("short_receipt"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]

# Rows that are compared with the installed library, and so only in an environment that has it.
needs_libraries = pytest.mark.skipif(
    not (find_spec("torch") and find_spec("sentence_transformers")),
    reason="needs torch and sentence-transformers (extra parity)",
)

Folder = Callable[[str], tuple[Row, Path]]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A row by its name, and the folder of its model."""

    def make(name: str) -> tuple[Row, Path]:
        return ROWS[name], write(ROWS[name], tmp_path)

    return make


# The first row of each network and vocabulary.
FIRST = {(row.network, row.vocabulary): name for name, row in reversed(ROWS.items())}.values()


@pytest.mark.parametrize("name", slow_but(ROWS, FIRST))
def test_public_folder_exports(folder: Folder, tmp_path: Path, name: str) -> None:
    """As it is published, with one vector for a text, and with what the page says of it."""
    row, source = folder(name)
    manifest = measuring.export(row, source, tmp_path / "bundle")
    assert manifest.kind == row.kind
    assert measuring.one_vector(tmp_path / "bundle", row.kind)
    said = {cells[0]: cells[1:6] for cells in page.rows_of(page.DOCS.read_text(encoding="utf-8"))}
    facts = {**vars(measuring.facts(row, manifest)), "difference": 0, "int8": 1, "one_vector": True, "against": ""}
    (expected,) = page.rows_of("| head |\n" + page.line(name, [facts]))
    assert said[name] == expected[1:6], "python tests/zoo measure FILE.json && python tests/zoo table FILE.json"


def test_the_page() -> None:
    """At least 60 public models, none further from its reference than 1e-4, each with one vector for a text."""
    rows = list(page.rows_of(page.DOCS.read_text(encoding="utf-8")))
    assert [cells[0] for cells in rows] == list(ROWS)
    assert len(rows) >= 60
    assert all(float(cells[6]) <= 1e-4 for cells in rows)
    assert all(cells[8] == "yes" for cells in rows)


@pytest.mark.parity
@needs_libraries
@pytest.mark.parametrize("name", ROWS)
def test_public_folder_agrees_with_its_reference(folder: Folder, tmp_path: Path, name: str) -> None:
    """Within 1e-5 of the library, or of the model's own code done by hand."""
    row, source = folder(name)
    if row.since > measuring.environment():
        pytest.skip("the installed transformers has no such architecture")
    measuring.export(row, source, tmp_path / "fp32")
    assert measuring.difference(row, source, tmp_path / "fp32") < 1e-5


ELSEWHERE = {
    "embeddinggemma-300m": "halves sliding_window each time it makes this config",
    "bge-multilingual-gemma2": "writes another template for pairs of texts, which no vector depends on",
}


@pytest.mark.parity
@needs_libraries
@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if not row.reference])
def test_saved_by_the_library(folder: Folder, tmp_path: Path, name: str) -> None:
    """Loaded and saved by the installed release, a model has the same bundle: nothing tells who saved it."""
    row, source = folder(name)
    if row.since > measuring.environment():
        pytest.skip("the installed transformers has no such architecture")
    if reason := ELSEWHERE.get(row.folder) if measuring.environment() < 5 else None:
        pytest.skip(f"transformers 4 {reason}")
    first = measuring.export(row, source, tmp_path / "fp32")
    again = measuring.saved_again(source, tmp_path / "again" / row.folder, row.kind)  # some prompts go by the name
    second = measuring.export(row, again, tmp_path / "second")
    assert {key: vars(first)[key] for key in ("dim", "max_tokens", "prompts", "pooling", "files")} == {
        key: vars(second)[key] for key in ("dim", "max_tokens", "prompts", "pooling", "files")
    }
    assert first.fingerprint == second.fingerprint
