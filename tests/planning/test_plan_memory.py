"""A machine too small for a study's models is named before any work; one that only trains on a GPU needs no memory here."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest
from helpers import mini_study, write_mini_data

from tlm.errors import UserError
from tlm.machine.memory import GIB
from tlm.machine.runtime import Runtime
from tlm.planning import memory
from tlm.planning.memory import check_memory
from tlm.planning.plan import plan

LARGE = {
    "name": "huge",
    "num_hidden_layers": 100,
    "hidden_size": 1_024,
    "num_attention_heads": 16,
    "intermediate_size": 4_096,
}
SMALL = {"name": "one", "num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}


def check(root: Path, *stages: str, free: float = 1.0, **runtime: object) -> None:
    study = mini_study(architectures=[SMALL, LARGE], committees=[])
    steps = plan(study, str(write_mini_data(root))).steps
    with patch.object(memory, "free_memory", lambda: int(free * GIB)):
        check_memory(
            study, [s for s in steps if s.stage in stages], Runtime.model_validate({"device": "cpu", **runtime})
        )


def test_the_largest_model_is_named_with_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"Training huge \(1,2\d\d,\d+,\d+ parameters\) .* more than 9\.\d+ GiB .* 1\.00 GiB are"
    ):
        check(tmp_path, "pretrain")
    with pytest.raises(UserError, match=r"TLM_MEMORY_GIB=2 allows less\. .* a smaller model"):
        check(tmp_path, "finetune", free=99, memory_gib=2)


def test_nothing_is_said_where_there_is_room_or_nothing_to_train_here(tmp_path: Path) -> None:
    check(tmp_path, "pretrain", free=20)
    check(tmp_path, "pretrain", free=1, memory_gib=20)  # asked for: the kernel may have more to give
    check(tmp_path, "tokens", "report")
    check(tmp_path, "pretrain", device="cuda")
    check(tmp_path, "pretrain", engine="cluster")


def test_without_a_known_amount_nothing_is_refused(tmp_path: Path) -> None:
    def unknown() -> int:
        raise OSError

    study = mini_study(architectures=[SMALL, LARGE], committees=[])
    steps = plan(study, str(write_mini_data(tmp_path))).steps
    with patch.object(memory, "free_memory", unknown):
        check_memory(study, steps, Runtime(device="cpu"))
