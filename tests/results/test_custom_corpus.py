"""The study of chosen pre-training sets says what was put into its evidence."""

from __future__ import annotations

from made_up import MadeUp, outcome, study

from tlm.report.comparison import compare
from tlm.results.custom_corpus import analyse
from tlm.study.config import StudyConfig
from tlm.study.treatments import Sampled

WS = 400


def asked(*samplers: str) -> StudyConfig:
    treatments = [Sampled(task="topics", ws=WS, sampler=sampler) for sampler in samplers]
    return study(sizes=(0, WS), treatments=treatments, treatment_architectures=("shallow",))


def chosen(config: StudyConfig, accuracies: dict[str | None, float], *, seeds: int = 3, items: int = 1_000) -> MadeUp:
    """The accuracy of each sampler's set, None being the random one."""
    made = MadeUp(config, items=items)
    for place, (label, accuracy) in enumerate(accuracies.items()):
        recorded = {"type_overlap": 0.5 + place / 10, "occurrence_overlap": 0.9, "heldout_loss": 5.25}
        made.finetuned("topics", "shallow", WS, accuracy, treatment=label, seeds=seeds, **recorded)
    return made


def test_samplers_are_judged_by_the_sign_of_their_difference() -> None:
    config = asked("coverage", "bm25", "least_overlap")
    made = chosen(config, {None: 0.5, "coverage": 0.7, "bm25": 0.5, "least_overlap": 0.3})
    findings = analyse(made.evidence())
    assert outcome(findings, "coverage") == "yes"
    assert outcome(findings, "bm25") == "undecided at this scale"
    assert outcome(findings, "least_overlap") == "no"
    assert [row[3].text for row in findings.tables[0].rows] == ["random", "coverage", "bm25", "least_overlap"]
    assert [row[4].text for row in findings.tables[0].rows] == ["50.0", "60.0", "70.0", "80.0"]
    assert {row[6].text for row in findings.tables[0].rows} == {"5.25"}
    assert findings.verdicts[0].figure.startswith("+") and findings.verdicts[2].figure.startswith("−")
    assert len(findings.verdicts[0].links) == 6 and findings.verdicts[0].paper == "n/a"


def test_one_seed_is_never_resolved() -> None:
    made = chosen(asked("coverage"), {None: 0.2, "coverage": 0.9}, seeds=1)
    assert outcome(analyse(made.evidence()), "coverage") == "undecided at this scale"


def test_without_the_random_set_or_the_chosen_one_nothing_is_measured() -> None:
    for accuracies in ({}, {None: 0.5}, {"coverage": 0.5}):
        findings = analyse(chosen(asked("coverage"), accuracies).evidence())
        assert outcome(findings, "coverage") == "not measured"
    findings = analyse(MadeUp(study()).evidence())
    assert not findings.verdicts and not findings.plots


def test_the_samplers_are_one_family() -> None:
    samplers = [f"sampler{n}" for n in range(8)]
    made = chosen(asked(*samplers), {None: 0.5, **dict.fromkeys(samplers, 0.5)}, items=200)
    evidence = made.evidence()
    plain = evidence.correct("topics", "shallow", WS)
    family = [(s, evidence.correct("topics", "shallow", WS, s), plain) for s in samplers]
    together = [comparison.text for comparison in compare(family)]
    assert together != [compare([question])[0].text for question in family]
    findings = analyse(evidence)
    assert [verdict.figure for verdict in findings.verdicts] == together
    assert {verdict.outcome for verdict in findings.verdicts} == {"undecided at this scale"}


def test_a_plot_has_every_sampler_beside_random(laid_out: None) -> None:
    made = chosen(asked("coverage", "bm25"), {None: 0.5, "coverage": 0.7})
    (plot,) = analyse(made.evidence()).plots
    assert plot.name == f"made-up-topics-ws{WS}" and not plot.missing
    assert all(label in plot.svg for label in ("random", "coverage", "bm25"))
