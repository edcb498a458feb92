"""An optimizer from outside the package, whose state is not tensors alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from helpers import mini_study, numbered_vocabulary, only
from outside import SMALL, assert_planned_run_cached_and_catalogued, assert_read_and_set
from torch import nn

from tlm.data.ragged import Ragged
from tlm.study.architecture import Architecture
from tlm.study.config import Optimisation, Optimizer, PretrainConfig
from tlm.training.checkpoint import Checkpoints
from tlm.training.hooks import Hook, Run
from tlm.training.pretrain import Pretrained, pretrain


class SignDescent(torch.optim.Optimizer):
    """The sign of a mean of gradients; every second step is half as long."""

    def __init__(self, parameters: Any, lr: float, beta: float) -> None:
        super().__init__(parameters, {"lr": lr, "beta": beta, "halved": False})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            length = group["lr"] / 2 if group["halved"] else group["lr"]
            group["halved"] = not group["halved"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                state["count"] = state.get("count", 0) + 1
                mean = state.setdefault("mean", torch.zeros_like(parameter))
                mean.lerp_(parameter.grad, 1 - group["beta"] / state["count"])
                parameter.sub_(length * mean.sign())


class SignDescentConfig(Optimizer):
    kind: Literal["toy-sign"] = "toy-sign"
    beta: float = 0.5

    def build(self, model: nn.Module, config: Optimisation) -> torch.optim.Optimizer:
        return SignDescent(model.parameters(), config.learning_rate, self.beta)


CHANGES = {"pretrain__optimizer": "toy-sign", "finetune__optimizer": {"kind": "toy-sign", "beta": 0.25}}


def test_a_study_with_it_is_planned_run_cached_and_catalogued(mini_data: Path, tmp_path: Path) -> None:
    planned, _ = assert_planned_run_cached_and_catalogued(mini_study(**CHANGES), mini_data, tmp_path / "home")
    for stage, beta in (("pretrain", 0.5), ("finetune", 0.25)):
        step = only(planned, stage, ws=60, arch="one")
        assert step.config[stage]["optimizer"] == {"kind": "toy-sign", "beta": beta}
    assert "optimizer" not in mini_study().pretrain.identity()


def test_files_json_and_the_command_line_know_its_fields(tmp_path: Path) -> None:
    overrides = ["pretrain.optimizer=toy-sign", "finetune.optimizer.kind=toy-sign", "finetune.optimizer.beta=0.25"]
    assert_read_and_set(CHANGES, overrides, tmp_path)


class Interrupt(Hook):
    def after_step(self, run: Run) -> None:
        if run.step == 3:
            raise KeyboardInterrupt


def test_a_run_with_it_that_is_interrupted_ends_in_the_same_bits(
    tmp_path: Path,
) -> None:
    texts = Ragged.from_lists([[5 + (start + i) % 30 for i in range(8)] for start in range(24)])
    config = PretrainConfig(steps=7, batch_size=8, learning_rate=1e-3, precision="float32", optimizer="toy-sign")

    def train(*hooks: Hook) -> Pretrained:
        arch = Architecture(name="one", **SMALL)
        return pretrain(texts, texts, numbered_vocabulary(40), arch, config, max_length=12, seed=0, hooks=hooks)

    undisturbed = train()
    with pytest.raises(KeyboardInterrupt):
        train(Checkpoints(tmp_path, "run", every=0), Interrupt())
    assert [path.name for path in tmp_path.iterdir()] == ["000000003.safetensors"]
    again = train(Checkpoints(tmp_path, "run", every=0))
    assert again.curve.rows == undisturbed.curve.rows
    for name, tensor in undisturbed.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name
