"""What the recipe of training is worth: the paper's, the modern one, and it without each of its levers, as arms."""

from __future__ import annotations

from typing import Any

from flows.studies.registry import assemble, study
from flows.studies.scales import TASKS, Scale
from tlm.study.arms import Arm
from tlm.study.config import StudyConfig
from tlm.study.recipes import RECIPES

MUON: dict[str, Any] = RECIPES["modern"]["pretrain"]["optimizer"]
LEVERS: dict[str, dict[str, Any]] = {
    "without-packing": {"pretrain": {"packing": False}},
    "without-word-vectors": {"pretrain": {"embedding_init": "normal"}},
    "without-output-bias": {"pretrain": {"output_bias": "zeros"}},
    "without-muon": {
        "pretrain": {
            "optimizer": {"kind": "adamw", "betas": MUON["adamw_betas"]},
            "learning_rate": MUON["adamw_learning_rate"],
        }
    },
    "without-fan-in": {"initialization": {"matrices": "normal"}},
    "without-pre-norm": {"options": {"norm_position": "post"}},
    "without-rms-norm": {"options": {"norm": "layer_norm"}},
    "without-rope": {"options": {"position_embedding_type": "absolute"}},
    "with-biases": {"options": {"bias": True}},
}
"""Arm → what the modern recipe has in its place: the paper's value, and of Muon the AdamW that it has for other weights."""
LONGER = 4
"""Times as many steps as the modern recipe, budget by budget, has the paper's: it is to reach the same accuracy."""


@study
def recipe(scale: Scale) -> StudyConfig:
    """Accuracy against training FLOPs: the paper's recipe, the modern one, and it without each of its levers."""
    return assemble(
        scale,
        "recipe",
        "How many FLOPs does a better recipe save at equal accuracy?",
        corpus=scale.corpus(scale.ws),
        architectures=scale.architectures("bert1"),
        tasks=scale.tasks(*TASKS),
        svd_arm=False,  # of each arm it would be an arm of its own; other studies have it
        arms=arms(scale),
    )


def arms(scale: Scale) -> dict[str, Arm]:
    """The paper's recipe at this width's rates, the modern one, and a lever taken away at the largest budget."""
    budgets = scale.budgets
    paper = {"recipe": "paper", "budgets": [LONGER * steps for steps in budgets], **scale.paper_rates}
    modern = {"recipe": "modern", "budgets": budgets}
    without = {name: {**modern, "budgets": budgets[-1:], **lever} for name, lever in LEVERS.items()}
    return {name: Arm.model_validate(fields) for name, fields in {"paper": paper, "modern": modern, **without}.items()}
