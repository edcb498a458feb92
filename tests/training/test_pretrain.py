"""Pre-training learns, reports what it did, and is the same model for the same seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from toy import ARCH, VOCABULARY, corpus, pretrained, weights

from tlm.data.ragged import Ragged
from tlm.study.config import PretrainConfig
from tlm.study.initialization import Initialization
from tlm.training.optimisation import NonFiniteLoss
from tlm.training.pretrain import pretrain


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


def test_tokens_begin_as_the_given_vectors_and_those_without_one_as_they_are_drawn() -> None:
    vectors = np.random.default_rng(0).normal(0, 0.1, (len(VOCABULARY), ARCH.hidden_size)).astype(np.float32)
    vectors[[VOCABULARY.pad, VOCABULARY.mask, 7]] = 0
    still = {"steps": 1, "learning_rate": 1e-30, "weight_decay": 0.0}
    drawn, given = (
        pretrained(**still, run={"embeddings": v}).model.get_input_embeddings().weight for v in (None, vectors)
    )
    known = torch.from_numpy(vectors).any(dim=1)
    assert torch.equal(given[known], torch.from_numpy(vectors)[known])
    assert torch.allclose(given[~known], drawn[~known], atol=1e-20) and given[VOCABULARY.pad].abs().max() < 1e-20
    with pytest.raises(ValueError, match=r"vectors of shape \(40, 3\) for embeddings of shape \(40, 16\)"):
        pretrained(run={"embeddings": vectors[:, :3]})
    with pytest.raises(ValueError, match="ppmi_svd needs embeddings"):
        pretrained(embedding_init="ppmi_svd")


def test_initialization_and_output_bias_are_those_of_the_config_and_the_pretraining_set() -> None:
    still = {"steps": 1, "learning_rate": 1e-30, "weight_decay": 0.0}
    wide = {"initialization": Initialization(matrices="fan_in", embedding_std=0.3)}
    model = pretrained(**still, output_bias="log_unigram", run=wide).model
    counts = np.bincount(corpus().ids, minlength=len(VOCABULARY)) + 1
    bias = model.cls["predictions"].bias.detach().numpy()
    np.testing.assert_allclose(bias, np.log(counts / counts.sum()), rtol=1e-5)
    assert model.get_input_embeddings().weight.std() > 0.2
    assert model.bert.encoder["layer"][0].output.dense.weight.std().item() == pytest.approx(32**-0.5, rel=0.1)


def test_packed_rows_are_full_and_an_epoch_sees_every_token_of_every_paragraph() -> None:
    paragraphs = Ragged.from_lists([range(5, 5 + n) for n in (30, 3, 17, 25)])  # of which 10 tokens fit into a row
    done = pretrained(steps=None, epochs=1, batch_size=2, texts=paragraphs, packing=True)
    rows = math.ceil((75 + 3) / 10)
    assert done.facts["steps"] == math.ceil(rows / 2)
    assert done.facts["tokens"] == 75 + 3 + 2 * rows
    cut = pretrained(steps=None, epochs=1, batch_size=2, texts=paragraphs)
    assert cut.facts["tokens"] == 10 + 3 + 10 + 10 + 2 * 4


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
