"""A rehearsal tells half-widths from a plan: those of the study's own analysis, smaller with more seeds and items."""

from __future__ import annotations

from typing import Any

import pytest
from golden import plan_anywhere
from results.made_up import study

from flows.loading import load_study
from flows.studies import STUDIES
from tlm.planning.graph import graph
from tlm.results.rehearsal import Expected, rehearse
from tlm.results.variances import Variances
from tlm.study.config import StudyConfig


def expected(config: StudyConfig, items: int = 400, **options: Any) -> list[Expected]:
    steps = [stage.step for stage in graph(config, lambda source: {"of": str(source)})]
    return rehearse(
        config, steps, {task.name: {"labels": 4, "test": items} for task in config.tasks}, Variances(), **options
    )


def seeded(seeds: int) -> StudyConfig:
    several = tuple(range(seeds))
    return study(analysis="ws-sweep", sizes=(0, 400), pretrain_seeds=several, finetune_seeds=several)


def widest(found: list[Expected]) -> float:
    return max(each.half_width for each in found if each.half_width is not None)


def test_more_seeds_and_more_items_make_narrower_intervals() -> None:
    few, more = (expected(seeded(seeds), items=100, rehearsals=3) for seeds in (3, 10))
    assert widest(more) < widest(few)
    assert widest(expected(seeded(10), items=1_600, rehearsals=3)) < widest(more) / 1.5
    assert [each.claim for each in few] == [each.claim for each in more]


def test_the_same_plan_gives_the_same_half_widths() -> None:
    assert expected(seeded(3), rehearsals=2) == expected(seeded(3), rehearsals=2)


def test_a_verdict_that_will_have_no_interval_says_why() -> None:
    helps, grows, *_, table_3 = expected(
        study(analysis="ws-sweep", **dict.fromkeys(("pretrain_seeds", "finetune_seeds"), (0,)))
    )
    assert helps.half_width is grows.half_width is None and helps.missing == "no interval: one seed"
    assert table_3.missing == "not measured: the largest Ws here is 400"


def test_a_study_that_asks_nothing_has_no_verdicts() -> None:
    assert expected(study()) == []


@pytest.mark.parametrize("name", [name for name, named in STUDIES.items() if named.scaled])
def test_every_verdict_of_every_named_study_has_a_half_width_or_says_why(name: str) -> None:
    config = load_study(name, scale="tiny", origin="hub")
    items = {task.name: {"labels": task.labels or 4, "test": 100} for task in config.tasks}
    found = rehearse(config, plan_anywhere(config).steps, items, Variances(), rehearsals=1)
    assert found and all((each.half_width is None) != (not each.missing) for each in found)
    measured = [each for each in found if not each.missing.startswith("not measured")]
    assert len(measured) >= len(found) - 1, [each.missing for each in found]


def test_the_arm_svd_only_is_rehearsed_beside_the_pre_trained_models() -> None:
    found = expected(study(analysis="ws-sweep", sizes=(0, 400), svd_arm=True), rehearsals=1)
    beyond = [each for each in found if "SVD only" in each.claim]
    assert len(beyond) == 2 and all(each.half_width for each in beyond)
