"""What every run has: learning rates as the protocol says, a curve, and errors that name the step."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from toy import finetuned, pretrained

from tlm.errors import BatchTooLarge, UserError
from tlm.modeling import TinyBertForSequenceClassification
from tlm.study.config import Optimisation
from tlm.training import loop, pretrain
from tlm.training.memory import out_of_memory, out_of_memory_is
from tlm.training.optimisation import Curve, NonFiniteLoss, learning_rate


def rates(steps: int = 20, steps_per_epoch: int = 5, **fields: Any) -> list[float]:
    config = Optimisation(learning_rate=1.0, **fields)
    return [learning_rate(config, step, steps, steps_per_epoch) for step in range(steps + 1)]


def test_without_warmup_the_rate_falls_linearly_from_the_top_to_zero() -> None:
    assert rates() == pytest.approx([1 - step / 20 for step in range(21)])


def test_warmup_rises_linearly_to_the_top_and_then_falls_to_zero() -> None:
    expected = [step / 4 for step in range(4)] + [(20 - step) / 16 for step in range(4, 21)]
    assert rates(warmup_share=0.2) == pytest.approx(expected)


def test_by_epoch_the_rate_changes_only_when_an_epoch_begins() -> None:
    expected = [1 - (step - step % 5) / 20 for step in range(21)]
    assert rates(schedule="epoch") == pytest.approx(expected)


def test_by_epoch_with_warmup_the_first_epoch_does_not_learn_as_in_the_reference_code() -> None:
    found = rates(schedule="epoch", warmup_share=0.25)
    assert found[:5] == [0.0] * 5 and found[5] == 1.0


@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5, 1.0])
def test_the_rate_stays_between_zero_and_the_top(warmup: float) -> None:
    assert all(0 <= rate <= 1 for rate in rates(warmup_share=warmup))


def test_a_curve_is_a_table_of_metrics_by_step() -> None:
    curve = Curve()
    curve.add(1, 0, loss=2.0, rate=0.5)
    curve.add(2, 1, loss=1.0)
    assert curve.last("loss") == 1.0 and curve.last("rate") == 0.5
    frame = curve.frame()
    assert Counter(frame["name"]) == {"loss": 2, "rate": 1}
    assert frame["step"].dtype == np.int64 and frame["value"].dtype == np.float64


# --- divergence ---


def test_divergence_is_a_users_error_that_names_step_rate_and_batch() -> None:
    with pytest.raises(NonFiniteLoss) as raised:
        pretrained(steps=50, learning_rate=1e30)
    assert isinstance(raised.value, UserError)
    assert re.fullmatch(
        r"training diverged: loss is (nan|inf) at step \d+ of 50, learning rate [\d.]+e\+(29|30), "
        r"batch of 16 items starting with rows \[\d+, \d+, \d+, \d+\].",
        raised.value.problem,
    )
    assert raised.value.remedy == "Lower learning_rate, or set max_grad_norm."


def test_weights_that_the_last_step_ruined_are_found_too() -> None:
    with pytest.raises(NonFiniteLoss, match=r"is not finite after step 1 of 1"):
        pretrained(steps=1, learning_rate=float("1e39"))


# --- out of memory ---

SAID = [
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 41 bytes. Error 12"),
    RuntimeError("could not create a memory object"),
    RuntimeError("could not create a primitive"),
    UserWarning("mkldnn_matmul failed, switching to baddbmm:could not create a primitive (Triggered internally)"),
    RuntimeError("std::bad_alloc"),
    MemoryError(),
    np._core._exceptions._ArrayMemoryError((1 << 40,), np.dtype("uint8")),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 1 GiB"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]
SHORT = [
    "tried to allocate 41 bytes",
    "could not create a memory",
    "could not create a primitive",
    "could not create a primitive",
    "std::bad_alloc",
    "MemoryError",
    "unable to allocate 1.00 TiB",
    "tried to allocate 20.00 MiB",
    "ALLOC_FAILED",
]


@pytest.mark.parametrize(("error", "said"), zip(SAID, SHORT, strict=True), ids=SHORT)
def test_running_out_of_memory_is_known_by_what_each_library_says(error: Exception, said: str) -> None:
    with pytest.raises(UserError) as raised, out_of_memory_is("out of memory somewhere"):
        raise error
    assert raised.value.problem.lower() == f"out of memory somewhere ({said}).".lower()
    assert not isinstance(raised.value, BatchTooLarge)
    with pytest.raises(BatchTooLarge) as batch, out_of_memory_is("out of memory somewhere", 8):
        raise error
    assert batch.value.items == 8 and batch.value.remedy == "Set a smaller batch_size."


OTHERS = [
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    RuntimeError("could not create a primitive descriptor for the matmul primitive"),
    UserError("out of memory on cpu (could not create a primitive)."),
    KeyboardInterrupt(),
]


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_any_other_error_stays_what_it_is(error: BaseException) -> None:
    assert not out_of_memory(error)
    with pytest.raises(type(error)) as raised, out_of_memory_is("out of memory somewhere"):
        raise error
    assert raised.value is error


@pytest.mark.parametrize("run", [pretrained, finetuned])
def test_a_batch_that_does_not_fit_is_named_with_its_step(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = loop.gradients, []

    def gradients(*given: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("can't allocate memory: you tried to allocate 9 bytes")
        return real(*given)

    monkeypatch.setattr(loop, "gradients", gradients)
    with pytest.raises(BatchTooLarge, match=r"out of memory on cpu with a batch of 7 at step 3 \(tried .* 9 bytes\)"):
        run(batch_size=7)


def test_an_optimizer_that_does_not_fit_is_the_batchs_fault_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(self: Any, closure: Any = None) -> None:
        raise MemoryError

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(BatchTooLarge, match="at step 1"):
        pretrained()


def test_an_evaluation_that_does_not_fit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any, **options: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(pretrain, "heldout_metrics", full)
    with pytest.raises(UserError, match=r"out of memory on cpu while evaluating after step 2 .*TLM_MEMORY_GIB"):
        pretrained(steps=10)
    monkeypatch.setattr(TinyBertForSequenceClassification, "logits", full)
    monkeypatch.setattr(TinyBertForSequenceClassification, "loss", lambda self, **_: next(self.parameters()).sum())
    with pytest.raises(
        UserError, match=r"out of memory on cpu with a batch of 10 items to predict .*shorter max_length"
    ):
        finetuned()
