"""What training steps cost: as counted by hand, as trained models recorded it, and what is assumed is said."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import Mini, mini_study, only, sentence, write_csv

from tlm.artifacts.store import ArtifactStore
from tlm.cost.estimate import EVALUATIONS, Cost, Estimate, estimate
from tlm.data.ragged import Ragged
from tlm.execution.execute import execute
from tlm.machine.runtime import Runtime
from tlm.modeling import cost as model_cost
from tlm.modeling.cost import pretraining_flops, sequences_seen
from tlm.planning.plan import Plan, plan
from tlm.study.architecture import Architecture
from tlm.study.config import PretrainConfig

ONE = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}


def unknown(planned: Plan, data: Path) -> Estimate:
    """With nothing in the store."""
    return estimate(planned, {}, str(data))


def cost_of(planned: Plan, data: Path, stage: str, **labels: Any) -> Cost:
    return unknown(planned, data).costs[only(planned, stage, **labels).key]


def changed(data: Path, **changes: Any) -> Plan:
    return plan(mini_study(**changes), str(data))


def facts_of(mini: Mini) -> dict[str, dict[str, Any]]:
    return {key: outcome.record.facts for key, outcome in mini.first.items()}


# --- counted by hand ---


def test_pretraining_as_counted_by_hand(mini_plan: Plan, mini_data: Path) -> None:
    cost = cost_of(mini_plan, mini_data, "pretrain", ws=60, arch="one")
    assert (cost.steps, cost.sequences, cost.tokens) == (6, 6 * 8, 6 * 8 * 16)
    tokens, size, wide, vocabulary, masked = 16, 16, 32, 300, 0.15 * 14
    keys_values_queries = 2 * size**2 * (2 * tokens + masked)
    attention = 4 * masked * tokens * size
    output_and_wide = masked * (2 * size**2 + 4 * size * wide)
    head = masked * 2 * size * (size + vocabulary)
    forward = keys_values_queries + attention + output_and_wide + head
    assert cost.training_flops == pytest.approx(3 * 48 * forward)
    assert cost.evaluation_flops == pytest.approx(20 * 5 * forward), "20 held-out paragraphs, 5 times"


def test_packed_rows_are_as_many_as_the_text_fills(mini_plan: Plan, mini_data: Path) -> None:
    planned = changed(mini_data, pretrain__packing=True, pretrain__steps=None, pretrain__epochs=3)
    step, corpus = (
        only(planned, stage, ws=60, **labels)
        for stage, labels in (("pretrain", {"arch": "one"}), ("corpus", {"treatment": None}))
    )
    found = estimate(planned, {corpus.key: {"mean_length": 27.0}}, str(mini_data)).costs[step.key]
    rows = 60 * (27 + 1) // 14
    assert (found.steps, found.sequences, found.tokens) == (3 * 15, 3 * rows, 3 * rows * 16)
    assert found.workload.mean_length == 16
    guessed = unknown(planned, mini_data)
    assert guessed.costs[step.key].sequences == 3 * 60
    assert "lengths not known yet: assumed paragraphs of 14 tokens, one to a packed row" in guessed.assumptions


def test_finetuning_as_counted_by_hand(mini_plan: Plan, mini_data: Path) -> None:
    cost = cost_of(mini_plan, mini_data, "finetune", ws=0, arch="one")
    assert (cost.steps, cost.sequences, cost.tokens) == (4, 32, 32 * 16), "2 epochs of 2 × (12 − 4) items, 8 at once"
    tokens, size, wide, labels = 16, 16, 32, 2
    forward = 2 * size**2 * (2 * tokens + 1) + 4 * tokens * size + 2 * size**2 + 4 * size * wide
    forward += 2 * size * (size + labels)
    assert cost.training_flops == pytest.approx(3 * 32 * forward)
    assert cost.evaluation_flops == pytest.approx((2 * 8 + 8 + 20) * forward), "dev after each epoch; dev and test"


@pytest.mark.parametrize(
    ("steps", "items", "batch_size", "sequences"), [(16, 60, 8, 120), (10, 60, 8, 76), (3, 5, 8, 15), (0, 5, 8, 0)]
)
def test_the_last_batch_of_an_epoch_is_short(steps: int, items: int, batch_size: int, sequences: int) -> None:
    assert sequences_seen(steps, items, batch_size) == sequences


def test_max_steps_cuts_training_short(mini_data: Path) -> None:
    planned = changed(mini_data, pretrain__max_steps=2, finetune__max_steps=3)
    assert cost_of(planned, mini_data, "pretrain", ws=60, arch="one").steps == 2
    cost = cost_of(planned, mini_data, "finetune", ws=0, arch="one")
    assert (cost.steps, cost.sequences) == (3, 24)


def test_a_decoder_predicts_every_position_and_an_encoder_its_masked_ones() -> None:
    encoder, decoder = (Architecture(name="one", kind=kind, **ONE) for kind in ("encoder", "decoder"))
    config = PretrainConfig(steps=1, mlm_probability=0.15)
    for architecture, predicted in ((encoder, 3), (decoder, 21)):
        expected = model_cost.language_model_flops(architecture, 22, predicted, 300)
        assert pretraining_flops(architecture, config, 22, 300) == pytest.approx(expected)


def test_a_study_of_decoders_is_estimated(mini_data: Path) -> None:
    decoders = [{"name": "one", "kind": "decoder", **ONE}]
    planned = changed(mini_data, architectures=decoders, committees=[])
    cost = cost_of(planned, mini_data, "pretrain", ws=60, arch="one")
    forward = model_cost.language_model_flops(Architecture(**decoders[0]), 16, 15, 300)
    assert cost.training_flops == pytest.approx(3 * 48 * forward)


def test_seeds_share_a_workload_and_widths_do_not(mini_data: Path) -> None:
    one, seeds = unknown(changed(mini_data), mini_data), changed(mini_data, pretrain_seeds=[0, 1, 2])
    many = unknown(seeds, mini_data)
    assert len(many.costs) > len(one.costs)
    assert {cost.workload for cost in many.costs.values()} == {cost.workload for cost in one.costs.values()}
    assert len({cost.workload for cost in one.costs.values()}) == 4, "two architectures, two stages"


# --- against what was trained ---


def test_steps_are_those_that_trained_models_recorded(mini: Mini) -> None:
    facts = facts_of(mini)
    found = estimate(mini.plan, facts, mini.runtime.data_root)
    assert found.assumptions == (), "everything is known once it is made"
    assert {key: cost.steps for key, cost in found.costs.items()} == {key: facts[key]["steps"] for key in found.costs}


def test_tokens_of_part_of_an_epoch_are_as_recorded_within_the_spread_of_lengths(mini: Mini) -> None:
    facts = facts_of(mini)
    found = estimate(mini.plan, facts, mini.runtime.data_root)
    for step in mini.plan.steps:
        if step.stage == "pretrain":
            lengths = sequences(mini, step.inputs["corpus"].key).lengths
            bound = found.costs[step.key].sequences * (lengths.max() - lengths.min())
            assert abs(found.costs[step.key].tokens - facts[step.key]["tokens"]) <= bound


def test_tokens_of_whole_epochs_are_exactly_those_recorded(mini_data: Path, tmp_path: Path) -> None:
    words = sentence(random.Random(0), "sea").split()
    texts = [" ".join(words[: 1 + i % 9]) + f" {i}" for i in range(200)]
    letters = "a b c d e f g h i j k l m n o p q r s t u v w x y z . zabcdefghijklmnopqrstuvwxyz"  # the tasks' as well
    write_csv(mini_data / "corpus.csv", ["text"], [(text,) for text in [*texts, letters, letters]])
    planned = changed(mini_data, pretrain={"epochs": 2, "batch_size": 7, "precision": "float32"})
    runtime = Runtime(home=str(tmp_path / "home"), data_root=str(mini_data), isolate=False)
    wanted = only(planned, "pretrain", ws=60, arch="one")
    needed = [s for s in planned.steps if s.stage in ("source", "tokenizer", "tokens")]
    needed += [s for s in planned.steps if s.key == wanted.inputs["corpus"].key]
    facts = {s.key: execute(s, runtime).record.facts for s in [*needed, wanted]}
    assert 120 * 3 < facts[wanted.key]["tokens"] < 120 * 16, "not every text fills the length"
    assert estimate(planned, facts, str(mini_data)).costs[wanted.key].tokens == facts[wanted.key]["tokens"]


def test_tokens_of_finetuning_are_as_its_items_have_them_within_the_spread_of_lengths(mini: Mini) -> None:
    step = only(mini.plan, "finetune", ws=0, arch="one")
    cost = estimate(mini.plan, facts_of(mini), mini.runtime.data_root).costs[step.key]
    items = pd.read_parquet(mini.store.get(step.inputs["task"]).path("items.parquet"))
    lengths = sequences(mini, step.inputs["tokens"].key).lengths[items[items["part"] == "train"]["row"]]
    assert cost.sequences == 2 * len(lengths)
    assert abs(cost.tokens - 2 * np.sum(lengths + 2)) <= cost.sequences * (lengths.max() - lengths.min() + 0.5)


def sequences(mini: Mini, key: str) -> Ragged:
    ref = next(step.ref for step in mini.plan.steps if step.key == key)
    artifact = mini.store.get(ref)
    return Ragged.load(artifact.path("tokens.ids.npy"), artifact.path("tokens.offsets.npy"))


def test_evaluations_are_as_many_as_pretraining_makes() -> None:
    from tlm.training import pretrain

    assert pretrain.EVALUATIONS == EVALUATIONS


# --- what is assumed ---


def test_lengths_that_are_not_known_are_the_longest_and_it_is_said(mini_plan: Plan, mini_data: Path) -> None:
    said = unknown(mini_plan, mini_data).assumptions
    assert "lengths not known yet: assumed 16, an upper bound" in said
    assert len(said) == len(set(said))


def test_a_corpus_not_drawn_yet_has_the_lengths_of_its_source(mini: Mini) -> None:
    facts = facts_of(mini)
    tokens = next(s for s in mini.plan.steps if s.stage == "tokens" and s.slug == "files-corpus")
    kept = {s.key: facts[s.key] for s in mini.plan.steps if s.stage in ("source", "tokenizer", "tokens", "task")}
    found = estimate(mini.plan, kept, mini.runtime.data_root)
    step = only(mini.plan, "pretrain", ws=60, arch="one")
    assert found.costs[step.key].tokens == round(48 * (facts[tokens.key]["mean_length"] + 2))
    assert found.assumptions == ()


@pytest.mark.parametrize(
    ("source", "labels", "said"),
    [
        ({"kind": "few_rel", "origin": "local"}, 3, None),
        ({"kind": "few_rel", "origin": "hub"}, 64, "topics: 64 labels, as its authors state"),
        ({"kind": "ag_news", "origin": "hub"}, 4, "topics: 4 labels, as its authors state"),
        ({"kind": "docstrings", "libraries": ["numpy", "scipy", "scipy"]}, 2, None),
        (
            {"kind": "files", "format": "parquet", "path": "task.parquet", "label_column": "label"},
            4,
            "topics: labels not known yet: at most 4, as its 100 items allow",
        ),
        (
            {"kind": "hub", "repo": "some/data", "revision": "main", "label_column": "label"},
            2,
            "topics: labels not known yet: assumed 2, a lower bound",
        ),
    ],
    ids=lambda value: f"{value['kind']}-{value.get('origin', '')}" if isinstance(value, dict) else "",
)
def test_labels_are_known_or_it_is_said_how_they_were_assumed(
    source: dict[str, Any], labels: int, said: str | None, mini_data: Path
) -> None:
    (mini_data / "few_rel").mkdir()
    (mini_data / "few_rel/train_wiki.json").write_text(json.dumps({f"P{i}": [] for i in range(3)}))
    pd.DataFrame({"text": ["a"] * 100, "label": ["b"] * 100}).to_parquet(mini_data / "task.parquet")
    planned = changed(mini_data, tasks__0__source=source)
    found = unknown(planned, mini_data)
    assert found.costs[only(planned, "finetune", ws=0, arch="one").key].workload.labels == labels
    assert [text for text in found.assumptions if "labels" in text] == ([said] if said else [])


def test_labels_of_the_configuration_come_first(mini_data: Path) -> None:
    source = {"kind": "ag_news", "origin": "hub"}
    planned = changed(mini_data, tasks__0__source=source, tasks__0__labels=3)
    found = unknown(planned, mini_data)
    assert found.costs[only(planned, "finetune", ws=0, arch="one").key].workload.labels == 3
    assert not [text for text in found.assumptions if "labels" in text]


@pytest.mark.parametrize(
    ("tokenizer", "size", "said"),
    [
        (
            {"kind": "wordpiece", "vocab_size": 300},
            300,
            "vocabulary not trained yet: assumed 300, the most it may have",
        ),
        ({"kind": "vocabulary", "path": "vocab.txt"}, 7, None),
        ({"kind": "hub"}, 30_522, None),
        (
            {"kind": "hub", "repo": "some/model"},
            30_522,
            "vocabulary of some/model not known yet: assumed 30,522, as bert-base-uncased has",
        ),
    ],
)
def test_a_vocabulary_is_known_or_it_is_said_how_it_was_assumed(
    tokenizer: dict[str, Any], size: int, said: str | None, mini_data: Path
) -> None:
    (mini_data / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nsea\nland\n")
    planned = changed(mini_data, tokenizer=tokenizer)
    found = unknown(planned, mini_data)
    assert {cost.workload.vocab_size for cost in found.costs.values()} == {size}
    assert [text for text in found.assumptions if "vocabulary" in text] == ([said] if said else [])


def test_an_estimate_writes_nothing(mini_plan: Plan, mini_data: Path, store: ArtifactStore) -> None:
    before = sorted(mini_data.rglob("*"))
    unknown(mini_plan, mini_data)
    assert sorted(mini_data.rglob("*")) == before
    assert not Path(store.root).exists()
