"""A run that was interrupted, anywhere and as often as you like, ends in the bits of the undisturbed one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from interruption import STEPS, Interrupted, Training, assert_same, every_step, interrupted, runner, stop_after
from toy import ARCH, BYTES, CONV, GPT, LLAMA

from tlm.modeling.options import LlamaOptions
from tlm.study.architecture import Architecture

KINDS = [
    (kind, arch, precision)
    for kind in ("pretrain", "finetune")
    for arch in (ARCH, CONV, GPT)
    for precision in ("float32", "bfloat16")
] + [("pretrain", LLAMA, "bfloat16"), ("finetune", LLAMA, "float32"), ("pretrain", BYTES, "bfloat16")]

ROUTED = LLAMA.model_copy(update={"name": "routed", "options": LlamaOptions(depth_capacity=0.5)})
OPTIONS: list[tuple[Architecture, dict[str, Any]]] = [
    (GPT, {"objective": {"kind": "hybrid", "masked_share": 0.5}}),
    (GPT, {"objective": {"kind": "multi_token", "tokens": 2}}),
    (ARCH, {"objective": "replaced"}),
    (GPT, {"dropout": 0.3, "dropout_schedule": "early"}),
    (LLAMA, {"layer_drop": 0.6}),
    (ROUTED, {}),
]


@pytest.mark.parametrize(("kind", "arch", "precision"), KINDS, ids=lambda v: getattr(v, "name", v))
def test_a_run_interrupted_after_every_step_ends_in_the_same_bits(
    kind: str, arch: Architecture, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resume_after_every_step(runner(kind, arch, precision), tmp_path, monkeypatch)


@pytest.mark.parametrize(("arch", "fields"), OPTIONS, ids=lambda v: getattr(v, "name", str(v)))
def test_so_does_one_with_another_objective_or_schedule(
    arch: Architecture, fields: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resume_after_every_step(runner("pretrain", arch, "float32", **fields), tmp_path, monkeypatch)


def resume_after_every_step(run: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run({})
    last = int(expected[2]["steps"])
    starts: list[int] = []
    for step in (*range(2, last + 1), 0):
        stop_after(step, monkeypatch)
        torch.rand(step)  # whatever was drawn in between
        seen: list[int] = []
        options = {**every_step(tmp_path), "progress": lambda done, total, seen=seen: seen.append(done)}
        with suppress(Interrupted):
            found = run(options)
        starts.append(seen[0])
    assert starts == [1, *range(1, last)], "each attempt goes on from the step before the one that was interrupted"
    assert_same(found, expected)


@pytest.mark.parametrize("step", range(1, STEPS))
def test_a_run_interrupted_once_ends_in_the_same_bits(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runner("pretrain", CONV, "float32")
    expected = run({})
    stop_after(step, monkeypatch)
    with pytest.raises(Interrupted):
        run(every_step(tmp_path))
    stop_after(0, monkeypatch)
    assert_same(run(every_step(tmp_path)), expected)


def test_a_run_with_checkpoints_is_the_run_without(tmp_path: Path) -> None:
    run = runner("finetune", CONV, "bfloat16")
    assert_same(run(every_step(tmp_path)), run({}))


@pytest.mark.parametrize("older", [False, True])
def test_after_damage_the_run_starts_again_or_from_an_older_one_and_ends_in_the_same_bits(
    older: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runner("pretrain", CONV, "float32")
    kept = interrupted(tmp_path, monkeypatch, step=4).read_bytes()
    newest = interrupted(tmp_path, monkeypatch, step=6)
    newest.write_bytes(newest.read_bytes()[:-5])
    if older:  # as after a crash between the rename and the removal of the one before
        (tmp_path / "000000003.safetensors").write_bytes(kept)
    seen: list[int] = []
    again = run({**every_step(tmp_path), "progress": lambda done, total: seen.append(done)})
    assert seen[0] == (3 if older else 1)
    assert_same(again, run({}))
    assert [path.name for path in tmp_path.iterdir()] == ["000000006.safetensors"]
