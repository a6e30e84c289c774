"""The order of the nodes in each column, so that few lines cross."""

from __future__ import annotations

import random

from openrnn.explain.views.layered import Layout, Node

_STARTS = 24  # orders from which the search starts, fewer of more than so many edges
_MANY = 150
_SWEEPS = 12


def order(found: Layout) -> None:
    """Orders the columns so that few lines cross: the best of many searches, always the same."""
    before, after = found.neighbours()
    chance = random.Random(0)  # no other random numbers are touched
    best, fewest = [list(column) for column in found.columns], float("inf")
    for start in range(max(_STARTS * _MANY // max(len(found.edges), _MANY), 2)):
        if start:
            for column in found.columns:
                chance.shuffle(column)
        for sweep in range(_SWEEPS):
            forward = sweep % 2 == 0
            columns = found.columns if forward else found.columns[::-1]
            for column in columns:
                _sort(column, before if forward else after, found)
            crossings = _crossings(found)
            if crossings < fewest:
                best, fewest = [list(column) for column in found.columns], crossings
        if fewest == 0:
            break
    found.columns[:] = best
    _exchange(found, fewest)


def _sort(column: list[Node], neighbours: dict[Node, list[Node]], found: Layout) -> None:
    places = {node: place for c in found.columns for place, node in enumerate(c)}

    def barycentre(node: Node) -> float:
        near = [places[n] for n in neighbours[node]]
        return sum(near) / len(near) if near else places[node]

    column.sort(key=lambda node: (node.lowest, barycentre(node)))


def _crossings(found: Layout) -> float:
    places = {node: place for c in found.columns for place, node in enumerate(c)}
    total = 0.0
    for edges in found.gaps():
        ends = sorted((places[left], places[right]) for left, right in edges)
        for number, (left, right) in enumerate(ends):
            total += sum(l > left and r < right for l, r in ends[number + 1 :])  # noqa: E741
    # Of equal orders that with the shorter way is better.
    slant = sum(abs(places[left] - places[right]) for left, right in found.edges)
    return total + slant * 1e-3


def _exchange(found: Layout, fewest: float) -> None:
    """Exchanges neighbours as long as that helps."""
    better = True
    while better:
        better = False
        for column in found.columns:
            for place in range(len(column) - 1):
                pair = column[place : place + 2]
                if pair[0].lowest != pair[1].lowest:
                    continue
                column[place : place + 2] = pair[::-1]
                crossings = _crossings(found)
                if crossings < fewest:
                    fewest, better = crossings, True
                else:
                    column[place : place + 2] = pair
