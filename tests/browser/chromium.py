"""Pages in a real browser: Chromium and its driver, as Debian packages them, and the extra `browser`."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

WIDTHS = (390, 768, 1280)
"""Pixels: a telephone, a tablet, a laptop."""
SCHEMES = ("light", "dark")
PATIENCE_SECONDS = 180
"""How long a page of a server may take to show what is waited for."""
PICTURES = "SCREENSHOTS"
"""The variable that names the folder for pictures; none are taken without it."""
COLOURS = 64


class Browser:
    """Headless Chromium."""

    def __init__(self) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        # A container gives it neither a sandbox of its own nor much shared memory.
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.driver.set_script_timeout(300)

    def open(self, url: str, *, width: int = 1280, scheme: str = "light") -> None:
        """Open a page whose own settings are forgotten."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": url, "storageTypes": "all"})
        self.driver.get(url)

    def wait_for(self, xpath: str) -> Any:
        """The first element that is shown at this path, as soon as there is one."""
        from selenium.webdriver.support.wait import WebDriverWait

        def shown(driver: Any) -> Any:
            return next((each for each in driver.find_elements("xpath", xpath) if each.is_displayed()), False)

        wait = WebDriverWait(self.driver, PATIENCE_SECONDS, ignored_exceptions=self._gone())
        return wait.until(shown, f"{xpath} is not shown")

    def click(self, xpath: str, *, until: str = "") -> None:
        """Click what is shown there, once nothing lies above it.

        Args:
            until: part of the address that the click leads to. It is clicked again as long as it does not, as a form's
                button does nothing while the form looks at what was typed.
        """
        from selenium.webdriver.support.wait import WebDriverWait

        def clicked(driver: Any) -> bool:
            if until and until in driver.current_url:
                return True
            self.wait_for(xpath).click()
            return not until

        WebDriverWait(self.driver, PATIENCE_SECONDS, 5, ignored_exceptions=self._gone()).until(clicked)

    def _gone(self) -> tuple[type[Exception], ...]:
        """What is raised of an element that the page has just replaced, or that another one covers."""
        from selenium.common.exceptions import ElementClickInterceptedException, StaleElementReferenceException

        return ElementClickInterceptedException, StaleElementReferenceException

    def type(self, xpath: str, text: str) -> None:
        """Write into a field, in place of what it holds, and leave it."""
        from selenium.webdriver.common.keys import Keys

        field = self.wait_for(xpath)
        field.clear()
        field.send_keys(text, Keys.TAB)

    def picture(self, name: str) -> None:
        """What is seen now, as a small PNG in the folder that PICTURES names."""
        from PIL import Image

        if folder := os.environ.get(PICTURES):
            file = Path(folder) / f"{name}.png"
            self.driver.save_screenshot(str(file))
            Image.open(file).convert("RGB").quantize(COLOURS).save(file, optimize=True)

    def overflows(self) -> bool:
        """Whether the page is wider than the window."""
        return bool(self.driver.execute_script("return document.documentElement.scrollWidth > window.innerWidth"))

    def errors(self) -> list[str]:
        """What the console has said since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def low_contrast(self) -> list[str]:
        """The elements whose contrast is below WCAG's level AA, by axe-core."""
        import axe_core_python

        self.driver.execute_script((Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
        found: list[dict[str, Any]] = self.driver.execute_async_script(
            "axe.run({runOnly: ['color-contrast']}).then(r => arguments[0](r.violations.flatMap(v => v.nodes)))"
        )
        return [f"{node['html']}: {node['failureSummary']}" for node in found]


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder on loopback."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            if self.path == "/favicon.ico":  # asked for at any time, of pages without one
                self.send_response(204)
                self.end_headers()
            else:
                super().do_GET()

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
