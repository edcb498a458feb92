"""What a search is told of a study: dev accuracy, by cells, seed after seed; and that test items are nowhere in it."""

from __future__ import annotations

import pandas as pd
import pytest
from helpers import Mini, mini_study, only

from tlm.artifacts import catalogue
from tlm.artifacts.step import Step
from tlm.errors import UserError
from tlm.execution.execute import execute
from tlm.planning.plan import Identities, plan
from tlm.stages import STAGES
from tlm.study.config import StudyConfig
from tlm.tuning.objective import Cell, Measurement, Objective, Score
from tlm.tuning.tune import dev_accuracy


def measured(mini: Mini, study: StudyConfig, **objective: object) -> Measurement:
    return Objective.model_validate(objective).of(study, Identities(mini.runtime.data_root))


def test_cells_are_what_is_asked_for_and_treatments_never_count(mini: Mini) -> None:
    study = mini_study()
    everything = measured(mini, study, arms=("pretrained", "scratch"))
    assert set(everything.cells) == {
        *(Cell("pretrained", 120, name, "topics") for name in ("one", "conv")),
        *(Cell("scratch", 0, name, "topics") for name in ("one", "conv")),
    }
    assert set(measured(mini, study, ws=(60,), architectures=("one",)).cells) == {
        Cell("pretrained", 60, "one", "topics")
    }
    assert set(measured(mini, study, arms=("scratch",), architectures=("conv",)).cells) == {
        Cell("scratch", 0, "conv", "topics")
    }


@pytest.mark.parametrize(
    ("objective", "named"),
    [
        ({"arms": ("svd",)}, r"objective\.arms: .*'svd'.*pretrained.*scratch"),
        ({"ws": (61,)}, r"objective\.ws: .*61.*60"),
        ({"architectures": ("two",)}, r"objective\.architectures: .*'two'.*one"),
        ({"tasks": ("news",)}, r"objective\.tasks: .*'news'.*topics"),
    ],
)
def test_what_the_study_does_not_have_is_an_error_that_says_what_it_has(
    mini: Mini, objective: dict[str, object], named: str
) -> None:
    with pytest.raises(UserError, match=named):
        measured(mini, mini_study(), **objective)


def test_a_study_without_pre_training_has_no_such_arm(mini: Mini) -> None:
    study = mini_study(corpus__sizes=[0], treatments=[])
    with pytest.raises(UserError, match=r"objective\.arms: .*'pretrained'.*scratch"):
        measured(mini, study)
    assert len(measured(mini, study, arms=("scratch",)).cells) == 2


def test_a_rung_is_one_more_seed_of_every_cell_and_makes_nothing_twice(mini: Mini) -> None:
    study = mini_study().model_copy(update={"pretrain_seeds": (0, 1), "finetune_seeds": (5, 6, 7)})
    found = measured(mini, study, arms=("pretrained", "scratch"), architectures=("one",))
    steps = [[step for step in rung if step.stage in ("pretrain", "finetune")] for rung in found.rungs]
    assert [[(s.labels.get("pretrain_seed"), s.labels.get("finetune_seed")) for s in rung] for rung in steps] == [
        [(0, None), (0, 5), (None, 5)],
        [(0, 6), (None, 6)],
        [(0, 7), (None, 7)],
        [(1, None), (1, 5)],
        [(1, 6)],
        [(1, 7)],
    ]
    made: set[str] = set()
    for step in found.steps:
        assert step.key not in made and made.issuperset(step.input_keys.values())
        made.add(step.key)


def test_cells_weigh_the_same_whatever_their_number_of_seeds() -> None:
    easy, hard = Cell("scratch", 0, "one", "easy"), Cell("scratch", 0, "one", "hard")
    score = Score({easy: (0.9, 0.7, 0.8), hard: (0.4, 0.6)})
    assert score.value == pytest.approx(0.65)
    assert score.means == pytest.approx({str(easy): 0.8, str(hard): 0.5})
    assert score.standard_error == pytest.approx(0.0, abs=1e-9)  # (0.9 + 0.4) / 2 and (0.7 + 0.6) / 2
    assert Score({easy: (0.9,)}).standard_error is None


def test_a_trial_trains_what_the_study_trains_and_on_the_same_items(mini: Mini) -> None:
    found = {step.key for step in measured(mini, mini_study()).steps}
    ordinary = {step.key: step for step in mini.plan.steps}
    assert {step.stage for key, step in ordinary.items() if key in found} == {
        *("source", "tokenizer", "tokens", "corpus", "pretrain")
    }
    assert {step.stage for step in measured(mini, mini_study()).steps if step.key not in ordinary} == {
        "task",
        "finetune",
    }


@pytest.fixture(scope="module")
def trial(mini: Mini, tmp_path_factory: pytest.TempPathFactory) -> tuple[Mini, list[Step]]:
    """A trial of the miniature study, run beside it: every step of one cell."""
    own = mini.copy(tmp_path_factory.mktemp("trial"))
    found = measured(mini, mini_study(), arms=("scratch",), architectures=("one",))
    for step in found.steps:
        execute(step, own.runtime)
    return own, found.steps


def test_no_artifact_of_a_trial_holds_a_test_item(mini: Mini, trial: tuple[Mini, list[Step]]) -> None:
    own, steps = trial
    [task], [tuned] = ([step for step in steps if step.stage == stage] for stage in ("task", "finetune"))
    everything = mini.frame(only(mini.plan, "task"), "items.parquet")
    items = own.frame(task, "items.parquet")
    expected = everything[everything["part"] != "test"].reset_index(drop=True)
    pd.testing.assert_frame_equal(items, expected)
    assert set(own.frame(tuned, "predictions.parquet")["part"]) == {"dev"}
    facts = own.store.get(tuned.ref).record.facts
    assert "test_accuracy" not in facts and facts["test_items"] == 0
    assert own.store.get(task.ref).record.facts["test"] == 0


def test_its_dev_accuracy_is_that_of_the_ordinary_run(mini: Mini, trial: tuple[Mini, list[Step]]) -> None:
    own, steps = trial
    ordinary = only(mini.plan, "finetune", arch="one", init="scratch", task="topics")
    assert dev_accuracy(own.store, steps[-1]) == mini.store.get(ordinary.ref).record.facts["dev_accuracy"]


def test_the_catalogue_has_no_result_of_a_trial_and_finds_nothing_wrong(trial: tuple[Mini, list[Step]]) -> None:
    own, steps = trial
    assert catalogue.build(own.store, own.runtime.catalogue, STAGES) == {}
    counts = "select count(*) filter (where key = ?), count(*) from results"
    [[trials], [all_of_them]] = catalogue.query(own.runtime.catalogue, counts, [steps[-1].key]).columns
    assert trials.as_py() == 0 and all_of_them.as_py() > 0


def test_its_folders_are_told_from_those_of_results(mini: Mini, trial: tuple[Mini, list[Step]]) -> None:
    _, steps = trial
    ordinary = only(mini.plan, "finetune", arch="one", init="scratch", task="topics")
    assert steps[-1].slug == f"trial-{ordinary.slug}"


def test_keys_of_ordinary_runs_know_nothing_of_it(mini: Mini) -> None:
    assert "test_items" not in only(mini.plan, "task").config
    assert plan(mini_study(), mini.runtime.data_root).report.key == mini.plan.report.key
