"""The committee study says what was put into its evidence: what a committee replaces, and at which cost."""

from __future__ import annotations

from typing import Any

import pytest
from made_up import MadeUp, outcome, study

from tlm.report.comparison import compare
from tlm.report.findings import UNDECIDED, Outcome, Verdict
from tlm.results.committees import MARGIN, TABLE_8, analyse, noninferior, replacement
from tlm.statistics import Estimate
from tlm.study.config import StudyConfig
from tlm.study.sources import FewRelSource

WS = 400
SMALL: dict[str, Any] = {"hidden_size": 8, "num_attention_heads": 2}
SHALLOW = ("a", "b")
FACTS = {"threads": 1, "precision": "float32", "device": "cpu", "processor": "x86_64", "cores": 2}


def asked(*tasks: str, kind: str = "files", **changes: Any) -> StudyConfig:
    """A committee of two shallow architectures, a deep one and its own committee; three times three seeds, crossed."""
    given: dict[str, Any] = {
        "architectures": [
            {"name": "deep", **SMALL, "num_hidden_layers": 6, "intermediate_size": 32},
            *(
                {"name": n, **SMALL, "num_hidden_layers": 1, "intermediate_size": 8 + 8 * i}
                for i, n in enumerate(SHALLOW)
            ),
        ],
        "committees": [{"name": "shallow", "members": SHALLOW}, {"name": "deep", "members": ("deep",)}],
        "seeds": "crossed",
        **changes,
    }
    config = study(sizes=(WS,), tasks=tasks, **given)
    if kind == "files":
        return config
    relations = [task.model_copy(update={"source": FewRelSource(origin="local")}) for task in config.tasks]
    return config.model_copy(update={"tasks": tuple(relations)})


def committees(made: MadeUp, task: str, *, alone: float, together: float, deep: float, spread: float = 0.002) -> MadeUp:
    """Eighteen shallow members alone, their nine pairs, and the nine deep models with their committees of three."""
    made.committee(task, "shallow", WS, 1, alone, instances=18, spread=spread)
    made.committee(task, "shallow", WS, 2, together, instances=9, spread=spread)
    made.committee(task, "shallow", WS, 3, together, instances=6, spread=spread)
    made.committee(task, "deep", WS, 1, deep, instances=9, spread=spread)
    made.committee(task, "deep", WS, 3, deep + 0.05, instances=3, spread=spread)
    for name, accuracy in {"deep": deep, **dict.fromkeys(SHALLOW, alone)}.items():
        made.finetuned(task, name, WS, accuracy, tunings=3, spread=spread, parameters=1_000_000)
    return made


@pytest.mark.parametrize(
    ("deep", "expected"), [(0.5, "reproduced"), (0.7, "not reproduced"), (0.6, "undecided at this scale")]
)
def test_a_committee_replaces_the_deep_model_if_it_is_no_point_worse(deep: float, expected: Outcome) -> None:
    items = 300 if expected == "undecided at this scale" else 2_000
    made = committees(
        MadeUp(asked("relations", kind="few_rel"), items=items), "relations", alone=0.5, together=0.6, deep=deep
    )
    findings = analyse(made.evidence())
    assert outcome(findings, "replaces one deep") == expected
    verdict = findings.verdicts[0]
    assert verdict.paper == TABLE_8 and "3 seeds" in verdict.figure and len(verdict.links) == 1 + 9


def test_only_the_papers_task_is_judged_as_the_papers_claim() -> None:
    made = committees(MadeUp(asked("topics"), items=2_000), "topics", alone=0.5, together=0.6, deep=0.5)
    evidence = made.evidence()
    assert outcome(analyse(evidence), "replaces") == "yes"
    assert analyse(evidence).verdicts[0].paper == "n/a"
    again = committees(
        MadeUp(asked("relations", kind="few_rel"), items=2_000), "relations", alone=0.5, together=0.6, deep=0.5
    )
    assert outcome(replacement(again.evidence(), paper=False), "replaces") == "yes"


def test_the_other_tasks_share_the_error_among_them() -> None:
    """The same committee on the same items, asked beside four other tasks, is judged by a longer interval than it shows."""

    def first(*tasks: str) -> Verdict:
        made = MadeUp(asked(*tasks))
        for task in tasks:
            committees(made, task, alone=0.5, together=0.6, deep=0.57)
        return analyse(made.evidence()).verdicts[0]

    alone, among = first("topics"), first("topics", "b", "c", "d", "e")
    assert (alone.outcome, among.outcome) == ("yes", UNDECIDED) and alone.figure == among.figure


def test_a_committee_is_set_beside_its_mean_member_and_beside_as_many_deep_ones() -> None:
    made = committees(MadeUp(asked("topics"), items=2_000), "topics", alone=0.5, together=0.6, deep=0.6)
    findings = analyse(made.evidence())
    assert outcome(findings, "better than its mean member") == "yes"
    assert outcome(findings, "committee of 3 shallow beats one of as many deep") == "no"


@pytest.mark.parametrize(("deep", "expected"), [(0.6, "yes"), (0.4, "no"), (0.5, "undecided at this scale")])
def test_whether_there_is_anything_to_make_up_for_is_a_verdict(deep: float, expected: Outcome) -> None:
    items = 300 if expected == "undecided at this scale" else 2_000
    made = committees(MadeUp(asked("topics"), items=items), "topics", alone=0.5, together=0.6, deep=deep)
    assert outcome(analyse(made.evidence()), "better than the mean member", "make up for") == expected


def test_a_committee_that_adds_nothing_has_no_advantage() -> None:
    made = committees(MadeUp(asked("topics")), "topics", alone=0.5, together=0.5, deep=0.5)
    assert outcome(analyse(made.evidence()), "better than its mean member") == "undecided at this scale"


def test_committees_with_members_of_one_pre_training_are_nested_in_it() -> None:
    config = asked("topics")
    evidence = committees(MadeUp(config, items=100), "topics", alone=0.5, together=0.6, deep=0.6).evidence()
    shapes = {}
    for size in (1, 2, 3):
        found = evidence.committee("topics", config.committees[0].name, WS, size)
        assert found is not None
        shapes[size] = found.shape
    assert shapes == {1: (3, 6, 100), 2: (3, 3, 100), 3: (3, 2, 100)}
    made = MadeUp(config, items=100).committee("topics", "shallow", WS, 4, 0.6, instances=4)
    straddling = made.evidence().committee("topics", config.committees[0].name, WS, 4)
    assert straddling is not None and straddling.shape == (4, 100)


def test_one_committee_is_never_resolved() -> None:
    made = MadeUp(asked("topics", pretrain_seeds=(0,), finetune_seeds=(0,)), items=2_000)
    made.committee("topics", "shallow", WS, 1, 0.3, instances=2).committee("topics", "shallow", WS, 2, 0.9, instances=1)
    made.finetuned("topics", "deep", WS, 0.2, seeds=1)
    findings = analyse(made.evidence())
    assert outcome(findings, "replaces") == "undecided at this scale"
    assert outcome(findings, "better than its mean member") == "undecided at this scale"
    (row,) = (row for row in findings.tables[0].rows if row[3].text == "2")
    assert row[4].text == "1" and "(1 seed)" in row[5].text


def test_a_committee_of_one_architecture_is_asked_about_as_a_whole() -> None:
    made = MadeUp(asked("topics", seeds="paired", committees=[{"name": "same", "members": ("a",)}]), items=2_000)
    made.committee("topics", "same", WS, 1, 0.3, instances=3).committee("topics", "same", WS, 3, 0.9, instances=1)
    made.finetuned("topics", "deep", WS, 0.2)
    findings = analyse(made.evidence())
    claims = [verdict.claim for verdict in findings.verdicts]
    assert [row[2].text for row in findings.tables[1].rows if row[1].text == "same, soft"] == ["3"]
    assert claims[0].startswith("A soft committee of 3 (same) replaces one deep")
    assert any(claim.startswith("A committee of 3 (same) is better than its mean member") for claim in claims)


@pytest.mark.parametrize("changes", [{}, {"committees": ()}])
def test_what_is_missing_is_said_and_breaks_nothing(changes: dict[str, Any]) -> None:
    findings = analyse(MadeUp(asked("topics", "relations", **changes)).evidence())
    assert findings.verdicts and {verdict.outcome for verdict in findings.verdicts} == {"not measured"}
    assert all(plot.missing for plot in findings.plots)


def test_the_table_is_one_family() -> None:
    made = committees(MadeUp(asked("topics"), items=300), "topics", alone=0.55, together=0.58, deep=0.6, spread=0.01)
    evidence = made.evidence()
    deep = evidence.correct("topics", "deep", WS)
    committee_of = {committee.name: committee for committee in evidence.study.committees}
    rows = [row for row in analyse(evidence).tables[0].rows if row[1].text in committee_of]
    family = [(row[1].text, evidence.committee("topics", row[1].text, WS, int(row[3].text)), deep) for row in rows]
    assert [row[6].text for row in rows] == [comparison.text for comparison in compare(family)]
    assert [row[6].text for row in rows] != [compare([question])[0].text for question in family]


@pytest.mark.parametrize(
    ("low", "high", "seeds", "expected"),
    [
        (-0.009, 0.02, 3, "reproduced"),
        (0.02, 0.05, 3, "reproduced"),
        (-0.011, 0.02, 3, "undecided at this scale"),
        (-0.05, -0.011, 3, "not reproduced"),
        (0.02, 0.05, 1, "undecided at this scale"),
    ],
)
def test_the_margin_is_where_the_verdict_turns(low: float, high: float, seeds: int, expected: Outcome) -> None:
    assert MARGIN == 0.01
    assert noninferior(Estimate((low + high) / 2, low, high, (high - low) / 2, seeds, "t"), paper=True) == expected


def costs(made: MadeUp) -> dict[str, list[str]]:
    table = next(table for table in analyse(made.evidence()).tables if "Sequential depth" in table.columns)
    return {row[1].text: [cell.text for cell in row[2:]] for row in table.rows} | {"note": [table.note]}


def test_costs_are_sums_over_members_and_depth_is_the_deepest_members() -> None:
    made = committees(MadeUp(asked("topics"), items=100), "topics", alone=0.5, together=0.6, deep=0.6)
    found = costs(made)
    assert found["deep, single"][:2] == ["1", "1.00"] and found["shallow, soft"][:2] == ["2", "2.00"]
    assert float(found["shallow, soft"][2]) == pytest.approx(
        float(found["a, single"][2]) + float(found["b, single"][2]), abs=0.11
    )
    assert [found[name][3] for name in ("deep, single", "shallow, soft", "a, single")] == ["38", "8", "8"]
    assert "not measured" in found["note"][0]


def test_latency_is_read_where_every_member_has_one() -> None:
    made = committees(MadeUp(asked("topics"), items=100), "topics", alone=0.5, together=0.6, deep=0.6)
    for arch, p50 in {"deep": 6.0, "a": 1.0, "b": 1.5}.items():
        made.run(
            "latency", {"p50_ms_1": p50, "p95_ms_1": 9.0, "p50_ms_64": 10 * p50, **FACTS}, task="topics", arch=arch
        )
    found = costs(made)
    assert found["deep, single"][4:] == ["6.00", "60.00"]
    assert found["shallow, soft"][4:] == ["2.50 (slowest member 1.50)", "25.00 (slowest member 15.00)"]
    assert "1 thread, float32, cpu (x86_64, 2 cores)" in found["note"][0]
    made = committees(MadeUp(asked("topics"), items=100), "topics", alone=0.5, together=0.6, deep=0.6)
    found = costs(made.run("latency", {"p50_ms_1": 1.0, **FACTS}, task="topics", arch="a"))
    assert found["a, single"][4:] == ["1.00"] and found["shallow, soft"][4:] == ["n/a"]


def test_a_plot_shows_both_committees_and_the_single_deep_model(laid_out: None) -> None:
    made = committees(MadeUp(asked("topics"), items=100), "topics", alone=0.5, together=0.6, deep=0.6)
    (plot,) = analyse(made.evidence()).plots
    assert plot.name == "made-up-topics" and all(label in plot.svg for label in ("shallow", "deep, single"))
