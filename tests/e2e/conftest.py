"""One small project that has run once, for the end-to-end tests to damage, move and kill."""

from __future__ import annotations

import pytest
import yaml
from helpers import mini_tree, write_mini_data
from project import Project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("project")
    write_mini_data(folder / "data")
    (folder / "mini.yaml").write_text(yaml.safe_dump(mini_tree()), encoding="utf-8")
    made = Project(folder)
    made.run()
    return made
