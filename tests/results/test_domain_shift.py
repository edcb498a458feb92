"""General text before tasks of another domain: what is found is what was put in."""

from __future__ import annotations

from typing import Any

import pytest
from made_up import MadeUp, study

from tlm.report.evidence import Evidence
from tlm.report.findings import Findings
from tlm.results.domain_shift import analyse
from tlm.statistics import difference_p_value, holm

SOURCE = {"kind": "files", "format": "text", "path": "text"}
FOREIGN: list[dict[str, Any]] = [
    {"kind": "foreign", "name": "medicine", "source": SOURCE, "own": 100},
    {"kind": "foreign", "name": "files-and-medicine", "source": SOURCE, "own": 100, "general": 300},
    {"kind": "foreign", "name": "code", "source": SOURCE, "own": 400},
]
SETS = ((0, None), (100, None), (400, None), (100, "medicine"), (400, "files-and-medicine"), (400, "code"))
CLEAR = (0.4, 0.5, 0.6, 0.6, 0.7, 0.5)
NOTHING = (0.5,) * 6


def measured(
    accuracies: tuple[float, ...],
    *,
    tasks: tuple[str, ...] = ("medicine",),
    seeds: int = 3,
    skip: tuple[tuple[int, str | None], ...] = (),
    duplicates: float = 0.0,
    seed: int = 0,
    items: int = 2_000,
) -> Evidence:
    changes: dict[str, Any] = {"treatments": FOREIGN, "treatment_architectures": ("shallow",)}
    small = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
    made = MadeUp(study(tasks=tasks, architectures=[{"name": "shallow", **small}], **changes), items=items, seed=seed)
    for task in tasks:
        for (ws, treatment), accuracy in zip(SETS, accuracies, strict=True):
            if (ws, treatment) not in skip:
                about = {"treatment": treatment, "type_overlap": 0.8, "occurrence_overlap": 0.9}
                made.finetuned(task, "shallow", ws, accuracy, seeds=seeds, spread=0.004, **about)
        if duplicates:
            made.duplicates(task, 100, duplicates, treatment="medicine")
    return made.evidence()


def outcomes(findings: Findings) -> list[str]:
    return [verdict.outcome for verdict in findings.verdicts]


def test_every_text_at_its_worth(laid_out: None) -> None:
    findings = analyse(measured(CLEAR))
    assert outcomes(findings) == ["yes"] * 4
    gap, own, both, other = (float(v.figure.split()[0].replace("−", "-")) for v in findings.verdicts)
    assert (gap, own, both, other) == pytest.approx((20, 10, 10, -10), abs=4)
    claims = [verdict.claim for verdict in findings.verdicts]
    assert "text of medicine's own domain, medicine, are worth more" in claims[1]
    assert "100 of 400 paragraphs of Files are better replaced by text of medicine's own domain" in claims[2]
    assert "text of another domain, code, are worth less" in claims[3]
    assert all(verdict.links for verdict in findings.verdicts)
    assert all(plot.png for plot in findings.plots)
    (table,) = findings.tables
    assert len(table.rows) == len(SETS) and {row[3].text for row in table.rows} == {"80.0"}


def test_text_of_one_tasks_domain_is_foreign_to_another() -> None:
    findings = analyse(measured(CLEAR, tasks=("medicine", "law")))
    law = [verdict for verdict in findings.verdicts if "law" in verdict.claim]
    assert "100 paragraphs of text of another domain, medicine, are worth less" in law[1].claim
    assert [verdict.outcome for verdict in law] == ["yes", "no", "no", "yes"]


def test_no_difference_is_not_resolved() -> None:
    assert outcomes(analyse(measured(NOTHING))) == ["undecided at this scale"] * 4


def test_one_seed_resolves_nothing() -> None:
    assert outcomes(analyse(measured(CLEAR, seeds=1))) == ["undecided at this scale"] * 4


def test_near_duplicates_are_left_out() -> None:
    findings = analyse(measured(CLEAR, duplicates=0.25))
    assert findings.verdicts[1].figure.endswith("500 of 2000 test items left out")
    assert findings.verdicts[3].figure.endswith("near-duplicates were not looked for")
    too_many = analyse(measured(CLEAR, duplicates=1.0)).verdicts[1]
    assert too_many.outcome == "not measured"


def test_what_is_missing_is_not_measured() -> None:
    assert outcomes(analyse(measured(CLEAR, skip=((400, None),)))) == ["not measured", "yes", *["not measured"] * 2]
    assert outcomes(analyse(measured(CLEAR, skip=SETS))) == ["not measured"] * 4
    assert outcomes(analyse(MadeUp(study()).evidence())) == ["not measured"] * 3  # two architectures, no other text


def test_questions_about_a_task_are_corrected_together() -> None:
    """What would be a claim if it had been asked alone is none among five questions."""
    evidence = measured((0.5, 0.5, 0.5, 0.56, 0.5, 0.5), seed=6, items=600)
    correct = {each: evidence.correct("medicine", "shallow", *each) for each in SETS}
    asked = [((100, None), (0, None)), ((400, None), (0, None)), *((each, (each[0], None)) for each in SETS if each[1])]
    raw = [difference_p_value(correct[a], correct[b]) for a, b in asked]
    assert raw[2] < 0.05 < holm(raw)[2]
    own = analyse(evidence).verdicts[1]
    assert own.outcome == "undecided at this scale" and f"p = {holm(raw)[2]:.3f}" in own.figure
