"""`tlm plan` in a terminal: the columns, the totals, what was assumed; fast without the projected time."""

from __future__ import annotations

import io
import re
from functools import partial
from pathlib import Path

import pytest
from golden import plan_anywhere
from helpers import Mini, mini_study, python, record_all, write_mini_data
from results.made_up import MadeUp, study
from rich.console import Console

from flows import rehearsing
from flows.loading import load_study
from flows.planning import duration, scaled, show_plan, show_reuse
from flows.rehearsing import show_verdicts
from tlm.artifacts.store import ArtifactStore
from tlm.cost import calibration
from tlm.machine.runtime import Runtime
from tlm.planning.plan import Plan, plan
from tlm.results.rehearsal import rehearse
from tlm.results.variances import ASSUMED


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def cells(text: str, first: str) -> list[str]:
    """Of the table row that begins so."""
    row = next(line for line in text.splitlines() if line.lstrip("│ ").startswith(first))
    return [cell.strip() for cell in row.split("│")[1:-1]]


@pytest.fixture
def runtime(tmp_path: Path, mini_data: Path) -> Runtime:
    return Runtime(home=str(tmp_path / "home"), data_root=str(mini_data), device="cpu", workers=1)


# --- a plan ---


def test_a_plan_without_time_has_its_columns_totals_and_assumptions(
    mini_plan: Plan, store: ArtifactStore, runtime: Runtime, console: Console, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    show_plan(mini_plan, store, runtime, console, time=False)
    text = said(console)
    for column in ("stage", "steps", "cached", "to run", "training tokens", "FLOPs"):
        assert column in text
    assert "projected" not in text.lower()
    pretrain = [step for step in mini_plan.steps if step.stage == "pretrain"]
    assert cells(text, "pretrain")[:5] == [
        "pretrain",
        str(len(pretrain)),
        "0",
        str(len(pretrain)),
        scaled(len(pretrain) * 6 * 8 * 16),
    ]
    assert cells(text, "source")[4:] == ["", ""]
    assert f"{len(mini_plan.steps)} steps: 0 cached, {len(mini_plan.steps)} to run." in text
    assert "Assumed: lengths not known yet: assumed 16, an upper bound." in text
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written"


def test_what_each_architecture_stores_and_a_token_uses_is_said(
    mini_data: Path, store: ArtifactStore, runtime: Runtime, console: Console
) -> None:
    micro = {"name": "one", "kind": "llama", "variant": "micro", "options": {"sharing": {"what": "ffn"}}}
    show_plan(plan(mini_study(architectures__0=micro), str(mini_data)), store, runtime, console, time=False)
    # 300 tokens; of four feed-forward networks of 3 × 128 × 384 weights there is one.
    core = 4 * (3 * 128**2 + 2 * 128) + 3 * 128 * 384 + 128
    row = cells(said(console), "one ")
    assert row[:2] == ["one", f"{300 * 128 + core:,}"]
    assert row[2:5] == ["38.4 k (10.0 %)", scaled(core), scaled(300 * 128 + core + 3 * 3 * 128 * 384)]
    assert row[5].endswith("FLOP")


def test_every_step_is_listed_when_that_is_asked_for(
    mini_plan: Plan, store: ArtifactStore, runtime: Runtime, console: Console
) -> None:
    show_plan(mini_plan, store, runtime, console, steps=True, time=False)
    assert all(str(step.ref).partition("/")[2] in said(console) for step in mini_plan.steps)
    assert said(console).count("to run (missing)") == len(mini_plan.steps)


@pytest.mark.slow
def test_what_is_projected_is_said_with_how_it_was_measured(
    mini_plan: Plan,
    store: ArtifactStore,
    runtime: Runtime,
    console: Console,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(calibration, "calibrate", partial(calibration.calibrate, seconds=0.02))
    before = sorted(tmp_path.rglob("*"))
    show_plan(mini_plan, store, runtime, console)
    text = said(console)
    assert cells(text, "pretrain")[6] and cells(text, "finetune")[6] and not cells(text, "source")[6]
    assert "on CPU (" in text and "1 × 1 thread" in text and "4 kinds of optimiser step" in text
    assert "Not counted, for the store has no example: source, " in text
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written"


def test_nothing_is_measured_when_everything_is_cached(
    mini: Mini, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object, **more: object) -> None:
        raise AssertionError("there is nothing to calibrate")

    monkeypatch.setattr(calibration, "calibrate", refuse)
    show_plan(mini.plan, mini.store, mini.runtime, console)
    total = len(mini.plan.steps)
    assert f"{total} steps: {total} cached, 0 to run." in said(console)
    assert "Everything is in the store" in said(console) and "to run: nothing" in said(console)
    assert "Assumed" not in said(console)


def test_stages_that_do_not_train_are_projected_from_what_they_took(
    mini: Mini, runtime: Runtime, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object, **more: object) -> None:
        raise AssertionError("no training step is to be done")

    monkeypatch.setattr(calibration, "calibrate", refuse)
    planned = plan(mini_study(title="Another title"), mini.runtime.data_root)
    show_plan(planned, mini.store, mini.runtime, console)
    report = next(step for step in mini.plan.steps if step.stage == "report")
    took = mini.store.get(report.ref).record.seconds
    assert cells(said(console), "report")[1:4] == ["1", "0", "1"]
    assert cells(said(console), "report")[6] == duration(took)


def test_a_plan_without_time_imports_nothing_heavy(tmp_path: Path) -> None:
    write_mini_data(tmp_path / "raw")
    code = (
        "import sys; from rich.console import Console; from helpers import mini_study; from tlm.planning.plan import plan;"
        "from tlm.machine.runtime import Runtime; from tlm.artifacts.store import ArtifactStore;"
        "from flows.planning import show_plan;"
        f"runtime = Runtime(home={str(tmp_path)!r}, data_root={str(tmp_path / 'raw')!r});"
        "planned, store = plan(mini_study(), runtime.data_root), ArtifactStore(runtime.artifacts);"
        "show_plan(planned, store, runtime, Console(), time=False);"
        "print([m for m in ('torch', 'transformers', 'prefect', 'mlflow', 'datasets', 'sklearn') if m in sys.modules])"
    )
    done = python(code, cwd=Path(__file__).parents[1])
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


# --- several plans ---


def test_reuse_counts_what_studies_share(mini_data: Path, store: ArtifactStore, console: Console) -> None:
    first, second = (plan(mini_study(corpus__sizes=sizes), str(mini_data)) for sizes in ([0, 120], [0, 60, 120]))
    record_all(store, first)
    show_reuse({"first": first, "second": second}, store, console)
    keys = [{step.key for step in planned.steps} for planned in (first, second)]
    shared, unique = len(keys[0] & keys[1]), len(keys[0] | keys[1])
    assert 0 < shared < len(keys[0])
    assert cells(said(console), "first") == ["first", str(len(keys[0])), "0", str(len(keys[0])), "0"]
    new = len(keys[1]) - shared
    assert cells(said(console), "second") == ["second", str(len(keys[1])), str(shared), str(shared), str(new)]
    total = len(keys[0]) + len(keys[1])
    assert f"{total} steps, {unique} different ones: {len(keys[0])} cached, {new} to run." in said(console)


# --- numbers for people ---


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (999.9, "1.00 k"),
        (12_345, "12.3 k"),
        (9_996, "10.0 k"),
        (123_456_789, "123 M"),
        (2.5e18, "2.50 E"),
    ],
)
def test_amounts_have_three_digits_and_a_prefix(value: float, text: str) -> None:
    assert scaled(value) == text


def test_a_unit_follows_its_prefix() -> None:
    assert scaled(4.56e15, "FLOP") == "4.56 PFLOP" and scaled(7, "FLOP") == "7 FLOP"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "< 1 s"), (40.4, "40 s"), (720, "12 min"), (12_240, "3.4 h"), (864_000, "10.0 days")],
)
def test_durations_are_in_the_unit_that_people_use(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# --- which half-width its verdicts will have ---


@pytest.fixture
def rehearsed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Plan:
    """A study to rehearse, once: how often it is done is no matter here."""
    monkeypatch.setitem(rehearse.__kwdefaults__, "rehearsals", 1)
    monkeypatch.setattr(rehearsing, "PUBLISHED", tmp_path / "nothing is published")
    return plan_anywhere(load_study("custom-corpus", scale="tiny", origin="hub"))


ITEMS = {"dbpedia": {"labels": 14, "test": 300}}


def test_every_verdict_stands_with_its_half_width_and_where_that_is_from(
    rehearsed: Plan, runtime: Runtime, console: Console, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    show_verdicts(rehearsed, ITEMS, runtime, console)
    text = said(console)
    assert len(re.findall(r"│ Paragraphs chosen by .*│ +\d+\.\d points │", text)) == 4
    assert re.search(r"Half-widths of 4 verdicts in points: median \d+\.\d, widest \d+\.\d", text)
    assert f"results made up with assumed variances: {ASSUMED}." in text
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written"


def test_variances_are_those_of_this_home_where_it_has_results(
    rehearsed: Plan, runtime: Runtime, console: Console
) -> None:
    made = MadeUp(study(tasks=("dbpedia",)))
    for ws in (0, 500):
        made.finetuned("dbpedia", "bert1", ws, 0.6, seeds=8, spread=0.1)
    runtime.catalogue.parent.mkdir(parents=True)
    with made.evidence().connection as connection:
        connection.execute(f"attach '{runtime.catalogue}' as kept")
        for table in ("results", "predictions"):
            connection.execute(f"create table kept.{table} as select * from {table}")
    show_verdicts(rehearsed, ITEMS, runtime, console)
    text = said(console)
    assert "results made up with the variances of 16 runs in this home, on dbpedia." in text
    assert all(float(width) > 5 for width in re.findall(r"(\d+\.\d) points │", text)), "as wide as its seeds say"


def test_a_catalogue_that_cannot_be_read_is_said_to_be(rehearsed: Plan, runtime: Runtime, console: Console) -> None:
    runtime.catalogue.parent.mkdir(parents=True)
    runtime.catalogue.write_text("no catalogue")
    show_verdicts(rehearsed, ITEMS, runtime, console)
    assert "assumed variances (the catalogue of this home cannot be read: " in said(console)


def test_what_is_published_and_damaged_is_named_and_keeps_no_study_from_being_planned(
    rehearsed: Plan, runtime: Runtime, console: Console, tmp_path: Path
) -> None:
    damaged = tmp_path / "nothing is published" / "ws-sweep-tiny" / "study.parquet"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"damaged")
    show_verdicts(rehearsed, ITEMS, runtime, console)
    assert f"(left out: {damaged} cannot be read: " in said(console)


def test_a_study_that_asks_nothing_says_nothing_of_verdicts(
    mini_plan: Plan, runtime: Runtime, console: Console
) -> None:
    show_verdicts(mini_plan, {}, runtime, console)
    assert said(console) == ""


@pytest.mark.slow
def test_a_rehearsal_trains_nothing(tmp_path: Path) -> None:
    heavy = ("torch", "transformers", "prefect", "mlflow", "datasets")
    code = (
        "import sys; from flows.cli import main\n"
        "sys.argv = ['tlm', 'plan', 'custom-corpus', '--origin', 'hub', '--no-time', '--verdicts']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    print('ended with', end.code)\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = python(code, cwd=tmp_path, TLM_HOME=str(tmp_path))
    assert done.stdout.splitlines()[-2:] == ["ended with 0", "[]"], done.stdout + done.stderr


def test_planning_a_named_study_from_the_command_line_imports_nothing_heavy(tmp_path: Path) -> None:
    heavy = ("torch", "transformers", "prefect", "mlflow", "datasets", "duckdb", "numpy", "pandas", "scipy")
    code = (
        "import sys; from flows.cli import main; sys.argv = ['tlm', 'plan', 'demo', '--no-time']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    print('ended with', end.code)\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = python(code, cwd=tmp_path, TLM_HOME=str(tmp_path))
    assert done.stdout.splitlines()[-2:] == ["ended with 0", "[]"], done.stdout + done.stderr
    assert "Precision: " in done.stdout and not list(tmp_path.iterdir())
