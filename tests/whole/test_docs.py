"""README.md and docs/: their code runs as it stands there, and what they name exists."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import click
import pytest

from edge_embed import errors
from edge_embed.cli.main import main

HERE = Path(__file__).resolve().parent


def module(path: Path) -> ModuleType:
    """A Python file that belongs to no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


pages = module(HERE / "pages.py")
hooks = module(pages.ROOT / "docs" / "make" / "hooks.py")

README_BYTES = 8192
# Why a block is not run. Whoever adds one says so here.
NOT_RUN = {
    "installs packages",
    "needs a model folder of yours",
    "needs packages of others",
    "needs the sources",
    "runs until it is stopped",
}
# Pages whose blocks take more than a few seconds.
SLOW = {"install.md", "smaller.md"}
RUN = [page for page in pages.PAGES if any(b.language != "text" and not b.not_run for b in pages.blocks(page))]
CALL = re.compile(r"(?<!llm )edge-embed ([a-z][\w-]*)([^\n;|&]*)")
CODE = re.compile(r"```\w+\n(.*?)```|`([^`\n]+)`", re.DOTALL)
# Options of scripts in bench/ and tests/.
ELSEWHERE = {"--size", "--sizes", "--only", "--peers", "--queries", "--rounds", "--kills"}
OPTION = re.compile(r"(?<![\w-])(--[a-z][\w-]*)")
LINK = re.compile(r"\]\(([^)\s]+)\)|<img[^>]* src=\"([^\"]+)\"")


def texts() -> Iterator[tuple[str, str]]:
    """Each page's name and text, with what is generated in it."""
    for page in pages.PAGES:
        yield page.name, hooks.on_page_markdown(page.read_text("utf-8"))


@cache
def slugs(text: str) -> set[str]:
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


def options(command: click.Command) -> set[str]:
    """The options of a command, and of those in it."""
    found = {name for param in command.params for name in (*param.opts, *param.secondary_opts)} | {"--help"}
    parts = command.commands.values() if isinstance(command, click.Group) else ()
    return found.union(*(options(part) for part in parts))


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=page.name, marks=[pytest.mark.slow] * (page.name in SLOW)) for page in RUN]
)
def test_code_runs(page: Path, tmp_path: Path) -> None:
    """Every block of the page runs, in order, in an empty folder, without a warning, and prints what the page says."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "XDG_CACHE_HOME": str(tmp_path / ".cache")}
    done = subprocess.run(
        [sys.executable, "-W", "error", HERE / "pages.py", page],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_blocks_are_of_known_languages_and_left_out_for_known_reasons() -> None:
    """A block that is not run says why, in the page's source, by a reason that is on the list."""
    found = [(page.name, block) for page in pages.PAGES for block in pages.blocks(page)]
    assert {block.language for _, block in found} == {"python", "sh", "text"}
    assert {block.not_run for _, block in found if block.not_run} == NOT_RUN
    runs = [name for name, block in found if not block.not_run and block.language != "text"]
    assert {"README.md", "quickstart.md", "python.md", "commands.md", "filters.md", "maintenance.md"} <= set(runs)
    fences = sum(page.read_text("utf-8").count("```") for page in pages.PAGES)
    assert fences == 2 * len(found)
    for page in pages.PAGES:  # code by indentation would be run by nothing
        assert not re.search(r"\n\n    \S", pages.BLOCK.sub("", page.read_text("utf-8"))), page.name


def test_commands_that_are_named_exist() -> None:
    """Commands and options in code are those of the command line."""
    everything = {name for command in main.commands.values() for name in options(command)}
    called = 0
    for name, text in texts():
        for code in map("".join, CODE.findall(text)):
            for command, rest in CALL.findall(code):
                assert command in main.commands, (name, code)
                assert set(OPTION.findall(rest)) <= options(main.commands[command]), (name, code)
                called += 1
            if code.startswith("--"):
                assert set(OPTION.findall(code)) <= everything | ELSEWHERE, (name, code)
    assert called > 80


def test_every_command_is_documented() -> None:
    """The page of the command line has a row for each command and a section with each of its options."""
    page = (pages.ROOT / "docs" / "commands.md").read_text("utf-8")
    sections = hooks.commands()
    for name, entry in main.commands.items():
        assert f"| [`{name}`](#edge-embed-{name}) |" in page, name
        section = sections.split(f"### edge-embed {name}\n", 1)[1].split("\n### ", 1)[0]
        for parameter in entry.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert all(option in section for option in parameter.opts), (name, parameter.name)


def test_every_error_is_documented() -> None:
    """The page of errors has a row for each."""
    table = hooks.error_codes()
    assert all(f"| `{name}` |" in table for name in errors.__all__)


def test_code_that_the_architecture_names_exists() -> None:
    """Names in the page of the architecture are those of the source."""
    page = (pages.ROOT / "docs" / "architecture.md").read_text("utf-8")
    packages = ("runtime", "export", "edge_embed")
    source = "".join(path.read_text("utf-8") for folder in packages for path in (pages.ROOT / folder).rglob("*.py"))
    named = re.findall(r"`([A-Z]\w+|load_model)[`(]", page)
    assert len(named) >= 7
    assert [name for name in named if not re.search(rf"^(class|def) {name}\b|^{name}\b", source, re.MULTILINE)] == []


def test_every_family_is_documented() -> None:
    """The page of families has a row for each, and more than a few."""
    assert hooks.families().count("\n") > 20


def test_links_lead_somewhere() -> None:
    """Files and headings that pages link to are there."""
    checked = 0
    for page in pages.PAGES:
        for link, image in LINK.findall(page.read_text("utf-8")):
            path, _, anchor = (link or image).partition("#")
            if path.startswith("http"):
                continue
            target = (page.parent / path) if path else page
            assert target.exists(), (page.name, link or image)
            if anchor:
                assert anchor in slugs(hooks.on_page_markdown(target.read_text("utf-8"))), (page.name, link)
            checked += 1
    assert checked > 30


def test_readme_is_short_and_pictures_are_current() -> None:
    """8 KB at most; its picture is drawn from the tables of figures.md as they are now."""
    assert (pages.ROOT / "README.md").stat().st_size <= README_BYTES
    picture = module(pages.ROOT / "docs" / "make" / "picture.py")
    assert picture.TARGET.read_text("utf-8") == picture.draw(picture.PAGE.read_text("utf-8"))


def test_the_two_commands() -> None:
    """The README's two commands are the ones that .ci/run runs."""
    script = (pages.ROOT / ".ci" / "run").read_text()
    commands = [block.code.strip() for block in pages.blocks(pages.ROOT / "README.md") if "pip install" in block.code]
    assert commands == ["pip install . && edge-embed demo", "pip install '.[test]' && pytest"]
    for command in commands:
        assert command in script
