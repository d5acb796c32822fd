"""The page in headless Chromium: search, filters, adding files, more like this, keyboard, errors, and how it looks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from builders.browser import Page, chromium
from builders.served import reranker_bundle
from builders.services import TOKEN, Running, running

from edge_embed import Document, Embedder, Index, Reranker
from edge_embed.service.indexes import IndexOptions, ServedIndex
from edge_embed.service.service import Service

pytestmark = pytest.mark.browser

HOSTILE = '<img src=x onerror="document.title=1"> <b>plumber</b> \x1b[31mred\x07 \u202eturned'
DOCUMENTS = [
    Document("ferry", "The ferry to the island leaves at nine.", {"title": "Boats", "lang": "en", "year": 2001}),
    Document("cat", "The cat sleeps on the sofa all day.", {"lang": "en", "year": 2005, "tags": ["pets", "home"]}),
    Document("chat", "Le chat dort sur le canapé.", {"lang": "fr", "year": 2012, "tags": ["pets"]}),
    Document("arabic", "القطة تنام على الأريكة بجانب النافذة", {"lang": "ar", "draft": True}),
    Document("chinese", "猫在窗边的沙发上睡觉。" * 40, {"lang": "zh", "draft": False}),
    Document("<script>alert(1)</script>", HOSTILE, {"lang": "en", "<i>field</i>": "<u>value</u>"}),
    Document(
        "long", "Some words before. " * 200 + "A lighthouse stands there. " + "Some behind. " * 300, {"year": 1999}
    ),
    *(Document(f"note {i}", f"Note number {i} about gardens and tools.", {"year": 1950 + i}) for i in range(20)),
]
HITS = "#hits .open"
# Texts whose contrast to what is behind them is too low: 4.5 to 1, and 3 to 1 for large ones.
CONTRAST = """
const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
  .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
  .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
const behind = (one) => {
  for (let box = one; box; box = box.parentElement) {
    const colour = numbers(getComputedStyle(box).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const low = [];
let checked = 0;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const one = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || !one.checkVisibility({ visibilityProperty: true })) continue;
  if (one.closest(".hidden, .skip")) continue;
  const style = getComputedStyle(one);
  const [high, deep] = [light(numbers(style.color)), light(behind(one))].sort((a, b) => b - a);
  const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
  checked += 1;
  if ((high + 0.05) / (deep + 0.05) < (large ? 3 : 4.5)) low.push(one.outerHTML.slice(0, 200));
}
return [checked, low];
"""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder("static", threads=1)


@pytest.fixture
def served(tmp_path: Path, embedder: Embedder) -> Iterator[Running]:
    with Index.open(tmp_path / "a.db", embedder) as index:
        index.add(DOCUMENTS)
    with _serving(tmp_path / "a.db", embedder) as found:
        yield found


def _serving(
    index: Path | None, embedder: Embedder, *, read_only: bool = False, rerankers: Any = None, **how: Any
) -> Any:
    embedders = {"small": embedder}
    opened = None if index is None else ServedIndex(index, embedders, IndexOptions(read_only=read_only))
    return running(Service(embedders, rerankers, index=opened), **how)


def _open(page: Page, served: Running, fragment: str = "", width: int = 1200, scheme: str = "light") -> None:
    """The page in a tab that knows no token."""
    page.show(width, 900, scheme)
    page.open(f"{served.url}/#{fragment}")
    page.run("sessionStorage.clear()")
    page.open(f"{served.url}/#{fragment}")
    page.wait("document.querySelector('#status').textContent !== '' || !document.querySelector('#problem').hidden")
    page.log()


def _search(page: Page, text: str) -> None:
    """Type a query into the search field, and wait for its hits."""
    page.run("document.activeElement.blur()")
    page.press("/")
    for letter in text:
        page.press(letter)
    page.wait("!document.body.hasAttribute('aria-busy')")
    page.wait("document.querySelector('#status').textContent.includes('hit')")
    assert quote(text).replace("%20", "+") in page.browser.current_url


def _give_token(page: Page, token: str = TOKEN) -> None:
    page.wait("document.querySelector('#token-dialog').open")
    page.one("#token").send_keys(token)
    page.press("ENTER")


def test_search_as_you_type_marks_the_words(page: Page, served: Running) -> None:
    """Hits come without Enter, words of the query are marked, the address keeps the query behind #."""
    _open(page, served)
    assert page.texts("#status") == ["27 documents"]
    _search(page, "sleeping cats")
    assert page.texts(HITS)[0] == "cat"
    assert page.texts("#hits li:first-child mark") == ["cat", "sleeps"]
    assert "in the service" in page.texts("#timing")[0]
    page.press("ARROW_DOWN", "/", "island ferry")  # "/" selects what is there
    page.wait("document.querySelector('#hits .open').textContent === 'Boats'")
    page.browser.back()
    page.wait("document.querySelector('#query')?.value === 'sleeping cats'")
    assert page.log() == []


def test_a_passage_found_by_meaning_has_no_marks(page: Page, served: Running) -> None:
    """A passage without any word of the query says so, and nothing in it is marked."""
    _open(page, served, "q=kitten&mode=vector")
    page.wait("document.querySelectorAll('#hits .open').length > 0")
    assert page.texts("#hits mark") == []
    assert page.texts("#hits li:first-child .note") == ["found by meaning"]


def test_a_long_passage_is_shown_around_its_match(page: Page, served: Running) -> None:
    """The list shows a part with the match; the reader the whole document, with the passage that was found."""
    _open(page, served, "q=lighthouse")
    page.wait("document.querySelectorAll('#hits mark').length > 0")
    assert page.texts("#hits li:first-child mark") == ["lighthouse"]
    assert len(page.texts("#hits li:first-child .passage")[0]) < 700
    page.press("ARROW_DOWN", "ENTER")
    page.wait("document.querySelector('#reader').open")
    assert page.texts("#reader .text")[0] == DOCUMENTS[6].text
    assert page.texts("#reader .found mark") == ["lighthouse"]
    assert page.run("const box = document.querySelector('#reader mark').getBoundingClientRect(); return box.top") < 900


def test_stale_answers_are_dropped(page: Page, served: Running) -> None:
    """An answer that comes after that of a later query is not shown."""
    _open(page, served)
    page.run("""
        const send = window.fetch;
        window.fetch = async (path, options) => {
          const answer = await send(path, { ...options, signal: undefined });
          if (options.body?.includes("ferry")) await new Promise((resolve) => { window.release = resolve; });
          return answer;
        };
    """)
    page.press("ferry")
    page.wait("window.release !== undefined")
    page.press("ESCAPE", "cat")
    page.wait("document.querySelector('#hits .open')?.textContent === 'cat'")
    page.run("window.release()")
    assert page.browser.execute_async_script("setTimeout(arguments[0], 100)") is None
    assert page.texts(HITS)[0] == "cat"


def test_filters_are_made_from_the_fields(page: Page, served: Running) -> None:
    """Values with counts, ranges of numbers, members of lists; chips take them away; the address keeps them."""
    _open(page, served)
    page.run("for (const part of document.querySelectorAll('#fields details')) part.open = true")
    labels = page.texts("#fields label")
    assert {"en3", "fr1", "pets2", "true1"} <= set(labels)
    french = next(label for label in page.all("#fields label") if label.text.startswith("fr"))
    french.click()
    page.wait("document.querySelector('#status').textContent === '1 document with these filters'")
    assert page.texts(HITS) == ["chat"]
    assert page.texts("#active button") == ["lang: fr ×"]
    page.one("#active button").click()
    page.wait("document.querySelector('#status').textContent === '27 documents'")
    least = page.one("#fields input[aria-label='Least of year']")
    assert least.get_attribute("placeholder") == "1950"
    least.send_keys("2004")
    page.press("ENTER")
    page.wait("document.querySelector('#status').textContent === '2 documents with these filters'")
    home = page.one("#fields input[data-control='tags \"home\"']")
    page.run("arguments[0].focus()", home)
    page.press("SPACE")
    page.wait("document.querySelector('#status').textContent === '1 document with these filters'")
    assert page.run("return document.activeElement.dataset.control") == 'tags "home"'
    page.browser.refresh()
    page.wait("document.querySelector('#status').textContent === '1 document with these filters'")
    assert page.texts("#active button") == ["year ≥ 2004 ×", "tags: home ×"]
    assert page.log() == []


def test_a_field_of_a_hit_is_a_filter(page: Page, served: Running) -> None:
    """A click on a field of a hit filters by its value."""
    _open(page, served, "q=cat")
    page.wait("document.querySelectorAll('#hits .field').length > 0")
    next(field for field in page.all("#hits button.field") if field.text == "lang: fr").click()
    page.wait("document.querySelector('#status').textContent === '1 hit'")
    assert page.texts(HITS) == ["chat"]


def test_modes(page: Page, served: Running) -> None:
    """The modes of the index can be chosen; without a reranker there is no switch for it."""
    _open(page, served, "q=plumber")
    assert page.texts("#modes label") == ["Both", "Meaning", "Words"]
    assert not page.one("#rerank-switch").is_displayed()
    page.all("#modes label")[2].click()
    page.wait("document.querySelector('#status').textContent === '1 hit'")
    page.run("document.activeElement.blur()")
    page.press("/", "zebra")
    page.wait("document.querySelector('#status').textContent.startsWith('Nothing found.')")
    assert page.texts("#status") == ["Nothing found. No document has a word of your query."]


def test_the_rerank_switch(page: Page, tmp_path: Path, embedder: Embedder) -> None:
    """Where there is a reranker, the switch asks for its order, and the address keeps it."""
    reranker = Reranker(reranker_bundle(tmp_path), threads=1)
    with Index.open(tmp_path / "a.db", embedder) as index:
        index.add(DOCUMENTS)
    with _serving(tmp_path / "a.db", embedder, rerankers={"judge": reranker}) as served:
        _open(page, served, "q=cat")
        page.wait("document.querySelectorAll('#hits .score').length > 2")
        before = page.texts(HITS)
        page.one("#rerank-switch").click()
        page.wait("document.querySelector('#hits .open').textContent !== arguments[0]", before[0])
        assert "rerank=1" in page.browser.current_url
        hits = served.ask("POST", "/index/search", {"query": "cat", "rerank": True}).json()["hits"]
        assert page.texts(HITS) == [hit["metadata"].get("title", hit["key"]) for hit in hits]


def test_more_like_this(page: Page, served: Running) -> None:
    """Documents near one are shown, and not itself."""
    _open(page, served, "q=canap%C3%A9")
    page.wait("document.querySelector('#hits .open')?.textContent === 'chat'")
    page.one("#hits .like").click()
    page.wait("document.querySelector('#active button')?.textContent === 'like chat ×'")
    page.wait("!document.body.hasAttribute('aria-busy') && document.querySelectorAll('#hits .open').length > 0")
    assert "chat" not in page.texts(HITS)
    assert page.one("#query").get_attribute("value") == ""


def test_what_documents_hold_is_text(page: Page, served: Running) -> None:
    """Tags and scripts are shown as they are written, control characters and turned text as U+FFFD."""
    _open(page, served, "q=plumber")
    page.wait("document.querySelectorAll('#hits mark').length > 0")
    shown = HOSTILE.translate({0x1B: "\ufffd", 0x07: "\ufffd", 0x202E: "\ufffd"})
    assert page.texts("#hits li:first-child .passage") == [shown]
    assert page.texts(HITS)[0] == "<script>alert(1)</script>"
    page.press("ARROW_DOWN", "ENTER")
    page.wait("document.querySelector('#reader').open")
    assert page.texts("#reader .text") == [shown]
    made = "return document.querySelectorAll('main img, main b, main script, dialog b, dialog img, aside u').length"
    assert page.run(made) == 0
    assert page.browser.title == "plumber · edge_embed"
    assert page.log() == []


def test_direction_follows_the_text(page: Page, served: Running) -> None:
    """Arabic runs from the right, its neighbours from the left."""
    _open(page, served, "q=%D8%A7%D9%84%D9%82%D8%B7%D8%A9&mode=text")
    page.wait("document.querySelectorAll('#hits mark').length > 0")
    direction = "return getComputedStyle(document.querySelector(arguments[0])).direction"
    assert page.run(direction, "#hits .passage") == "rtl"
    assert page.run(direction, "#hits h2") == "ltr"


def test_files_are_added(page: Page, served: Running, tmp_path: Path) -> None:
    """By dragging and by the button; the token is asked for once, and a wrong one is refused."""
    (tmp_path / "harbour.txt").write_text("The harbour master counts the fishing boats.")
    (tmp_path / "rows.jsonl").write_text('{"id": 1, "text": "A windmill on the hill."}\n{"id": 2}\n')
    (tmp_path / "picture.bin").write_bytes(b"\x00\x01")
    _open(page, served)
    page.drop(str(tmp_path / "harbour.txt"))
    _give_token(page, "a wrong token")
    page.wait("document.querySelector('#token-reason').textContent.includes('not accept')")
    _give_token(page)
    page.wait("document.querySelector('#uploads li')?.textContent.includes('1 document stored')")
    page.wait("document.querySelector('#status').textContent === '28 documents'")
    page.one("#files").send_keys(f"{tmp_path / 'rows.jsonl'}\n{tmp_path / 'picture.bin'}")
    page.wait("document.querySelectorAll('#uploads li').length === 3")
    page.wait("document.querySelectorAll('#uploads li')[2].textContent.includes('unknown type')")
    said = page.texts("#uploads li")
    assert said[0] == "harbour.txt: 1 document stored"
    assert said[1].startswith("rows.jsonl: 1 document stored, 1 problem, the first: line 2: no field 'text'")
    _search(page, "harbour")
    assert page.texts(HITS)[0] == "upload:harbour.txt"
    assert page.run("return [sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]
    assert TOKEN not in page.run("return document.documentElement.outerHTML + location.href")


def test_no_token_adds_nothing(page: Page, served: Running, tmp_path: Path) -> None:
    """Cancelling the question for the token leaves the index as it is."""
    (tmp_path / "harbour.txt").write_text("The harbour master counts the fishing boats.")
    _open(page, served)
    page.drop(str(tmp_path / "harbour.txt"))
    page.wait("document.querySelector('#token-dialog').open")
    page.press("ESCAPE")
    page.wait("document.querySelector('#uploads li').textContent === 'harbour.txt: not added: no token was given'")
    assert served.ask("GET", "/index").json()["documents"] == 27


def test_a_read_only_index_takes_no_files(page: Page, tmp_path: Path, embedder: Embedder) -> None:
    """There is no button for adding."""
    with Index.open(tmp_path / "a.db", embedder) as index:
        index.add(DOCUMENTS[:2])
    with _serving(tmp_path / "a.db", embedder, read_only=True) as served:
        _open(page, served)
        assert page.texts("#status") == ["2 documents"]
        assert not page.one("#add").is_displayed()


def test_keyboard(page: Page, served: Running) -> None:
    """/ focuses the search field, arrows move through the hits, Enter opens one, Escape goes back."""
    _open(page, served, "q=cat")
    page.wait("document.querySelectorAll('#hits .open').length > 2")
    focused = "return document.activeElement.id || document.activeElement.textContent"
    page.press("ARROW_DOWN")
    assert page.run(focused) == page.texts(HITS)[0]
    page.press("ARROW_DOWN", "ARROW_DOWN")
    assert page.run(focused) == page.texts(HITS)[2]
    page.press("ARROW_UP", "ARROW_UP", "ARROW_UP")
    assert page.run(focused) == "query"
    page.press("ARROW_DOWN", "ENTER")
    page.wait("document.querySelector('#reader').open")
    assert "home" in page.texts("#reader .metadata")[0]
    page.press("ESCAPE")
    page.wait("!document.querySelector('#reader').open")
    assert page.run(focused) == page.texts(HITS)[0]
    page.press("ESCAPE")
    assert page.run(focused) == "query"
    page.press("ESCAPE")
    page.wait("document.querySelector('#status').textContent === '27 documents'")
    assert page.one("#query").get_attribute("value") == ""


def test_everything_has_a_name(page: Page, served: Running) -> None:
    """Each control has a name for a screen reader; there are landmarks, and the number of hits is said."""
    _open(page, served, "q=cat")
    page.wait("document.querySelectorAll('#hits .open').length > 2")
    page.run("for (const part of document.querySelectorAll('details')) part.open = true")
    controls = page.controls()
    assert len(controls) > 40
    assert [role for role, name in controls if not name.strip() and role not in ("RootWebArea", "generic")] == []
    landmarks = "return document.querySelectorAll(arguments[0]).length"
    assert [page.run(landmarks, name) for name in ("header", "search", "main", "aside", "footer", "h1")] == [1] * 6
    assert page.one("#status").get_attribute("role") == "status"
    assert page.run("return document.documentElement.lang") == "en"
    page.press("ARROW_DOWN", "ENTER")
    page.wait("document.querySelector('#reader').open")
    assert ("button", "Close the document") in page.controls()
    assert page.texts("#reader-title") == ["cat"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(page: Page, served: Running, scheme: str) -> None:
    """All texts can be read in both colour schemes: AA of WCAG."""
    _open(page, served, "q=cat&filters=%7B%22lang%22%3A%7B%22in%22%3A%5B%22en%22%2C%22fr%22%5D%7D%7D", scheme=scheme)
    page.wait("document.querySelectorAll('#hits mark').length > 0")
    page.run("for (const part of document.querySelectorAll('details')) part.open = true")
    checked, low = page.run(CONTRAST)
    assert checked > 60
    assert low == []


@pytest.mark.parametrize("width", [320, 375, 820, 1600])
def test_nothing_is_wider_than_the_screen(page: Page, served: Running, width: int) -> None:
    """No page scrolls sideways, down to a phone of 320 px; the search field can be used there."""
    _open(page, served, "q=cat", width=width)
    page.wait("document.querySelectorAll('#hits .open').length > 2")
    page.run("for (const part of document.querySelectorAll('details')) part.open = true")
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")
    assert page.one("#query").rect["width"] >= 200
    page.one("#hits .open").click()
    page.wait("document.querySelector('#reader').open")
    box = page.one("#reader").rect
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width


def test_an_index_of_vectors_from_elsewhere(page: Page, tmp_path: Path, embedder: Embedder) -> None:
    """It is searched by words, and nothing can be added without a vector; documents near one are found."""
    with Index.create(tmp_path / "a.db", space="given", dim=4) as index:
        index.add_vectors(DOCUMENTS[:3], np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0]]))
    with _serving(tmp_path / "a.db", embedder) as served:
        _open(page, served, "q=cat")
        page.wait("document.querySelector('#status').textContent === '1 hit'")
        assert not page.one("#modes").is_displayed()
        assert not page.one("#add").is_displayed()
        page.one("#hits .like").click()
        page.wait("document.querySelector('#status').textContent === '2 hits'")
        assert page.texts(HITS) == ["chat", "Boats"]


def test_an_empty_index(page: Page, tmp_path: Path, embedder: Embedder) -> None:
    """It says how to fill it, and does so."""
    (tmp_path / "harbour.txt").write_text("The harbour master counts the fishing boats.")
    with _serving(tmp_path / "new.db", embedder) as served:
        _open(page, served)
        assert page.texts("#status") == ["The index is empty."]
        assert "Drop files" in page.texts("#welcome")[0]
        page.drop(str(tmp_path / "harbour.txt"))
        _give_token(page)
        page.wait("document.querySelector('#status').textContent === '1 document'")
        assert not page.one("#welcome").is_displayed()
        assert all(" 401 " in line for line in page.log())


def test_without_an_index(page: Page, embedder: Embedder) -> None:
    """The page says what the service can do."""
    with _serving(None, embedder) as served:
        _open(page, served)
        page.wait("!document.querySelector('#welcome').hidden")
        assert page.texts("#welcome li") == ["small"]
        assert "/v1/embeddings" in page.texts("#welcome pre")[0]
        assert not page.one("#query").is_displayed()


def test_a_service_that_asks_everyone_for_the_token(page: Page, tmp_path: Path, embedder: Embedder) -> None:
    """The browser asks for it, as a password; the page's own requests then bring it, also those that write."""
    (tmp_path / "harbour.txt").write_text("The harbour master counts the fishing boats.")
    with _serving(tmp_path / "new.db", embedder, always=True) as served:
        page.open(served.url.replace("//", f"//me:{TOKEN}@"))
        page.wait("document.querySelector('#status').textContent === 'The index is empty.'")
        page.drop(str(tmp_path / "harbour.txt"))
        page.wait("document.querySelector('#status').textContent === '1 document'")


def test_errors_are_said(page: Page, served: Running) -> None:
    """A filter of a field that is no more, a service that is gone: one sentence and a way to try again."""
    _open(page, served, "q=cat&filters=%7B%22gone%22%3A%7B%22in%22%3A%5B1%5D%7D%7D")
    page.wait("!document.querySelector('#problem').hidden")
    assert "no document has the field 'gone'" in page.texts("#problem p")[0]
    assert page.texts(HITS) == []
    page.one("#active button").click()
    page.wait("document.querySelector('#problem').hidden && document.querySelectorAll('#hits .open').length > 2")


def test_a_service_that_is_gone(page: Page, tmp_path: Path, embedder: Embedder) -> None:
    """The page stays, and says so."""
    with _serving(tmp_path / "new.db", embedder) as served:
        _open(page, served)
    page.press("cat")
    page.wait("!document.querySelector('#problem').hidden")
    assert page.texts("#problem p") == ["The service does not answer. Is it still running?"]


def test_nothing_is_loaded_from_elsewhere(page: Page, served: Running) -> None:
    """Every request goes to the service; nothing is inline; the policy was never violated."""
    _open(page, served, "q=cat")
    page.wait("document.querySelectorAll('#hits .open').length > 2")
    loaded = page.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert len(loaded) > 10
    assert [name for name in loaded if not name.startswith(f"{served.url}/")] == []
    assert page.run("return document.querySelectorAll('[style], style, script:not([src])').length") == 0
    refused = page.browser.execute_async_script("""
        const [done] = arguments;
        const refused = [];
        addEventListener("securitypolicyviolation", (event) => {
          refused.push(event.effectiveDirective);
          if (refused.length === 3) done(refused.sort());
        });
        document.querySelector("#hits").setAttribute("style", "color: red");
        new Image().src = "http://127.0.0.1:9/picture.png";
        fetch("http://127.0.0.1:9/").catch(() => {});
    """)
    assert refused == ["connect-src", "img-src", "style-src-attr"]
