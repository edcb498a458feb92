"""A sampler and a model variant are one line each: with it in its registry, any study can name them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import mini_study, only

from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.data.corpus import SAMPLERS, SamplerEntry
from tlm.data.ragged import Rows
from tlm.data.samplers import Draw
from tlm.execution.execute import execute
from tlm.machine.runtime import Runtime
from tlm.modeling import TinyBertConfig, TinyBertForSequenceClassification
from tlm.planning.plan import plan
from tlm.planning.preflight import check
from tlm.study.architecture import VARIANTS, Variant


def last_first(draw: Draw) -> Rows:
    """The highest source rows first: no sampler that tlm comes with does that."""
    return np.sort(draw.candidates)[::-1]


def test_a_sampler_is_one_line_in_its_registry(
    tmp_path: Path, mini_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SAMPLERS, "last_first", SamplerEntry(last_first, needs_task=True))
    runtime = Runtime(home=str(tmp_path / "home"), data_root=str(mini_data), device="cpu", isolate=False)
    planned = check(
        mini_study(treatments=[{"kind": "sampled", "task": "topics", "ws": 50, "sampler": "last_first"}]), runtime
    )
    chosen = only(planned, "corpus", treatment="last_first")
    of = {step.key: step for step in planned.steps}
    _make(chosen, of, runtime)
    artifact = ArtifactStore(runtime.artifacts).get(chosen.ref)
    rows, heldout = (np.load(artifact.path(f"{role}.npy")) for role in ("rows", "heldout_rows"))
    assert rows.tolist() == sorted(set(range(200)) - set(heldout.tolist()), reverse=True)[:50]
    assert only(planned, "finetune", treatment="last_first", arch="one")


def _make(step: Step, of: dict[str, Step], runtime: Runtime) -> None:
    """The step, after what it is made from."""
    for key in step.input_keys.values():
        _make(of[key], of, runtime)
    execute(step, runtime)


def test_a_model_variant_is_one_line_in_its_registry(mini_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VARIANTS, "bert2z", Variant(2, 3, ((3, 3),), 16))
    narrow = {"variant": "bert2z", "head_size": 4, "conv_channels": 2}
    study = mini_study(architectures=[narrow], treatment_architectures=None, committees=[])
    assert only(plan(study, str(mini_data)), "pretrain", ws=60).labels["arch"] == "bert2z"
    arch = study.architecture_of["bert2z"]
    config = TinyBertConfig.from_architecture(
        arch, vocab_size=300, max_position_embeddings=16, pad_token_id=0, cls_token_id=2, num_labels=2
    )
    logits_BC = TinyBertForSequenceClassification(config)(input_ids=torch.tensor([[2, 7, 8, 3]])).logits
    assert (arch.num_hidden_layers, arch.hidden_size, arch.intermediate_size) == (2, 12, 48)
    assert logits_BC.shape == (1, 2) and logits_BC.isfinite().all()
