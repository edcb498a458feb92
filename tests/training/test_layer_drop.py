"""Layers that steps go without: which, how often, and that the trained model has all of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import mini_study
from pydantic import ValidationError
from torch import Tensor, nn
from toy import GPT, pretrained

from flows.studies import STUDIES
from tlm.modeling.cost import pretraining_flops
from tlm.study.architecture import variant
from tlm.study.config import PretrainConfig, StudyConfig
from tlm.training.hooks import Run
from tlm.training.layer_drop import LayerDrop
from tlm.training.optimisation import Curve


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def hook_of(p: float, layers: int = 3) -> LayerDrop:
    return LayerDrop(PretrainConfig(steps=400, layer_drop=p), [Twice() for _ in range(layers)], seed=3)


def run_of(hook: LayerDrop, steps: int, step: int = 0) -> Run:
    return Run(nn.Sequential(*hook.layers), torch.optim.SGD([torch.zeros(1)]), "cpu", steps, Curve(), step=step)


def test_the_higher_a_layer_the_more_steps_go_without_it() -> None:
    hook = hook_of(0.8)
    shares = np.mean([hook.dropped(step) for step in range(2_000)], axis=0)
    np.testing.assert_allclose(shares, [0, 0.4, 0.8], atol=0.04)
    assert not any(hook_of(0.8, layers=1).dropped(step)[0] for step in range(20)), "one layer is the first"


@pytest.mark.parametrize("start", [0, 5])
def test_a_step_goes_without_what_was_drawn_for_it_wherever_a_run_goes_on(start: int) -> None:
    hook = hook_of(0.8)
    run = run_of(hook, 12, start)
    hook.on_start(run)
    while run.step < run.steps:
        assert float(run.model(torch.ones(()))) == 2.0 ** hook.dropped(run.step).count(False)
        run.model.eval()
        assert float(run.model(torch.ones(()))) == 8.0, "an evaluation has all layers"
        run.model.train()
        run.step += 1
        hook.after_step(run)
    assert float(run.model(torch.ones(()))) == 8.0 and not any("forward" in vars(layer) for layer in hook.layers)


def test_training_drops_layers_and_at_its_default_does_nothing() -> None:
    plain, none, often = (
        pretrained(arch=GPT, steps=4, **more).model for more in ({}, {"layer_drop": 0.0}, {"layer_drop": 0.9})
    )
    same = [torch.equal(*pair) for pair in zip(plain.parameters(), none.parameters(), strict=True)]
    other = [torch.equal(*pair) for pair in zip(plain.parameters(), often.parameters(), strict=True)]
    assert all(same) and not all(other)
    assert "layer_drop" not in PretrainConfig(steps=1).identity()


def test_operations_are_those_of_the_layers_that_steps_have() -> None:
    whole, none = (pretraining_flops(GPT, PretrainConfig(steps=1, layer_drop=p), 12, 40) for p in (0.0, 0.5))
    one = pretraining_flops(GPT.model_copy(update={"num_hidden_layers": 1}), PretrainConfig(steps=1), 12, 40)
    assert none == pytest.approx(whole - 0.5 * (whole - one)), "of two layers the second is in half of the steps"


def test_a_layer_that_only_some_tokens_go_through_saves_less_when_it_is_left_out() -> None:
    """Of four layers the second and the fourth are routed; the i-th above the first is left out with i thirds of 0.5."""
    routed = variant("micro", options={"depth_capacity": 0.5})
    through = [
        pretraining_flops(routed.model_copy(update={"num_hidden_layers": n}), PretrainConfig(steps=1), 12, 40)
        for n in (1, 2, 3, 4)
    ]
    first, second, third = np.diff(through)
    found = pretraining_flops(routed, PretrainConfig(steps=1, layer_drop=0.5), 12, 40)
    assert first < second and found == pytest.approx(through[-1] - 0.5 * (first / 3 + second * 2 / 3 + third))


def test_a_model_of_one_layer_has_none_to_go_without() -> None:
    one = STUDIES["stlm-baseline"]("tiny").model_dump()
    one["architectures"] = [variant("micro", num_hidden_layers=1).model_dump()]
    one["pretrain"] = {**one["pretrain"], "layer_drop": 0.1}
    with pytest.raises(ValidationError, match=r"pretrain.layer_drop: models of kind llama \(micro\) with 1 layers"):
        StudyConfig.model_validate(one)


def test_an_encoder_cannot_go_without_a_layer() -> None:
    with pytest.raises(
        ValidationError, match=r"pretrain.layer_drop: models of kind encoder \(one\) .* cannot go without"
    ):
        mini_study(pretrain__layer_drop=0.1)
    with pytest.raises(ValidationError, match="layer_drop"):
        PretrainConfig(steps=1, layer_drop=1.0)
