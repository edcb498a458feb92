"""A study of bytes: tokens, pre-training in bits a byte, options by likelihood, fine-tuning, new texts, the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import mini_study, only, write_mini_data

from tlm.artifacts.store import ArtifactStore
from tlm.data.tokenizer import load_tokenizer
from tlm.execution.execute import execute
from tlm.inference.models import Classifier
from tlm.machine.runtime import Runtime
from tlm.planning.plan import Plan
from tlm.planning.preflight import check
from tlm.training.pretrain import bits_per_byte

ITEMS = [
    {"prefix": "the old", "options": ["ship saw", "zebra saw"], "gold": 0},
    {"prefix": "", "options": ["a small horse", "a small \U0001f434 horse"], "gold": 0},
]
SMALL = {"head_size": 8, "num_hidden_layers": 1, "options": {"byte": {"width": 16, "patch_bytes": 8}}}
CHANGES: dict[str, Any] = {
    "tokenizer": {"kind": "bytes", "patch_bytes": 8},
    "max_length": 48,
    "architectures": [{"variant": "byte-micro", "name": "one", **SMALL}],
    "pretrain__steps": 40,
    "pretrain__learning_rate": 1e-2,
    "corpus__sizes": [60],
    "treatments": [],
    "treatment_architectures": None,
    "committees": [],
    "baselines": ["majority"],
    "evaluations": [{"kind": "likelihood", "data": {"kind": "files", "path": "items.jsonl"}}],
}


class Studied:
    def __init__(self, folder: Path) -> None:
        data = write_mini_data(folder / "raw")
        (data / "items.jsonl").write_text("\n".join(map(json.dumps, ITEMS)), encoding="utf-8")
        runtime = Runtime(home=str(folder / "home"), data_root=str(data), isolate=False)
        self.plan: Plan = check(mini_study(**CHANGES), runtime)
        for step in self.plan.steps:
            execute(step, runtime)
        self.store = ArtifactStore(runtime.artifacts)

    def record(self, stage: str) -> Any:
        return self.store.get(only(self.plan, stage).ref).record


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Studied:
    return Studied(tmp_path_factory.mktemp("bytes"))


def test_overlap_of_tokens_is_not_measured(studied: Studied) -> None:
    assert {step.stage for step in studied.plan.steps} & {"overlap", "ppmi_svd"} == set()
    assert only(studied.plan, "duplicates").config["ngram"] == only(studied.plan, "contained").config["ngram"] == 80


def test_training_lowers_the_bits_a_byte_and_they_follow_from_the_loss(studied: Studied) -> None:
    corpus = studied.store.get(only(studied.plan, "corpus").ref)
    ids = np.load(corpus.path("heldout.ids.npy"))
    offsets = np.load(corpus.path("heldout.offsets.npy"))
    facts = studied.record("pretrain").facts
    nats = facts["heldout_loss"] * (len(ids) + len(offsets) - 1)  # every id, and the end of every text
    bits = facts["heldout_bits_per_byte"]
    assert bits == pytest.approx(nats / np.log(2) / (ids < 256).sum())
    assert bits_per_byte(np.log(2), np.array([11, 6]), 5) == pytest.approx(3)
    curve = pd.read_parquet(studied.store.get(only(studied.plan, "pretrain").ref).path("metrics.parquet"))
    losses = curve[curve["name"] == "heldout_loss"]["value"]
    assert losses.iloc[-1] < losses.iloc[0] < np.log(258) and bits < 6


def test_new_texts_have_the_logits_of_the_study(studied: Studied) -> None:
    step = only(studied.plan, "finetune")
    task = only(studied.plan, "task")
    source = next(each for each in studied.plan.steps if each.key == task.inputs["source"].key)
    texts = pd.read_parquet(studied.store.get(source.ref).path("rows.parquet"))[["item_id", "text"]]
    known = pd.read_parquet(studied.store.get(step.ref).path("predictions.parquet")).merge(texts, on="item_id")
    logits = Classifier.load(studied.store, step.ref).logits(known["text"])
    np.testing.assert_allclose(logits, np.stack(known["logits"].to_list()), atol=1e-4)
    assert isinstance(
        load_tokenizer(studied.store.get(only(studied.plan, "tokenizer").ref)).encode([""])[0], np.ndarray
    )


def test_options_are_scored_and_the_report_says_what_is_a_share_of_what(studied: Studied) -> None:
    facts = studied.record("likelihood").facts
    assert facts["items"] == 2 and facts["not_scored"] == 0
    report = studied.store.get(studied.plan.report.ref)
    text = report.path("report.md").read_text(encoding="utf-8")
    for form in (text, report.path("report.html").read_text(encoding="utf-8")):
        assert "shares of embeddings and head, not of the model" in form
    assert f"{studied.record('pretrain').facts['heldout_bits_per_byte']:.3f}" in text
