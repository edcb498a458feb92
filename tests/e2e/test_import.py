"""A study trained on a machine that has little but torch: out as a bundle, home as artifacts with their MLflow runs."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
import yaml
from bare import bare_python
from helpers import mini_study, mini_tree, write_mini_data
from project import Project, digests, flip_a_byte
from rich.console import Console

from flows.importing import export_in_terminal, import_in_terminal
from tasks.importing import prepare_bundle
from tlm.artifacts.record import Record
from tlm.artifacts.store import ArtifactStore
from tlm.machine.runtime import Runtime
from tlm.planning.plan import plan

pytestmark = pytest.mark.slow
TRAINING = ("pretrain", "finetune")


def runtime_of(project: Project) -> Runtime:
    return Runtime(home=str(project.folder / "home"), data_root=str(project.folder / "data"), device="cpu")


def new(folder: Path) -> Project:
    write_mini_data(folder / "data")
    (folder / "mini.yaml").write_text(yaml.safe_dump(mini_tree()), encoding="utf-8")
    return Project(folder)


def import_into(project: Project, folder: Path) -> tuple[int, str]:
    """The exit code and what was printed."""
    console = Console(file=io.StringIO(), width=200)
    code = 0
    try:
        import_in_terminal(folder, runtime_of(project), console)
    except SystemExit as ended:
        code = int(ended.code or 0)
    return code, console.file.getvalue()  # type: ignore[attr-defined]


def prepared(folder: Path) -> Project:
    project = new(folder)
    prepare_bundle(plan(mini_study(), str(project.folder / "data")), runtime_of(project))
    return project


@pytest.fixture(scope="module")
def returned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that one home exported, after another machine ran it."""
    folder = tmp_path_factory.mktemp("exporting")
    console = Console(file=io.StringIO(), width=200)
    export_in_terminal(mini_study(), folder / "bundle", runtime_of(new(folder)), console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "python -m tlm.sequential bundle" in said and f"tlm import {folder / 'bundle'}" in said
    command = ["-m", "tlm.sequential", str(folder / "bundle"), "--device", "cpu", "--in-process"]
    done = bare_python(command, folder / "bare")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "bundle"


@pytest.fixture(scope="module")
def home(returned: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """A fresh home that made what training starts from and imported the rest; and what the import printed."""
    project = prepared(tmp_path_factory.mktemp("importing"))
    code, said = import_into(project, returned)
    assert code == 0, said
    return project, said


def made_there(returned: Path) -> dict[str, Record]:
    records = ArtifactStore(f"{returned}/data/artifacts").records()
    return {str(record.ref): record for record in records if record.stage in TRAINING}


def test_the_import_says_what_came_of_each_stage(home: tuple[Project, str], returned: Path) -> None:
    made = made_there(returned)
    assert len(made) == 12
    lines = {line.split("│")[1].strip(): line.split("│")[2:5] for line in home[1].splitlines() if line.startswith("│")}
    for stage in TRAINING:
        count = sum(name.startswith(stage) for name in made)
        assert [cell.strip() for cell in lines[stage]] == [str(count), "0", "0"]
    assert [cell.strip() for cell in lines["corpus"]] == ["0", "2", "0"]
    assert ", 0 refused." in home[1]


def test_every_imported_artifact_has_a_run_as_if_made_here(home: tuple[Project, str], returned: Path) -> None:
    from mlflow import MlflowClient

    project = home[0]
    client = MlflowClient(tracking_uri=f"sqlite:///{project.folder / 'home' / 'mlflow' / 'mlflow.db'}")
    records = project.records()
    parents = set()
    for name, there in made_there(returned).items():
        record = records[name]
        assert there.mlflow is None and record == there.model_copy(update={"mlflow": record.mlflow})
        run = client.get_run(record.mlflow["run_id"])
        assert run.info.status == "FINISHED"
        assert run.data.params["seed"] == str(record.config["seed"])
        assert run.data.metrics["seconds"] == record.seconds
        tags = run.data.tags
        assert (tags["tlm.imported_from"], tags["device"], tags["step_key"]) == ("bundle", "cpu", record.key)
        assert tags.get("mlflow.source.git.commit") == record.provenance["git_commit"]
        assert client.get_metric_history(run.info.run_id, "train_loss")
        assert {d.tags[0].value for d in run.inputs.dataset_inputs} == set(record.inputs)
        for input_name, ref in record.inputs.items():
            assert tags[f"input_run.{input_name}"] == records[str(ref)].mlflow["run_id"]
        model = client.get_logged_model(run.outputs.model_outputs[0].model_id)
        assert model.tags["sha256"] == record.outputs["model.safetensors"].sha256
        parents.add(tags["mlflow.parentRunId"])
    [parent] = parents
    run = client.get_run(parent)
    assert (run.info.run_name, run.info.status) == ("import", "FINISHED")
    assert run.data.metrics["refused"] == 0 and run.data.metrics["imported"] >= 12


def test_a_study_finds_what_was_imported_and_trains_nothing(home: tuple[Project, str], returned: Path) -> None:
    project = home[0]
    before = project.records()
    output = project.run()
    after = project.records()
    assert {name.split("/")[0] for name in after.keys() - before.keys()}.isdisjoint(TRAINING)
    assert f"{len(after) - len(before)} stages executed, {len(before)} cached" in " ".join(output.split())
    for name in made_there(returned):
        assert after[name] == before[name]


def test_a_second_import_imports_nothing_and_opens_no_run(home: tuple[Project, str], returned: Path) -> None:
    from mlflow import MlflowClient

    project = home[0]
    client = MlflowClient(tracking_uri=f"sqlite:///{project.folder / 'home' / 'mlflow' / 'mlflow.db'}")
    [experiment] = client.search_experiments(filter_string="name = 'tlm'")

    def imports() -> int:
        return len(client.search_runs([experiment.experiment_id], "attributes.run_name = 'import'"))

    before = project.records()
    runs = imports()
    code, said = import_into(project, returned)
    assert code == 0 and said.splitlines()[-1].startswith("0 artifacts imported, ")
    assert project.records() == before and imports() == runs == 1


def test_a_flipped_byte_is_refused_by_name_and_what_is_sound_is_imported(returned: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(returned, damaged)
    weights = next((damaged / "data/artifacts/finetune").glob("topics-one-ws60-*")) / "model.safetensors"
    name = f"finetune/{weights.parent.name}"
    flip_a_byte(weights)
    project = prepared(tmp_path / "project")
    code, said = import_into(project, damaged)
    assert code == 1
    assert f"refused {name}: model.safetensors differs from the digest in its record" in said
    records = project.records()
    sound = made_there(returned).keys() - {name}
    assert name not in records and sound <= records.keys()
    assert all(digests(records[each]) == digests(made_there(returned)[each]) for each in sound)


def test_a_home_without_what_training_started_from_refuses_it_and_says_what_is_missing(
    returned: Path, tmp_path: Path
) -> None:
    project = new(tmp_path)
    code, said = import_into(project, returned)
    assert code == 1
    assert "its input tokens/files-corpus-" in said and "is neither in the store nor, whole, in the folder" in said
    assert project.records().keys().isdisjoint(made_there(returned))
