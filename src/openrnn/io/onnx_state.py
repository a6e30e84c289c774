"""States of cells as values of an ONNX graph, alone or several in one, and where they end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from openrnn.io.onnx_nodes import Nodes


@dataclass(frozen=True)
class State:
    """A state of one cell.

    value: its name in the graph.
    index: which of the states in a value of (of_all, B, H) it is; None of a value of (B, H).
    """

    value: str
    index: int | None = None
    of_all: int = 1

    def alone(self, nodes: Nodes) -> str:
        """The state as (B, H)."""
        if self.index is None:
            return self.value
        if self.of_all == 1:
            return nodes("Squeeze", self.value, nodes.ints(0))
        return nodes("Gather", self.value, nodes.number(self.index, torch.int64), axis=0)


def together(nodes: Nodes, states: Sequence[State]) -> str:
    """States as one value, (their number, B, H)."""
    first = states[0]
    places = [state.index for state in states]
    if {state.value for state in states} == {first.value} and None not in places:
        start, stop = places[0], places[-1]
        assert start is not None
        assert stop is not None
        if places == list(range(start, stop + 1)):
            if len(states) == first.of_all:
                return first.value
            return nodes("Slice", first.value, nodes.ints(start), nodes.ints(stop + 1))
    rows = [nodes("Unsqueeze", state.alone(nodes), nodes.ints(0)) for state in states]
    return rows[0] if len(rows) == 1 else nodes("Concat", *rows, axis=0)


@dataclass(frozen=True)
class Ends:
    """Where the sequences of a batch end.

    lengths, short: (B) int64, and int32.
    within: (T, B, 1) bool, whether a step is one of a sequence's.
    some: (B, 1) bool, whether a sequence has a step.
    """

    lengths: str
    short: str
    within: str
    some: str

    @classmethod
    def of(cls, nodes: Nodes, lengths: str, x: str) -> Ends:
        """From the lengths, (B) int64, of x (T, B, features)."""
        steps = nodes("Squeeze", nodes("Shape", x, start=0, end=1), nodes.ints(0))
        zero, one = (nodes.number(i, torch.int64) for i in (0, 1))
        numbers = nodes("Unsqueeze", nodes("Range", zero, steps, one), nodes.ints(1, 2))
        within = nodes("Less", numbers, nodes("Unsqueeze", lengths, nodes.ints(0, 2)))
        some = nodes("Unsqueeze", nodes("Greater", lengths, zero), nodes.ints(1))
        return cls(lengths, nodes("Cast", lengths, to=nodes.kind(torch.int32)), within, some)

    def cut(self, nodes: Nodes, value: str, dtype: torch.dtype) -> str:
        """A value of (T, B, features) with 0 behind the ends."""
        return nodes("Where", self.within, value, nodes.number(0, dtype))

    def last(self, nodes: Nodes, value: str, initial: str) -> str:
        """A last state, (B, H) or (D, B, H): the initial one of a sequence without steps."""
        return nodes("Where", self.some, value, initial)
