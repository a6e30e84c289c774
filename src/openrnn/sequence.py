"""One description of time: a batch of sequences, however the user laid it out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from openrnn.errors import ShapeError


class Steps:
    """How many rows each time step has: of packed sequences some end before others."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self.total = sum(sizes)
        self.most = max(sizes)

    def last_rows(self, reverse: bool) -> Tensor:
        """The row, among all, of each sequence's last step in the order of the loop."""
        if reverse:
            return torch.arange(self.sizes[0])
        counts = torch.tensor(self.sizes)
        lengths = (counts.unsqueeze(1) > torch.arange(self.sizes[0])).sum(0)
        offsets = counts.cumsum(0) - counts
        return offsets[lengths - 1] + torch.arange(self.sizes[0])


@lru_cache(maxsize=256)
def _like_steps(count: int, rows: int) -> Steps:
    """Of a batch whose sequences are of one length: the same object for the same numbers."""
    return Steps([rows] * count)


@dataclass(frozen=True, eq=False)
class Sequence:
    """A batch of sequences with time first, and the way back to the user's layout.

    Dense, `data` is (T, B, features). Packed, the sequences are sorted by length, longest first,
    and `data` is (N, features) with the B_0 rows of step 0, then the B_1 rows of step 1, and so on;
    `batch_sizes` holds B_0 ≥ B_1 ≥ ...
    """

    data: Tensor
    batch_sizes: Tensor | None = None
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None
    batch_first: bool = False
    batched: bool = True

    @classmethod
    def read(cls, input: Tensor | PackedSequence, *, batch_first: bool, owner: str) -> Sequence:
        """Takes the user's input apart; `owner` is the layer that error messages name."""
        if isinstance(input, PackedSequence):
            if input.data.dim() != 2:
                raise ShapeError(
                    f"{owner}: the data of a PackedSequence must be 2-D (all steps, features), "
                    f"got {input.data.dim()}-D of shape {tuple(input.data.shape)}. "
                    "Pack an input of (T, B, features)."
                )
            return cls(input.data, input.batch_sizes, input.sorted_indices, input.unsorted_indices)
        if not isinstance(input, Tensor):
            raise ShapeError(
                f"{owner}: expected the input to be a Tensor or a PackedSequence, "
                f"got {type(input).__name__}"
            )
        layout = "(B, T, features)" if batch_first else "(T, B, features)"
        if input.dim() not in (2, 3):
            raise ShapeError(
                f"{owner}: expected a 3-D input {layout}, or 2-D (T, features) without a batch, "
                f"got {input.dim()}-D of shape {tuple(input.shape)}"
            )
        batched = input.dim() == 3
        if not batched:
            data = input.unsqueeze(1)
        else:
            data = input.transpose(0, 1) if batch_first else input
        if data.size(0) == 0:
            raise ShapeError(
                f"{owner}: expected at least one time step, got an input of shape "
                f"{tuple(input.shape)}, read as {layout if batched else '(T, features)'}"
            )
        return cls(data, batch_first=batch_first, batched=batched)

    @property
    def batch_size(self) -> int:
        return self.data.size(1) if self.batch_sizes is None else int(self.batch_sizes[0])

    @property
    def features(self) -> int:
        return self.data.size(-1)

    def sizes(self) -> list[int]:
        """The rows at each time step."""
        if self.batch_sizes is None:
            return [self.data.size(1)] * self.data.size(0)
        sizes: list[int] = self.batch_sizes.tolist()
        return sizes

    def lay_out(self) -> Steps:
        """The same, the same object for a batch of the same size."""
        if self.batch_sizes is None:
            return _like_steps(self.data.size(0), self.data.size(1))
        return Steps(self.sizes())

    def steps(self) -> tuple[Tensor, ...]:
        """The rows (B_t, features) of each time step, in order of time."""
        if self.batch_sizes is None:
            return self.data.unbind(0)
        return torch.split(self.data, self.sizes())

    def join(self, steps: list[Tensor]) -> Sequence:
        """The sequence with these rows at its time steps: the inverse of `steps`."""
        return self.with_data(torch.stack(steps) if self.batch_sizes is None else torch.cat(steps))

    def with_data(self, data: Tensor) -> Sequence:
        layout = self.batch_sizes, self.sorted_indices, self.unsorted_indices
        return Sequence(data, *layout, self.batch_first, self.batched)

    def write(self) -> Tensor | PackedSequence:
        """The data in the layout in which the user's input came."""
        if self.batch_sizes is not None:
            return PackedSequence(
                self.data, self.batch_sizes, self.sorted_indices, self.unsorted_indices
            )
        if not self.batched:
            return self.data.squeeze(1)
        return self.data.transpose(0, 1) if self.batch_first else self.data

    def read_state(self, state: Tensor) -> Tensor:
        """The user's state, (B, H), or (H) without a batch, with its rows as `data` has them."""
        if not self.batched:
            return state.unsqueeze(0)
        if self.sorted_indices is not None:
            return state.index_select(0, self.sorted_indices)
        return state

    def write_state(self, state: Tensor) -> Tensor:
        """The inverse of `read_state`."""
        if not self.batched:
            return state.squeeze(0)
        if self.unsorted_indices is not None:
            return state.index_select(0, self.unsorted_indices)
        return state
