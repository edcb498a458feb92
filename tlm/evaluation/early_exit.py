"""The threshold of early exits: chosen by held-out text, never by what is evaluated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from tlm.data.ragged import Ragged
from tlm.data.tokenizer import Vocabulary
from tlm.modeling.exits import EarlyExit
from tlm.study.config import PretrainConfig
from tlm.training.objectives.causal import Causal
from tlm.training.pretrain import heldout_metrics

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(21))
"""0, with which every token leaves at the first exit, to 1, with which none does."""
SWEPT_TEXTS = 256


def sweep(
    model: Any,
    heldout: Ragged,
    vocabulary: Vocabulary,
    config: PretrainConfig,
    *,
    max_length: int,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """A row for each of `THRESHOLDS`: `threshold`, the share of `layers` used, `flops_share`, and the mean `loss` (nats)
    and `accuracy` of the next token, over the first `SWEPT_TEXTS` held-out texts, in float32.

    Args:
        model: a language model with exits, on `device`; it is left in evaluation mode.
        heldout: packed if the model's pre-training was.
    """
    exact = config.model_copy(update={"precision": "float32"})
    texts = heldout.take(np.arange(min(SWEPT_TEXTS, len(heldout))))
    found = []
    for number, threshold in enumerate(THRESHOLDS, start=1):
        early = EarlyExit(model, threshold)
        metrics = heldout_metrics(
            Causal(), early, model, texts, vocabulary, exact, max_length=max_length, device=device
        )
        share = early.layers / model.config.num_hidden_layers
        used = {"threshold": threshold, "layers": share, "flops_share": early.flops_share}
        found.append({**used, "loss": metrics["heldout_loss"], "accuracy": metrics["heldout_accuracy"]})
        if progress is not None:
            progress(number, len(THRESHOLDS))
    return pd.DataFrame(found)


def highest_threshold(swept: pd.DataFrame, layers: float) -> float:
    """The highest threshold of a sweep with which this share of the layers is used at most. ValueError if there is none."""
    within = swept.loc[swept["layers"] <= layers, "threshold"]
    if within.empty:
        raise ValueError(f"no threshold uses {layers:g} of the layers or fewer")
    return float(within.max())
