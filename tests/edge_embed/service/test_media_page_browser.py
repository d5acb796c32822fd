"""The page over an index with pictures and sounds, in headless Chromium."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders.browser import Page, chromium
from builders.colours import COLOURS, picture, sound
from builders.services import TOKEN, Running, running

from edge_embed import Document, Embedder, Index
from edge_embed.service.indexes import ServedIndex
from edge_embed.service.service import Service

pytestmark = pytest.mark.browser

HITS = "#hits .open"
IDLE = "!document.body.hasAttribute('aria-busy')"
SHOWN = "Array.from(document.querySelectorAll('#hits img')).filter((one) => one.naturalWidth > 0).length"


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def embedder(colours: Path) -> Embedder:
    return Embedder(colours, threads=1)


@pytest.fixture
def served(tmp_path: Path, embedder: Embedder) -> Iterator[Running]:
    with Index.open(tmp_path / "a.db", embedder) as index:
        documents = [Document(f"{name}.png", image=picture(name)) for name in COLOURS if name != "red"]
        documents.append(Document("red.png", '<img src=x> "red" barn', image=picture("red")))
        documents.append(Document("hum.wav", audio=sound("a deep hum")))
        index.upsert([*documents, Document("note", "A note about a red barn.")], thumbnails=True)
    embedders = {"colours": embedder}
    with running(Service(embedders, index=ServedIndex(tmp_path / "a.db", embedders))) as found:
        yield found


def opened(page: Page, served: Running, fragment: str = "", width: int = 1200, scheme: str = "light") -> None:
    page.show(width, 900, scheme)
    page.open(f"{served.url}/#{fragment}")
    page.run("sessionStorage.clear()")
    page.open(f"{served.url}/#{fragment}")
    page.wait(f"document.querySelectorAll('{HITS}').length > 0 && {IDLE}")
    page.log()


def test_hits_have_thumbnails(page: Page, served: Running) -> None:
    """Each with its caption, or its name, as what a screen reader says; a sound has a sign; nothing is blocked."""
    opened(page, served, "q=red")
    page.wait(f"{SHOWN} === document.querySelectorAll('#hits img').length && {SHOWN} >= 1")
    alts = page.run("return Array.from(document.querySelectorAll('#hits img'), (one) => one.alt)")
    assert {'<img src=x> "red" barn', "blue.png"} <= set(alts)
    assert page.texts("#hits .small.sound") == ["♪"]
    assert page.run("return document.querySelectorAll('#hits article').length") == len(page.texts(HITS))
    assert page.log() == []


def test_only_one_kind(page: Page, served: Running) -> None:
    """The kinds that are there can be chosen, by keyboard, too; the address keeps the choice."""
    opened(page, served, "q=red")
    assert page.texts("#kinds .segments span") == ["All", "Texts", "Pictures", "Sounds"]
    page.run("document.querySelector('#kinds input[value=image]').focus()")
    page.press("SPACE")
    page.wait(f"document.querySelectorAll('{HITS}').length === 6 && {IDLE}")
    assert page.texts(HITS)[0] == "red.png"
    assert "kind=image" in page.browser.current_url
    page.press("ESCAPE", "ESCAPE")  # to the search field, and empties it
    page.wait(f"document.querySelectorAll('{HITS}').length === 8 && {IDLE}")
    assert page.run("return document.querySelector('#kinds').hidden") is True  # what is there is listed, of all kinds
    page.press(*"red")
    page.wait(f"document.querySelectorAll('{HITS}').length === 6 && {IDLE}")
    page.browser.refresh()
    page.wait(f"document.querySelectorAll('{HITS}').length === 6 && {IDLE}")


def test_search_by_a_picture_that_is_chosen(page: Page, served: Running, tmp_path: Path) -> None:
    """It is shown, goes with words, and goes away again."""
    (tmp_path / "asked.png").write_bytes(picture("blue", size=(90, 60)))
    opened(page, served)
    page.one("#sample-file").send_keys(str(tmp_path / "asked.png"))
    page.wait(f"document.querySelector('#sample img')?.naturalWidth === 90 && {IDLE}")
    page.wait(f"document.querySelector('{HITS}').textContent === 'blue.png'")
    assert "Like this picture: asked.png" in page.texts("#sample")[0]
    page.run("document.querySelector('#query').focus()")
    page.press(*"barn")
    page.wait(f"document.querySelector('#status').textContent.includes('hit') && {IDLE}")
    page.wait("document.querySelector('#hits mark') !== null")
    page.one("#sample button").click()
    page.wait(f"document.querySelector('#sample').hidden && {IDLE}")
    assert page.log() == []


def test_dropped_and_pasted(page: Page, served: Running, tmp_path: Path) -> None:
    """On the left one searches by it, on the right it is added; a pasted picture is searched by."""
    (tmp_path / "asked.png").write_bytes(picture("green", size=(90, 60)))
    opened(page, served, "kind=image")
    page.drop(str(tmp_path / "asked.png"), at=200)
    page.wait(f"document.querySelector('#sample img') !== null && {IDLE}")
    page.wait(f"document.querySelector('{HITS}').textContent === 'green.png'")
    page.one("#sample button").click()
    page.wait("document.querySelector('#sample').hidden")
    page.drop(str(tmp_path / "asked.png"), at=1000)
    page.wait("document.querySelector('#token-dialog').open")
    page.one("#token").send_keys(TOKEN)
    page.press("ENTER")
    page.wait("document.querySelector('#uploads li')?.textContent.includes('1 document stored')")
    page.run(
        """const made = new DataTransfer();
        made.items.add(new File([Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0))], "image.png",
          { type: "image/png" }));
        document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: made, bubbles: true }));""",
        base64.b64encode(picture("yellow")).decode(),
    )
    page.wait(f"document.querySelector('{HITS}').textContent === 'yellow.png' && {IDLE}")
    page.drop(str(tmp_path / "a.db"), at=200)
    page.wait("document.querySelector('#problem').textContent.includes('is no sound and no picture')")
    assert all("401" in entry for entry in page.log())  # before the token was given


def test_a_document_with_its_picture(page: Page, served: Running) -> None:
    """In the reader, where one without a caption has no empty text."""
    opened(page, served, "q=blue&kind=image")
    page.press("ARROW_DOWN", "ENTER")
    page.wait("document.querySelector('#reader').open")
    page.wait("document.querySelector('#reader .picture img').naturalWidth > 0")
    assert page.run("return document.querySelector('#reader .text').hidden") is True
    page.press("ESCAPE")
    opened(page, served, "q=barn&kind=text")
    page.press("ARROW_DOWN", "ENTER")
    page.wait("document.querySelector('#reader').open")
    assert page.run("return document.querySelector('#reader .text').hidden") is False


@pytest.mark.parametrize("width", [320, 375, 768, 1440])
def test_it_fits_every_screen(page: Page, served: Running, width: int) -> None:
    """No bar to scroll to the side, and everything that can have the focus has a name."""
    opened(page, served, "q=red", width)
    assert page.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert [role for role, name in page.controls() if not name and role not in ("RootWebArea", "main")] == []


def test_an_index_of_texts_looks_as_before(page: Page, tmp_path: Path) -> None:
    """Nothing of pictures is there."""
    embedder = Embedder("static", threads=1)
    with Index.open(tmp_path / "b.db", embedder) as index:
        index.upsert([Document("a", "A text about boats")])
    embedders = {"static": embedder}
    with running(Service(embedders, index=ServedIndex(tmp_path / "b.db", embedders))) as service:
        opened(page, service, "q=boats")
        for selector in ("#kinds", "#by-file", "#sample", "#drop [data-drop=search]"):
            assert page.run("return document.querySelector(arguments[0]).hidden", selector) is True, selector
        assert page.texts(".with-picture") == []
