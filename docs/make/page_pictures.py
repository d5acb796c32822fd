"""Pictures of the page for docs/page.md, made with headless Chromium: python docs/make/page_pictures.py

The index holds these pages themselves; each knows in which section of the navigation it stands, and how long it is.
"""

import base64
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edge_embed import Document, Embedder, Index
from edge_embed.files.documents import read_documents

DOCS = Path(__file__).resolve().parents[1]
PICTURES = DOCS / "pictures"
WIDE, PHONE = (1200, 860), (375, 720)
# name, size, colours, what stands behind "#", what is pressed
TABLES = ("figures.md", "families.md", "models.md")
GUIDES = '{"section":{"in":["Guides","Start here"]}}'
SHOTS = (
    ("page-light", WIDE, "light", "q=what+happens+when+the+power+fails", ()),
    (
        "page-dark",
        WIDE,
        "dark",
        f"q=memory+of+a+process&filters={quote(GUIDES)}",
        (),
    ),
    ("page-phone", PHONE, "light", "q=smaller+index+files", ()),
    ("page-reader", WIDE, "light", "q=read+while+another+process+writes", ("ARROW_DOWN", "ENTER")),
)


def pages() -> Iterator[Document]:
    """The pages of this site, without those that are tables."""
    section = ""
    for line in (DOCS.parent / "mkdocs.yml").read_text("utf-8").split("nav:")[1].split("\n\n")[0].splitlines():
        if heading := re.fullmatch(r"  - ([\w ,]+):", line):
            section = heading[1]
        elif page := re.fullmatch(r" +- ([\w ,]+): (\w+\.md)", line):
            if page[2] in TABLES:
                continue
            for document in read_documents(DOCS / page[2], key=page[2]):
                title, words = document.text.split("\n", 1)[0].lstrip("# "), len(document.text.split())
                yield replace(document, metadata={"title": title, "section": section or "Home", "words": words})


def take(browser: Any, address: str, shot: tuple[Any, ...]) -> None:
    name, (width, height), scheme, fragment, keys = shot
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get("about:blank")
    browser.get(f"{address}/#{fragment}")
    wait(browser, "document.querySelectorAll('#hits .open').length > 2 && !document.body.hasAttribute('aria-busy')")
    if not keys:
        browser.execute_script("document.activeElement.blur()")
    for key in keys:
        browser.switch_to.active_element.send_keys(getattr(Keys, key))
    if keys:
        wait(browser, "document.querySelector('#reader').open")
    for kind, folder in (("webp", PICTURES), *([("png", Path(sys.argv[1]))] if len(sys.argv) > 1 else [])):
        quality = {"quality": 82} if kind == "webp" else {}
        taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": kind, **quality})
        (folder / f"{name}.{kind}").write_bytes(base64.b64decode(taken["data"]))


def wait(browser: Any, condition: str) -> None:
    WebDriverWait(browser, 20, 0.1).until(lambda _: browser.execute_script(f"return {condition}"))


def main() -> None:
    options, driver = webdriver.ChromeOptions(), webdriver.ChromeService(shutil.which("chromedriver"))
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars"):
        options.add_argument(f"--{argument}")
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder, "docs.db")
        with Index.open(index, Embedder()) as opened:
            opened.add(pages())
        command = [sys.executable, "-m", "edge_embed", "serve", str(index), "--port", "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own
        with process, webdriver.Chrome(options, driver) as browser:
            lines = iter(process.stdout or ())
            address = next(line.split()[-1] for line in lines if line.startswith("listening on"))
            try:
                for shot in (SHOTS[0], *SHOTS):  # the first search of a process is slower
                    take(browser, address, shot)
            finally:
                process.terminate()


if __name__ == "__main__":
    from selenium import webdriver
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    main()
