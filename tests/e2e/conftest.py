"""One small project that has run once, for the end-to-end tests to question, damage and move."""

from __future__ import annotations

import shutil

import pytest
from project import Project, new_project


@pytest.fixture(scope="session")
def untouched_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """To be copied; no test changes it."""
    return new_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def project(untouched_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy for each module, so that none depends on what another has done to it."""
    folder = tmp_path_factory.mktemp("copy") / "project"
    shutil.copytree(untouched_project.folder, folder)
    return Project(folder)
