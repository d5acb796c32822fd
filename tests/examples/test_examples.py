"""What holds for every example of this kind: a README of three lines, a row in the list, imports that all may use."""

import ast
import sys
from pathlib import Path

import pytest
from builders.examples import FOLDER

NAMES = ["notes", "duplicates", "classifier", "clustering", "codegrep", "intents", "kiosk"]


@pytest.mark.parametrize("name", NAMES)
def test_readme(name: str) -> None:
    """Three lines, and a row in the README of all."""
    assert len((FOLDER / name / "README.md").read_text().splitlines()) == 3
    assert f"| [{name}]({name}) |" in (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("path", [FOLDER / name / f"{name}.py" for name in NAMES[:-1]], ids=lambda path: path.stem)
def test_short_and_of_the_public_face(path: Path) -> None:
    """At most 150 lines; imported are the standard library, numpy, and names that edge_embed makes public."""
    import edge_embed

    text = path.read_text()
    assert text.count("\n") <= 150
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module == "edge_embed":
            assert {name.name for name in node.names} <= {*edge_embed.__all__}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
            assert {name.partition(".")[0] for name in names} <= {*sys.stdlib_module_names, "numpy"}
