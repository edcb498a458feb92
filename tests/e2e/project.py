"""A project folder driven from outside, as a user does: by the command line, each command in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import yaml
from helpers import mini_tree, python_environment, write_mini_data

from tlm.artifacts.record import Record
from tlm.artifacts.store import ArtifactStore

SHADOWS = ("random", "json", "logging", "tempfile", "numpy", "torch", "prefect", "mlflow", "uvicorn", "sitecustomize")
"""What a user may call a script of their own."""

Process: TypeAlias = "subprocess.Popen[str]"


@dataclass
class Project:
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return python_environment(
            TLM_HOME=str(self.folder / "home"), TLM_DATA_ROOT=str(self.folder / "data"), TLM_WORKERS="2"
        )

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(str(self.folder / "home" / "data" / "artifacts"))

    def start(
        self,
        *arguments: str,
        cwd: Path | None = None,
        out: IO[str] | int = subprocess.DEVNULL,
        start_new_session: bool = False,
    ) -> Process:
        """Start a command; its output goes to a file, if anywhere."""
        command = [sys.executable, "-m", "flows.cli", *arguments]
        return subprocess.Popen(
            command,
            env=self.environment,
            cwd=cwd or self.folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=start_new_session,
        )

    def tlm(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run a command that must succeed and return what it printed."""
        with tempfile.TemporaryFile("w+") as out:
            code = self.start(*arguments, cwd=cwd, out=out).wait(timeout=600)
            out.seek(0)
            output = out.read()
        assert code == 0, output
        return output

    def run(self, *more: str, cwd: Path | None = None) -> str:
        return self.tlm("run", str(self.folder / "mini.yaml"), *more, cwd=cwd)

    def records(self) -> dict[str, Record]:
        return {str(record.ref): record for record in self.store.records()}

    def record(self, stage: str, part_of_slug: str = "") -> Record:
        return next(r for r in self.store.records() if r.stage == stage and part_of_slug in r.slug)

    def left_running(self) -> list[str]:
        """The runs that MLflow shows as running."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=f"sqlite:///{self.folder / 'home' / 'mlflow' / 'mlflow.db'}")
        [experiment] = client.search_experiments(filter_string="name = 'tlm'")
        return [run.info.run_name for run in client.search_runs([experiment.experiment_id], "status = 'RUNNING'")]

    def path(self, record: Record, name: str) -> Path:
        return self.store.local_path(record, name)


def new_project(folder: Path, **changes: Any) -> Project:
    """A project of the miniature study, with changes to it, run once."""
    write_mini_data(folder / "data")
    (folder / "mini.yaml").write_text(yaml.safe_dump(mini_tree(**changes)), encoding="utf-8")
    for name in SHADOWS:  # no process of a study imports what lies in the folder where the user stands
        (folder / f"{name}.py").write_text("raise SystemExit('a script of the user was run')", encoding="utf-8")
    made = Project(folder)
    made.run()
    return made


def digests(record: Record) -> dict[str, str]:
    return {name: output.sha256 for name, output in record.outputs.items()}


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
