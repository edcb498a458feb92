"""The Ws sweep says what was put into its evidence: gaps, their growth, shares of the largest one."""

from __future__ import annotations

import numpy as np
import pytest
from made_up import MadeUp, outcome, study

from tlm.report.comparison import compare
from tlm.report.findings import Outcome
from tlm.results.ws_sweep import analyse
from tlm.statistics import difference, difference_p_value, mean_accuracy
from tlm.statistics.contrast import contrast, contrast_p_value, share_of_gap

SIZES = (0, 100, 400, 1600)
FALSE_ALARM = 0
"""A seed of the made-up evidence at which chance alone looks like an effect."""


def swept(
    accuracies: dict[int, float], *, seeds: int = 3, sizes: tuple[int, ...] = SIZES, items: int = 2_000
) -> MadeUp:
    made = MadeUp(study(sizes=sizes), items=items)
    for ws, accuracy in accuracies.items():
        made.finetuned("topics", "shallow", ws, accuracy, seeds=seeds)
    return made


def test_a_gap_that_grows_is_found_with_its_sign() -> None:
    findings = analyse(swept({0: 0.4, 100: 0.42, 400: 0.5, 1600: 0.6}).evidence())
    assert outcome(findings, "helps shallow") == "reproduced"
    assert outcome(findings, "gap of shallow", "grows") == "reproduced"
    helps = next(verdict for verdict in findings.verdicts if "helps shallow" in verdict.claim)
    assert helps.figure.startswith("+") and "3 seeds" in helps.figure and len(helps.links) == 6


def test_pre_training_that_hurts_is_not_reproduced() -> None:
    findings = analyse(swept({0: 0.6, 100: 0.6, 400: 0.55, 1600: 0.4}).evidence())
    assert outcome(findings, "helps shallow") == "not reproduced"
    assert outcome(findings, "gap of shallow", "grows") == "not reproduced"


def test_no_effect_is_not_resolved() -> None:
    findings = analyse(swept(dict.fromkeys(SIZES, 0.5)).evidence())
    assert outcome(findings, "helps shallow") == "undecided at this scale"
    assert outcome(findings, "gap of shallow", "grows") == "undecided at this scale"


def test_one_seed_is_never_resolved() -> None:
    findings = analyse(swept({0: 0.2, 100: 0.5, 400: 0.7, 1600: 0.9}, seeds=1).evidence())
    assert outcome(findings, "helps shallow") == "undecided at this scale"
    assert outcome(findings, "gap of shallow", "grows") == "undecided at this scale"


@pytest.mark.parametrize("sizes", [SIZES, (0,), (400,)])
def test_nothing_measured_is_said_and_breaks_nothing(sizes: tuple[int, ...]) -> None:
    findings = analyse(MadeUp(study(sizes=sizes)).evidence())
    assert {verdict.outcome for verdict in findings.verdicts} == {"not measured"}
    assert all(plot.missing for plot in findings.plots)


def test_an_architecture_without_scratch_is_not_measured_beside_one_with() -> None:
    made = swept({0: 0.4, 100: 0.5, 400: 0.55, 1600: 0.7}).finetuned("topics", "deep", 1600, 0.7)
    findings = analyse(made.evidence())
    assert outcome(findings, "helps deep") == "not measured"
    assert outcome(findings, "helps shallow") == "reproduced"


def test_a_family_is_corrected_together() -> None:
    """Ten tasks without an effect: asked alone, one of them would be resolved."""
    tasks = tuple(f"task{n}" for n in range(10))
    made = MadeUp(study(sizes=(0, 100), tasks=tasks), items=200, seed=FALSE_ALARM)
    for task in tasks:
        made.finetuned(task, "shallow", 0, 0.5).finetuned(task, "shallow", 100, 0.5)
    evidence = made.evidence()
    alone = [compare([(t, evidence.correct(t, "shallow", 100), evidence.correct(t, "shallow", 0))])[0] for t in tasks]
    assert any(comparison.resolved for comparison in alone)
    outcomes = {verdict.outcome for verdict in analyse(evidence).verdicts if "helps shallow" in verdict.claim}
    assert outcomes == {"undecided at this scale"}


@pytest.mark.parametrize(
    ("share", "items", "expected"),
    [(0.7, 8_000, "reproduced"), (0.98, 8_000, "not reproduced"), (0.9, 300, "undecided at this scale")],
)
def test_table_3_is_judged_by_the_whole_interval(share: float, items: int, expected: Outcome) -> None:
    """Ws = 90,000 reaches `share` of a gap of 50 points; the paper says 50 to 90 %."""
    made = MadeUp(study(sizes=(0, 90_000, 500_000)), items=items)
    for ws, accuracy in ((0, 0.4), (90_000, 0.4 + 0.5 * share), (500_000, 0.9)):
        made.finetuned("topics", "shallow", ws, accuracy, spread=0.002)
    assert outcome(analyse(made.evidence()), "Ws = 90,000 reaches", "shallow") == expected


def test_table_3_is_not_measured_at_smaller_sizes_but_shares_are_shown() -> None:
    findings = analyse(swept({0: 0.3, 100: 0.4, 400: 0.5, 1600: 0.7}).evidence())
    assert outcome(findings, "Ws = 90,000") == "not measured"
    shares = [row[-1].text for row in findings.tables[0].rows if row[1].text == "shallow"]
    assert shares[0] == "n/a" and shares[-1] == "100 (by definition)"
    assert shares[2].startswith(("4", "5")) and "3 seeds" in shares[2]


def test_of_a_gap_that_is_not_resolved_there_are_no_shares() -> None:
    table = analyse(swept({0: 0.5, 100: 0.5, 400: 0.5, 1600: 0.5}).evidence()).tables[0]
    rows = [row for row in table.rows if row[1].text == "shallow"]
    assert rows[-1][-2].text.endswith("not resolved")
    assert [row[-1].text for row in rows] == ["n/a"] * 4


def test_items_that_the_pre_training_set_holds_are_counted_and_left_out() -> None:
    made = MadeUp(study(sizes=(0, 100)), items=1_000).duplicates("topics", 100, 0.25)
    made.finetuned("topics", "shallow", 0, 0.4).finetuned("topics", "shallow", 100, 0.6)
    evidence = made.evidence()
    table = next(table for table in analyse(evidence).tables if "Near-duplicates, %" in table.columns)
    row = next(row for row in table.rows if row[1].text == "shallow")
    correct = evidence.correct("topics", "shallow", 100)
    assert correct is not None
    assert row[2].text == "25.0"
    assert row[3].text == mean_accuracy(correct[:, 250:]).text() != mean_accuracy(correct).text()


def test_plots_are_drawn_and_named_after_the_study(really_drawn: None) -> None:
    made = swept({0: 0.4, 100: 0.5, 400: 0.55, 1600: 0.6}).baseline("topics", "tfidf", 0.5)
    plots = {plot.name: plot for plot in analyse(made.evidence()).plots}
    assert set(plots) == {"made-up-topics", "made-up-gap"}
    assert all(plot.png and not plot.missing for plot in plots.values())
    assert "TF-IDF" in plots["made-up-topics"].svg and "shallow, scratch" in plots["made-up-topics"].svg


# --- what it computes with: contrasts and ratios ---


def systems(*accuracies: float, seed: int = 0, seeds: int = 3, items: int = 400) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    ease = generator.uniform(-0.2, 0.2, items)
    own = [generator.normal(0, 0.02, (seeds, 1)) for _ in accuracies]
    return [generator.random((seeds, items)) < a + e + ease for a, e in zip(accuracies, own, strict=True)]


def test_a_contrast_of_two_is_their_difference() -> None:
    a, b = systems(0.6, 0.5)
    found, expected = contrast([a, b], [1, -1]), difference(a, b)
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))
    assert contrast_p_value([a, b], [1, -1]) == pytest.approx(difference_p_value(a, b))


def test_a_contrast_scales_with_its_weights_and_its_test_does_not() -> None:
    some = systems(0.4, 0.5, 0.7)
    small, large = contrast(some, [-1, 0, 1]), contrast(some, [-5, 0, 5])
    assert (large.value, large.half_width) == pytest.approx((5 * small.value, 5 * small.half_width))
    assert contrast_p_value(some, [-1, 0, 1]) == pytest.approx(contrast_p_value(some, [-5, 0, 5]))


def test_fiellers_interval_ends_where_the_contrast_is_just_resolved() -> None:
    part, whole, base = systems(0.5, 0.65, 0.35)
    share = share_of_gap(part, whole, base)
    assert share is not None and share.low < share.value < share.high
    for end in (share.low, share.high):
        found = contrast([part, whole, base], [1, -end, end - 1])
        assert abs(found.value) == pytest.approx(found.half_width, abs=1e-6)


def test_fiellers_interval_covers_the_true_share() -> None:
    shares = [share_of_gap(*systems(0.5, 0.65, 0.35, seed=seed, items=300)) for seed in range(100)]
    covered = [share.low <= 0.5 <= share.high for share in shares if share is not None]
    assert len(covered) > 90 and np.mean(covered) > 0.9


def test_a_gap_that_is_not_resolved_has_no_shares() -> None:
    assert share_of_gap(*systems(0.5, 0.5, 0.5)) is None


def test_a_share_of_systems_that_do_not_vary_is_exact() -> None:
    part, whole, base = np.ones((3, 4)), np.ones((3, 4)), np.zeros((3, 4))
    share = share_of_gap(part, whole, base)
    assert share is not None and (share.value, share.low, share.high) == (1.0, 1.0, 1.0)


def test_what_matched_systems_share_by_their_seeds_cancels() -> None:
    generator = np.random.default_rng(3)
    luck = generator.normal(0, 0.1, (5, 1))
    a, b = (generator.random((5, 400)) < accuracy + luck for accuracy in (0.6, 0.5))
    apart, together = difference(a, b), difference(a, b, matched=True)
    assert apart.value == together.value and together.seeds == 5
    assert together.half_width < apart.half_width / 2
    assert difference_p_value(a, b, matched=True) < difference_p_value(a, b)
    assert difference(a, a, matched=True).half_width == 0


def test_matched_intervals_cover_as_often_as_they_say() -> None:
    covered = []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        luck, ease = generator.normal(0, 0.05, (3, 1)), generator.uniform(-0.2, 0.2, 200)
        a, b = (generator.random((3, 200)) < 0.5 + gain + luck + ease for gain in (0.05, 0.0))
        found = difference(a, b, matched=True)
        covered.append(found.low <= 0.05 <= found.high)
    assert 0.91 <= np.mean(covered) <= 0.99


def test_systems_of_different_numbers_of_seeds_are_not_matched() -> None:
    with pytest.raises(ValueError, match=r"\[3, 2\] repetitions"):
        difference(np.ones((3, 4)), np.ones((2, 4)), matched=True)


def test_weights_that_do_not_match_are_an_error() -> None:
    with pytest.raises(ValueError, match="2 systems and 3 weights"):
        contrast(systems(0.5, 0.6), [1, -1, 0])
    with pytest.raises(ValueError, match="1 seed"):
        contrast_p_value(systems(0.5, 0.6, seeds=1), [1, -1])


def test_an_architecture_of_fewer_sizes_is_judged_at_its_own() -> None:
    made = MadeUp(study(sizes=SIZES, architecture_sizes={"deep": (400, 1600)}), items=2_000)
    for ws, accuracy in {0: 0.4, 400: 0.42, 1600: 0.6}.items():
        made.finetuned("topics", "deep", ws, accuracy)
    findings = analyse(made.evidence())
    assert outcome(findings, "gap of deep", "grows from Ws = 400 to 1,600") == "reproduced"
    rows = [(row[1].text, row[2].text) for row in findings.tables[0].rows if row[1].text == "deep"]
    assert rows == [("deep", "0 (scratch)"), ("deep", "400"), ("deep", "1,600")]
