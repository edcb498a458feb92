"""A search from its first trial to its last: drawn by seed alone, whatever interrupts it; some pruned, some failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy.orm
from toy_search import SPACE, Toy, accuracy, measure, toy

from tlm.artifacts.in_progress import unfinished
from tlm.errors import UserError
from tlm.tuning import tune as tune_module
from tlm.tuning.search import DATABASE, Search

TRIALS = 9
START = {"rate": 0.1, "depth": 1, "kind": "bad"}


class Killed(BaseException):
    """The process ends here; nothing after it runs."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """A search that nothing interrupted."""
    made = toy(tmp_path_factory.mktemp("whole"), start=START)
    assert made.run(TRIALS)
    return made


def kill_after(monkeypatch: pytest.MonkeyPatch, commits: int) -> None:
    """Let so many transactions with the database be committed, and end the process before the next."""
    commit = sqlalchemy.orm.Session.commit
    done = 0

    def counted(session: Any) -> None:
        nonlocal done
        if done == commits:
            raise Killed
        done += 1
        commit(session)

    monkeypatch.setattr(sqlalchemy.orm.Session, "commit", counted)


def test_it_finds_a_better_place_than_it_began_at_and_ends_what_is_hopeless(whole: Toy) -> None:
    outcome = whole.outcome()
    assert len(outcome) == TRIALS
    number, state, values, value = outcome[0]
    assert (number, state, values) == (0, "complete", START)
    best = max(value for _, state, _, value in outcome if state == "complete" and value is not None)
    assert value is not None and best > value + 0.1
    pruned = [number for number, state, _, _ in outcome if state == "pruned"]
    assert pruned and all(f"{number} 3/3" not in whole.told for number in pruned)
    assert min(pruned) >= 2 * whole.config.at_once  # before that nothing is known to compare with


@pytest.mark.slow
def test_what_is_drawn_follows_from_the_seed_alone(whole: Toy, tmp_path: Path) -> None:
    again, other = toy(tmp_path / "again", start=START), toy(tmp_path / "other", start=START, seed=1)
    again.run(TRIALS)
    other.run(TRIALS)
    assert again.outcome() == whole.outcome()
    assert [values for _, _, values, _ in other.outcome()[1:]] != [values for _, _, values, _ in whole.outcome()[1:]]


@pytest.mark.slow
@pytest.mark.parametrize("commits", [2, 22, 80])
def test_a_search_that_was_killed_anywhere_goes_on_to_the_same_end(
    whole: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commits: int
) -> None:
    broken = toy(tmp_path, start=START)
    with monkeypatch.context() as patch:
        kill_after(patch, commits)
        with pytest.raises(Killed):
            broken.run(TRIALS)
    assert broken.run(TRIALS)
    assert broken.outcome() == whole.outcome()
    assert sorted(broken.made) == sorted(whole.made)  # nothing twice
    assert list(unfinished(broken.store)) == []


def test_a_search_goes_on_to_more_trials_and_costs_nothing_for_those_it_has(tmp_path: Path) -> None:
    made = toy(tmp_path, start=START)
    made.run(6)
    first, steps = made.outcome(), list(made.made)
    made.told.clear()
    assert made.run(6) and made.told == [] and made.made == steps
    assert made.run(8)
    assert made.outcome()[:6] == first and len(made.outcome()) == 8
    assert made.told[0] == "6 begins"


def test_the_result_hangs_on_dev_accuracy_alone(whole: Toy) -> None:
    """The records of the toy hold test accuracies too, each the opposite."""
    for _, _, values, value in whole.outcome()[:3]:
        cells = [accuracy(values, seed, task) for seed in range(3) for task in ("easy", "hard")]
        assert value == pytest.approx(sum(cells) / 6)


def test_time_that_is_over_ends_a_search_between_two_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = toy(tmp_path, start=START)
    monkeypatch.setattr(tune_module.time, "monotonic", lambda: float(len(made.made)))  # a step takes a second
    assert not made.run(6, seconds=3 * 2 * 2)  # three trials, two tasks, two seeds
    assert [made.told.count(f"{number} {rung}/3") for number in range(3) for rung in (1, 2, 3)] == [1, 1, 0] * 3
    assert made.run(6, seconds=1e9)
    assert {state for _, state, _, _ in made.outcome()} == {"complete"}


def test_a_trial_that_diverges_or_is_no_study_fails_alone(tmp_path: Path) -> None:
    made = toy(tmp_path, over={**SPACE, "rate": "log:0.5:1"}, at_once=4)
    made.diverges = lambda values: values["kind"] == "bad"
    made.run(12)
    outcome = made.outcome()
    for _, state, values, _ in outcome:
        assert (state == "failed") == (values["kind"] == "bad" or values["rate"] > 0.9)
    states = {state for _, state, _, _ in outcome}
    assert "failed" in states and "complete" in states
    assert list(unfinished(made.store)) == []


def test_a_search_gives_up_when_one_trial_after_another_fails(tmp_path: Path) -> None:
    made = toy(tmp_path)
    made.diverges = lambda values: True
    with pytest.raises(UserError, match=r"last 6 trials have all failed.* it diverged"):
        made.run(20)
    assert [state for _, state, _, _ in made.outcome()] == ["failed"] * 6


def test_what_the_study_itself_needs_is_no_trial_s_fault(tmp_path: Path) -> None:
    made = toy(tmp_path, start=START)
    made.diverges = lambda values: values == START
    data = {run.step.key for runs in measure(START).cells.values() for run in runs}
    with pytest.raises(UserError, match="What the study needs cannot be made: it diverged"):
        made.run(6, data=data)
    assert {state for _, state, _, _ in made.outcome()} == {"running"}
    made.diverges = lambda values: False
    assert made.run(6, data=data)
    assert "failed" not in {state for _, state, _, _ in made.outcome()}


def test_a_search_may_be_given_another_name(tmp_path: Path) -> None:
    made = toy(tmp_path, start=START)
    made.run(3)
    before = made.outcome()
    made.config = made.config.model_copy(update={"name": "another"})
    assert made.outcome() == before


def test_one_process_at_a_time_runs_a_search(tmp_path: Path) -> None:
    made = toy(tmp_path)
    with made.open(), pytest.raises(UserError, match="is being tuned by another process"), made.open():
        pass
    with made.open() as search:
        assert isinstance(search, Search)


@pytest.mark.parametrize("damage", ["gone", "empty", "no database", "cut short"])
def test_trials_that_cannot_be_read_are_an_error_that_says_the_way_out(tmp_path: Path, damage: str) -> None:
    made = toy(tmp_path)
    with made.open() as search:
        database = search.folder / DATABASE
    if damage == "gone":
        database.unlink()
    else:
        content = database.read_bytes()
        database.write_bytes({"empty": b"", "no database": b"x" * 5000}.get(damage, content[: len(content) // 2]))
    with pytest.raises(UserError, match=r"trials\.db cannot be read .*Move .* away"), made.open():
        pass
    database.parent.rename(tmp_path / "away")
    assert made.outcome() == []


def test_pruning_can_be_left_out_and_so_can_learning(tmp_path: Path) -> None:
    made = toy(tmp_path, start=START, prune=False, sampler="random")
    made.run(TRIALS)
    assert {state for _, state, _, _ in made.outcome()} == {"complete"}


def test_importances_name_what_made_a_difference(whole: Toy, tmp_path: Path) -> None:
    with whole.open() as search:
        shares = search.importances()
    assert set(shares) == set(SPACE) and sum(shares.values()) == pytest.approx(1)
    made = toy(tmp_path)
    with made.open() as search:
        assert search.importances() == {}
