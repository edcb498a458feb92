"""The study of missing tokens says what was put into its evidence: what they cost, its trend, and the Ws it is worth."""

from __future__ import annotations

import pytest
from made_up import MadeUp, outcome, study

from tlm.report.comparison import compare
from tlm.results.missing_tokens import analyse
from tlm.study.config import StudyConfig
from tlm.study.treatments import MissingTokens

WS = 1600
COUNTS = (50, 100, 200)


def asked(*selections: str, counts: tuple[int, ...] = COUNTS) -> StudyConfig:
    """One architecture; tokens chosen in each of these ways, in growing numbers."""
    treatments = [MissingTokens(task="topics", ws=WS, count=n, selection=s) for s in selections for n in counts]
    return study(sizes=(0, 100, 400, WS), treatments=treatments, treatment_architectures=("shallow",))


def with_missing(made: MadeUp, selection: str, costs: tuple[float, ...], *, seeds: int = 3) -> MadeUp:
    """`costs` in shares of the items, one for each count."""
    for count, cost in zip(COUNTS, costs, strict=True):
        label = MissingTokens(task="topics", ws=WS, count=count, selection=selection).label
        made.finetuned("topics", "shallow", WS, 0.7 - cost, treatment=label, injected_tokens=float(count), seeds=seeds)
    return made


def natural(config: StudyConfig, *, seeds: int = 3, items: int = 1_000) -> MadeUp:
    made = MadeUp(config, items=items)
    for ws, accuracy in {0: 0.3, 100: 0.4, 400: 0.5, WS: 0.7}.items():
        made.finetuned("topics", "shallow", ws, accuracy, seeds=seeds)
    return made


def test_missing_tokens_that_cost_accuracy_are_found_and_worth_a_smaller_ws() -> None:
    findings = analyse(with_missing(natural(asked("random")), "random", (0.05, 0.1, 0.2)).evidence())
    assert outcome(findings, "200 missing tokens cost") == "reproduced"
    assert outcome(findings, "The more tokens", "random") == "reproduced"
    cost = next(verdict for verdict in findings.verdicts if "200 missing tokens cost" in verdict.claim)
    assert cost.figure.startswith("−") and f"instead of {WS:,}" in cost.figure and len(cost.links) == 6
    worth = [row[-1].text for row in findings.tables[0].rows]
    value, low, high = (float(end.strip(",[]")) for end in worth[-1].split(" (")[0].split())
    assert worth[0] == f"{WS:,}" and 250 < low < 350 < value < 450 < high < 700
    assert outcome(findings, "worth one much smaller", "random") == "reproduced"
    counts = [row[5].text for row in findings.tables[0].rows]
    assert counts == ["0", "50", "100", "200"]


def test_missing_tokens_that_help_are_not_reproduced() -> None:
    findings = analyse(with_missing(natural(asked("random")), "random", (-0.05, -0.1, -0.2)).evidence())
    assert outcome(findings, "200 missing tokens cost") == "not reproduced"
    assert outcome(findings, "The more tokens") == "not reproduced"
    assert findings.tables[0].rows[-1][-1].text == f"> {WS:,} [{WS:,}, no end] (3 seeds)"
    assert outcome(findings, "worth one much smaller") == "not reproduced"


def test_missing_tokens_without_effect_are_not_resolved() -> None:
    findings = analyse(with_missing(natural(asked("random")), "random", (0.0, 0.0, 0.0)).evidence())
    costs = [verdict.outcome for verdict in findings.verdicts if "worth" not in verdict.claim]
    assert set(costs) == {"undecided at this scale"}
    assert outcome(findings, "worth one much smaller") == "not reproduced"


def test_selections_are_judged_each_for_itself() -> None:
    made = natural(asked("random", "most_frequent"))
    with_missing(made, "random", (0.0, 0.0, 0.0))
    findings = analyse(with_missing(made, "most_frequent", (0.05, 0.1, 0.2)).evidence())
    assert outcome(findings, "200 missing tokens cost", "random") == "undecided at this scale"
    assert outcome(findings, "200 missing tokens cost", "most_frequent") == "reproduced"


def test_one_seed_is_never_resolved() -> None:
    made = with_missing(natural(asked("random"), seeds=1), "random", (0.1, 0.3, 0.6), seeds=1)
    assert {verdict.outcome for verdict in analyse(made.evidence()).verdicts} == {"undecided at this scale"}


def test_one_count_has_a_cost_and_no_trend() -> None:
    made = natural(asked("random", counts=(200,)))
    made.finetuned("topics", "shallow", WS, 0.4, treatment="random-unk-200", injected_tokens=200.0)
    verdicts = analyse(made.evidence()).verdicts
    assert [verdict.outcome for verdict in verdicts] == ["reproduced", "reproduced"]


@pytest.mark.parametrize("treated", [False, True])
def test_what_is_missing_is_said_and_breaks_nothing(treated: bool) -> None:
    """Nothing at all, or no untreated set to set the treated ones beside."""
    made = MadeUp(asked("random"))
    findings = analyse((with_missing(made, "random", (0.0, 0.1, 0.2)) if treated else made).evidence())
    assert {verdict.outcome for verdict in findings.verdicts} == {"not measured"}
    assert not analyse(MadeUp(study()).evidence()).verdicts


def test_a_family_is_corrected_together() -> None:
    """Ten selections without an effect: asked alone, one of them would be resolved."""
    selections = [f"selection{n}" for n in range(10)]
    config = asked(*selections, counts=(50,))
    made = natural(config, items=200)
    for each in config.treatments:
        made.finetuned("topics", "shallow", WS, 0.7, treatment=each.label, injected_tokens=50.0)
    evidence = made.evidence()
    plain = evidence.correct("topics", "shallow", WS)
    treated = [evidence.correct("topics", "shallow", WS, each.label) for each in config.treatments]
    alone = [compare([("alone", own, plain)])[0].p_value for own in treated]
    together = compare([(str(n), own, plain) for n, own in enumerate(treated)])
    assert min(p for p in alone if p is not None) < min(c.p_value for c in together if c.p_value is not None)
    shown = [row[7].text for row in analyse(evidence).tables[0].rows if row[5].text == "50"]
    assert shown == [comparison.text for comparison in together]


def test_a_plot_shows_each_selection_and_what_is_untreated(laid_out: None) -> None:
    made = with_missing(natural(asked("random")), "random", (0.05, 0.1, 0.2))
    (plot,) = analyse(made.evidence()).plots
    assert plot.name == f"made-up-topics-shallow-ws{WS}" and not plot.missing
    assert all(label in plot.svg for label in ("random, unk", "none missing", "scratch"))
