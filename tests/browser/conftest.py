"""The browser that these tests share; without one they are skipped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from browser.chromium import Browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    pytest.importorskip("selenium", reason="pip install -c constraints.txt -e '.[browser]'")
    pytest.importorskip("axe_core_python", reason="pip install -c constraints.txt -e '.[browser]'")
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("there is no browser here: apt install chromium chromium-driver")
    browser = Browser()
    yield browser
    browser.driver.quit()
