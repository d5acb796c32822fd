"""The public face: what users import comes from `edge_embed`, and costs nothing before it is used."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import edge_embed
from edge_embed import errors

ROOT = Path(__file__).parents[2]
NAMES = {
    "ComposedEmbedder", "Document", "Embedder", "Hit", "Hits", "Index", "Media", "Ranked", "Reranker", "Session",
    "SparseVector", "TruncationWarning", "__version__", "compact_index", "dump_vectors", "errors", "load_vectors",
    "maxsim", "merge_indexes", "reembed_index", "verify_index",
}  # fmt: skip


def test_public_names() -> None:
    """`__all__` is what users may rely on: these names and every error, each once and each there."""
    assert len(edge_embed.__all__) == len(set(edge_embed.__all__))
    assert set(edge_embed.__all__) == NAMES | {name for name in dir(errors) if name.endswith("Error")}
    assert set(edge_embed.__all__) <= set(dir(edge_embed))
    for name in edge_embed.__all__:
        assert getattr(edge_embed, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Embeder'"):
        edge_embed.Embeder  # noqa: B018


def test_names_are_the_objects_of_their_modules() -> None:
    """A public name is a name, not a copy: what it is called, and what its home has."""
    for name in NAMES - {"__version__", "errors"}:
        found = getattr(edge_embed, name)
        assert found.__name__ == name
        assert getattr(import_module(found.__module__), name) is found


def test_every_error_is_public_and_in_the_tree() -> None:
    """Each class that errors defines is in `__all__`, derives from EdgeEmbedError, and is drawn in the docstring."""
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    classes = [value for value in classes if not issubclass(value, Warning)]
    assert sorted(kind.__name__ for kind in classes) == sorted(set(edge_embed.__all__) - NAMES)
    for kind in classes:
        assert getattr(edge_embed, kind.__name__) is kind
        assert issubclass(kind, errors.EdgeEmbedError)
        assert kind.__doc__
        assert re.search(rf"\b{kind.__name__}\b", errors.__doc__ or "")


def test_import_is_light() -> None:
    """`import edge_embed` loads its errors, and nothing from outside the standard library."""
    program = (
        "import sys; before = set(sys.modules); import edge_embed\n"
        "new = set(sys.modules) - before\n"
        "print(sorted(n for n in new if n.split('.')[0] not in sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    expected = ["edge_embed", "edge_embed.errors", "edge_embed_runtime", "edge_embed_runtime.errors"]
    assert done.stdout == f"{expected}\n"


def test_documents_import_from_the_public_face_alone() -> None:
    """No example in README or docs takes a name from elsewhere, or one that is not public."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for module, names in re.findall(r"^\s*from (edge_embed\w*(?:\.\w+)*) import ([^(\n]+)", page.read_text(), re.M):
            public = edge_embed.__all__ if module == "edge_embed" else names_of_door(module)
            assert set(re.split(r",\s*", names.strip())) <= set(public), f"{page.name}: {module}"


def names_of_door(module: str) -> list[str]:
    """What a door into a framework gives, by its source: the framework may be missing here. Others are no face."""
    assert module.startswith("edge_embed.integrations."), module
    path = ROOT.joinpath(*module.split("."))
    source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text("utf-8")
    names: list[str] = []
    for found in ast.parse(source).body:
        if isinstance(found, ast.ClassDef | ast.FunctionDef):
            names.append(found.name)
        elif isinstance(found, ast.Assign) and ast.unparse(found.targets[0]) == "__all__":
            names += ast.literal_eval(found.value)
    return [name for name in names if not name.startswith("_")]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("edge_embed_runtime.maintenance", "verify_index"),
        ("edge_embed_runtime.maintenance", "compact_index"),
        ("edge_embed_runtime.reembed", "reembed_index"),
        ("edge_embed.transfer", "load_vectors"),
        ("edge_embed.transfer", "dump_vectors"),
    ],
)
def test_old_paths_work_and_warn(module: str, name: str) -> None:
    """What README and changelog named in other modules is there for one release more, and says where it is now."""
    with pytest.warns(DeprecationWarning, match=f"import {name} from edge_embed") as warned:
        exec(f"from {module} import {name}", found := {})  # noqa: S102 - the line that users have
    assert found[name] is getattr(edge_embed, name)
    assert {warning.filename for warning in warned} == {"<string>"}  # the line of the user, not one of ours
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        import_module(module).nothing  # noqa: B018
