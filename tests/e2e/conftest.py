"""One small project that has run once, for the end-to-end tests to question, damage and move."""

from __future__ import annotations

import pytest
from project import Project, new_project


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return new_project(tmp_path_factory.mktemp("project"))
