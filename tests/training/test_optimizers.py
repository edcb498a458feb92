"""Muon and AdamW move the parameters that are theirs at the rates asked for, and a run with them resumes exactly."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import mini_study
from interruption import Interrupted, every_step, stop_after
from pydantic import ValidationError
from torch import Tensor
from toy import ARCH, CONV, GPT, VOCABULARY, finetuned, pretrained, weights

from tlm.modeling.families.base import family_of
from tlm.study.architecture import Architecture
from tlm.study.config import FinetuneConfig, Optimisation, PretrainConfig
from tlm.training.hooks import Hook, Run
from tlm.training.optimizers import stacked as stacked_muon
from tlm.training.optimizers.muon import Muon
from tlm.training.optimizers.pair import body_matrices
from tlm.training.optimizers.stacked import StackedMuon

MUON = {"kind": "muon", "adjust_lr_fn": "original", "adamw_learning_rate": 2e-3, "adamw_betas": [0.9, 0.98]}


def model_of(arch: Architecture, classifier: bool = False) -> Any:
    torch.manual_seed(0)
    family = family_of(arch)
    head, labels = (family.classifier, 3) if classifier else (family.language_model, None)
    return head(family.configure(arch, VOCABULARY, 12, labels))


def with_gradients(model: Any) -> Any:
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model


def orthogonal(x: Tensor) -> Tensor:
    """Newton and Schulz's five iterations with Muon's coefficients, in float64."""
    x = x.double() / x.double().norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


@pytest.mark.parametrize("classifier", [False, True])
@pytest.mark.parametrize("arch", [ARCH, CONV, GPT], ids=lambda arch: arch.name)
def test_matrices_of_the_body_are_muons_and_embeddings_convolutions_and_heads_are_not(
    arch: Architecture, classifier: bool
) -> None:
    model = model_of(arch, classifier)
    chosen = {id(matrix) for matrix in body_matrices(model)}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in chosen}
    layers = {name for name, p in model.named_parameters() if ".layer." in name or ".h." in name if p.ndim == 2}
    pooler = {"bert.pooler.dense.weight"} if classifier and arch.kind == "encoder" else set()
    assert names == layers | pooler


def test_a_step_is_torchs_of_either_kind_on_its_own_parameters() -> None:
    model, decay = with_gradients(model_of(ARCH)), 0.05
    before = weights(model)
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    config = Optimisation(learning_rate=0.01, weight_decay=decay, optimizer=MUON)
    optimizer = config.optimizer.build(model, config)
    chosen = {id(matrix) for matrix in body_matrices(model)}
    for group in optimizer.param_groups:
        group["lr"] = 0.01 * group.get("lr_scale", 1.0)
    optimizer.step()
    for name, parameter in model.named_parameters():
        was, gradient = before[name], gradients[name]
        if id(parameter) in chosen:
            # The first momentum is (1 - 0.95) of the gradient, and Nesterov's look ahead is a multiple of it.
            update = orthogonal(gradient.T).T if gradient.shape[0] > gradient.shape[1] else orthogonal(gradient)
            scale = max(1.0, gradient.shape[0] / gradient.shape[1]) ** 0.5
            expected = was * (1 - 0.01 * decay) - 0.01 * scale * update.float()
            torch.testing.assert_close(parameter.detach(), expected, rtol=0, atol=4e-4, msg=name)
        else:
            expected = was * (1 - 2e-3 * decay) - 2e-3 * gradient.sign()
            torch.testing.assert_close(parameter.detach(), expected, rtol=0, atol=1e-6, msg=name)


def test_matrices_that_are_orthogonalised_together_move_as_torchs_do_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tall and wide ones, in stacks and in parts of them, and one that has no gradient."""
    shapes = [(8, 8)] * 3 + [(24, 8), (8, 24)] * 2 + [(5, 8)]
    ours, torchs = ([torch.nn.Parameter(torch.randn(shape)) for shape in shapes] for _ in range(2))
    gradients = [[torch.randn(shape) for shape in shapes] for _ in range(3)]
    options: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.2, "nesterov": False, "adjust_lr_fn": "match_rms_adamw"}
    for stacked in (1 << 22, 2 * 64):
        monkeypatch.setattr(stacked_muon, "STACKED", stacked)
        for parameters in (ours, torchs):
            for number, parameter in enumerate(parameters):
                parameter.data = torch.full(shapes[number], 0.5)
        built = StackedMuon(ours, dtype=torch.bfloat16, **options), torch.optim.Muon(torchs, **options)
        for step in gradients:
            for optimizer, parameters in zip(built, (ours, torchs), strict=True):
                for parameter, gradient in zip(parameters[1:], step[1:], strict=True):
                    parameter.grad = gradient.clone()
                optimizer.step()
        assert torch.equal(ours[0], torch.full(shapes[0], 0.5)) and ours[0] not in built[0].state
        for mine, theirs in zip(ours, torchs, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=5e-3)
        states = [optimizer.state_dict() for optimizer in built]
        torch.testing.assert_close(states[0]["state"], states[1]["state"])


@pytest.mark.parametrize(
    ("precision", "ns_precision", "atol"),
    [("float32", "run", 1e-5), ("float32", "bfloat16", 4e-4), ("bfloat16", "run", 4e-4)],
)
def test_products_have_the_precision_asked_for(precision: Any, ns_precision: str, atol: float) -> None:
    torch.manual_seed(0)
    model = with_gradients(model_of(ARCH))
    matrix = body_matrices(model)[0]
    before, expected = matrix.detach().clone(), orthogonal(matrix.grad).float()
    optimisation = Optimisation(weight_decay=0, precision=precision, optimizer={**MUON, "ns_precision": ns_precision})
    optimizer = optimisation.optimizer.build(model, optimisation)
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    optimizer.step()
    off = (matrix.detach() - (before - 0.01 * expected)).abs().max()
    assert off < atol and (off > 1e-5) == (atol > 1e-5)


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_a_run_with_muon_interrupted_anywhere_ends_in_the_same_bits(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(options: dict[str, Any]) -> dict[str, Tensor]:
        fields = {"optimizer": MUON, "learning_rate": 0.01, "warmup_share": 0.3, "max_grad_norm": 1.0, "run": options}
        if kind == "pretrain":
            return weights(pretrained(steps=6, batch_size=50, **fields).model)
        return weights(finetuned(epochs=2, batch_size=14, layer_decay=0.7, **fields)[0].model)

    expected = run({})
    for step in (2, 4, 5):
        stop_after(step, monkeypatch)
        with pytest.raises(Interrupted):
            run(every_step(tmp_path))
    stop_after(0, monkeypatch)
    found = run(every_step(tmp_path))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_muon_learns() -> None:
    fields = {"steps": 60, "learning_rate": 0.02, "batch_size": 32}
    losses = [
        pretrained(**fields, optimizer=optimizer).facts["heldout_loss"]
        for optimizer in ({**MUON, "adamw_learning_rate": 1e-2}, "muon")
    ]
    assert max(losses) < 3.0


class Rates(Hook):
    """What each parameter learnt at in the last step."""

    def __init__(self) -> None:
        self.of: dict[int, float] = {}

    def after_step(self, run: Run) -> None:
        self.of = {
            id(p): group["lr"] / run.learning_rate for group in run.optimizer.param_groups for p in group["params"]
        }


@pytest.mark.parametrize("optimizer", ["adamw", MUON])
@pytest.mark.parametrize("arch", [ARCH, CONV, GPT], ids=lambda arch: arch.name)
def test_each_layer_learns_at_a_share_of_the_rate_of_the_one_above(arch: Architecture, optimizer: Any) -> None:
    deep = arch.model_copy(update={"num_hidden_layers": 2})
    rates = Rates()
    fields = {"epochs": 1, "learning_rate": 4e-3, "optimizer": optimizer, "layer_decay": 0.5}
    model = finetuned(arch=deep, run={"hooks": [rates]}, **fields)[0].model
    matrices = {id(matrix) for matrix in body_matrices(model)}
    for name, parameter in model.named_parameters():
        depth = 3
        if any(part in name for part in ("embeddings", "wte", "wpe", "conv_front")):
            depth = 0
        elif ".layer." in name or ".h." in name:
            depth = 1 + int(name.split(".layer." if ".layer." in name else ".h.")[1].split(".")[0])
        own = 0.5 if optimizer == MUON and id(parameter) not in matrices else 1.0  # AdamW's rate is half of Muon's
        assert rates.of[id(parameter)] == pytest.approx(own * 0.5 ** (3 - depth)), name


def test_without_levers_adamw_is_one_group_as_it_always_was() -> None:
    model = model_of(ARCH)
    for config in (PretrainConfig(steps=1), FinetuneConfig()):
        (group,) = config.optimizer.build(model, config).param_groups
        assert "lr_scale" not in group and group["betas"] == (0.9, 0.999)
        assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]


def test_the_fields_are_read_and_bounded() -> None:
    study = mini_study(pretrain__optimizer=MUON, finetune__optimizer={"kind": "adamw", "betas": [0.9, 0.95]})
    assert isinstance(study.pretrain.optimizer, Muon)
    assert study.finetune.identity()["optimizer"] == {"kind": "adamw", "betas": [0.9, 0.95]}
    assert "ns_precision" not in FinetuneConfig(optimizer="muon").identity()["optimizer"]
    assert "optimizer" not in FinetuneConfig(optimizer={"kind": "adamw", "betas": [0.9, 0.999]}).identity()
    assert copy.copy(study) == type(study).model_validate_json(study.model_dump_json())
    for wrong in ({"ns_steps": 0}, {"momentum": 1.5}, {"adamw_betas": [0.9, 1.0]}, {"adjust_lr_fn": "none"}):
        with pytest.raises(ValidationError):
            Optimisation(optimizer={"kind": "muon", **wrong})
    with pytest.raises(ValidationError, match="layer_decay"):
        FinetuneConfig(layer_decay=0.0)
