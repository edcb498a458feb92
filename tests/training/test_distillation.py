"""A student minimises what the loss of distillation says, and learns what its teacher says rather than its labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from toy import finetuned, task_of

from tlm.study.distillation import Distillation
from tlm.training.distillation import Teaching


class Answering:
    """A model whose logits are known."""

    def __init__(self, logits_BC: np.ndarray) -> None:
        self.logits_BC = torch.from_numpy(logits_BC)

    def logits(self, *_: object) -> torch.Tensor:
        return self.logits_BC


@given(
    seed=st.integers(0, 1_000),
    alpha=st.floats(0.01, 1),
    temperature=st.floats(0.2, 20),
    sharp=st.sampled_from([0.1, 3.0, 300.0]),
)
@settings(max_examples=50, deadline=None)
def test_the_loss_is_the_sum_of_both_parts(seed: int, alpha: float, temperature: float, sharp: float) -> None:
    generator = np.random.default_rng(seed)
    student_BC, teacher_BC = generator.normal(size=(6, 4)), softmax(sharp * generator.normal(size=(6, 4)), axis=1)
    labels_B = generator.integers(0, 4, 6)
    cross_entropy = -log_softmax(student_BC, axis=1)[np.arange(6), labels_B].mean()
    log_ratio_BC = np.log(np.maximum(teacher_BC, 1e-300)) - log_softmax(student_BC / temperature, axis=1)
    distance = (teacher_BC * log_ratio_BC).sum(axis=1).mean()
    expected = (1 - alpha) * cross_entropy + alpha * temperature**2 * distance
    teaching = Teaching(teacher_BC, Distillation(alpha=alpha, temperature=temperature))
    given = (torch.from_numpy(labels_B), torch.from_numpy(teacher_BC.astype(np.float32)))
    found = teaching.loss(Answering(student_BC.astype(np.float32)), None, None, *given)  # type: ignore[arg-type]
    assert found.item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def taught(probabilities_NC: np.ndarray, alpha: float = 1.0, temperature: float = 1.0, **fields: object) -> np.ndarray:
    """Logits of the dev and test items."""
    teaching = Teaching(probabilities_NC, Distillation(alpha=alpha, temperature=temperature))
    return np.stack(finetuned(run={"teaching": teaching}, **fields)[1]["logits"].to_list())


def labels() -> np.ndarray:
    _, items = task_of()
    return items.loc[items["part"] == "train", "label"].to_numpy()


def test_a_teacher_that_only_repeats_the_labels_teaches_what_they_do() -> None:
    plain = np.stack(finetuned()[1]["logits"].to_list())
    np.testing.assert_allclose(taught(np.eye(2)[labels()]), plain, atol=1e-4)


def test_each_item_is_taught_what_the_teacher_says_of_it() -> None:
    _, items = task_of()
    held = items.loc[items["part"] != "train", "label"].to_numpy()
    contrary = taught(np.eye(2)[1 - labels()], alpha=0.9).argmax(axis=1)
    assert (contrary == held).mean() <= 0.1


def test_what_is_no_teacher_of_these_items_is_refused() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        taught(np.full((40, 2), 0.4))
    with pytest.raises(ValueError, match="speaks of 39 items, of 40"):
        taught(np.full((39, 2), 0.5))
