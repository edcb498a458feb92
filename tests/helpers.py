"""A study in miniature, and what several test modules build on."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, TypeAlias

import pandas as pd
import pytest

from tlm.artifacts.record import RECORD, SEAL, digest_of
from tlm.artifacts.step import Step
from tlm.artifacts.store import ArtifactStore
from tlm.data.tokenizer import Vocabulary
from tlm.data.wordpiece_training import SPECIAL_TOKENS
from tlm.execution.execute import Outcome, execute
from tlm.machine.runtime import PACKAGE_PARENT, Runtime
from tlm.planning.plan import Plan, plan
from tlm.stages import STAGES
from tlm.study.config import StudyConfig

TOPICS = {
    "sea": "ship harbour sail wave tide captain anchor storm island fish net deck",
    "land": "field farmer plough barn horse wheat harvest fence orchard sheep hay mill",
}
COMMON = [
    "the",
    "old",
    "man",
    "saw",
    "a",
    "small",
    "one",
    "near",
    "every",
    "house",
    "and",
    "then",
    "went",
    "home",
    "with",
    "it",
    "after",
    "long",
    "work",
]


def sentence(generator: random.Random, topic: str) -> str:
    words = [generator.choice(TOPICS[topic].split() if i % 2 else COMMON) for i in range(10)]
    return " ".join(words) + "."


def write_csv(place: Path, columns: list[str], rows: list[tuple[str, ...]]) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return place


def write_mini_data(root: Path, *, corpus_rows: int = 200, rows_per_label: int = 30) -> Path:
    """corpus.csv (text) and task.csv (text, label): generated sentences about the sea and about the land."""
    generator = random.Random(7)
    topics = list(TOPICS)
    write_csv(root / "corpus.csv", ["text"], [(sentence(generator, topics[i % 2]),) for i in range(corpus_rows)])
    labelled = [(sentence(generator, topic), topic) for topic in topics for _ in range(rows_per_label)]
    write_csv(root / "task.csv", ["text", "label"], labelled)
    return root


def mini_tree(**changes: Any) -> dict[str, Any]:
    """The miniature study as a tree, as a YAML file would hold it; dotted `changes` use `__` for the dot."""
    small = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    tree: dict[str, Any] = {
        "name": "mini",
        "title": "A miniature",
        "corpus": {
            "source": {"kind": "files", "format": "csv", "path": "corpus.csv"},
            "sizes": [0, 60, 120],
            "heldout": 20,
            "seed": 0,
        },
        "tokenizer": {"kind": "wordpiece", "vocab_size": 300},
        "max_length": 16,
        "architectures": [
            {"name": "one", **small},
            {"name": "conv", **small, "conv_kernel_sizes": [[3, 3]], "conv_channels": 2},
        ],
        "tasks": [
            {
                "name": "topics",
                "source": {"kind": "files", "format": "csv", "path": "task.csv", "label_column": "label"},
                "train_per_label": 12,
                "dev_per_label": 4,
                "test_per_label": 10,
            }
        ],
        # What is tested must not depend on the processor, unless it is just that.
        "pretrain": {"steps": 6, "batch_size": 8, "learning_rate": 1e-3, "precision": "float32"},
        "finetune": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "precision": "float32"},
        "treatments": [{"kind": "missing_tokens", "task": "topics", "ws": 120, "count": 3}],
        "treatment_architectures": ["one"],
        "committees": [{"name": "pair", "members": ["one", "conv"]}],
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        place: Any = tree
        for parent in parents:
            place = place[int(parent)] if parent.isdigit() else place[parent]
        place[int(last) if last.isdigit() else last] = value
    return tree


def mini_study(**changes: Any) -> StudyConfig:
    return StudyConfig.model_validate(mini_tree(**changes))


@contextmanager
def stages_of_tests_are_unknown(but: str = "") -> Iterator[None]:
    """Inside, no stage is known that a test module has added, unless that is the module `but`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, kind in tuple(STAGES.items()):
            if kind.__module__ != but and not kind.__module__.startswith("tlm."):
                patch.delitem(STAGES._known, name)
        yield


class Mini:
    """The miniature study, run once in this process, with `changes` as `mini_tree` takes them."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.runtime = Runtime(home=str(folder / "home"), data_root=str(write_mini_data(folder / "raw")), isolate=False)
        self.plan: Plan = plan(mini_study(**changes), self.runtime.data_root)
        self.store = ArtifactStore(self.runtime.artifacts)
        self.first = self.run()

    def run(self) -> dict[str, Outcome]:
        return {step.key: execute(step, self.runtime) for step in self.plan.steps}

    def folder(self, step: Step) -> Path:
        return Path(self.store.root) / str(step.ref)

    def frame(self, step: Step, file: str) -> pd.DataFrame:
        return pd.read_parquet(self.store.get(step.ref).path(file))

    def copy(self, folder: Path) -> Mini:
        """The same study, its artifacts in another place, free to be damaged."""
        shutil.copytree(self.runtime.home, folder / "home")
        mini = object.__new__(Mini)
        mini.runtime = self.runtime.model_copy(update={"home": str(folder / "home")})
        mini.plan, mini.first = self.plan, self.first
        mini.store = ArtifactStore(mini.runtime.artifacts)
        return mini


def edit_record(folder: Path, *, sealed: bool = True, **changes: Any) -> None:
    """Change fields of an artifact's record; `sealed` as whoever knows how to, with a digest of what it then says."""
    place = folder / RECORD
    tree = {**json.loads(place.read_text(encoding="utf-8")), **changes}
    tree.pop(SEAL, None)
    seal = {SEAL: digest_of(tree)} if sealed else {SEAL: "0" * 64}
    place.write_text(json.dumps({**tree, **seal}), encoding="utf-8")


def unseal(folder: Path) -> None:
    """Make an artifact's record what it would be had it been made before records had a digest of their own."""
    place = folder / RECORD
    tree = {**json.loads(place.read_text(encoding="utf-8")), "format": 1}
    del tree[SEAL]
    place.write_text(json.dumps(tree), encoding="utf-8")


def only(planned: Plan, stage: str, **labels: Any) -> Step:
    """The one step of a stage with these labels."""
    found = [
        s for s in planned.steps if s.stage == stage and all(s.labels.get(name) == v for name, v in labels.items())
    ]
    assert len(found) == 1, [str(s.ref) for s in found]
    return found[0]


def record_all(store: ArtifactStore, planned: Plan, run_id: str | None = None) -> None:
    """Publish every step with nothing in it, for what reads records alone."""
    for step in planned.steps:
        with store.lock(step.ref), store.draft(step.ref) as draft:
            (draft / "file").write_text("x")
            mlflow = {"run_id": f"{run_id}-{step.stage}"} if run_id else None
            store.publish(step, draft, facts={}, provenance={}, seconds=0, mlflow=mlflow)


def vocabulary(*words: str) -> Vocabulary:
    """A vocabulary of the special tokens and then `words`."""
    return Vocabulary((*SPECIAL_TOKENS, *words), 0, 1, 2, 3, 4)


def numbered_vocabulary(size: int) -> Vocabulary:
    return vocabulary(*(f"t{i}" for i in range(size - len(SPECIAL_TOKENS))))


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


Tlm: TypeAlias = "Callable[..., Said]"
"""Runs one `tlm` command: its arguments → what was said."""
Study: TypeAlias = "Callable[..., str]"
"""Writes the miniature study with changes to a file: the changes → its path."""


def command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tlm:
    """A function that runs one `tlm` command in this process, 200 columns wide."""
    from flows import cli
    from flows.commands import base

    for console in (base.console, base.errors):  # made on import: COLUMNS would come too late
        monkeypatch.setattr(console, "width", 200)

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["tlm", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    return run


def lines_executed(module: ModuleType, call: Callable[[], object]) -> int:
    """How many lines of a module's code a call executes in this thread: work, counted instead of timed."""
    executed = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal executed
        executed += event == "line"
        return trace if frame.f_code.co_filename == module.__file__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return executed


def python(code_or_arguments: str | list[str], cwd: Path | None = None, **environment: str) -> Any:
    """Run this Python (with `-c` for a string) on the checkout's packages and return the finished process."""
    arguments = ["-c", code_or_arguments] if isinstance(code_or_arguments, str) else code_or_arguments
    return subprocess.run(
        [sys.executable, *arguments], env=python_environment(**environment), cwd=cwd, capture_output=True, text=True
    )


def python_environment(**environment: str) -> dict[str, str]:
    """This process's environment, in which nothing of the user's shell is left, with `environment` on top."""
    return {**os.environ, "PYTHONPATH": str(PACKAGE_PARENT), "COLUMNS": "200", **environment}
