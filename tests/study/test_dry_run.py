"""A dry run is known by its configuration, wherever in it a training is told to end early."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import mini_study

from tlm.study.adapt import with_limit
from tlm.study.dry_run import is_dry_run


@pytest.mark.parametrize(
    "changes",
    [{"pretrain__max_steps": 2}, {"finetune__max_steps": 2}, {"arms": {"short": {"pretrain": {"max_steps": 2}}}}],
)
def test_a_study_in_which_a_training_ends_early_is_a_dry_run(changes: dict[str, Any]) -> None:
    if "arms" in changes:
        changes = {**changes, "committees": [], "treatments": [], "treatment_architectures": None}
    study = mini_study(**changes)
    assert is_dry_run(study) and is_dry_run(study.model_dump(mode="json"))


def test_a_study_that_trains_to_its_end_is_none() -> None:
    assert not is_dry_run(mini_study()) and is_dry_run(with_limit(mini_study(), 1))
