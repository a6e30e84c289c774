"""Sequences of different lengths, and cut by resets: pieces that share no state, longest first."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


class Steps:
    """How many rows each time step has: of ragged sequences some end before others."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self.total = sum(sizes)
        self.most = max(sizes)

    @cached_property
    def memory(self) -> array[int]:
        """The rows of each step, then for each step the rows before it."""
        return array("q", [*self.sizes, *accumulate(self.sizes, initial=0)])

    def last_rows(self, reverse: bool) -> Tensor:
        """The row, among all, of each sequence's last step in the order of the loop."""
        if reverse:
            return torch.arange(self.sizes[0])
        counts = torch.tensor(self.sizes)
        rows = torch.arange(self.sizes[0])
        lengths = len(self.sizes) - torch.searchsorted(counts.flip(0), rows, right=True)
        offsets = counts.cumsum(0) - counts
        return offsets[lengths - 1] + rows


@dataclass(frozen=True, eq=False)
class Ragged:
    """The pieces that a batch of sequences is cut into, longest first.

    A piece begins where its sequence does, or at a reset. It takes no state from another piece.

    steps: the rows of each time step, counted from the beginning of each piece.
    rows: for each row of the pieces its place among the user's rows; None: they lie as pieces do.
    owner: for each piece the sequence that it is of; None: piece i is sequence i.
    reset: for each piece whether it begins at a reset; None: none does.
    first, last: for each sequence its first and last piece; one without steps, number b, has
        number of pieces + b. None: sequence i has piece i.
    has_empty: whether there are sequences without steps.
    """

    steps: Steps
    rows: Tensor | None = None
    owner: Tensor | None = None
    reset: Tensor | None = None
    first: Tensor | None = None
    last: Tensor | None = None
    has_empty: bool = False

    @classmethod
    def packed(cls, packed: PackedSequence) -> Ragged:
        """Each sequence in one piece, in the order that it is packed in."""
        back = packed.unsorted_indices
        return cls(
            Steps(packed.batch_sizes.tolist()), None, packed.sorted_indices, None, back, back
        )

    def of_sorted(self, packed: PackedSequence) -> Ragged:
        """The same, where the sequences are those of a packed one in the order it is packed in."""
        order, back = packed.sorted_indices, packed.unsorted_indices
        if order is None or back is None:
            return self
        assert self.owner is not None
        assert self.first is not None
        assert self.last is not None
        return replace(self, owner=order[self.owner], first=self.first[back], last=self.last[back])

    def begin(
        self, states: tuple[Tensor, ...] | None, reset_to: tuple[Tensor, ...] | None, reverse: bool
    ) -> tuple[Tensor, ...] | None:
        """Each piece's initial state, from those of the sequences; None is for zeros.

        A piece that does not begin where the sequence does, in the order of the loop, begins with
        `reset_to`.
        """
        if self.reset is None or reset_to is states:
            if states is None or self.owner is None:
                return states
            return tuple(state.index_select(0, self.owner) for state in states)
        assert self.owner is not None
        assert self.last is not None
        states, reset_to = _both(states, reset_to)
        again = self.reset
        if reverse:
            again = torch.ones_like(again)
            again[self.last[self.last < len(again)]] = False
        index = self.owner + again * len(self.last)
        return tuple(
            torch.cat(pair).index_select(0, index) for pair in zip(states, reset_to, strict=True)
        )

    def end(
        self, final: tuple[Tensor, ...], states: tuple[Tensor, ...] | None, reverse: bool
    ) -> tuple[Tensor, ...]:
        """Each sequence's final state, from those of the pieces; `states` is where no step is."""
        ends = self.first if reverse else self.last
        if ends is None:
            return final
        if self.has_empty:
            if states is None:
                states = tuple(s.new_zeros(ends.size(0), s.size(1)) for s in final)
            final = tuple(torch.cat(pair) for pair in zip(final, states, strict=True))
        return tuple(state.index_select(0, ends) for state in final)


def _both(
    states: tuple[Tensor, ...] | None, others: tuple[Tensor, ...] | None
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Both, with zeros in the place of one that is None."""
    if states is None:
        assert others is not None
        states = tuple(map(torch.zeros_like, others))
    return states, others if others is not None else tuple(map(torch.zeros_like, states))


def cut(
    lengths: Tensor,
    reset: Tensor | None,
    offsets: Tensor,
    stride: int,
    device: torch.device,
) -> Ragged:
    """The pieces of sequences.

    Args:
        lengths: the steps of each sequence, (B,).
        reset: (T, B), whether a sequence is cut before a step; None: none is.
        offsets: the row of each step's first sequence among the user's rows, (T,).
        stride: from there, the rows from one sequence to the next.
        device: of the user's data.
    """
    # In NumPy, which takes a third of torch's time for arrays as small as these.
    ends = lengths.numpy()
    count = len(ends)
    if reset is None:
        (owner,) = ends.nonzero()
        start, end = np.zeros_like(owner), ends[owner]
        again = None
    else:
        cuts = reset.numpy().T
        begins = cuts.copy()
        begins[:, 0] = True
        begins &= np.arange(cuts.shape[1]) < ends[:, None]
        owner, start = begins.nonzero()
        end = ends[owner]
        inner = owner[1:] == owner[:-1]
        end[:-1][inner] = start[1:][inner]
        again = cuts[owner, start]
    sizes = end - start
    order = np.argsort(-sizes, kind="stable")
    owner, start, end = owner[order], start[order], end[order]
    pieces = len(order)
    # Of each step the pieces that are longer; no step at all is one without rows.
    steps = (pieces - np.bincount(sizes).cumsum())[:-1] if pieces else np.zeros(1, np.int64)
    time = np.arange(len(steps)).repeat(steps)
    piece = np.arange(len(time)) - (steps.cumsum() - steps).repeat(steps)
    rows = offsets.numpy()[start[piece] + time] + owner[piece] * stride
    places = np.arange(pieces)
    first = np.arange(pieces, pieces + count)
    last = first.copy()
    first[owner[start == 0]] = places[start == 0]
    finish = end == ends[owner]
    last[owner[finish]] = places[finish]

    def tensor(array: Any) -> Tensor:
        return torch.from_numpy(array).to(device)

    return Ragged(
        Steps(steps.tolist()),
        tensor(rows),
        tensor(owner),
        None if again is None else tensor(again[order]),
        tensor(first),
        tensor(last),
        has_empty=bool((ends == 0).any()),
    )
