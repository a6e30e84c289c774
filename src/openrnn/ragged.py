"""Sequences of different lengths: sorted by length, longest first, their rows step by step."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


@lru_cache(maxsize=32)
def _times(count: int, between: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the steps, (T, 1), and `between` times these."""
    time = np.arange(count)[:, None]
    return time, time * between


class Steps:
    """How many rows each time step has: of ragged sequences some end before others.

    `resets`: for each row whether, before it, the state is replaced; None: for none.
    """

    def __init__(self, sizes: list[int], resets: Tensor | None = None) -> None:
        self.sizes = sizes
        self.total = sum(sizes)
        self.most = max(sizes)
        self.resets = resets
        # The rows of each step, then for each step the rows before it.
        self.memory = array("q", [*sizes, *accumulate(sizes, initial=0)])

    def with_resets(self, resets: Tensor) -> Steps:
        """The same steps, with resets."""
        found = Steps.__new__(Steps)  # nothing is counted again
        found.sizes, found.total, found.most = self.sizes, self.total, self.most
        found.resets, found.memory = resets, self.memory
        return found

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
    """A batch of sequences in the order of their lengths, longest first; those without steps go.

    sizes: the rows of each time step, B_0 ≥ B_1 ≥ ...
    rows: for each row its place among the user's rows; None: they lie as rows do here.
    order: for each sequence here its number in the user's batch; None: the same.
    back: for each sequence of the user's its number here; one without steps, number b, has the
        number of sequences here + b. None: the same.
    has_empty: whether there are sequences without steps.
    """

    sizes: list[int]
    rows: Tensor | None = None
    order: Tensor | None = None
    back: Tensor | None = None
    has_empty: bool = False

    @classmethod
    def packed(cls, packed: PackedSequence) -> Ragged:
        """As it is packed."""
        sizes = packed.batch_sizes.tolist()
        return cls(sizes, None, packed.sorted_indices, packed.unsorted_indices)

    @classmethod
    def padded(cls, lengths: list[int], between: int, stride: int, device: torch.device) -> Ragged:
        """Of padded sequences.

        Args:
            lengths: the steps of each, (B,).
            between: the user's rows from one step to the next.
            stride: from one sequence to the next.
            device: of the user's data.
        """
        order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)  # a stable sort
        count = len(lengths) - lengths.count(0)
        order = order[:count]
        back = list(range(count, count + len(lengths)))
        for number, place in enumerate(order):
            back[place] = number
        ends = [lengths[place] for place in order]
        sizes = list[int]()
        for number in reversed(range(count)):
            sizes += [number + 1] * (ends[number] - len(sizes))
        # In NumPy, which is quicker than torch for arrays as small as these.
        places = np.array(order, np.int64)
        time, starts = _times(len(sizes), between)
        rows = (starts + places * stride)[time < np.array(ends)]
        return cls(
            sizes or [0],  # no step at all is one without rows
            torch.from_numpy(rows).to(device),
            torch.from_numpy(places).to(device),
            torch.from_numpy(np.array(back)).to(device),
            count < len(lengths),
        )

    def sort(self, states: tuple[Tensor, ...] | None) -> tuple[Tensor, ...] | None:
        """The user's states, (B, H), in the order of the sequences here."""
        if states is None or self.order is None:
            return states
        return tuple(state.index_select(0, self.order) for state in states)

    def unsort(
        self, final: tuple[Tensor, ...], initial: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, ...]:
        """States in the order of the user's sequences; those without steps have the initial one."""
        if self.back is None:
            return final
        if self.has_empty:
            if initial is None:
                initial = tuple(s.new_zeros(self.back.size(0), s.size(1)) for s in final)
            pairs = zip(final, initial, strict=True)
            final = tuple(torch.cat((last, first.to(last.dtype))) for last, first in pairs)
        return tuple(state.index_select(0, self.back) for state in final)
