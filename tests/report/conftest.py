"""A made-up study, its catalogue and its report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from synthetic import MLFLOW, PROVENANCE, MadeUp, publish, study

from tlm.artifacts.marts import build_memory
from tlm.artifacts.store import ArtifactStore
from tlm.results.study_report import write_study_report
from tlm.stages import STAGES


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MadeUp]:
    folder = tmp_path_factory.mktemp("made-up")
    store = ArtifactStore(str(folder / "artifacts"))
    config = study(folder / "raw")
    records = publish(config, store, folder / "raw")
    with build_memory(store, records, STAGES) as connection:
        yield MadeUp(config, store, records, connection)


@pytest.fixture(scope="module")
def rendered(made_up: MadeUp, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    write_study_report(made_up.connection, made_up.study, out, provenance=PROVENANCE, mlflow_url=MLFLOW)
    return out
