"""What is drawn with a known truth is found again: seeds, items and systems, whatever the study."""

from __future__ import annotations

import numpy as np
import pytest
from results.made_up import SHARED, MadeUp, study

from tlm.results.made_up import MadeUpResults, Shares
from tlm.results.variances import PRETRAINED, SCRATCH, SEED_DEVIATION, SHARES, Variances, measured


def test_the_seeds_deviation_and_the_items_shares_of_what_was_drawn_are_found_again() -> None:
    made = MadeUp(study(), items=2_000)
    for ws, accuracy, spread in ((0, 0.5, 0.005), (100, 0.6, 0.03), (400, 0.7, 0.03)):
        made.finetuned("topics", "deep", ws, accuracy, seeds=25, spread=spread)
    found = measured([made.evidence().connection])
    assert found.runs == 75 and found.tasks == ["topics"]
    assert found.accuracy("topics", "deep", 400, None) == pytest.approx(0.7, abs=0.03)
    assert found.deviation("topics", "deep", pretrained=True) == pytest.approx(0.03, abs=0.007)
    assert found.deviation("topics", "deep", pretrained=False) == pytest.approx(0.005, abs=0.004)
    assert found.shares("topics").task == pytest.approx(SHARED.task, abs=0.05)
    assert found.shares("topics").system == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("truth", [Shares(0.5, 0.2), Shares(0.2, 0.6), Shares(0.0, 0.0)])
def test_what_a_system_finds_hard_is_told_from_what_all_do(truth: Shares) -> None:
    made = MadeUpResults(study())
    for system in ("deep", "shallow"):
        for ws in (0, 400):
            for seed in range(4):
                margin = made.margin("topics", 4_000, 0.6, (system, ws, seed), shares=truth, system=(system, ws))
                about = {
                    "ws": ws,
                    "setting": system,
                    "pretrain_setting": str(ws),
                    "pretrain_seed": seed if ws else None,
                    "finetune_seed": seed,
                }
                made.result(f"{system}{ws}{seed}", "finetune", "topics", system, margin > 0, labels=4, **about)
    found = measured([made.evidence().connection]).shares("topics")
    assert (found.task, found.system) == pytest.approx((truth.task, truth.system), abs=0.06)


def test_what_was_not_measured_is_taken_from_what_is_nearest() -> None:
    made = MadeUp(study()).finetuned("topics", "deep", 400, 0.8, seeds=8, spread=0.04)
    found = measured([made.evidence().connection])
    seen = found.deviation("topics", "deep", pretrained=True)
    assert found.deviation("topics", "shallow", pretrained=True) == seen, "another architecture on the task"
    assert found.deviation("other", "deep", pretrained=True) == seen, "another task"
    assert found.deviation("topics", "deep", pretrained=False) == pytest.approx(SEED_DEVIATION), "nothing from scratch"
    assert found.accuracy("topics", "shallow", 100, None) == pytest.approx(0.8, abs=0.05)
    assert found.accuracy("other", "deep", 400, None) == PRETRAINED
    assert found.shares("other") == found.shares("topics")


def test_with_nothing_measured_what_is_assumed_holds() -> None:
    for found in (Variances(), measured([MadeUp(study()).evidence().connection])):
        assert found.tasks == [] and found.shares("topics") == SHARES
        assert found.accuracy("topics", "deep", 0, None) == SCRATCH
        assert found.deviation("topics", "deep", pretrained=True) == pytest.approx(SEED_DEVIATION)


def test_one_seed_tells_nothing_of_seeds_and_a_perfect_system_nothing_of_items() -> None:
    made = MadeUp(study()).finetuned("topics", "deep", 0, 0.6, seeds=1)
    made.finetuned("topics", "deep", 400, 1.0, seeds=3, spread=0)
    found = measured([made.evidence().connection])
    assert found.shares("topics") == SHARES
    assert found.deviation("topics", "deep", pretrained=False) == pytest.approx(SEED_DEVIATION)
    assert np.isfinite(found.deviation("topics", "deep", pretrained=True))
