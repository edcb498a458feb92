"""AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101): the reference code's optimizer, and the default."""

from __future__ import annotations

from typing import Any, Literal

from tlm.study.config import Optimisation, Optimizer


class AdamW(Optimizer):
    """torch's, fused, with its own betas and eps; every parameter decays."""

    kind: Literal["adamw"] = "adamw"

    def build(self, model: Any, config: Optimisation) -> Any:
        """torch.optim.AdamW over all parameters of `model`."""
        import torch

        return torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
