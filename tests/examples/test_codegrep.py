"""examples/codegrep: what is found where, and what is read again."""

import json
from pathlib import Path

import pytest
from builders.examples import example

codegrep = example("codegrep")
PYTHON = '''"""Tools."""

import os


class Backup:
    """Copies of files."""

    kept = 3

    @staticmethod
    def oldest(folder):
        """The file that was written first."""
        return min(os.listdir(folder), key=os.path.getmtime)

    def delete_old(self, folder):
        os.remove(self.oldest(folder))


def celsius(fahrenheit):
    """Convert a temperature."""
    return (fahrenheit - 32) / 1.8
'''
SCRIPT = """// shapes

function areaOfCircle(radius) {

  return Math.PI * radius * radius;
}

function greet(name) {
  return "Good morning, " + name;
}
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "web").mkdir()
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "tools.py").write_text(PYTHON)
    (tmp_path / "web" / "shapes.js").write_bytes(SCRIPT.replace("\n", "\r\n").encode())
    (tmp_path / "node_modules" / "other.js").write_text(SCRIPT)
    (tmp_path / "notes.txt").write_text("no code")
    return tmp_path


def grep(capsys: pytest.CaptureFixture[str], question: str, tree: Path, *more: str) -> tuple[int, list[str], str]:
    status = codegrep.main([question, str(tree), "--bundle", "static", *more])
    said = capsys.readouterr()
    return status, said.out.splitlines(), said.err.strip()


def test_finds_by_meaning(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first line of what fits best, where it stands in the file; decorators are passed over."""
    for question, place in (
        ("how hot is it in degrees", "tools.py:20: def celsius(fahrenheit):"),
        ("which file was written first", "tools.py:12: def oldest(folder):"),
        ("the surface of a circle with a radius", "web/shapes.js:3: function areaOfCircle(radius) {"),
        ("say hello to somebody", "web/shapes.js:8: function greet(name) {"),
    ):
        status, lines, _ = grep(capsys, question, tree, "-k", "1")
        assert (status, lines) == (0, [f"{tree}/{place}"])


def test_every_line_is_that_of_its_file(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also inside long functions, behind form feeds and bytes that are no UTF-8, and where Python cannot read it."""
    long = "def long():\n" + "".join(f"    step_{i} = {i} + step_{i - 1}\n" for i in range(200))
    (tree / "long.py").write_text(f"# a\x0cb\n\n{long}")
    (tree / "old.py").write_text("print 'a'\n\ndef area(x):\n    print x\n")
    (tree / "latin.c").write_bytes(b"/* gr\xfc\xdfe */\n\nint add(int a, int b) { return a + b; }\n")
    status, lines, said = grep(capsys, "area of a step that is added", tree, "-k", "99", "--json")
    found = [json.loads(line) for line in lines]
    assert said == f"files read: 5, gone: 0; functions and blocks: {len(found)}"
    for entry in found:
        lines_of = Path(entry["path"]).read_bytes().decode("utf-8", "replace").replace("\r", "").split("\n")
        assert lines_of[entry["line"] - 1] == entry["text"], entry
    assert {Path(entry["path"]).name for entry in found} == {"tools.py", "shapes.js", "long.py", "old.py", "latin.c"}
    (inside,) = [entry for entry in found if entry["key"] == "long.py:3"]
    assert inside["line"] >= 3
    assert status == 0


def test_reads_only_what_changed(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unchanged files are not read again; of changed ones nothing old is left; deleted ones leave."""
    assert grep(capsys, "a", tree)[2].startswith("files read: 2, gone: 0;")
    (tree / "tools.py").touch()
    assert grep(capsys, "a", tree)[2].startswith("files read: 0, gone: 0;")
    (tree / "tools.py").write_text("def kelvin(celsius):\n    return celsius + 273.15\n")
    (tree / "web" / "shapes.js").unlink()
    status, lines, said = grep(capsys, "temperature", tree)
    assert (status, lines) == (0, [f"{tree}/tools.py:1: def kelvin(celsius):"])
    assert said == "files read: 1, gone: 1; functions and blocks: 1"


def test_interrupted_update(tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it ends between storing a changed file and deleting what is no longer in it, the next run deletes that."""
    grep(capsys, "a", tree)
    (tree / "tools.py").write_text("\n" * 8 + "def kelvin(celsius):\n    return celsius + 273.15\n")

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(codegrep.Index, "delete", interrupted)
        assert grep(capsys, "a", tree)[0] == 130
    _, lines, _ = grep(capsys, "temperature", tree, "-k", "99")
    assert [line for line in lines if "tools.py" in line] == [f"{tree}/tools.py:9: def kelvin(celsius):"]


def test_status(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """1 where there is nothing, 2 where something is wrong: as grep."""
    empty = tree / "empty"
    empty.mkdir()
    assert grep(capsys, "a", empty)[:2] == (1, [])
    status, _, said = grep(capsys, "a", tree / "nowhere")
    assert (status, said) == (2, f"codegrep: {tree}/nowhere is not a folder")
    assert grep(capsys, "", tree)[0] == 2
