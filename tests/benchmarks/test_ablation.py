"""Every part can be taken back, to the same loss; the profile's shares are shares. No time is asserted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import numbered_vocabulary

from benchmarks import ablation, profiling
from benchmarks.ablation import ABLATIONS, WHOLE
from benchmarks.cases import CASES, Case, shape_of
from benchmarks.contenders import OURS, build
from benchmarks.setting import Setting
from benchmarks.workload import Workload
from tlm.cost import miniature
from tlm.data.ragged import Ragged

VOCABULARY = numbered_vocabulary(40).tokens
SHAPE = shape_of("bert6", num_hidden_layers=2, num_attention_heads=2, head_size=8)
TINY = {
    objective: Case(f"tiny-{objective}", objective, SHAPE, "tiny", batch_size=4, max_length=12)
    for objective in ("pretrain", "finetune")
}


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    generator = np.random.default_rng(0)
    items = [generator.integers(5, len(VOCABULARY), length) for length in generator.integers(3, 20, 30)]
    made = Workload(tmp_path / "workloads" / "tiny", Ragged.from_lists(items), np.arange(30) % 3, 3, VOCABULARY)
    made.save()
    return made


@pytest.mark.parametrize("case", TINY.values(), ids=TINY)
@pytest.mark.parametrize("name", ABLATIONS)
def test_without_a_part_the_loss_is_the_same(name: str, case: Case, workload: Workload) -> None:
    ours: Any = build(OURS, Setting(case, workload, "cpu", bfloat16=False))
    ours.model.eval()  # no dropout

    def loss() -> torch.Tensor:
        found: torch.Tensor = ours.model.loss(**ours._inputs(1, np.arange(4)))
        return found

    whole = loss()
    with ABLATIONS[name](ours):
        torch.testing.assert_close(loss(), whole)
    torch.testing.assert_close(loss(), whole)


@pytest.mark.slow
def test_the_table_has_a_time_for_every_part(
    workload: Workload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ablation.slowdowns(Setting(TINY["pretrain"], workload, "cpu", bfloat16=True), rounds=1, seconds=0)
    assert list(found) == [WHOLE, *ABLATIONS]
    assert found[WHOLE] == 1 and all(value > 0 for value in found.values())
    ablation.save(tmp_path, {"tiny": found}, {"threads": "1"})
    assert len((tmp_path / "ablation.md").read_text().splitlines()) == 2 + len(found) + 2


def test_the_profile_is_shares_of_the_time(workload: Workload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CASES, "tiny-pretrain", TINY["pretrain"])
    monkeypatch.setattr(miniature, "ENOUGH", 0)
    found = profiling.shares("tiny-pretrain", 0.0, 1, tmp_path, workload.folder.parent)
    assert sum(found.values()) == pytest.approx(1)
    assert found["matrix products"] > 0
    assert "| matrix products |" in profiling.markdown({"tiny": found})
