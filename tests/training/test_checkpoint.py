"""Checkpoints: whole or not at all, never another run's or a damaged one's, and no more often than they cost."""

from __future__ import annotations

import json
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from interruption import Interrupted, assert_same, every_step, interrupted, runner
from safetensors import safe_open
from toy import ARCH

from tlm.training import checkpoint
from tlm.training.checkpoint import Checkpoints, State


def test_a_checkpoint_of_another_run_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    left = interrupted(tmp_path, monkeypatch, identity="another")
    assert Checkpoints(tmp_path, "run").latest() is None
    assert "another run" in caplog.text and not left.exists()


def test_a_checkpoint_of_another_model_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Under the same identity: the code has changed, and nobody has bumped the stage's version."""
    interrupted(tmp_path, monkeypatch)
    run = runner("pretrain", ARCH, "float32")
    assert_same(run(every_step(tmp_path)), run({}))
    assert "of another model" in caplog.text


def damages(content: bytes) -> list[bytes]:
    """Cut short in several places; single bits flipped all over the header and the tensors."""
    header = 8 + int.from_bytes(content[:8], "little")
    generator = random.Random(0)
    places = [*range(0, 8), *generator.sample(range(8, header), 60), *generator.sample(range(header, len(content)), 60)]
    flipped = []
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << generator.randrange(8)
        flipped.append(bytes(damaged))
    cuts = [0, 7, 8, 100, header - 1, header, len(content) // 2, len(content) - 1]
    return [content[:cut] for cut in cuts] + [content + b"x"] + flipped


def test_a_damaged_checkpoint_is_never_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    left = interrupted(tmp_path, monkeypatch)
    whole = left.read_bytes()
    assert Checkpoints(tmp_path, "run").latest() is not None
    for damaged in damages(whole):
        left.write_bytes(damaged)
        caplog.clear()
        assert Checkpoints(tmp_path, "run").latest() is None
        assert not left.exists()
        assert "is not usable" in caplog.text


def test_a_checkpoint_in_the_format_of_other_code_is_not_used_and_training_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(checkpoint, "FORMAT", checkpoint.FORMAT - 1)
        Checkpoints(tmp_path, "run", every=0).save(1, tensors, {"curve": []})
    assert Checkpoints(tmp_path, "run").latest() is None
    assert "another version of this code" in caplog.text and list(tmp_path.iterdir()) == []


# --- writing ---


def tensors(value: float = 1.0) -> dict[str, torch.Tensor]:
    return {"model.weight": torch.full((3, 2), value), "optimizer.0.step": torch.tensor(value), "random.cpu": BYTES}


BYTES = torch.arange(20, dtype=torch.uint8)


@pytest.mark.parametrize("moment", ["save_file", "os.fsync", "os.replace"])
def test_a_crash_while_writing_leaves_the_one_before(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path, "run", every=0)
    checkpoints.save(1, lambda: tensors(1), {"curve": []})

    def die(*args: Any, **options: Any) -> None:
        raise Interrupted

    with monkeypatch.context() as patched:
        owner, _, name = moment.rpartition(".")
        patched.setattr(checkpoint.os if owner else checkpoint, name, die)
        with pytest.raises(Interrupted):
            checkpoints.save(2, lambda: tensors(2), {"curve": []})
    left = Checkpoints(tmp_path, "run").latest()
    assert left is not None and left.step == 1
    checkpoints.save(3, lambda: tensors(3), {"curve": []})
    assert [path.name for path in tmp_path.iterdir()] == ["000000003.safetensors"], "what the crash left is gone"


def test_a_checkpoint_that_cannot_be_written_is_a_warning_and_the_one_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path, "run", every=0)
    checkpoints.save(1, tensors, {"curve": []})

    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint.os, "fsync", full)
        checkpoints.save(2, tensors, {"curve": []})
    assert "no checkpoint after step 2" in caplog.text and "No space left" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["000000001.safetensors"]


IN_THE_WAY = (Path.touch, os.mkfifo, lambda path: path.symlink_to(path), lambda path: path.symlink_to("/dev/zero"))


@pytest.mark.parametrize("how", IN_THE_WAY)
def test_what_stands_in_the_place_of_the_folder_gives_way(tmp_path: Path, how: Callable[[Path], object]) -> None:
    how(tmp_path / "folder")
    checkpoints = Checkpoints(tmp_path / "folder", "run", every=0)
    assert checkpoints.latest() is None
    checkpoints.save(1, tensors, {"curve": []})
    left = Checkpoints(tmp_path / "folder", "run").latest()
    assert left is not None and left.step == 1


@pytest.mark.parametrize("how", [*IN_THE_WAY, Path.mkdir])
def test_what_stands_in_the_place_of_a_checkpoint_is_no_checkpoint(
    tmp_path: Path, how: Callable[[Path], object]
) -> None:
    checkpoints = Checkpoints(tmp_path, "run", every=0)
    checkpoints.save(1, tensors, {"curve": []})
    how(tmp_path / "000000002.safetensors")
    left = checkpoints.latest()
    assert left is not None and left.step == 1
    how(tmp_path / "000000002.safetensors")
    checkpoints.save(3, tensors, {"curve": []})
    assert [path.name for path in tmp_path.iterdir()] == ["000000003.safetensors"]


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    notes = {"curve": [[1, 0, "train_loss", 0.1 + 0.2], [2, 0, "heldout_loss", float("nan")]]}
    Checkpoints(tmp_path, "run").save(12, tensors, notes)
    found = Checkpoints(tmp_path, "run").latest()
    assert isinstance(found, State) and found.step == 12
    assert json.dumps(found.notes) == json.dumps(notes)
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in tensors().items())
    assert found.tensors["optimizer.0.step"].shape == ()


def test_no_checkpoint_is_a_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = interrupted(tmp_path, monkeypatch)
    with safe_open(left, "pt") as file:
        assert {name.partition(".")[0] for name in file.keys()} == {"model", "optimizer", "random"}  # noqa: SIM118
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(left.read_bytes())


def test_tied_weights_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with safe_open(interrupted(tmp_path, monkeypatch), "pt") as file:
        names = list(file.keys())
    assert "model.bert.embeddings.word_embeddings.weight" in names
    assert not any("decoder" in name for name in names)
    assert any(name.endswith("running_mean") for name in names), "batch normalisation's buffers"


def test_what_is_restored_is_free_of_the_file(tmp_path: Path) -> None:
    """safetensors maps files: an optimizer that kept the map would keep a removed checkpoint on the disk."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    kept = {"optimizer": checkpoint.optimizer_values(optimizer)}
    Checkpoints(tmp_path, "run").save(1, lambda: checkpoint.capture(model, optimizer, "cpu"), kept)
    state = Checkpoints(tmp_path, "run").latest()
    assert state is not None
    checkpoint.restore(state, model, optimizer, "cpu")
    del state
    maps = Path("/proc/self/maps")
    assert not maps.exists() or str(tmp_path) not in maps.read_text()


# --- when ---


def test_checkpoints_take_no_more_than_their_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])
    checkpoints = Checkpoints(tmp_path, "run", every=60)

    def slow() -> dict[str, torch.Tensor]:
        clock[0] += 5.0
        return tensors()

    writing = steps = 0
    while clock[0] < 4_000:
        clock[0] += 1.0
        steps += 1
        if checkpoints.due():
            before = clock[0]
            checkpoints.save(steps, slow, {})
            writing += int(clock[0] - before)
            assert not checkpoints.due()
    assert writing == 5 * (1 + ((4_000 - 65) // 255)), "the first after 60 s, then every 250 s: 5 s are 2 % of that"
    assert writing / clock[0] <= checkpoint.COST_SHARE * 1.05


def test_a_quick_checkpoint_is_written_as_often_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])
    checkpoints = Checkpoints(tmp_path, "run", every=60)
    saved = []
    for second in range(300):
        clock[0] = float(second)
        if checkpoints.due():
            checkpoints.save(second, tensors, {})
            saved.append(second)
    assert saved == [60, 120, 180, 240]
