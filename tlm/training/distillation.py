"""What a student of a committee minimises: cross entropy with the labels, and how far it is from what its teacher says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tlm.modeling.layout import Layout
from tlm.study.distillation import Distillation


@dataclass(frozen=True)
class Teaching:
    """A teacher's probabilities of the training items, (items, labels), each row at the temperature of the loss."""

    probabilities_NC: NDArray[np.floating[Any]]
    config: Distillation

    def __post_init__(self) -> None:
        """ValueError if rows are no probabilities."""
        sums_N = self.probabilities_NC.sum(axis=1)
        if self.probabilities_NC.min() < 0 or not np.allclose(sums_N, 1, atol=1e-4):
            raise ValueError("rows of a teacher's probabilities must be at least 0 and sum to 1")

    def loss(self, model: Any, ids_R: Tensor, layout: Layout, labels_B: Tensor, teacher_BC: Tensor) -> Tensor:
        """The mean over a batch of (1 - alpha) · CE + alpha · T² · KL(teacher_T ‖ student_T), in float32.

        T² keeps the gradients of both parts alike in size, whatever T (arXiv 1503.02531, section 2).
        """
        logits_BC = model.logits(ids_R, layout).float()
        alpha, temperature = self.config.alpha, self.config.temperature
        student_BC = torch.log_softmax(logits_BC / temperature, dim=1)
        distance = F.kl_div(student_BC, teacher_BC, reduction="batchmean")
        return (1 - alpha) * F.cross_entropy(logits_BC, labels_B) + alpha * temperature**2 * distance
