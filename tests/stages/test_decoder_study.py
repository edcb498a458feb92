"""A study of an encoder and a decoder: both are trained, join one committee, and label new texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import mini_study, only, write_mini_data

from tlm.artifacts.store import ArtifactStore
from tlm.execution.execute import execute
from tlm.inference.models import Classifier, Committee
from tlm.inference.resolve import find_classifiers
from tlm.machine.runtime import Runtime
from tlm.modeling import TinyBertForSequenceClassification, TinyGptForSequenceClassification
from tlm.planning.plan import Plan, plan

SMALL = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
Studied = tuple[Plan, ArtifactStore]


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studied]:
    folder: Path = tmp_path_factory.mktemp("decoder")
    study = mini_study(
        architectures=[{"name": "one", **SMALL}, {"name": "gpt", "kind": "decoder", **SMALL}],
        corpus__sizes=[0, 60],
        treatments=[],
        committees=[{"name": "pair", "members": ["one", "gpt"]}],
    )
    runtime = Runtime(home=str(folder / "home"), data_root=str(write_mini_data(folder / "raw")), isolate=False)
    planned = plan(study, runtime.data_root)
    for step in planned.steps:
        if step.stage != "report":
            execute(step, runtime)
    yield planned, ArtifactStore(runtime.artifacts)


def test_pretraining_has_the_same_facts_for_either_kind(studied: Studied) -> None:
    planned, store = studied
    records = [store.get(only(planned, "pretrain", ws=60, arch=arch).ref).record for arch in ("one", "gpt")]
    masked, causal = (record.facts.keys() for record in records)
    assert masked >= {"heldout_loss", "heldout_accuracy", "tokens"}
    assert causal - masked == {"heldout_bits_per_byte"} and masked <= causal, "exact is only what predicts each token"
    assert records[0].facts["tokens"] == records[1].facts["tokens"]


def test_a_committee_of_both_kinds_gives_new_texts_the_logits_of_the_study(studied: Studied) -> None:
    planned, store = studied
    committee = Committee.load(store, find_classifiers(store, [str(only(planned, "committee", ws=60).ref)]))
    kinds = {type(member.model) for member in committee.members}
    assert kinds == {TinyBertForSequenceClassification, TinyGptForSequenceClassification}
    step = only(planned, "finetune", ws=60, arch="gpt")
    task = only(planned, "task")
    source = next(s for s in planned.steps if s.key == task.inputs["source"].key)
    texts = pd.read_parquet(store.get(source.ref).path("rows.parquet"))[["item_id", "text"]]
    known = pd.read_parquet(store.get(step.ref).path("predictions.parquet")).merge(texts, on="item_id")
    logits = Classifier.load(store, step.ref).logits(known["text"])
    np.testing.assert_allclose(logits, np.stack(known["logits"].to_list()), atol=1e-4)
