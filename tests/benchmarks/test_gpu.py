"""`python -m benchmarks.gpu`: a toy run in an environment like that of a lent machine, and what its artifacts are."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

import pytest
from bare import bare_python
from helpers import Mini, only, python, python_environment

from benchmarks.gpu import prepare
from benchmarks.gpu.__main__ import engine_of, limit_of
from benchmarks.gpu.finetuning import rebased
from benchmarks.gpu.pretraining import shortened
from benchmarks.gpu.table import table
from flows.loading import load_study
from tlm.artifacts.record import from_file
from tlm.artifacts.store import ArtifactStore
from tlm.execution.archives import unpacked
from tlm.execution.importing import survey
from tlm.training.captured import Engine

STAGES = ("ceilings", "checks", "throughput", "profile", "headline", "committee", "curve")
"""Of a bundle without decoders."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_bundle(tmp_path_factory.mktemp("gpu") / "bundle", "toy")


def made_bundle(folder: Path, scale: str) -> Path:
    made = python(["-m", "benchmarks.gpu.prepare", str(folder), "--scale", scale], OMP_NUM_THREADS="1")
    assert made.returncode == 0, made.stderr
    return folder


@pytest.mark.slow
def test_decoders_over_a_vocabulary_and_over_bytes_are_pre_trained_by_the_ordinary_loop(tmp_path: Path) -> None:
    call = ["-m", "benchmarks.gpu", str(made_bundle(tmp_path / "bundle", "toy-decoders")), "--stages", "decoders"]
    call += ["--out", str(tmp_path / "out"), "--home", str(tmp_path / "home"), "--device", "cpu"]
    done = bare_python(call, tmp_path / "bare")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out/figures.json").read_text())["decoders"]
    assert {name: made["steps"] for name, made in found.items()} == {
        "model-subword-ws500-s0-p0": 5,
        "model-bytes-ws500-s0-p0": 5,
    }
    with unpacked(tmp_path / "out") as folder:
        assert len(survey(folder, ArtifactStore(str(tmp_path / "mine")), closed=False).new) == 2
    wrong = bare_python([*call[:3], "--stages", "headline", *call[5:]], tmp_path / "bare")
    assert wrong.returncode == 1 and "has no encoder to pre-train" in wrong.stdout
    late = bare_python([*call, "--limit", "decoders=1", "--home", str(tmp_path / "other")], tmp_path / "bare")
    assert late.returncode == 0 and late.stdout.count("no time is left") == 2


@pytest.mark.slow
def test_the_whole_script_runs_with_little_installed_and_a_second_call_finds_what_is_made(
    bundle: Path, tmp_path: Path
) -> None:
    out, home = tmp_path / "out", tmp_path / "home"
    call = ["-m", "benchmarks.gpu", str(bundle), "--out", str(out), "--home", str(home), "--device", "cpu"]
    done = bare_python([*call, "--processes", "2"], tmp_path / "bare")
    assert done.returncode == 0, done.stderr
    figures = json.loads((out / "figures.json").read_text())
    assert "failed" not in figures and figures["seconds"].keys() == {*STAGES}
    places = ("headline", "bert1-ws1000-s0-p0", "bert6-ws500-s0-p0", "bert1-ws500-s0-p0")
    assert {figures[place]["pretraining"]["epochs"] for place in places} == {3}
    assert len(figures["finetuned"]) == 12  # of two models, two seeds of scratch and of each Ws

    with tarfile.open(out / "0-artifacts.tar") as archive:
        names = archive.getnames()
        archive.extractall(tmp_path / "there", filter="data")
    assert len([name for name in names if name.endswith("record.json")]) == 16
    assert not [name for name in names if name.endswith(".safetensors")]
    store = ArtifactStore(str(home / "data/artifacts"))
    planned = json.loads((bundle / "steps.json").read_text())["keys"]
    records = [from_file(path.read_bytes()) for path in (tmp_path / "there").rglob("record.json")]
    assert {record.key for record in records} == {*planned}  # the very steps of the study
    assert all(store.inspect(record.ref).status == "complete" for record in records)
    assert all("model.safetensors" in record.left_behind for record in records)
    with unpacked(out) as folder:
        found = survey(folder, ArtifactStore(str(tmp_path / "mine")), closed=False)
    assert found.refused == {} and {record.key for record in found.new} == {*planned}
    assert {record.provenance["engine"] for record in records} == {"rectangle launched"}

    again = bare_python([*call, "--stages", "headline", "committee", "curve"], tmp_path / "bare")
    assert again.returncode == 0 and "pre-trained in" not in again.stdout and ": test " not in again.stdout


def test_the_study_is_written_for_tlm_run_whole_or_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["prepare", "--study", str(tmp_path / "gpu.yaml"), *words])
        return prepare.main()

    assert write() == 0
    assert load_study(str(tmp_path / "gpu.yaml")) == prepare.study_of("paper")
    assert write("--tasks", "fewrel64", "--seeds", "0", "2") == 0
    part = load_study(str(tmp_path / "gpu.yaml"))
    assert (part.name, [task.name for task in part.tasks]) == ("gpu-fewrel64", ["fewrel64"])
    assert part.finetune_seeds == (0, 2) and part.pretrain.precision == part.finetune.precision == "bfloat16"
    assert write("--scale", "committee") == 0
    committee = load_study(str(tmp_path / "gpu.yaml"))
    assert committee == prepare.study_of("committee") and not committee.latency
    assert write("--sizes", "-5") == 2 and "error: --sizes: " in capsys.readouterr().err
    assert write("--tasks", "fewrel63") == 2 and "has no fewrel63" in capsys.readouterr().err


def test_fewer_epochs_are_another_step_and_so_is_what_starts_from_it(mini: Mini) -> None:
    step = only(mini.plan, "pretrain", arch="one", ws=120, treatment=None, pretrain_seed=0)
    fewer = shortened(step, 7)
    assert fewer.config["pretrain"]["epochs"] == 7 and fewer.slug == f"{step.slug}-e7"
    assert fewer.key != step.key and fewer.inputs == step.inputs
    tuned = next(s for s in mini.plan.steps if s.stage == "finetune" and step.key in s.input_keys.values())
    assert rebased(tuned, step) is tuned
    other = rebased(tuned, fewer)
    assert other.inputs["pretrained"] == fewer.ref and other.key != tuned.key and other.slug.endswith("-e7")


def test_the_script_does_not_wait_for_epochs_that_nobody_needs() -> None:
    """Whatever its workers are at, and with more waiting to be sent to them than a pipe holds."""
    code = (
        "import time; from benchmarks.gpu.preparing import Preparing\n"
        "with Preparing(2) as preparing:\n"
        "    begun = [preparing._pool.submit(time.sleep, 600) for _ in range(2)]\n"
        "    begun += [preparing._pool.submit(len, bytes(10**6)) for _ in range(4)]\n"
        "    while not any(future.running() for future in begun): time.sleep(0.01)\n"
        "print('left')"
    )
    done = subprocess.run([sys.executable, "-c", code], env=python_environment(), capture_output=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, b"left\n"), done.stderr


@pytest.mark.parametrize("wrong", ["nonsense", "headline=soon", "headline=-1", "headline=nan", "lunch=30"])
def test_a_limit_is_seconds_of_a_stage(wrong: str) -> None:
    assert limit_of("headline=300") == ("headline", 300)
    with pytest.raises(ArgumentTypeError, match=f"{wrong}.* is not STAGE=SECONDS"):
        limit_of(wrong)


def test_an_engine_is_named_by_its_parts() -> None:
    assert engine_of("auto") is None
    assert engine_of("varlen,compiled,captured") == Engine("varlen", compiled=True, captured=True)
    with pytest.raises(ValueError, match="unknown engine 'fast'"):
        engine_of("fast")


def test_the_table_names_the_device_and_puts_every_contender_beside_stock_and_the_ceiling() -> None:
    rows = {
        "pretrain-bert6 | stock": {"ms": 20.0, "tokens_per_second": 1e5, "useful_flops_per_second": 1e13},
        "pretrain-bert6 | fast": {"ms": 2.0, "tokens_per_second": 1e6, "useful_flops_per_second": 1e14},
        "pretrain-bert6 | broken": {"error": "RuntimeError: no"},
    }
    figures: dict[str, Any] = {
        "machine": {"device": "a card"},
        "ceilings": {"matmul_flops_per_second": 4e14},
        "throughput": rows,
    }
    runs = [(90_000, 0.8), (2_000, 0.7), (0, 0.5), (0, 0.6)]
    figures["finetuned"] = {
        f"{n}": {"task": "fewrel", "arch": "bert6", "ws": ws, "test_accuracy": right}
        for n, (ws, right) in enumerate(runs)
    }
    text = table(figures)
    assert "fewrel, bert6: Ws 90,000 0.8000 (of 1), Ws 2,000 0.7000 (of 1), scratch 0.5500 (of 2)" in text
    assert text.startswith("a card,") and "RuntimeError: no" in text
    assert "25.0%" in text and "10.00" in text
