"""AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101): the reference code's optimizer, and the default."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from tlm.study.base import added
from tlm.study.config import Optimisation, Optimizer
from tlm.training.optimizers.groups import LearningRates

Beta = Annotated[float, Field(ge=0, lt=1)]


class AdamW(Optimizer):
    """torch's, fused; every parameter decays."""

    kind: Literal["adamw"] = "adamw"
    betas: tuple[Beta, Beta] = added((0.9, 0.999), description="how much of the first and second moment is kept")

    def build(self, model: Any, config: Optimisation) -> Any:
        """torch.optim.AdamW over all parameters of `model`."""
        import torch

        return torch.optim.AdamW(
            LearningRates(model, config).groups(model.parameters()),
            lr=config.learning_rate,
            betas=self.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )
