"""What a stranger clicks: from a printed link to accuracy against Ws, from a form to a run, from a number to what made it.

    SCREENSHOTS=docs/img python -m pytest -n0 -m slow tests/browser/test_clicks.py

also takes the pictures that the documents show.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml
from browser.chromium import Browser, served
from cluster.loopback import servers
from helpers import mini_tree, python_environment, write_mini_data
from shell import real_data_root

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]

SMALL = {"corpus__sizes": [0, 30, 60, 120], "pretrain__steps": 40, "treatments": [], "analysis": "ws-sweep"}


@dataclass(frozen=True)
class Place:
    """A home with a study that has been run, its servers, and what the command has printed."""

    environment: dict[str, str]
    said: str
    home: Path

    def tlm(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "flows.cli", *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("clicks")
    write_mini_data(folder / "data")
    study = folder / "study.yaml"
    study.write_text(yaml.safe_dump(mini_tree(**SMALL)), encoding="utf-8")
    home = folder / "home"
    with servers(home, {}) as (_, addresses):
        own = {"TLM_HOME": str(home), "TLM_DATA_ROOT": str(folder / "data")}
        without = Place(python_environment(**own, **addresses), "", home)
        yield Place(without.environment, without.tlm("run", str(study)), home)


def test_from_the_printed_link_to_accuracy_against_ws_by_architecture(browser: Browser, place: Place) -> None:
    [link] = re.findall(r"^MLflow: (http\S+)$", place.said, re.MULTILINE)
    browser.open(link)
    browser.click("//label[.//input[@value='CHART']]")
    first = browser.wait_for("//*[contains(text(),'accuracy_by_ws')]")
    for name in ("topics.conv", "topics.one", "topics.committee-pair"):
        browser.wait_for(f"//*[contains(@title,'{name}') or contains(text(),'{name}')]")
    assert first.location["y"] < 500, "it is what the page begins with"
    browser.picture("mlflow-accuracy-against-ws")


def test_from_the_report_to_the_run_that_made_a_number(browser: Browser, place: Place) -> None:
    [report] = (place.home / "data" / "artifacts" / "report").glob("*/report.html")
    with served(report.parent) as address:
        browser.open(f"{address}/report.html")
        number = browser.wait_for("//table//a[contains(@href,'/runs/')][not(starts-with(normalize-space(),'['))]")
        text, run = number.text, number.get_attribute("href").rpartition("/")[2].partition("?")[0]
        browser.picture("report-number")
        browser.driver.execute_script("arguments[0].click()", number)
        browser.wait_for(f"//*[contains(text(),'{run}')]")
        browser.wait_for("//*[contains(text(),'test_accuracy')]")
    value = browser.wait_for("//*[normalize-space()='test_accuracy']/following::*[normalize-space(text())!=''][1]").text
    assert f"{100 * float(value):.1f}" in text
    browser.picture("mlflow-run-of-a-number")


@pytest.mark.skipif(not real_data_root(), reason="TLM_DATA_ROOT is not set")
def test_from_the_form_to_a_running_sweep(browser: Browser, place: Place) -> None:
    data = {**place.environment, "TLM_DATA_ROOT": str(real_data_root())}
    prefect = place.environment["PREFECT_API_URL"].removesuffix("/api")
    Place(data, "", place.home).tlm("deploy")
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "tlm", "--limit", "1"]
    with (place.home / "worker.log").open("wb") as log:
        worker = subprocess.Popen(command, env={**data, "PYTHONSAFEPATH": "1"}, stdout=log, stderr=log)
    try:
        browser.open(f"{prefect}/deployments")
        browser.type("//input[@placeholder='Search deployments...']", "ws-sweep")
        browser.click("//a[normalize-space()='ws-sweep']")
        browser.click("//button[normalize-space()='Run']")
        browser.click("//a[normalize-space()='Custom run']")
        browser.type("//label[contains(normalize-space(),'limit_steps')]/following::input[1]", "3")
        browser.picture("prefect-form")
        browser.click("//button[normalize-space()='Submit']", until="tab=Runs")
        browser.click("//a[contains(@href,'/runs/flow-run/')]")
        browser.wait_for("//*[normalize-space()='Running']")
        browser.wait_for("//*[not(*)][contains(.,' begins')]")
        browser.picture("prefect-run")
        run = browser.driver.current_url.partition("/runs/flow-run/")[2].partition("?")[0]
        with urllib.request.urlopen(f"{prefect}/api/flow_runs/{run}") as answer:
            asked = json.load(answer)["parameters"]
        assert (asked["limit_steps"], asked["scale"]) == (3, "tiny")
    finally:
        family = [worker, *psutil.Process(worker.pid).children(recursive=True)]
        for each in family:
            each.terminate()
        psutil.wait_procs([each for each in family if isinstance(each, psutil.Process)], timeout=60)
        worker.wait(timeout=60)
