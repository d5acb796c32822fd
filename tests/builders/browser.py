"""Chromium without a window, driven by selenium; tests that need it are skipped by name where it is missing."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Seconds that a page may take to come to what a test expects.
PATIENCE = 20


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser of its own; skips the test where there is no Chromium, chromedriver or selenium."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (extra `browser`)")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs Chromium and chromedriver (on Debian: apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    # without a sandbox it runs as root and in containers, too; it only opens pages of this test
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "hide-scrollbars"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        browser.set_page_load_timeout(PATIENCE)
        browser.set_script_timeout(PATIENCE)
        yield Page(browser)
    finally:
        browser.quit()


class Page:
    """What a test does with a page, and what it looks at."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser

    def open(self, address: str) -> None:
        self.browser.get("about:blank")  # another fragment alone would load nothing
        self.browser.get(address)

    def show(self, width: int, height: int, scheme: str) -> None:
        """A window of this size, and the colours that a person prefers: "light" or "dark"."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def all(self, selector: str) -> list[Any]:
        return self.browser.find_elements("css selector", selector)  # type: ignore[no-any-return]

    def one(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        script = "return Array.from(document.querySelectorAll(arguments[0]), (one) => one.textContent)"
        return self.run(script, selector)  # type: ignore[no-any-return]

    def wait(self, condition: str, *arguments: Any) -> Any:
        """Until a JavaScript expression is true; its value. The error shows the page."""
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.support.ui import WebDriverWait

        try:
            waiting = WebDriverWait(self.browser, PATIENCE, 0.05)
            return waiting.until(lambda _: self.run(f"return {condition}", *arguments))
        except TimeoutException:
            raise AssertionError(f"never: {condition}\n{self.run('return document.body.innerText')}") from None

    def press(self, *keys: str) -> None:
        """Keys to whatever has the focus: letters, or names such as ARROW_DOWN."""
        from selenium.webdriver.common.keys import Keys

        for key in keys:
            self.browser.switch_to.active_element.send_keys(getattr(Keys, key, key))

    def drop(self, *paths: str, at: int = 300) -> None:
        """Files dragged onto the page, as a person drags them, so many pixels from its left edge."""
        data = {"items": [], "files": list(paths), "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            event = {"type": kind, "x": at, "y": 300, "data": data}
            self.browser.execute_cdp_cmd("Input.dispatchDragEvent", event)

    def log(self) -> list[str]:
        """What the browser's console got since the last call."""
        return [entry["message"] for entry in self.browser.get_log("browser")]

    def controls(self) -> list[tuple[str, str]]:
        """(role, name) of everything that can have the focus, as a screen reader is told."""
        nodes = self.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        found = []
        for node in nodes:
            properties = {entry["name"]: entry["value"].get("value") for entry in node.get("properties", [])}
            if properties.get("focusable") and not node.get("ignored"):
                found.append((node["role"]["value"], node.get("name", {}).get("value", "")))
        return found
