"""One description of time: a batch of sequences, however the user laid it out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from openrnn.errors import ArgumentError, ArgumentTypeError, ShapeError
from openrnn.ragged import Ragged, Steps

_PLAIN = torch.contiguous_format
_SIGNED = (torch.int8, torch.int16, torch.int32, torch.int64)
_INTEGERS = (*_SIGNED, torch.uint8, torch.uint16, torch.uint32, torch.uint64)


# As `view`, of a tensor that nobody else has, and what it gives is no view for torch. A view that
# is changed in place loses its hooks, such as those by which FSDP gathers weights.
shaped = torch.ops.aten._unsafe_view.default


@lru_cache(maxsize=32)
def like_steps(count: int, rows: int, state_shape: tuple[int, ...]) -> Steps:
    """Of a batch whose sequences are of one length: the same object for the same numbers."""
    return Steps([rows] * count, None, (count, rows), state_shape)


def flat_resets(reset: Tensor, batch_first: bool) -> Tensor:
    """The rows before which a dense sequence is cut, (T·B,)."""
    return (reset.t() if batch_first else reset).clone(memory_format=_PLAIN).view(-1)


def loop_resets(resets: Tensor, rows: int) -> Tensor:
    """Those before which a loop backward replaces the state, with so many rows at each step."""
    return torch.cat([resets[rows:], resets.new_zeros(rows)])


def apart(data: Tensor) -> Tensor:
    """What a layer gives: no view, where that matters; see `shaped`."""
    is_view = not torch.compiler.is_compiling() and data._is_view()
    return shaped(data, data.shape) if is_view and data.requires_grad else data


@dataclass(eq=False, slots=True)  # not frozen, which is four times slower to make
class Sequence:
    """A batch of sequences with time first, and the way back to the user's layout.

    Dense, `data` is (T, B, features). Ragged, it is (rows, features), as `ragged` tells: padded,
    the user's rows, which may hold anything where no step is, or packed, with the B_0 rows of step
    0, then the B_1 rows of step 1, and so on, B_0 ≥ B_1 ≥ ... `shape` is that of the user's input
    without the features, with the batch dimension that was added if there is none. `resets` are
    the rows, as packed data has them, (N,) bool, before which a sequence is cut. In a graph that
    torch.compile makes data is dense whatever the `lengths`, (B,), with zeros behind the ends: how
    many rows there are is not known there.
    """

    data: Tensor
    shape: tuple[int, ...]
    ragged: Ragged | None = None
    resets: Tensor | None = None
    packed: PackedSequence | None = None  # the user's
    batch_first: bool = False
    batched: bool = True
    lengths: Tensor | None = None
    is_of_torch: bool = False  # states have one dimension more, torch's, that of a lone cell

    @classmethod
    def read(
        cls,
        input: Tensor | PackedSequence,
        *,
        batch_first: bool,
        owner: str,
        lengths: Any = None,
        reset: Any = None,
    ) -> Sequence:
        """Takes the user's input apart; `owner` is the layer that error messages name."""
        if isinstance(input, PackedSequence):
            return cls._read_packed(input, owner, lengths, reset)
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
        batch_first = batch_first and batched
        data = input if batched else input.unsqueeze(1)
        steps, count = data.shape[1::-1] if batch_first else data.shape[:2]
        if steps == 0:
            raise ShapeError(
                f"{owner}: expected at least one time step, got an input of shape "
                f"{tuple(input.shape)}, read as {layout if batched else '(T, features)'}"
            )
        rows = count if batched else None
        within = None
        if lengths is not None and torch.compiler.is_compiling():
            lengths = check_lengths(lengths, rows, owner).reshape(-1).to(data.device)
            within = torch.arange(steps, device=data.device).unsqueeze(1) < lengths
        else:
            lengths = read_lengths(lengths, steps, rows, owner)
        reset = read_reset(reset, input.shape[:-1], batch_first, owner)
        if reset is not None and reset.device != data.device:
            reset = reset.to(data.device)
        shape = tuple(data.shape[:2])
        if lengths is None or within is not None:
            data = data.transpose(0, 1) if batch_first else data
            if reset is not None:  # of our own: the user's may lie in any way, and change
                reset = flat_resets(reset, batch_first)
            if within is not None:
                data = data.masked_fill(~within.unsqueeze(2), 0)
                reset = reset if reset is None else reset & within.view(-1)
            return cls(data, shape, None, reset, None, batch_first, batched, lengths)
        between, stride = (1, steps) if batch_first else (count, 1)
        ragged = Ragged.padded(lengths, between, stride)
        if reset is not None:
            reset = ragged.pack(reset.reshape(-1))
        return cls(data.flatten(0, 1), shape, ragged, reset, None, batch_first, batched)

    @classmethod
    def _read_packed(cls, input: PackedSequence, owner: str, lengths: Any, reset: Any) -> Sequence:
        if input.data.dim() != 2:
            raise ShapeError(
                f"{owner}: the data of a PackedSequence must be 2-D (all steps, features), "
                f"got {input.data.dim()}-D of shape {tuple(input.data.shape)}. "
                "Pack an input of (T, B, features)."
            )
        if lengths is not None:
            raise ArgumentTypeError(
                f"{owner}: a PackedSequence has its own lengths: expected lengths=None, "
                f"got {lengths!r}"
            )
        sizes = input.batch_sizes
        shape = (sizes.size(0), int(sizes[0]))
        reset = read_reset(reset, shape, False, owner)
        ragged, resets = Ragged.packed(input), None
        if reset is not None:
            reset = reset.cpu()
            if input.sorted_indices is not None:
                reset = reset.index_select(1, input.sorted_indices.cpu())
            there = torch.arange(shape[1], device="cpu") < sizes.unsqueeze(1)
            resets = reset[there].to(input.data.device)
        return cls(input.data, shape, ragged, resets, input)

    @property
    def batch_size(self) -> int:
        return self.shape[0] if self.batch_first else self.shape[1]

    @property
    def state_shape(self) -> tuple[int, ...]:
        """That of a state as the user has it, without the features."""
        batch = (self.batch_size,) if self.batched else ()
        return (1, *batch) if self.is_of_torch else batch

    @property
    def features(self) -> int:
        return self.data.size(-1)

    @property
    def steps(self) -> Steps:
        """The rows at each time step; the same object for dense batches of the same size."""
        if self.ragged is None:
            return like_steps(*self.data.shape[:2], self.state_shape)
        return Steps(self.ragged.sizes, self.ragged, (self.data.size(0),), self.state_shape)

    def loop_resets(self, reverse: bool) -> Tensor | None:
        """The rows, (N,) bool, before which a loop replaces the state.

        A sequence is cut before a step: in a loop backward it is the step before that comes next.
        """
        resets = self.resets
        if resets is None or not reverse:
            return resets
        if self.ragged is None:
            return loop_resets(resets, self.data.size(1))
        sizes = torch.tensor(self.ragged.sizes, device=resets.device)
        # A row's place less the rows of the step before is its sequence's place in that step.
        later = torch.arange(int(sizes[0]), len(resets), device=resets.device)
        before = later - sizes[:-1].repeat_interleave(sizes[1:])
        found = torch.zeros_like(resets)
        found[before] = resets[later]
        return found

    def sizes(self) -> list[int]:
        """The rows at each time step."""
        if self.ragged is None:
            return [self.data.size(1)] * self.data.size(0)
        return self.ragged.sizes

    def unbind(self) -> tuple[Tensor, ...]:
        """The rows (B_t, features) of each time step, in order of time."""
        if self.ragged is None:
            return self.data.unbind(0)
        return torch.split(self.data, self.ragged.sizes)

    def join(self, steps: Collection[Tensor]) -> Tensor:
        """The data with these rows at its time steps: the inverse of `unbind`."""
        return torch.stack(tuple(steps)) if self.ragged is None else torch.cat(tuple(steps))

    def split(self, count: int) -> list[Sequence]:
        """The sequence in parts of this many steps; the last may have fewer."""
        sizes = self.sizes()
        parts = [sizes[start : start + count] for start in range(0, len(sizes), count)]
        rows = [sum(part) for part in parts]
        data = torch.split(self.data, count if self.ragged is None else rows)
        found = [
            Sequence(part, (len(own), own[0]), None if self.ragged is None else Ragged(own))
            for part, own in zip(data, parts, strict=True)
        ]
        if self.lengths is None:
            return found
        ends = [(self.lengths - number * count).clamp(0, count) for number in range(len(found))]
        return [replace(part, lengths=own) for part, own in zip(found, ends, strict=True)]

    def with_data(self, data: Tensor) -> Sequence:
        return Sequence(
            *(data, self.shape, self.ragged, self.resets, self.packed),
            *(self.batch_first, self.batched, self.lengths, self.is_of_torch),
        )

    def for_torch(self) -> Sequence:
        """The same for a layer of torch's form with one cell alone."""
        found = self.with_data(self.data)
        found.is_of_torch = True
        return found

    def pack(self) -> Sequence:
        """The sequence with packed data; states, (B, features), are to be sorted as it is."""
        if self.ragged is None or self.ragged.is_packed:
            layout = self.shape, self.ragged, self.resets, self.packed, self.batch_first
            return Sequence(self.data, *layout, True, self.lengths)
        sizes = self.ragged.sizes
        data = self.ragged.pack(self.data)
        return Sequence(data, (len(sizes), sizes[0]), Ragged(sizes), self.resets)

    def cleared(self) -> Sequence:
        """The sequence with zeros where no step is."""
        return self if self.ragged is None else self.with_data(self.ragged.clear(self.data))

    def write(self) -> Tensor | PackedSequence:
        """The data in the layout in which the user's input came."""
        data = self.data
        if self.packed is not None:
            _, *layout = self.packed
            return PackedSequence(data, *layout)
        if self.ragged is not None:
            data = data.view(*self.shape, data.size(-1))
        elif self.batch_first:
            data = data.transpose(0, 1)
        return apart(data if self.batched else data.squeeze(1))

    def write_states(self) -> Tensor:
        """The data as the states of all steps: (T, B, features), (T, features) without a batch."""
        written = self.write()
        if isinstance(written, PackedSequence):
            padded: Tensor = pad_packed_sequence(written)[0]
            return padded
        written = written.clone()  # apart from the output
        return written.transpose(0, 1) if self.batch_first else written

    def write_padded(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Data, lengths and resets as a layer takes them, time first whatever the user's layout."""
        data, lengths, reset = self.data, self.lengths, self.resets
        if self.ragged is None:
            if reset is not None:
                reset = reset.view(data.shape[:2])
        else:
            places = self._places()
            shape = self.shape[::-1] if self.batch_first else self.shape
            lengths = torch.bincount(places[1], minlength=shape[1])
            if reset is not None:
                reset = reset.new_zeros(shape).index_put_(places, reset)
            if self.packed is None:
                data = data.view(*self.shape, data.size(-1))
                data = data.transpose(0, 1) if self.batch_first else data
            else:
                data = data.new_zeros(*shape, data.size(-1)).index_put_(places, data)
        if self.batched:
            return data, lengths, reset
        one = None if lengths is None else lengths[0]
        return data.squeeze(1), one, None if reset is None else reset.squeeze(1)

    def read_padded(self, data: Tensor) -> Sequence:
        """The sequence with other data, which lies as `write_padded` gives it."""
        data = data if self.batched else data.unsqueeze(1)
        if self.packed is not None:
            data = data[self._places()]
        elif self.ragged is not None:
            data = (data.transpose(0, 1) if self.batch_first else data).flatten(0, 1)
        return self.with_data(data)

    def _places(self) -> tuple[Tensor, Tensor]:
        """Those of a ragged sequence, where its data is."""
        assert self.ragged is not None
        steps, numbers = self.ragged.places()
        return steps.to(self.data.device), numbers.to(self.data.device)


def check_lengths(lengths: Any, count: int | None, owner: str) -> Tensor:
    """The steps of each sequence, (B,), as a tensor of integers, whatever their values.

    Args:
        lengths: what the user gave.
        count: sequences; None for input without a batch, whose length is one number.
        owner: the layer that error messages name.
    """
    try:
        if isinstance(lengths, bool):
            raise TypeError("bool is no number of steps")
        read = lengths if isinstance(lengths, Tensor) else torch.as_tensor(lengths, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentTypeError(
            f"{owner}: expected lengths to be a Tensor of integers, "
            f"got {type(lengths).__name__} {lengths!r}"
        ) from error
    if read.dtype not in _INTEGERS and read.numel():
        raise ArgumentTypeError(
            f"{owner}: expected lengths to be integers, got dtype {read.dtype}. "
            "Count the steps of each sequence, lengths.long() say"
        )
    expected = () if count is None else (count,)
    if read.shape != expected:
        one = "one number, as the input has no batch"
        if count is not None:
            one = f"one number for each sequence of the batch, of shape {expected}"
        raise ShapeError(f"{owner}: expected lengths to be {one}, got shape {tuple(read.shape)}")
    return read


def read_lengths(lengths: Any, steps: int, count: int | None, owner: str) -> list[int] | None:
    """The steps of each sequence, (B,); None if all have all steps, the `steps` of the input.

    The other arguments are those of `check_lengths`.
    """
    if lengths is None:
        return None
    ends: list[int] = check_lengths(lengths, count, owner).reshape(-1).tolist()
    for place, end in enumerate(ends):
        if not 0 <= end <= steps:
            raise ArgumentError(
                f"{owner}: expected lengths from 0 to T = {steps}, the steps of the input, "
                f"got lengths[{place}] = {end}"
            )
    return None if ends.count(steps) == len(ends) else ends


def read_reset(reset: Any, shape: tuple[int, ...], batch_first: bool, owner: str) -> Tensor | None:
    """Where sequences start afresh, checked; None if nothing was given.

    Args:
        reset: what the user gave.
        shape: of the input, without the features.
        batch_first: how the input lies.
        owner: the layer that error messages name.
    """
    if reset is None:
        return None
    if not isinstance(reset, Tensor):
        raise ArgumentTypeError(
            f"{owner}: expected reset to be a Tensor of bool, got {type(reset).__name__}"
        )
    if reset.dtype != torch.bool:
        raise ArgumentTypeError(
            f"{owner}: expected reset of dtype torch.bool, got {reset.dtype}. "
            "Say which steps start afresh, reset.bool() say"
        )
    if reset.shape != shape:
        meaning = "(T,)" if len(shape) == 1 else "(B, T)" if batch_first else "(T, B)"
        raise ShapeError(
            f"{owner}: expected reset of shape {tuple(shape)}, {meaning} as the input has it, "
            f"got {tuple(reset.shape)}"
        )
    return reset
