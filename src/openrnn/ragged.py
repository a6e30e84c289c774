"""Sequences of different lengths: taken in the order of their lengths, longest first."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


class Steps:
    """How many rows each time step has, of ragged sequences some end before others, and where.

    sizes: the rows of each step.
    resets: for each row whether, before it, the state is replaced; None: for none.
    ragged: where rows and states lie, if not as they come.
    shape, state_shape: those of arrays and of states that are as the user's, without the features.
        Default: (rows) and (sequences).
    """

    def __init__(
        self,
        sizes: list[int],
        ragged: Ragged | None = None,
        shape: tuple[int, ...] | None = None,
        state_shape: tuple[int, ...] | None = None,
    ) -> None:
        self.sizes = sizes
        self.total = sum(sizes)
        self.most = max(sizes)
        self.resets: Tensor | None = None
        self.ragged = ragged
        self.shape = (self.total,) if shape is None else shape
        self.state_shape = (self.sequences,) if state_shape is None else state_shape
        # The rows of each step, for each step the rows before it, and the order of the sequences.
        order = (ragged and ragged.order) or ()
        self.memory = array("q", [*sizes, *accumulate(sizes, initial=0), *order])

    def with_resets(self, resets: Tensor) -> Steps:
        """The same steps, with resets."""
        found = Steps.__new__(Steps)  # nothing is counted again
        found.__dict__ = self.__dict__ | {"resets": resets}
        return found

    @property
    def sequences(self) -> int:
        """The rows of a state, those of sequences without steps among them."""
        order = None if self.ragged is None else self.ragged.order
        return self.most if order is None else len(order)

    def packed(self) -> Steps:
        """The same steps, of packed data whose states are sorted as it is."""
        found = Steps.__new__(Steps)
        found.__dict__ = self.__dict__ | {"ragged": None}
        found.shape, found.state_shape = (found.total,), (found.most,)
        return found

    def rows_before(self, reverse: bool) -> Tensor:
        """For each row, among all, that of the step before of its sequence.

        Where a sequence begins it is the number of its state among initial ones, that follow all
        rows, and where a reset was, among those that follow these.

        Args:
            reverse: the loop takes the last step first.
        """
        counts = np.array(self.sizes)
        offsets = counts.cumsum() - counts
        steps = np.repeat(np.arange(len(counts)), counts)
        numbers = np.arange(self.total) - offsets[steps]
        before = steps + (1 if reverse else -1)
        inside = (before >= 0) & (before < len(counts))
        before = before.clip(0, len(counts) - 1)
        inside &= numbers < counts[before]
        rows = torch.from_numpy(np.where(inside, offsets[before], self.total) + numbers)
        if self.resets is None:
            return rows
        again = torch.from_numpy(numbers) + self.total + self.most
        return torch.where(self.resets.cpu(), again, rows)

    def last_rows(self, reverse: bool) -> Tensor:
        """The row, among all, of each sequence's last step in the order of the loop."""
        if reverse:
            return torch.arange(self.sizes[0], device="cpu")
        counts = torch.tensor(self.sizes, device="cpu")
        rows = torch.arange(self.sizes[0], device="cpu")
        lengths = len(self.sizes) - torch.searchsorted(counts.flip(0), rows, right=True)
        offsets = counts.cumsum(0) - counts
        return offsets[lengths - 1] + rows


@dataclass(frozen=True, eq=False)
class Ragged:
    """A batch of sequences in the order of their lengths, longest first.

    Data is packed, with the rows of a step behind those of the step before, or padded: then row
    t·between + b·stride is step t of the user's sequence b.

    sizes: the sequences that have each time step, B_0 ≥ B_1 ≥ ...; [0] if none has any.
    order: for each sequence its number in the user's batch, those without steps last; None: the
        same.
    between: the rows of padded data from one step to the next; 0 for packed data.
    stride: the rows of padded data from one sequence to the next.
    """

    sizes: list[int]
    order: list[int] | None = None
    between: int = 0
    stride: int = 0

    @classmethod
    def packed(cls, packed: PackedSequence) -> Ragged:
        """As it is packed."""
        order = packed.sorted_indices
        return cls(packed.batch_sizes.tolist(), None if order is None else order.tolist())

    @classmethod
    def padded(cls, lengths: list[int], between: int, stride: int) -> Ragged:
        """Of padded sequences.

        Args:
            lengths: the steps of each, (B,).
            between, stride: see `Ragged`.
        """
        order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)  # a stable sort
        sizes = list[int]()
        for number in reversed(range(len(order) - lengths.count(0))):
            sizes += [number + 1] * (lengths[order[number]] - len(sizes))
        return cls(sizes or [0], order, between, stride)

    @property
    def is_packed(self) -> bool:
        """Whether rows and states lie in the order of the lengths, one behind the other."""
        return self.order is None and self.between == 0

    @cached_property
    def rows(self) -> Tensor:
        """For each row of packed data its place in the padded data."""
        steps, numbers = self.places()
        return steps * self.between + numbers * self.stride

    def places(self) -> tuple[Tensor, Tensor]:
        """For each row of packed data its step, and the user's number of its sequence."""
        # In NumPy, which is quicker than torch for arrays as small as these.
        there = np.arange(self.sizes[0]) < np.array(self.sizes)[:, None]
        steps, numbers = np.nonzero(there)  # in the order of rows: step by step
        if self.order is not None:
            numbers = np.array(self.order, np.int64)[numbers]
        return torch.from_numpy(steps), torch.from_numpy(numbers)

    def pack(self, data: Tensor) -> Tensor:
        """The rows of padded data, packed; packed data as it is."""
        return data.index_select(0, self.rows.to(data.device)) if self.between else data

    def pad(self, data: Tensor, count: int) -> Tensor:
        """The inverse, with so many rows, zeros where no step is."""
        if not self.between:
            return data
        return data.new_zeros(count, *data.shape[1:]).index_add_(0, self.rows.to(data.device), data)

    def clear(self, data: Tensor) -> Tensor:
        """The data, with zeros where no step is."""
        if not self.between:
            return data
        there = torch.zeros(data.size(0), 1, dtype=torch.bool, device="cpu")
        there[self.rows] = True
        return torch.where(there.to(data.device), data, 0)

    def sort(self, state: Tensor) -> Tensor:
        """A state of the user's, (B, H), in the order of the sequences; those without steps go."""
        if self.order is None:
            return state
        return state.index_select(0, _index(self.order[: self.sizes[0]], state.device))

    def unsort(self, state: Tensor, initial: Tensor | None) -> Tensor:
        """The inverse; sequences without steps have the user's initial state, None for zeros."""
        if self.order is None:
            return state
        without = self.order[self.sizes[0] :]
        if without:
            rows = state.new_zeros(len(without), state.size(1))
            if initial is not None:
                rows = initial.index_select(0, _index(without, state.device)).to(state.dtype)
            state = torch.cat((state, rows))
        places = [0] * len(self.order)
        for place, number in enumerate(self.order):
            places[number] = place
        return state.index_select(0, _index(places, state.device))


def _index(numbers: list[int], device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(numbers, np.int64)).to(device)
