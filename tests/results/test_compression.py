"""The study of compression says what was put into its evidence."""

from __future__ import annotations

from typing import Any

import pytest
from made_up import SEEDS, MadeUp, outcome, study

from tlm.report.findings import UNDECIDED
from tlm.report.study_systems import in_arm
from tlm.results.compression import analyse

WS, ITEMS = 400, 4_000
INT8 = {"evaluations": [{"kind": "compression", "method": "int8"}]}
SHALLOW = study().model_dump(mode="json")["architectures"][1]


def cooked(broken: int, **changes: Any) -> MadeUp:
    """Models at 60 %, each of which is wrong about `broken` more items in int8, a quarter as large and as fast."""
    made = MadeUp(study(sizes=(WS,), architectures=[SHALLOW], **{**INT8, **changes}), items=ITEMS)
    made.finetuned("topics", "shallow", WS, 0.6)
    plain = {"arch": "shallow", "task": "topics"}
    for seed in range(SEEDS):
        right_N = next(
            row["correct"].copy() for row in made.results.rows["correct"] if row["key"].endswith(f"/{seed}/{seed}")
        )
        right_N[right_N.nonzero()[0][seed : seed + broken]] = False
        about = {"ws": WS, "arm": "int8", "init": "pretrained", "arch": "shallow"}
        key = f"compress/{seed}"
        made._result(
            key,
            "compress",
            "topics",
            in_arm("shallow", "int8", None),
            right_N,
            pretrain_seed=seed,
            finetune_seed=seed,
            **about,
        )
        made.results.add("runs", key=key, stage="compress", facts='{"stored_bytes": 250, "stored_bytes_before": 1000}')
    made.run("latency", {"p50_ms_1": 2.0, "p50_ms_64": 30.0}, **plain)
    return made.run("latency", {"p50_ms_1": 3.0, "p50_ms_64": 40.0, "model_key": "compress/0"}, **plain)


@pytest.mark.parametrize(("broken", "said"), [(0, "yes"), (4, "yes"), (20, UNDECIDED), (120, "no")])
def test_what_a_compressed_model_loses_is_judged_item_by_item(broken: int, said: str) -> None:
    assert outcome(analyse(cooked(broken).evidence()), "int8", "less than half a point on topics") == said


def test_the_tables_say_what_is_lost_and_what_is_saved() -> None:
    lost, saved = analyse(cooked(40).evidence()).tables
    assert lost.rows[0][5].text.startswith("\N{MINUS SIGN}1.0")
    assert [[cell.text for cell in row] for row in saved.rows] == [
        ["shallow", "none", "1.0", "100.0", "2.00", "30.00"],
        ["shallow", "int8", "0.2", "25.0", "3.00", "40.00"],
    ]


def test_what_is_missing_is_not_measured() -> None:
    for made in (MadeUp(study()), MadeUp(study(**INT8))):
        findings = analyse(made.evidence())
        assert {verdict.outcome for verdict in findings.verdicts} == {"not measured"}
