"""Language models of a study, compressed: scored like any, beside those that they were made of; decoders of them write."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import mini_study, only, write_mini_data

from tlm.artifacts import marts
from tlm.artifacts.store import ArtifactStore
from tlm.errors import UserError
from tlm.execution.execute import execute
from tlm.inference.generation import Writer
from tlm.inference.resolve import find_decoder
from tlm.machine.runtime import Runtime
from tlm.planning.plan import Plan, plan
from tlm.report.marts import Rows, rows
from tlm.stages import STAGES

ITEMS = [
    {"prefix": "the old", "options": ["ship saw", "zebra saw"], "gold": 0},
    {"prefix": "a small", "options": ["horse", "ship ship"], "gold": 1},
]
SHAPE = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
BYTES = {"head_size": 8, "num_hidden_layers": 1, "options": {"byte": {"width": 16, "patch_bytes": 8}}}
STUDIES: dict[str, dict[str, Any]] = {
    "subword": {"architectures": [{"name": "gpt", "kind": "decoder", **SHAPE}, {"name": "one", **SHAPE}]},
    "byte": {
        "architectures": [{"variant": "byte-micro", "name": "gpt", **BYTES}],
        "tokenizer": {"kind": "bytes", "patch_bytes": 8},
    },
}
ASKED: list[dict[str, Any]] = [
    {"kind": "likelihood", "data": {"kind": "files", "path": "items.jsonl"}},
    {"kind": "compression", "method": "int8"},
    {"kind": "compression", "method": "wanda", "share": 0.5},
    {"kind": "compression", "method": "magnitude", "share": 0.0},
]
TITLES = ("int8", "wanda 50 %", "magnitude 0 %")
ALONE: dict[str, Any] = {
    "treatments": [],
    "treatment_architectures": None,
    "committees": [],
    "tasks": [],
    "corpus__sizes": [60],
    "max_length": 48,
    "evaluations": ASKED,
}
Studied = tuple[Plan, ArtifactStore, Rows]


def with_items(root: Path) -> str:
    data = write_mini_data(root)
    (data / "items.jsonl").write_text("\n".join(map(json.dumps, ITEMS)), encoding="utf-8")
    return str(data)


@pytest.fixture(scope="module", params=STUDIES)
def studied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studied]:
    folder: Path = tmp_path_factory.mktemp("smaller")
    data = with_items(folder / "raw")
    planned = plan(mini_study(**{**ALONE, **STUDIES[request.param]}, pretrain__steps=20), data)
    runtime = Runtime(home=str(folder / "home"), data_root=data, isolate=False)
    for step in planned.steps:
        execute(step, runtime)
    store = ArtifactStore(runtime.artifacts)
    with marts.build_memory(store, list(store.records()), STAGES) as connection:
        yield planned, store, rows(connection, "select * from likelihood order by system")


def test_a_step_says_all_that_its_stage_is_made_of(studied: Studied) -> None:
    steps = [step for step in studied[0].steps if step.stage == "compress_pretrained"]
    assert len(steps) >= len(TITLES)
    for step in steps:
        read = STAGES[step.stage].of(step).config()
        assert {name: value for name, value in read.items() if name not in step.inputs} == step.config, step.ref


def scores(studied: Studied, arch: str, arm: str | None) -> np.ndarray:
    planned, store, _ = studied
    return pd.read_parquet(store.get(only(planned, "option_scores", arch=arch, arm=arm).ref).path("scores.parquet"))[
        "log_p"
    ].to_numpy()


def test_each_is_scored_beside_the_model_that_it_was_made_of(studied: Studied) -> None:
    planned, store, found = studied
    architectures = [arch.name for arch in planned.study.architectures]
    systems = [f"{arch}{f', {title}' if title else ''}" for arch in architectures for title in (None, *TITLES)]
    assert sorted(row["system"] for row in found) == sorted(systems)
    assert len({row["setting"] for row in found}) == len(systems)
    assert all(
        (row["heldout_bits_per_byte"] is None) == (row["arm"] is not None or row["arch"] == "one") for row in found
    )
    report = store.get(planned.report.ref).path("report.md").read_text(encoding="utf-8")
    assert all(system in report for system in systems)
    for arch in architectures:
        whole = scores(studied, arch, None)
        assert (scores(studied, arch, "magnitude 0 %") == whole).all()
        for smaller in ("int8", "wanda 50 %"):
            assert 0 < np.abs(scores(studied, arch, smaller) - whole).max() < 0.1


def test_it_is_stored_smaller_and_writes(studied: Studied) -> None:
    planned, store, _ = studied
    for title in TITLES[:2]:
        step = only(planned, "compress_pretrained", arch="gpt", arm=title)
        facts = store.get(step.ref).record.facts
        file = store.get(step.ref).path("model.safetensors")
        assert file.stat().st_size == facts["stored_bytes"] < facts["stored_bytes_before"]
        writer = Writer.load(store, find_decoder(store, f"compress_pretrained/{step.slug}"))
        (written,) = writer.write(["the"], tokens=4)
        assert written.text.startswith("the")
    wanda = only(planned, "compress_pretrained", arch="gpt", arm="wanda 50 %")
    assert store.get(wanda.ref).record.facts["share_of_layers_removed"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([ASKED[0], {"kind": "compression", "method": "heads", "share": 0.5}], r"no heads can be taken out.*\(gpt\)"),
        ([ASKED[0], {"kind": "compression", "method": "neurons", "share": 0.99}], "32 neurons is all of them"),
        ([{"kind": "compression", "method": "int8"}], "there is none"),
    ],
)
def test_what_a_model_has_not_is_refused_before_any_work(asked: list[Any], said: str, tmp_path: Path) -> None:
    data = with_items(tmp_path)
    with pytest.raises(UserError, match=said):
        plan(mini_study(**{**ALONE, **STUDIES["subword"], "evaluations": asked}), data)
