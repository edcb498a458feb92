"""How much of the gap is word order: what is found is what was put in."""

from __future__ import annotations

import pytest
from made_up import MadeUp, study

from tlm.report.evidence import Evidence
from tlm.report.findings import Findings
from tlm.results.word_order import analyse
from tlm.statistics import difference_p_value, holm

SHUFFLED = [{"kind": "shuffled", "ws": 400, "scope": scope} for scope in ("sentence", "corpus")]


def measured(
    *,
    scratch: float = 0.4,
    natural: float = 0.7,
    sentence: float | None,
    corpus: float | None,
    seeds: int = 3,
    seed: int = 0,
    items: int = 2_000,
) -> Evidence:
    made = MadeUp(study(treatments=SHUFFLED, treatment_architectures=("shallow",)), items=items, seed=seed)
    accuracies = [(0, None, scratch), (400, None, natural)]
    accuracies += [(400, "shuffled-sentence", sentence), (400, "shuffled-corpus", corpus)]
    for ws, treatment, accuracy in accuracies:
        if accuracy is not None:
            made.finetuned("topics", "shallow", ws, accuracy, treatment=treatment, seeds=seeds, spread=0.004)
    return made.evidence()


def outcome(findings: Findings, beginning: str, words: str) -> str:
    (found,) = [v.outcome for v in findings.verdicts if v.claim.startswith(beginning) and words in v.claim]
    return found


def test_a_gap_that_survives_in_part(laid_out: None) -> None:
    findings = analyse(measured(sentence=0.68, corpus=0.5))
    assert outcome(findings, "The gap survives", "within sentences") == "yes"
    assert outcome(findings, "The gap survives", "over the whole corpus") == "yes"
    assert outcome(findings, "The gap is smaller", "over the whole corpus") == "yes"
    (table,) = findings.tables
    corpus = table.rows[1]
    share = float(corpus[-1].text.split()[0])
    assert share == pytest.approx(33, abs=8)  # (50 − 40) / (70 − 40)
    assert all(plot.png for plot in findings.plots)
    assert all(verdict.links for verdict in findings.verdicts)


def test_nothing_remains_and_order_does_not_matter() -> None:
    findings = analyse(measured(sentence=0.7, corpus=0.4))
    assert outcome(findings, "The gap is smaller", "within sentences") == "undecided at this scale"
    assert outcome(findings, "The gap survives", "over the whole corpus") == "undecided at this scale"


def test_shuffling_that_helps_is_a_no() -> None:
    findings = analyse(measured(sentence=0.8, corpus=0.3))
    assert outcome(findings, "The gap is smaller", "within sentences") == "no"
    assert outcome(findings, "The gap survives", "over the whole corpus") == "no"


def test_without_a_gap_there_is_no_share_of_it() -> None:
    findings = analyse(measured(natural=0.4, sentence=0.4, corpus=0.4))
    assert {verdict.outcome for verdict in findings.verdicts} == {"undecided at this scale"}
    assert [row[-1].text for row in findings.tables[0].rows] == ["n/a", "n/a"]


def test_one_seed_resolves_nothing() -> None:
    findings = analyse(measured(sentence=0.6, corpus=0.5, seeds=1))
    assert {verdict.outcome for verdict in findings.verdicts} == {"undecided at this scale"}


def test_what_is_missing_is_not_measured() -> None:
    findings = analyse(measured(sentence=0.68, corpus=None))
    assert outcome(findings, "The gap survives", "over the whole corpus") == "not measured"
    assert outcome(findings, "The gap survives", "within sentences") == "yes"
    assert [v.outcome for v in analyse(MadeUp(study()).evidence()).verdicts] == ["not measured"]
    assert {v.outcome for v in analyse(MadeUp(study(treatments=SHUFFLED)).evidence()).verdicts} == {"not measured"}


def test_questions_about_a_task_are_corrected_together() -> None:
    """What would be a claim if it had been asked alone is none among five questions."""
    evidence = measured(scratch=0.5, natural=0.7, sentence=0.64, corpus=0.7, seed=10, items=600)
    places = ((0, None), (400, None), (400, "shuffled-sentence"), (400, "shuffled-corpus"))
    scratch, natural, sentence, corpus = (evidence.correct("topics", "shallow", *each) for each in places)
    pairs = ((natural, scratch), (sentence, scratch), (sentence, natural), (corpus, scratch), (corpus, natural))
    raw = [difference_p_value(a, b) for a, b in pairs]
    assert raw[2] < 0.05 < holm(raw)[2]
    assert outcome(analyse(evidence), "The gap is smaller", "within sentences") == "undecided at this scale"
