"""The report and the site fit every window, raise no error, and can be read in both colour schemes."""

from __future__ import annotations

import os
import subprocess
import sys
from html import escape
from pathlib import Path

import pytest
from browser.chromium import SCHEMES, WIDTHS, Browser, served
from report.synthetic import MLFLOW, PROVENANCE, publish, study

from tlm.artifacts.marts import build_memory
from tlm.artifacts.store import ArtifactStore
from tlm.machine.runtime import PACKAGE_PARENT
from tlm.planning.plan import plan
from tlm.report import render
from tlm.results.study_report import write_study_report
from tlm.stages import STAGES

pytestmark = pytest.mark.slow

PAGES = ("index.html", "docs/performance/", "docs/cookbook/", "docs/published/", "reference/tlm.evaluation/")
"""Of the site: prose, wide tables, code, the reference. docs/results is as wide as performance, and takes axe minutes."""


def faults(browser: Browser, url: str) -> list[str]:
    found = []
    for scheme in SCHEMES:
        for width in WIDTHS:
            browser.open(url, width=width, scheme=scheme)
            found += [f"{width} pixels: wider than the window"] * browser.overflows()
        found += [f"{scheme}: {each}" for each in browser.low_contrast()]
    return [f"{url}: {each}" for each in (*found, *browser.errors())]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a made-up study's report."""
    tmp_path = tmp_path_factory.mktemp("report")
    config, store = study(tmp_path / "raw", analysis="ws-sweep"), ArtifactStore(str(tmp_path / "artifacts"))
    records = publish(config, store, tmp_path / "raw")
    labels = {step.key: step.labels for step in plan(config, str(tmp_path / "raw")).steps}
    with build_memory(store, records, STAGES, labels) as connection:
        write_study_report(connection, config, tmp_path, provenance=PROVENANCE, mlflow_url=MLFLOW)
    return tmp_path


def test_a_report_fits_every_window_and_can_be_read(browser: Browser, report: Path) -> None:
    with served(report) as address:
        assert faults(browser, f"{address}/report.html") == []


def test_a_click_on_a_heading_sorts_its_table(browser: Browser, report: Path) -> None:
    """Numbers as numbers, whatever stands around them; again, the other way round."""
    table = "//table[caption[contains(.,'Token overlap')]]"
    with served(report) as address:
        browser.open(f"{address}/report.html")
        for reverse in (False, True):
            browser.click(f"{table}//th[contains(.,'Missing from corpus')]/button")
            heading = browser.wait_for(f"{table}//th[contains(.,'Missing from corpus')]")
            assert heading.get_attribute("aria-sort") == ("descending" if reverse else "ascending")
            rows = browser.driver.find_elements("xpath", f"{table}/tbody/tr")
            shown = [int(row.find_elements("tag name", "td")[4].text.replace(",", "")) for row in rows]
            assert len({*shown}) > 1 and shown == sorted(shown, reverse=reverse)


def test_a_column_is_sorted_by_its_numbers_whatever_stands_around_them(browser: Browser, tmp_path: Path) -> None:
    """What is no number comes last, whichever way."""
    ordered = ["−2.5 ± 0.1", "0 (scratch)", "< 500 [0, 815]", "✔ 1,320 [502, 3,929]", "11,314 %"]
    cells = [ordered[place] for place in (3, 0, 4, 2, 1)]
    rows = "".join(f"<tr><td>{escape(cell)}</td></tr>" for cell in (cells[0], "n/a", *cells[1:]))
    script = Path(render.__file__).with_name(render.SORTING).read_text(encoding="utf-8")
    table = f"<table><thead><tr><th>Found</th></tr></thead><tbody>{rows}</tbody></table>"
    (tmp_path / "page.html").write_text(f'<meta charset="utf-8">{table}<script>{script}</script>', encoding="utf-8")
    with served(tmp_path) as address:
        browser.open(f"{address}/page.html")
        for wanted in (ordered, ordered[::-1]):
            browser.click("//th/button")
            shown = [cell.text for cell in browser.driver.find_elements("tag name", "td")]
            assert shown == [*wanted, "n/a"]


POINTED_AT = """return [...document.querySelectorAll("figure [data-tip]")].map((tip) => {
  tip.scrollIntoView({block: "center"});
  const box = tip.querySelector("use").getBoundingClientRect();
  const under = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  return Boolean(under.closest("[data-tip]"));
})"""
"""For each point of a figure that says something, whether something is said where its middle is pointed at."""


def test_a_point_that_is_pointed_at_says_what_it_is(browser: Browser, report: Path) -> None:
    with served(report) as address:
        browser.open(f"{address}/report.html")
        said = browser.driver.execute_script(POINTED_AT)
    assert said and all(said)


def test_the_site_fits_every_window_and_can_be_read(browser: Browser, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)]
    subprocess.run(command, cwd=PACKAGE_PARENT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=True)
    with served(tmp_path) as address:
        assert [each for page in PAGES for each in faults(browser, f"{address}/{page}")] == []


def test_what_is_wrong_with_a_page_is_seen(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        "<!doctype html><html lang=en><title>x</title><body style='color:#999;background:#fff'><p>Grey</p>"
        "<div style='width:1000px'>Wide</div><script>missing()</script></body></html>"
    )
    with served(tmp_path) as address:
        text = "\n".join(faults(browser, f"{address}/page.html"))
    assert "390 pixels: wider" in text and "1280 pixels" not in text
    assert "Grey" in text and "missing is not defined" in text
