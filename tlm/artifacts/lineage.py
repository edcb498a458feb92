"""What is made from what: walks over a graph of artifacts or steps, each in time linear in its nodes and edges."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from graphlib import TopologicalSorter

Graph = Mapping[str, Collection[str]]
"""Key → the keys of its inputs. An input that is no key of the graph has none itself."""


def in_order(graph: Graph) -> list[str]:
    """The graph's keys, each after its inputs."""
    return [key for key in TopologicalSorter(graph).static_order() if key in graph]


def descendants(graph: Graph, keys: Iterable[str]) -> set[str]:
    """These keys and those of everything made from them, directly or not."""
    found = set(keys)
    for key in in_order(graph):
        if not found.isdisjoint(graph[key]):
            found.add(key)
    return found


def ancestors(graph: Graph, keys: Iterable[str]) -> set[str]:
    """These keys and those of everything that they were made from, directly or not."""
    found = set(keys)
    for key in reversed(in_order(graph)):
        if key in found:
            found.update(graph[key])
    return found
