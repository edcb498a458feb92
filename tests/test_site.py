"""The site that `make docs` builds: every document, the notebook with what it shows, the reference; all of it local."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tlm.machine.runtime import PACKAGE_PARENT

sys.path.insert(0, str(PACKAGE_PARENT / "docs/site"))
from notebook import as_page


@pytest.mark.slow
def test_the_site_is_whole_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    """`--strict` makes an error of a link or a heading that is not there."""
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=PACKAGE_PARENT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {str(path.parent.relative_to(site)): path.read_text("utf-8") for path in site.rglob("index.html")}
    documents = {f"docs/{path.stem}" for path in (PACKAGE_PARENT / "docs").glob("*.md")}
    assert documents | {".", "CONTRIBUTING", "docs/cookbook", "sql", "data", "mlflow"} <= set(pages)
    assert "StudyConfig" in pages["reference/tlm.study"] and "committee" in pages["reference/tlm.evaluation"]
    fetched = [
        found for page in pages.values() for found in re.findall(r'(?:src|<link[^>]* href)="(https?:[^"]*)', page)
    ]
    assert fetched == []


def test_a_notebook_is_a_page_with_what_it_draws_and_shows(tmp_path: Path) -> None:
    cells = [
        ("markdown", "# Two points"),
        ("code", "import matplotlib.pyplot as plt\nimport pandas as pd\nframe = pd.DataFrame({'x': range(30)})"),
        ("code", "plt.plot([1, 2])\nframe"),
    ]
    notebook = tmp_path / "two.ipynb"
    notebook.write_text(json.dumps({"cells": [{"cell_type": kind, "source": [text]} for kind, text in cells]}))
    text, pictures = as_page(notebook, run=True)
    assert text.startswith("# Two points\n\n```python\nimport matplotlib")
    assert "![What the code above draws](two-2-0.png)" in text and pictures["two-2-0.png"].startswith(b"\x89PNG")
    assert text.count("<tr") == 21 and "The first 20 of 30 rows." in text
    assert as_page(notebook, run=False)[1] == {}
