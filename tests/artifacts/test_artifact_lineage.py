"""Walks over what is made from what: they find all there is to find, and no more than look at each edge."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlm.artifacts.lineage import Graph, ancestors, descendants, in_order

DIAMOND = {"d": ("b", "c"), "b": ("a",), "c": ("a",), "a": ("outside",), "e": ()}


@pytest.mark.parametrize(
    ("keys", "below", "above"),
    [
        ({"a"}, {"a", "b", "c", "d"}, {"a", "outside"}),
        ({"b"}, {"b", "d"}, {"b", "a", "outside"}),
        ({"d", "e"}, {"d", "e"}, {"a", "b", "c", "d", "e", "outside"}),
        ({"outside"}, {"outside", "a", "b", "c", "d"}, {"outside"}),
        (set(), set(), set()),
    ],
)
def test_descendants_and_ancestors_of_a_diamond(keys: set[str], below: set[str], above: set[str]) -> None:
    assert descendants(DIAMOND, keys) == below
    assert ancestors(DIAMOND, keys) == above


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    size = draw(st.integers(1, 12))
    edges = {str(key): draw(st.sets(st.integers(0, key - 1))) if key else set() for key in range(size)}
    shuffled = draw(st.permutations(list(edges)))
    return {key: {str(other) for other in edges[key]} for key in shuffled}


@given(graphs())
def test_every_key_comes_once_and_after_its_inputs(graph: Graph) -> None:
    order = in_order(graph)
    assert sorted(order) == sorted(graph)
    assert all(order.index(other) < order.index(key) for key, others in graph.items() for other in others)


@given(graphs())
def test_what_is_below_one_is_what_it_is_above_of(graph: Graph) -> None:
    below = {key: descendants(graph, [key]) for key in graph}
    above = {key: ancestors(graph, [key]) for key in graph}
    assert all((other in below[key]) == (key in above[other]) for key in graph for other in graph)


class Counted(tuple[str, ...]):
    """Inputs that count how often one of them is looked at."""

    looks = 0

    def __iter__(self) -> Iterator[str]:
        for key in super().__iter__():
            Counted.looks += 1
            yield key


@pytest.mark.parametrize("walk", [descendants, ancestors])
def test_a_long_chain_takes_no_more_looks_than_a_few_for_each_edge(walk: object) -> None:
    """A pass over all of them for each level would take half a million."""
    chain = {str(i): Counted([str(i - 1)] if i else []) for i in reversed(range(1_000))}
    Counted.looks = 0
    assert len(walk(chain, ["0" if walk is descendants else "999"])) == 1_000  # type: ignore[operator]
    assert Counted.looks <= 3 * 1_000
