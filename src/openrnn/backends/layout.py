"""How the tensors of the operator lie for what runs it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from openrnn.ragged import Ragged, Steps
from openrnn.sequence import read_lengths
from openrnn.step.shape import Shape, concrete, rows_dim

_OWNER = "a layer in a graph of torch.compile"


class Layout:
    """From (T, B, features) to the rows of all steps, and back.

    Sequences of different lengths are put in the order of their lengths, without what lies behind
    their ends. What is kept for a gradient has T·B rows all the same, the last ones unused: shapes
    in a graph cannot depend on numbers.
    """

    def __init__(self, x: Tensor, lengths: Tensor | None, resets: Tensor | None) -> None:
        self._steps, self._batch = x.shape[:2]
        ends = read_lengths(lengths, self._steps, self._batch, _OWNER)
        self._ragged = None if ends is None else Ragged.padded(ends, self._batch, 1)
        sizes = [self._batch] * self._steps if self._ragged is None else self._ragged.sizes
        self.steps = Steps(sizes)
        if resets is not None:
            self.steps = self.steps.with_resets(self._present(resets))

    def rows(self, tensor: Tensor) -> Tensor:
        """(T, B, features) as (N, features)."""
        return self._present(tensor.flatten(0, 1))

    def over_time(self, rows: Tensor) -> Tensor:
        """The inverse; 0 behind the ends."""
        if self._ragged is not None:
            rows = self._ragged.pad(rows, self._steps * self._batch)
        return rows.reshape(self._steps, self._batch, rows.size(-1))

    def sort(self, state: Tensor | None) -> Tensor | None:
        """A state, (B, H), in the order in which the sequences are run."""
        if state is None or self._ragged is None:
            return state
        return self._ragged.sort(state)

    def unsort(self, state: Tensor, of_empty: Tensor | None) -> Tensor:
        """The inverse; `of_empty` has the rows of sequences without steps, or None for zeros."""
        if self._ragged is None:
            return state
        return self._ragged.unsort(state, of_empty)

    def fill(self, kept: Sequence[Tensor], shapes: Sequence[Shape]) -> list[Tensor]:
        """What is kept, with as many rows as there are at most."""
        if self._ragged is None:
            return list(kept)
        found = []
        for tensor, shape in zip(kept, shapes, strict=True):
            whole = tensor.new_empty(concrete(shape, self._steps * self._batch))
            self._within(whole, shape).copy_(tensor)
            found.append(whole)
        return found

    def cut(self, kept: Sequence[Tensor], shapes: Sequence[Shape]) -> list[Tensor]:
        """The inverse."""
        if self._ragged is None:
            return list(kept)
        pairs = zip(kept, shapes, strict=True)
        return [self._within(tensor, shape).contiguous() for tensor, shape in pairs]

    def _within(self, whole: Tensor, shape: Shape) -> Tensor:
        dim = rows_dim(shape)
        return whole.narrow(dim, 0, concrete(shape, self.steps.total)[dim])

    def _present(self, rows: Tensor) -> Tensor:
        return rows if self._ragged is None else self._ragged.pack(rows)
