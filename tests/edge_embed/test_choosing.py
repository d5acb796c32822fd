"""--include, --exclude and --gitignore: the same files as git, and what --sync makes of the others."""

import random
import shutil
import subprocess
from pathlib import Path

import pytest
from builders.commands import added, run

from edge_embed import Index
from edge_embed.files.choosing import Choice, Selection
from edge_embed.files.finding import Search, find
from edge_embed.files.patterns import Patterns
from edge_embed.files.problems import Problem
from edge_embed_runtime.errors import InputError


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_EMBED_BUNDLE", "static")
    return tmp_path


def write(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"The text of {name}.")


def chosen(folder: str = "n", **selection: object) -> list[str]:
    found = find([folder], lambda _: None, Search(selection=Selection(**selection)))  # type: ignore[arg-type]
    return [file.path.relative_to(folder).as_posix() for file in found.files]


def keys() -> list[str]:
    with Index.open("a.db", read_only=True) as index:
        return list(index.keys())


def test_include_and_exclude() -> None:
    write("n/a.md", "n/b.txt", "n/drafts/a.md", "n/drafts/keep.md", "n/sub/drafts/c.md", "n/sub/d.txt")
    assert chosen(include=("*.md",)) == ["a.md", "drafts/a.md", "drafts/keep.md", "sub/drafts/c.md"]
    assert chosen(include=("sub/",)) == ["sub/d.txt", "sub/drafts/c.md"]
    assert chosen(include=("sub/", "!*.txt")) == ["sub/drafts/c.md"]
    assert chosen(exclude=("drafts/",)) == ["a.md", "b.txt", "sub/d.txt"]
    assert chosen(exclude=("/drafts/*", "!keep.md")) == [
        "a.md",
        "b.txt",
        "drafts/keep.md",
        "sub/d.txt",
        "sub/drafts/c.md",
    ]
    assert chosen(include=("*.md",), exclude=("drafts",)) == ["a.md"]


def test_hidden_files_are_read_where_a_pattern_names_the_dot() -> None:
    write("n/a.md", "n/.b.md", "n/.wiki/c.md", "n/.wiki/.d.md", "n/.git/e.md", "n/sub/.wiki/f.md")
    assert chosen(include=("*.md",)) == ["a.md"]
    assert chosen(include=(".wiki",)) == [".wiki/c.md", "sub/.wiki/f.md"]
    assert chosen(include=("/.wiki/", ".b.md")) == [".b.md", ".wiki/c.md"]
    assert chosen(include=("*", ".*")) == [".b.md", ".git/e.md", ".wiki/.d.md", ".wiki/c.md", "a.md", "sub/.wiki/f.md"]
    assert chosen(include=("*", ".wiki"), exclude=("sub",)) == [".wiki/c.md", "a.md"]


def test_files_that_are_given_are_read_in_any_case() -> None:
    write("n/a.md", "n/b.md", "n/c.txt")
    assert added("n/a.md", "n", "--exclude", "*.md")["files"] == 2
    assert added("n/a.md", "n", "--exclude", "*.md", "--sync")["known"] == 2
    assert keys() == ["n/a.md", "n/c.txt"]


def test_what_is_excluded_leaves_the_index_with_sync() -> None:
    """--exclude and .gitignore say what is not wanted; --include only says what this run is about."""
    write("n/a.md", "n/b.txt", "n/drafts/c.md", "n/gone.md", "n/gone.txt")
    added("n")
    Path("n/gone.md").unlink()
    Path("n/gone.txt").unlink()
    assert added("n", "--sync", "--include", "*.md")["deleted"] == 2
    assert keys() == ["n/a.md", "n/b.txt", "n/drafts/c.md"]
    left = added("n", "--exclude", "drafts/")
    assert (left["gone"], left["deleted"], left["passed_over"]) == (1, 0, {"excluded": 1})
    assert (
        "1 document of 1 file that no longer exists or is excluded; add --sync"
        in run("add", "a.db", "n", "--exclude", "drafts/").stdout
    )
    assert added("n", "--sync", "--exclude", "drafts/")["deleted"] == 1
    Path("n/.gitignore").write_text("*.txt\n")
    assert added("n", "--sync", "--exclude", "drafts/")["deleted"] == 0
    ignored = added("n", "--sync", "--gitignore", "--exclude", "drafts/")
    assert (ignored["deleted"], ignored["passed_over"]) == (1, {"excluded": 1, "hidden": 1, "ignored by git": 1})
    assert keys() == ["n/a.md"]


@pytest.mark.parametrize("pattern", ["a\\", "[[:punct:]]"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    result = run("add", "a.db", ".", "--exclude", pattern)
    assert (result.exit_code, result.stderr[:23]) == (1, "edge-embed: --exclude: "[:23])


def test_lines_of_gitignore_that_are_not_understood_are_reported() -> None:
    """Those that git knows, and this does not; what git passes over is passed over here, too."""
    write("n/a.md")
    Path("n/.gitignore").write_text("a\\\n[[:punct:]].md\n# [[:punct:]]\n")
    problems: list[Problem] = []
    Choice(Selection(gitignore=True), problems.append).top(str(Path("n").resolve()))
    assert [(problem.line, "class of characters" in problem.reason) for problem in problems] == [(2, True)]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pathspec", None)
    write("n/a.md")
    assert "pip install 'edge-embed[files]'" in run("add", "a.db", "n", "--exclude", "*.md").stderr
    assert added("n")["stored"] == 1


def test_says() -> None:
    patterns = Patterns(["*.md", "!keep.md", "drafts/"])
    assert [patterns.says(name, folder=False) for name in ("a.md", "keep.md", "drafts", "x/a.md", "x/keep.md")] == [
        True, False, None, True, False]  # fmt: skip
    assert patterns.says("drafts", folder=True)
    with pytest.raises(InputError, match="is no pattern"):
        Patterns(["a\\"])


NAMES = ("a", "b", "keep", "a.md", "b.txt", "Foo", "x y")
LINES = (
    "*", "!*", "a", "!a", "a/", "!a/", "/a", "!/a", "*.md", "!*.md", "**/b", "a/**", "!a/**", "a/*", "!a/*", "keep/",
    "!keep/", "!keep/**", "a/b", "!a/b", "**/a/", "/keep", "*.t?t", "[ab].md", "[!a]*", "[^a]*", "!b.txt", "x\\ y",
    "# c", "", "a/**/b", "**", "!**/", "!/*/", "/*", "*/", "!keep", "Foo", "foo", "\\!a", "a  ", "b*/", "!**/*.md",
    "a\\", "[a", "[]-a]*", "/**/a", "**/", "a**", "?", "!?", "***/a", "a/***", "keep/*/a", "a\t", "[[:lower:]]*",
    "![[:alpha:]].md", "a[/]b", "*a*b", "b.txt\r")  # fmt: skip


def _tree(root: Path, pick: random.Random) -> None:
    folders = [root]
    for _ in range(pick.randint(2, 7)):
        inner = pick.choice(folders) / pick.choice(NAMES)
        if not inner.exists():
            inner.mkdir()
            folders.append(inner)
    for folder in folders:
        for name in pick.sample(NAMES, 3):
            if not (folder / name).exists():
                (folder / name).write_text("x")
        if folder == root or pick.random() < 0.4:
            lines = pick.choices(LINES, k=pick.randint(1, 6))
            (folder / ".gitignore").write_text("".join(f"{line}\n" for line in lines))


def _by_git(root: Path) -> set[str]:
    command = [
        "git",
        "-c",
        "core.excludesFile=/dev/null",
        "-C",
        str(root),
        "ls-files",
        "-o",
        "--exclude-standard",
        "-z",
    ]
    out = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return {name for name in out.split("\0") if name and not any(part.startswith(".") for part in name.split("/"))}


def _by_us(root: Path) -> set[str]:
    found: set[str] = set()
    waiting = [(root, Choice(Selection(gitignore=True), lambda problem: pytest.fail(str(problem))).top(str(root)))]
    while waiting:
        folder, level = waiting.pop()
        for entry in folder.iterdir():
            if level.refuses(entry.name, folder=entry.is_dir()) is None:
                if entry.is_dir():
                    waiting.append((entry, level.inside(entry.name)))
                else:
                    found.add(entry.relative_to(root).as_posix())
    return found


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize(
    "seeds", [range(25), pytest.param(range(25, 600), marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_the_same_files_as_git(place: Path, seeds: range) -> None:
    """Nested .gitignore files of lines that are drawn by lot, and .git/info/exclude."""
    for seed in seeds:
        pick, root = random.Random(seed), (place / "repository").resolve()  # noqa: S311 - drawn again by its seed
        root.mkdir()
        _tree(root, pick)
        subprocess.run(["git", "init", "-q", str(root)], check=True)  # noqa: S607 - the git that is there
        (root / ".git/info/exclude").write_text(f"{pick.choice(LINES)}\n")
        assert (seed, _by_us(root)) == (seed, _by_git(root))
        shutil.rmtree(root)


def test_rules_from_above_and_of_a_repository_inside() -> None:
    """Of a folder in a repository those above count; those of another repository around it do not."""
    write("r/sub/a.md", "r/sub/b.md", "r/sub/inner/a.md", "r/sub/inner/b.md")
    Path("r/.git").mkdir()
    Path("r/sub/inner/.git").mkdir()
    Path("r/.gitignore").write_text("/sub/a.md\nb.md\n")
    assert chosen("r/sub", gitignore=True) == ["inner/a.md", "inner/b.md"]
    shutil.rmtree("r/.git")
    assert chosen("r/sub", gitignore=True) == ["a.md", "b.md", "inner/a.md", "inner/b.md"]
