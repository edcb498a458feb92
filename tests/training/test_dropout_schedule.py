"""Dropout by schedule: which steps have it, and that a training is told so."""

from __future__ import annotations

import pytest
import torch
from helpers import mini_study
from pydantic import ValidationError
from torch import nn
from toy import GPT, pretrained

from tlm.study.config import PretrainConfig
from tlm.training.dropout import ScheduledDropout
from tlm.training.hooks import Run
from tlm.training.optimisation import Curve


@pytest.mark.parametrize(
    ("schedule", "share", "dropped"), [("early", 0.3, [0, 1, 2]), ("late", 0.3, [3, 4, 5, 6, 7]), ("early", 0.01, [0])]
)
@pytest.mark.parametrize("start", [0, 4])
def test_the_steps_of_a_part_have_dropout_wherever_a_run_goes_on(
    schedule: str, share: float, dropped: list[int], start: int
) -> None:
    model = nn.Sequential(nn.Dropout(0.1), nn.Sequential(nn.Dropout(0.4)))
    hook = ScheduledDropout(PretrainConfig(steps=8, dropout_schedule=schedule, dropout_share=share))
    run = Run(model, torch.optim.SGD([torch.zeros(1)]), "cpu", 8, Curve(), step=start)
    hook.on_start(run)
    seen = []
    while run.step < run.steps:
        seen.append((model[0].p, model[1][0].p))
        run.step += 1
        hook.after_step(run)
    assert seen == [(0.1, 0.4) if step in dropped else (0.0, 0.0) for step in range(start, 8)]
    assert (model[0].p, model[1][0].p) == (0.1, 0.4), "afterwards it is as it was"


def test_training_has_the_dropout_of_its_schedule() -> None:
    def first_loss(**fields: object) -> float:
        rows = pretrained(arch=GPT, steps=2, **fields).curve.rows
        return next(value for step, _, name, value in rows if (step, name) == (1, "train_loss"))

    without, all_along = first_loss(dropout=0.0), first_loss(dropout=0.5)
    assert first_loss(dropout=0.5, dropout_schedule="late") == without != all_along
    assert first_loss(dropout=0.5, dropout_schedule="early") == all_along


def test_what_schedules_nothing_is_refused() -> None:
    none = {"architectures__0__hidden_dropout_prob": 0.0, "architectures__0__attention_probs_dropout_prob": 0.0}
    with pytest.raises(ValidationError, match=r"pretrain.dropout_schedule: early, but one has no dropout; give p"):
        mini_study(**none, pretrain__dropout_schedule="early")
    assert mini_study(**none, pretrain__dropout_schedule="early", pretrain__dropout=0.1)
    with pytest.raises(ValidationError, match="dropout_share=0.2 is that of dropout_schedule early or late"):
        PretrainConfig(steps=1, dropout_share=0.2)
    assert not {"dropout_schedule", "dropout_share"} & set(mini_study().pretrain.identity())
