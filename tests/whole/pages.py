"""The code in README.md and docs/, found and run: python tests/whole/pages.py PAGE runs a page in the working folder.

Blocks run in the order of the page, as a reader would do it: Python blocks share their names, shell blocks the folder.
A `text` block right behind another shows what that one prints; "..." in it stands for anything. A block behind a line

    <!-- not run: REASON -->

is left out.
"""

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:^<!-- not run: (.+?) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LIKE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """language: python, sh, or text for what the block before prints; line: of the page, from 1"""

    language: str
    code: str
    line: int
    not_run: str | None


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page."""
    text = page.read_text("utf-8")
    for found in BLOCK.finditer(text):
        reason, language, code = found.groups()
        yield Block(language, code, text.count("\n", 0, found.start(3)) + 1, reason)


def run(page: Path) -> None:
    """Run a page's blocks; the first that fails, or prints something else than the page says, raises."""
    names: dict[str, Any] = {"__name__": "__main__"}
    printed: str | None = None
    for block in blocks(page):
        if block.language == "text":
            if printed is not None and not doctest.OutputChecker().check_output(block.code, printed, LIKE):
                raise AssertionError(f"{page.name}:{block.line}: expected\n{block.code}\ngot\n{printed}")
        elif block.not_run:
            printed = None
        elif block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile("\n" * (block.line - 1) + block.code, page.name, "exec"), names)  # noqa: S102 - our pages
            printed = output.getvalue()
        elif os.name != "nt":
            printed = _shell(page, block)


def _shell(page: Path, block: Block) -> str:
    done = subprocess.run(
        ["sh", "-e", "-c", block.code],  # noqa: S607 - the shell of the machine
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or done.stderr:
        raise AssertionError(f"{page.name}:{block.line}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    run(Path(sys.argv[1]))
