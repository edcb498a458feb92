"""What a command was writing for the user when a signal ended it leaves nothing beside their files."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import Mini, python

BEGIN = """
import os, signal, threading
from pathlib import Path
from tlm.machine.interruption import run

def interrupted():
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait()
"""
WRITING = """
import pyarrow as pa
from tlm.inference.files import prediction_writer
place, table = Path({place!r}), pa.table({{"text": ["a"]}})
def work():
    with prediction_writer(place, table.schema) as write:
        write(table)
        assert len(os.listdir(place.parent)) == 1
        interrupted()
run(work)
"""
EXPORTING = """
from helpers import mini_study
from tlm.artifacts.store import ArtifactStore
from tlm.execution import bundle
from tlm.planning.plan import plan
def half(*_):
    assert len(os.listdir({folder!r})) == 1
    interrupted()
bundle.copy_outputs = half
planned = plan(mini_study(), {data!r})
run(lambda: bundle.export_bundle(planned, ArtifactStore({store!r}), Path({folder!r}) / "bundle"))
"""


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_predictions(name: str, tmp_path: Path) -> None:
    done = python(BEGIN + WRITING.format(place=str(tmp_path / name)))
    assert (done.returncode, done.stderr) == (143, "interrupted.\n")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle(own: Mini, tmp_path: Path) -> None:
    for step in own.plan.steps:
        if step.stage == "pretrain":
            own.store.delete(step.ref)
    (tmp_path / "there").mkdir()
    given = {"folder": str(tmp_path / "there"), "data": own.runtime.data_root, "store": own.runtime.artifacts}
    done = python(BEGIN + EXPORTING.format(**given), cwd=Path(__file__).parents[1])
    assert (done.returncode, done.stderr) == (143, "interrupted.\n")
    assert list((tmp_path / "there").iterdir()) == []
