"""The page's files: their headers, and what must not stand in them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders.services import Running, running

from edge_embed import Embedder
from edge_embed.service import pages
from edge_embed.service.service import Service

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "edge_embed" / "service" / "page"
FILES = sorted(path.name for path in FOLDER.iterdir())


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with running(Service({"small": Embedder("static", threads=1)})) as found:
        yield found


def test_every_file_is_served(served: Running) -> None:
    """With its type, and a policy that allows nothing from elsewhere and nothing inline."""
    assert {"index.html", "main.js", "page.css", "icon.svg"} <= set(FILES)
    for name in FILES:
        answer = served.ask("GET", "/" if name == "index.html" else f"/page/{name}")
        assert answer.status == 200
        assert answer.body == (FOLDER / name).read_bytes()
        headers = {key.lower(): value for key, value in answer.headers.items()}
        assert headers["content-type"] == pages.TYPES[Path(name).suffix]
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert {policy[name] for name in ("default-src", "frame-ancestors", "base-uri", "form-action")} == {"'none'"}
        assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
        assert policy["img-src"] == "'self' blob:"  # of the picture that somebody searches by
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-cache"


def test_a_file_that_did_not_change_is_not_sent_again(served: Running) -> None:
    """304 for the tag of the file as it is, the file for another one."""
    first = served.ask("GET", "/page/main.js")
    tag = first.headers["etag"]
    again = served.ask("GET", "/page/main.js", If_None_Match=tag)
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    assert "content-security-policy" in again.headers
    assert served.ask("GET", "/page/main.js", If_None_Match='"other"').status == 200


@pytest.mark.parametrize("path", ["/page/", "/page/index.html", "/page/../app.py", "/page/%2e%2e/app.py", "/page/x.js"])
def test_nothing_else_is_served(served: Running, path: str) -> None:
    """Only the files that were there when the service started."""
    assert served.ask("GET", path).status == 404


def test_texts_never_become_html() -> None:
    """No script writes HTML, runs text as code, or names another host; the page has nothing inline."""
    for name in FILES:
        text = (FOLDER / name).read_text("utf-8")
        if name.endswith(".js"):
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text)
        addresses = [found for found in re.findall(r"https?://[^\s\"'`)]+", text) if "www.w3.org" not in found]
        assert addresses == []
    page = (FOLDER / "index.html").read_text("utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)


def test_modules_import_what_is_there() -> None:
    """Each import of a script names a file, and something that the file exports."""
    imports = 0
    for path in FOLDER.glob("*.js"):
        for names, source in re.findall(r"import (.+?) from \"\./(.+?)\";", path.read_text("utf-8"), re.DOTALL):
            exported = (FOLDER / source).read_text("utf-8")
            for name in re.findall(r"\w+", names.partition("* as")[0]):
                assert re.search(rf"export (?:async )?(?:function|class|const) {name}\b", exported), (path.name, name)
                imports += 1
    assert imports > 20
