"""Training: batches, masks and learning rates as the protocol says, and the same seed gives the same model."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import numbered_vocabulary
from hypothesis import given
from hypothesis import strategies as st

from tlm.config import Architecture, FinetuneConfig, Optimisation, PretrainConfig
from tlm.modeling.interchange import save
from tlm.ragged import Ragged
from tlm.training.batching import Order, epoch_order, evaluation_batches, pack
from tlm.training.finetune import Finetuned, accuracy, finetune, predict
from tlm.training.masking import IGNORED, Masker
from tlm.training.optimisation import Curve, NonFiniteLoss, learning_rate
from tlm.training.pretrain import Pretrained, pretrain

VOCABULARY = numbered_vocabulary(40)
ARCH = Architecture(
    name="toy",
    num_hidden_layers=1,
    hidden_size=16,
    num_attention_heads=2,
    intermediate_size=32,
    hidden_dropout_prob=0.1,
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


# --- masking ---


def masked(seed: int = 0, probability: float = 0.15) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids = torch.randint(5, 40, (400, 100), generator=torch.Generator().manual_seed(1))
    ids[:, 0], ids[:, 50], ids[:, 80:] = VOCABULARY.cls, VOCABULARY.sep, VOCABULARY.pad
    corrupted, labels = Masker(VOCABULARY, probability, seed)(ids, step=1)
    return ids, corrupted, labels


def assert_share(hits: int, trials: int, probability: float) -> None:
    deviation = math.sqrt(trials * probability * (1 - probability))
    assert abs(hits - trials * probability) < 4 * deviation, (hits, trials, probability)


@pytest.mark.parametrize("probability", [0.15, 0.4])
def test_the_asked_share_of_positions_is_predicted_80_10_10(probability: float) -> None:
    ids, corrupted, labels = masked(probability=probability)
    ordinary = ids >= 5
    predicted = labels != IGNORED
    assert_share(int(predicted.sum()), int(ordinary.sum()), probability)
    total = int(predicted.sum())
    became_mask = predicted & (corrupted == VOCABULARY.mask)
    unchanged = predicted & (corrupted == ids)
    # A random token is the original or [MASK] once in 40 draws.
    assert_share(int(became_mask.sum()), total, 0.8 + 0.1 / 40)
    assert_share(int(unchanged.sum()), total, 0.1 + 0.1 / 40)
    random = corrupted[predicted & ~became_mask & ~unchanged]
    assert len(set(random.tolist())) > 30, "random tokens come from the whole vocabulary"


def test_labels_are_the_originals_and_unpredicted_positions_are_untouched() -> None:
    ids, corrupted, labels = masked()
    predicted = labels != IGNORED
    assert torch.equal(labels[predicted], ids[predicted])
    assert torch.equal(corrupted[~predicted], ids[~predicted])


def test_special_tokens_are_never_predicted() -> None:
    ids, _, labels = masked(probability=0.9)
    special = torch.isin(ids, torch.tensor([VOCABULARY.pad, VOCABULARY.cls, VOCABULARY.sep]))
    assert (labels[special] == IGNORED).all()


def test_masking_is_a_function_of_its_seed_alone() -> None:
    torch.manual_seed(1)
    one = masked(seed=3)
    torch.manual_seed(2)
    assert all(torch.equal(a, b) for a, b in zip(one, masked(seed=3), strict=True))
    assert not torch.equal(one[1], masked(seed=4)[1])


# --- batches ---


@given(
    st.lists(st.lists(st.integers(5, 39), max_size=12), min_size=1, max_size=5),
    st.integers(4, 12),
    st.sampled_from([-1, 0, 1, 5, 1_000]),
)
def test_a_batch_is_cls_tokens_sep_whatever_its_layout(sequences: list[list[int]], longest: int, cost: int) -> None:
    batch = pack(Ragged.from_lists(sequences), np.arange(len(sequences)), VOCABULARY, longest, cost)
    assert sorted(batch.order_B) == list(range(len(sequences)))
    assert len(batch.ids_R) == len(batch.layout.real_R) == len(batch.layout.positions_R)
    sequence_R = batch.layout.sequence_of()
    for place, item in enumerate(batch.order_B):
        rows = (sequence_R == place) & batch.layout.real_R
        assert batch.ids_R[rows].tolist() == [VOCABULARY.cls, *sequences[item][: longest - 2], VOCABULARY.sep]
        assert batch.layout.positions_R[rows].tolist() == list(range(int(rows.sum())))
    assert (batch.ids_R[~batch.layout.real_R] == VOCABULARY.pad).all()


@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 1_000))
def test_every_item_comes_once_an_epoch(size: int, batch_size: int, seed: int) -> None:
    order = Order(size, batch_size, seed)
    assert order.steps_per_epoch == math.ceil(size / batch_size)
    for epoch in range(3):
        steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
        assert all(order.batch(step)[0] == epoch for step in steps)
        assert sorted(row for step in steps for row in order.batch(step)[1].tolist()) == list(range(size))


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    assert np.array_equal(epoch_order(20, 0, 0), epoch_order(20, 0, 0))
    assert not np.array_equal(epoch_order(20, 0, 0), epoch_order(20, 0, 1))
    assert not np.array_equal(epoch_order(20, 0, 0), epoch_order(20, 1, 0))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.integers(1, 6))
def test_evaluation_batches_hold_every_item_once_sorted_by_length(lengths: list[int], size: int) -> None:
    rows = [row for batch in evaluation_batches(np.array(lengths), size) for row in batch.tolist()]
    assert sorted(rows) == list(range(len(lengths)))
    assert [lengths[r] for r in rows] == sorted(lengths)


# --- learning rate ---


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


# --- pre-training ---


def corpus(size: int = 120, seed: int = 0) -> Ragged:
    """Each sequence counts up from one of six tokens: what stands where is easy to learn."""
    starts = np.random.default_rng(seed).integers(0, 6, size)
    return Ragged.from_lists([[5 + (start + i) % 35 for i in range(8)] for start in starts])


def pretrained(seed: int = 0, **fields: Any) -> Pretrained:
    config = PretrainConfig(**{"steps": 10, "batch_size": 16, "learning_rate": 5e-3, **fields})
    return pretrain(corpus(), corpus(40, seed=9), VOCABULARY, ARCH, config, max_length=12, seed=seed)


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_pretraining_lowers_the_heldout_loss_below_that_of_guessing() -> None:
    done = pretrained(steps=150, learning_rate=1e-2)
    losses = done.curve.frame().query("name == 'heldout_loss'")["value"].tolist()
    assert len(losses) == 5
    assert losses[-1] < losses[0]
    assert losses[-1] < math.log(35) - 0.3
    assert done.facts["heldout_loss"] == losses[-1]
    assert done.facts["heldout_accuracy"] > 3 / 35


def test_pretraining_is_bit_identical_for_the_same_seed_and_different_for_another() -> None:
    one, two, other = pretrained(0), pretrained(0), pretrained(1)
    assert all(torch.equal(tensor, weights(two.model)[name]) for name, tensor in weights(one.model).items())
    assert one.curve.rows == two.curve.rows
    assert not all(torch.equal(tensor, weights(other.model)[name]) for name, tensor in weights(one.model).items())


def test_the_result_does_not_depend_on_random_numbers_drawn_before() -> None:
    one = weights(pretrained(0).model)
    torch.rand(100)
    np.random.default_rng().random()
    assert all(torch.equal(tensor, one[name]) for name, tensor in weights(pretrained(0).model).items())


def test_epochs_are_counted_in_whole_passes_over_the_corpus() -> None:
    done = pretrained(steps=None, epochs=2)
    assert done.facts["steps"] == 2 * math.ceil(120 / 16)
    assert done.facts["tokens"] == 2 * 120 * 10  # eight tokens, [CLS] and [SEP]
    assert pretrained(steps=10).facts["tokens"] == (120 + 2 * 16) * 10


def test_progress_reaches_the_end() -> None:
    seen: list[tuple[int, int]] = []
    config = PretrainConfig(steps=45, batch_size=4)
    pretrain(
        corpus(), corpus(10), VOCABULARY, ARCH, config, max_length=12, seed=0, progress=lambda *at: seen.append(at)
    )
    assert seen == [(1, 45), (20, 45), (40, 45), (45, 45)]


def test_a_heldout_part_too_small_to_be_masked_has_no_loss_but_is_no_error() -> None:
    config = PretrainConfig(steps=2, batch_size=4)
    done = pretrain(corpus(), Ragged.from_lists([[]]), VOCABULARY, ARCH, config, max_length=12, seed=0)
    assert math.isnan(done.facts["heldout_loss"]) and math.isnan(done.facts["heldout_accuracy"])


def test_divergence_is_an_error_that_names_step_rate_and_batch() -> None:
    with pytest.raises(NonFiniteLoss, match=r"loss is (nan|inf) at step \d+ of 50, learning rate .*rows \[\d+, \d+"):
        pretrained(steps=50, learning_rate=1e30)


def test_bfloat16_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    done = pretrained(steps=2, precision="bfloat16")
    assert all(tensor.dtype == torch.float32 for tensor in done.model.parameters())
    assert math.isfinite(done.facts["heldout_loss"])


# --- fine-tuning ---


def task_of(size: int = 60) -> tuple[Ragged, pd.DataFrame]:
    """Two labels that differ in their words; every third item is dev, every other third test."""
    generator = np.random.default_rng(4)
    labels = np.arange(size) % 2
    tokens = Ragged.from_lists([generator.integers(5, 15, 3 + i % 5) + 12 * label for i, label in enumerate(labels)])
    part = np.array(["train", "train", "train", "train", "dev", "test"])[np.arange(size) % 6]
    items = pd.DataFrame({"row": np.arange(size), "label": labels, "part": part})
    items.loc[items["part"] == "test", "label"] = labels[items["part"] == "test"]
    return tokens, items


def finetuned(seed: int = 0, pretrained_folder: Path | None = None, **fields: Any) -> tuple[Finetuned, pd.DataFrame]:
    """The result, and the predictions in the order of the items."""
    tokens, items = task_of()
    config = FinetuneConfig(**{"epochs": 8, "batch_size": 8, "learning_rate": 5e-3, **fields})
    pieces: list[pd.DataFrame] = []
    done = finetune(
        tokens,
        items,
        VOCABULARY,
        ARCH,
        config,
        max_length=12,
        seed=seed,
        sink=pieces.append,
        pretrained=pretrained_folder,
    )
    return done, pd.concat(pieces).sort_values("row")


def test_finetuning_learns_a_separable_task() -> None:
    done, _ = finetuned()
    assert done.facts["test_accuracy"] >= 0.9
    assert done.facts["test_items"] == 10
    assert done.curve.frame().query("name == 'dev_accuracy'")["step"].tolist() == [5 * e for e in range(1, 9)]


def test_predictions_hold_every_dev_and_test_item_once_with_its_label() -> None:
    _, items = task_of()
    done, predictions = finetuned(epochs=1)
    held = items[items["part"] != "train"]
    assert predictions["row"].tolist() == held["row"].tolist()
    assert predictions["label"].tolist() == held["label"].tolist()
    assert all(len(logits) == 2 for logits in predictions["logits"])
    test = predictions[predictions["part"] == "test"]
    recomputed = np.stack(test["logits"].to_list()).argmax(axis=1) == test["label"]
    assert done.facts["test_accuracy"] == pytest.approx(float(recomputed.mean()))


def test_finetuning_is_bit_identical_for_the_same_seed_and_different_for_another() -> None:
    one, two, other = (np.stack(finetuned(s, epochs=2)[1]["logits"].to_list()) for s in (0, 0, 1))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_finetuning_starts_from_the_pretrained_encoder(tmp_path: Path) -> None:
    model = pretrained().model
    save(model, tmp_path)
    done, _ = finetuned(pretrained_folder=tmp_path, epochs=1, learning_rate=1e-12)
    ours, theirs = weights(done.model), weights(model)
    shared = [name for name in theirs if name.startswith("bert.") and name in ours]
    assert len(shared) > 10
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in shared)


def test_predictions_do_not_depend_on_batch_size_or_order() -> None:
    tokens, items = task_of()
    model = finetuned(epochs=1)[0].model
    rows = items["row"].to_numpy()
    whole = predict(model, tokens, rows, VOCABULARY, 12)
    single = predict(model, tokens, rows, VOCABULARY, 12, batch_size=1)
    turned = predict(model, tokens, rows[::-1].copy(), VOCABULARY, 12, batch_size=7)
    np.testing.assert_allclose(single, whole, atol=1e-5)
    np.testing.assert_allclose(turned[::-1], whole, atol=1e-5)


def test_a_diverging_finetuning_is_an_error() -> None:
    with pytest.raises(NonFiniteLoss, match="loss is"):
        finetuned(learning_rate=1e30)


def test_accuracy_of_nothing_is_not_a_number() -> None:
    assert math.isnan(accuracy(np.empty((0, 2), dtype=np.float32), np.empty(0, dtype=np.int64)))
    assert accuracy(np.array([[0.0, 1.0], [1.0, 0.0]], dtype=np.float32), np.array([1, 1])) == 0.5


def test_a_curve_is_a_table_of_metrics_by_step() -> None:
    curve = Curve()
    curve.add(1, 0, loss=2.0, rate=0.5)
    curve.add(2, 1, loss=1.0)
    assert curve.last("loss") == 1.0 and curve.last("rate") == 0.5
    frame = curve.frame()
    assert Counter(frame["name"]) == {"loss": 2, "rate": 1}
    assert frame["step"].dtype == np.int64 and frame["value"].dtype == np.float64
