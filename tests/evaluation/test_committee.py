"""Committees: laws that hold for every rule, and hand computations for each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tlm.evaluation.committee import RULES, combine, disjoint

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(2, 4))
LOGITS = arrays(np.float64, SHAPES, elements=st.integers(-40, 40).map(lambda n: n / 4))


@pytest.mark.parametrize("rule", RULES)
@given(logits=LOGITS)
def test_a_committee_of_one_decides_as_its_member(rule: str, logits: np.ndarray) -> None:
    member = logits[:1] + np.arange(logits.shape[2]) * 1e-3  # no ties
    assert np.array_equal(combine(member, rule).argmax(axis=1), member[0].argmax(axis=1))


@pytest.mark.parametrize("rule", RULES)
@given(logits=LOGITS, seed=st.integers(0, 100))
def test_the_order_of_members_does_not_matter(rule: str, logits: np.ndarray, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(logits))
    np.testing.assert_allclose(combine(logits[order], rule), combine(logits, rule), atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
@given(logits=LOGITS)
def test_an_offset_of_a_members_logits_does_not_matter(rule: str, logits: np.ndarray) -> None:
    np.testing.assert_allclose(combine(logits + np.arange(len(logits))[:, None, None], rule), combine(logits, rule))


@given(logits=LOGITS)
def test_logit_ranks_as_the_mean_of_the_logits(logits: np.ndarray) -> None:
    mean = logits.mean(axis=0)
    np.testing.assert_allclose(np.diff(combine(logits, "logit"), axis=1), np.diff(mean, axis=1), atol=1e-9)


@given(logits=LOGITS)
def test_a_majority_wins_the_vote_whatever_the_confidence(logits: np.ndarray) -> None:
    choices = logits.argmax(axis=2)
    shares = np.stack([(choices == c).sum(axis=0) for c in range(logits.shape[2])], axis=1)
    chosen = combine(logits, "vote").argmax(axis=1)
    assert (shares[np.arange(len(chosen)), chosen] == shares.max(axis=1)).all()


def test_soft_is_the_mean_of_the_softmax_outputs() -> None:
    logits = np.log([[[0.7, 0.2, 0.1]], [[0.1, 0.6, 0.3]]]) + 5
    np.testing.assert_allclose(combine(logits, "soft"), [[0.4, 0.4, 0.2]])


def test_rules_can_disagree() -> None:
    logits = np.log([[[0.98, 0.02]], [[0.4, 0.6]], [[0.4, 0.6]]])
    decisions = {rule: int(combine(logits, rule)[0].argmax()) for rule in RULES}
    assert decisions == {"soft": 0, "logit": 0, "vote": 1}


def test_a_tied_vote_goes_to_the_class_with_more_confidence() -> None:
    logits = np.log([[[0.9, 0.1]], [[0.45, 0.55]]])
    assert combine(logits, "vote")[0].argmax() == 0
    assert combine(logits[:, :, ::-1], "vote")[0].argmax() == 1


def test_float32_logits_are_combined_in_float64() -> None:
    assert combine(np.zeros((2, 1, 3), dtype=np.float32), "soft").dtype == np.float64


@pytest.mark.parametrize("shape", [(0, 2, 2), (2, 2)])
def test_no_members_or_no_members_axis_is_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least one member"):
        combine(np.zeros(shape), "soft")


# --- committees of every size ---


@given(members=st.integers(1, 60), size=st.integers(1, 60))
def test_disjoint_committees_are_as_many_as_fit_each_of_its_size_in_the_members_order(members: int, size: int) -> None:
    groups = [list(range(members))[group] for group in disjoint(members, size)]
    assert all(len(group) == size for group in groups)
    assert [member for group in groups for member in group] == list(range(size * (members // size)))


@given(members=st.integers(1, 60))
def test_the_largest_committee_is_of_all_members_and_the_smallest_are_each_of_one(members: int) -> None:
    everyone = list(range(members))
    assert [everyone[group] for group in disjoint(members, members)] == [everyone]
    assert [everyone[group] for group in disjoint(members, 1)] == [[member] for member in everyone]


@pytest.mark.parametrize("rule", RULES)
@given(logits=LOGITS)
def test_committees_of_one_and_of_all_are_the_members_and_the_whole(rule: str, logits: np.ndarray) -> None:
    exact = logits + np.arange(logits.shape[2]) * 1e-3  # no ties
    for member, group in enumerate(disjoint(len(exact), 1)):
        assert np.array_equal(combine(exact[group], rule).argmax(axis=1), exact[member].argmax(axis=1))
    [whole] = disjoint(len(exact), len(exact))
    assert np.array_equal(combine(exact[whole], rule), combine(exact, rule))
