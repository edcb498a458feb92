"""A dry run says that it is one wherever its numbers are shown: its report does so in tests/report."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from helpers import Mini, Tlm, command_line, only
from rich.console import Console

from flows.completing import Summary
from flows.running import Clock, _show
from tasks.tracking.study_page import study_page
from tlm.artifacts.sql_models import column_descriptions, models
from tlm.inference.resolve import find_classifiers
from tlm.study.dry_run import DRY_MODEL, DRY_RUN

STEPS = {"pretrain__max_steps": 1, "finetune__max_steps": 1}


@pytest.fixture(scope="module")
def dry(tmp_path_factory: pytest.TempPathFactory) -> Mini:
    return Mini(tmp_path_factory.mktemp("dry"), **STEPS)


def tlm_in(study: Mini, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tlm:
    monkeypatch.setenv("TLM_HOME", study.runtime.home)
    return command_line(monkeypatch, capsys)


def shown(study: Mini) -> str:
    """What `tlm run` prints at its end."""
    console = Console(width=200, file=io.StringIO(), record=True)
    summary = Summary(
        study="mini", executed=(), cached=0, damaged={}, left_out={}, report=study.plan.report.ref,
        mlflow_run_id="1", mlflow_experiment_id="1",
    )  # fmt: skip
    _show(summary, study.plan, study.store, console, Clock())
    return console.export_text()


def test_the_terminal_says_so_above_its_table(dry: Mini, mini: Mini) -> None:
    said = shown(dry)
    assert said.index(DRY_RUN) < said.index("Test accuracy, %")
    assert DRY_RUN not in shown(mini)


def test_labels_of_its_models_come_with_a_warning_of_one_line(
    dry: Mini, mini: Mini, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for study, warned in ((dry, True), (mini, False)):
        tlm = tlm_in(study, monkeypatch, capsys)
        for model, more in (("finetune/topics-one-ws60", ""), ("committee/topics-pair-ws60", " and 1 more")):
            said = tlm("predict", model, "--text", "the old ship")
            first = find_classifiers(study.store, [model])[0]
            assert said.code == 0 and len(pd.read_csv(io.StringIO(said.out))) == 1
            assert said.err == (f"{DRY_MODEL} ({first}{more}).\n" if warned else "")


def test_the_catalogue_tells_it_from_what_was_trained_to_its_end(
    dry: Mini, mini: Mini, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for study, flag, name in ((dry, True, "mini (dry run)"), (mini, False, "mini")):
        tlm = tlm_in(study, monkeypatch, capsys)

        def ask(sql: str, tlm: Tlm = tlm) -> list[str]:
            said = tlm("sql", sql, "--csv")
            assert said.code == 0, said
            return said.out.replace('"', "").splitlines()[1:]

        for mart in ("results", "gaps"):
            told = f"select distinct dry_run, studies from {mart} where kind != 'baseline'"
            assert ask(told) == [f"{str(flag).lower()},{name}"]
        assert ask("select distinct dry_run from results where kind = 'baseline'") == ["false"], "it trains nothing"
        trained = "select distinct dry_run from runs where stage in ('pretrain', 'finetune', 'committee', 'report')"
        assert ask(trained) == [str(flag).lower()]
        assert ask("select distinct dry_run from runs where stage in ('corpus', 'task', 'overlap')") == ["false"]
        assert ask("select distinct name, dry_run from studies") == [f"{name},{str(flag).lower()}"]


def test_every_ready_query_that_shows_an_accuracy_says_whose_it_is() -> None:
    """By a column of its own, or by the names of studies, which say so; or it shows configurations, which do."""
    silent = {
        name
        for name in models("queries")
        if not {"dry_run", "studies"} & column_descriptions(name, "queries").keys()
    }  # fmt: skip
    assert silent == {"differences_between_runs"}


def test_mlflow_says_so_first_in_the_note_of_the_study(dry: Mini, mini: Mini) -> None:
    pages = {study: study_page(study.store.get(only(study.plan, "report").ref), 8_000) for study in (dry, mini)}
    assert pages[dry].note.startswith(f"**{DRY_RUN}**\n\n") and "|" in pages[dry].note
    assert DRY_RUN not in pages[mini].note


@pytest.mark.slow  # importing MLflow, and making its database, takes seconds
def test_mlflow_names_tags_and_describes_its_runs_and_registers_none_of_its_models(dry: Mini, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    from tasks.tracking.rebuilding import track

    place = dry.runtime.model_copy(update={"tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}"})
    tracked = track(place)
    client = MlflowClient(tracking_uri=str(place.tracking_uri))
    runs = client.search_runs([tracked.experiment_id])
    models = [run for run in runs if run.data.tags.get("stage") in ("pretrain", "finetune", "committee")]
    others = [run for run in runs if run.data.tags.get("stage") in ("corpus", "task", "baseline")]
    assert models and others
    for run in models:
        assert run.info.run_name.endswith(" (dry run)")
        assert run.data.tags["dry_run"] == run.data.params["dry_run"] == "True"
    assert not any("dry_run" in {**run.data.tags, **run.data.params} for run in others)
    assert client.search_registered_models() == []
