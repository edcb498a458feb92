"""Recipes: a name that stands for the fields that make up a way of training. What is printed and keyed is the fields.

A study says `recipe: modern`, and any field that it gives itself wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from tlm.study.architecture import VARIANTS
from tlm.study.families import FAMILIES

RECIPES: dict[str, dict[str, Any]] = {
    # arXiv 2507.14871 and its released code.
    "paper": {
        "initialization": {"matrices": "normal", "embedding_std": 0.02},
        "pretrain": {
            "mlm_probability": 0.15,
            "packing": False,
            "embedding_init": "normal",
            "output_bias": "zeros",
            "optimizer": {"kind": "adamw"},
            "learning_rate": 5e-5,
            "warmup_share": 0.0,
            "max_grad_norm": None,
            "dropout": None,
        },
        "finetune": {
            "optimizer": {"kind": "adamw"},
            "learning_rate": 5e-5,
            "warmup_share": 0.0,
            "layer_decay": 1.0,
            "dropout": None,
        },
        "svd_arm": False,
        "options": {
            "norm_position": "post",
            "norm": "layer_norm",
            "position_embedding_type": "absolute",
            "rope_theta": 10_000.0,
            "bias": True,
        },
    },
    "modern": {
        "initialization": {"matrices": "fan_in"},
        "pretrain": {
            "mlm_probability": 0.15,
            "packing": True,
            "embedding_init": "ppmi_svd",
            "output_bias": "log_unigram",
            "optimizer": {
                "kind": "muon",
                "adjust_lr_fn": "original",
                "ns_precision": "run",
                "adamw_learning_rate": 2e-3,
                "adamw_betas": (0.9, 0.98),
            },
            "learning_rate": 0.01,
            "warmup_share": 0.05,
            "max_grad_norm": 1.0,
            "dropout": 0.0,
        },
        "finetune": {
            "optimizer": {"kind": "adamw"},
            "learning_rate": 1e-3,
            "warmup_share": 0.1,
            "layer_decay": 1.0,
            "dropout": 0.1,
        },
        "svd_arm": True,
        "options": {
            "norm_position": "pre",
            "norm": "rms_norm",
            "position_embedding_type": "rope",
            "rope_theta": 1_000.0,
            "bias": False,
        },
    },
}
"""Fields of a study by recipe; `options` are those of every architecture that is an encoder."""


def with_recipe(study: Mapping[str, Any], name: str, *, wins: bool = False) -> dict[str, Any]:
    """The fields of a study with those of a recipe where it gives none itself.

    A bias on the vocabulary's logits is left alone where an architecture has none.

    Args:
        study: fields as a study file has them, or models in their place.
        wins: the recipe's fields replace the study's own.

    Raises:
        ValueError: for an unknown recipe; the message lists those there are.
    """
    if not isinstance(name, str) or name not in RECIPES:
        raise ValueError(f"recipe: unknown {name!r}; choose from {sorted(RECIPES)}")
    recipe = dict(RECIPES[name])
    options = recipe.pop("options")
    architectures = study.get("architectures")
    own = {key: value for key, value in study.items() if key != "recipe"}
    if isinstance(architectures, list | tuple):
        kinds = [_kind(each) for each in architectures]
        if not all(FAMILIES[kind].has_output_bias for kind in kinds if kind in FAMILIES.names()):
            recipe["pretrain"] = {k: v for k, v in recipe["pretrain"].items() if k != "output_bias"}
        own["architectures"] = [
            _merged({"options": options}, _fields(each), wins) if kind == "encoder" and _has_fields(each) else each
            for each, kind in zip(architectures, kinds, strict=True)
        ]
    return _merged(recipe, own, wins)


def _merged(recipe: Mapping[str, Any], own: Mapping[str, Any], wins: bool) -> dict[str, Any]:
    """Both sides' fields; where both have one, that of the stronger. A thing of a `kind` is taken as a whole."""
    merged = dict(own)
    for name, value in recipe.items():
        given = own.get(name)
        if isinstance(value, Mapping) and "kind" not in value and given is not None:
            merged[name] = _merged(value, _fields(given), wins) if _has_fields(given) else given
        elif name not in own or wins:
            merged[name] = value
    return merged


def _has_fields(given: Any) -> bool:
    """Whether it is a mapping or a model; anything else is left for the study's own validation to refuse."""
    return isinstance(given, Mapping | BaseModel)


def _fields(given: Any) -> dict[str, Any]:
    """Of a mapping, or those of a model that were given to it; of anything else none."""
    if isinstance(given, BaseModel):
        return {name: getattr(given, name) for name in given.model_fields_set}
    return dict(given) if isinstance(given, Mapping) else {}


def _kind(architecture: Any) -> str:
    fields = _fields(architecture)
    variant = VARIANTS.get(str(fields.get("variant")))
    return str(fields.get("kind", variant.kind if variant else "encoder"))
