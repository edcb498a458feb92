"""What a device has instructions for, and precision as part of every training step's identity."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import mini_study, write_mini_data

from tlm.machine import precision
from tlm.machine.precision import cpu_flags, native_precision
from tlm.planning.plan import plan
from tlm.study.adapt import reference_compat, with_precision


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16", "bfloat16"),
        ("flags\t\t: fpu amx_bf16 amx_tile", "bfloat16"),
        ("Features\t: fp asimd bf16 i8mm", "bfloat16"),
        ("flags\t\t: fpu avx2 avx512f", "float32"),
        ("bugs\t\t: avx512_bf16", "float32"),
        ("", "float32"),
    ],
)
def test_bfloat16_is_found_in_the_processors_flags(
    line: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\nbogomips\t: 1\n")
    flags = cpu_flags(str(tmp_path / "cpuinfo"))
    monkeypatch.setattr(precision, "cpu_flags", lambda: flags)
    assert native_precision("cpu") == expected
    assert native_precision("cuda") == "bfloat16"


def test_a_kernel_that_does_not_say_means_float32(tmp_path: Path) -> None:
    assert cpu_flags(str(tmp_path / "none")) == frozenset()


def test_auto_becomes_what_it_is_said_to_be_and_a_choice_stays() -> None:
    study = mini_study(pretrain__precision="auto")
    resolved = with_precision(study, "bfloat16")
    assert (resolved.pretrain.precision, resolved.finetune.precision) == ("bfloat16", "float32")
    assert with_precision(resolved, "float32") == resolved


def test_the_reference_code_computes_in_float32() -> None:
    assert reference_compat(mini_study(pretrain__precision="auto")).pretrain.precision == "float32"


def test_the_plan_of_another_precision_has_other_training_steps_and_the_same_data(tmp_path: Path) -> None:
    root, study = write_mini_data(tmp_path), mini_study(pretrain__precision="auto")
    keys = {
        native: {step.stage: step.key for step in plan(study, str(root), precision=native).steps}
        for native in ("float32", "bfloat16")
    }
    assert keys["float32"]["pretrain"] != keys["bfloat16"]["pretrain"]
    assert keys["float32"]["corpus"] == keys["bfloat16"]["corpus"]
