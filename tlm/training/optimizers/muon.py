"""Muon (Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982): orthogonal updates of matrices, AdamW for the rest."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from tlm.study.base import Probability, added
from tlm.study.config import Optimisation, Optimizer
from tlm.training.optimizers.adamw import Beta
from tlm.training.optimizers.groups import LearningRates


class Muon(Optimizer):
    """Muon moves the matrices of a model's body at `learning_rate`, torch's AdamW its embeddings, biases and heads."""

    kind: Literal["muon"] = "muon"
    momentum: Probability = 0.95
    nesterov: bool = True
    ns_steps: PositiveInt = Field(
        5, le=99, description="iterations of Newton and Schulz that make an update orthogonal"
    )
    ns_precision: Literal["bfloat16", "run"] = added(
        "bfloat16",
        description="of these iterations' products. bfloat16: as torch has them; run: the precision of the run, because a "
        "processor without instructions for bfloat16 takes longer for them than for the gradients of a narrow model",
    )
    adjust_lr_fn: Literal["original", "match_rms_adamw"] = Field(
        "match_rms_adamw",
        description="how the rate follows a matrix's shape. original: √max(1, rows / columns); match_rms_adamw: "
        "0.2 √max(rows, columns), with which AdamW's own rate suits both",
    )
    adamw_learning_rate: Annotated[float, Field(gt=0)] | None = Field(
        None, description="of the rest, on the same schedule; default: that of the matrices"
    )
    adamw_betas: tuple[Beta, Beta] = (0.9, 0.999)

    def build(self, model: Any, config: Optimisation) -> Any:
        """Both as one torch.optim.Optimizer over all parameters of `model`."""
        import torch

        from tlm.training.optimisation import computing_dtype
        from tlm.training.optimizers.pair import Pair, body_matrices
        from tlm.training.optimizers.stacked import StackedMuon

        matrices = body_matrices(model)
        chosen = {id(matrix) for matrix in matrices}
        rest = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
        rates = LearningRates(model, config)
        muon = StackedMuon(
            rates.groups(matrices),
            dtype=computing_dtype(config.precision, next(model.parameters()).device.type)
            if self.ns_precision == "run"
            else torch.bfloat16,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            momentum=self.momentum,
            nesterov=self.nesterov,
            ns_steps=self.ns_steps,
            adjust_lr_fn=self.adjust_lr_fn,
        )
        adamw = torch.optim.AdamW(
            rates.groups(rest, (self.adamw_learning_rate or config.learning_rate) / config.learning_rate),
            lr=config.learning_rate,
            betas=self.adamw_betas,
            weight_decay=config.weight_decay,
            fused=True,
        )
        return Pair(muon, adamw)
