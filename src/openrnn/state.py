"""What the states of a cell are: their names, sizes, and whether they come as one tensor."""

from __future__ import annotations

import numbers
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from openrnn.binding import sandbox, without_global_hooks
from openrnn.errors import CellError, ShapeError, StateError


@dataclass(frozen=True)
class StateSpec:
    """The states of a cell, in order.

    `sizes` are their features, or None where only the states that the user gave tell the structure.
    A `single` state goes into the cell, and comes out of it, as a tensor; several as a tuple.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...] | None
    single: bool

    def zeros(self, x: Tensor, batch_size: int) -> tuple[Tensor, ...]:
        """The states before the first step where the user gives none, of the dtype of x."""
        assert self.sizes is not None
        return tuple(x.new_zeros(batch_size, size) for size in self.sizes)

    def read(self, state: Any, batch: tuple[int, ...], owner: str) -> tuple[Tensor, ...]:
        """The user's state, a tensor, tuple or list, as a checked tuple.

        `batch` is the shape of each without the features; () for input without a batch.
        """
        meaning = "batch of the input, features" if batch else "features, without a batch"
        shapes = None if self.sizes is None else [(*batch, size) for size in self.sizes]
        return check_states(state, self.names, shapes, meaning, owner)

    def wrap(self, states: tuple[Tensor, ...]) -> Any:
        """The form in which the cell takes its states."""
        return states[0] if self.single else states

    def unwrap(self, state: Any, batch_size: int, owner: str) -> tuple[Tensor, ...]:
        """What the cell returned, as a tuple.

        Raises:
            CellError: it is not a next state.
        """
        states = (state,) if self.single else state
        if (
            not isinstance(states, (tuple, list))
            or len(states) != len(self.names)
            or not all(isinstance(s, Tensor) for s in states)
        ):
            expected = "a Tensor" if self.single else f"a tuple of {len(self.names)} Tensors"
            raise CellError(
                f"{owner}: expected forward to return the next state, {expected}, "
                f"got {_describe(state)}"
            )
        if self.sizes is not None:
            expected_shapes = [(batch_size, size) for size in self.sizes]
            shapes = [tuple(s.shape) for s in states]
            if shapes != expected_shapes:
                raise CellError(
                    f"{owner}: expected forward to return the next state, "
                    f"{', '.join(self.names)} of shape {_join(expected_shapes)}, "
                    f"got {_join(shapes)}. {_REMEDY}"
                )
        return tuple(states)


def check_states(
    state: Any,
    names: tuple[str, ...],
    shapes: Sequence[tuple[int, ...]] | None,
    meaning: str,
    owner: str,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, ...]:
    """The user's states as a tuple, if they are what was expected.

    Args:
        state: a tensor if there is one name, else a tuple or a list.
        names: of the states, in order.
        shapes: of the states, or None for any.
        meaning: of the dimensions in shapes, for messages.
        owner: the layer or cell that messages name.
        dtype: of the states, or None for any; under autocast any will do.

    Raises:
        StateError: not the expected number of tensors.
        ShapeError: a tensor of another shape or dtype.
    """
    wanted = ", ".join(names)
    states = (state,) if len(names) == 1 and isinstance(state, Tensor) else state
    if (
        not isinstance(states, (tuple, list))
        or not all(isinstance(tensor, Tensor) for tensor in states)
        or (len(names) == 1 and states is state)
    ):
        form = "a Tensor" if len(names) == 1 else "a tuple or list of Tensors"
        raise StateError(
            f"{owner}: expected the state to be {form} ({wanted}), got {_describe(state)}"
        )
    if len(states) != len(names):
        raise StateError(f"{owner}: expected {len(names)} states ({wanted}), got {len(states)}")
    for index, (name, tensor) in enumerate(zip(names, states, strict=True)):
        if shapes is not None and tensor.shape != shapes[index]:
            raise ShapeError(
                f"{owner}: expected state {name} of shape {shapes[index]} ({meaning}), "
                f"got {tuple(tensor.shape)}"
            )
        if (
            dtype is not None
            and tensor.dtype != dtype
            and not torch.is_autocast_enabled(tensor.device.type)
        ):
            raise ShapeError(
                f"{owner}: expected state {name} of the input's dtype {dtype}, "
                f"got {tensor.dtype}. Convert it: {name}.to({dtype})"
            )
    return tuple(states)


def check_dtype(input: Tensor, weight: Tensor, owner: str) -> None:
    """Raises a ShapeError if input and weight differ in dtype; under autocast they may."""
    if input.dtype != weight.dtype and not torch.is_autocast_enabled(input.device.type):
        raise ShapeError(
            f"{owner}: the input's dtype {input.dtype} does not match the weights' {weight.dtype}. "
            f"Convert the input: input.to({weight.dtype}), or the module: .to({input.dtype})"
        )


_REMEDY = "A cell names its states and their features by state_sizes = {'h': 20, 'c': 20}, say."


def state_spec(cell: nn.Module, x: Tensor) -> StateSpec:
    """What the cell says of its states, by `state_sizes` or, without it, by one trial.

    Args:
        cell: `cell(x, state) -> state`.
        x: an input of the cell, (B, I); only its shape and dtype matter.

    Raises:
        CellError: `state_sizes` is not understood, or there is none and neither one state of
            `hidden_size` features nor a pair of such fits the cell.
    """
    sizes = getattr(cell, "state_sizes", None)
    name = type(cell).__name__
    if sizes is not None:
        if (
            not isinstance(sizes, Mapping)
            or not sizes
            or not all(isinstance(n, str) and _is_size(s) for n, s in sizes.items())
        ):
            raise CellError(f"{name}: state_sizes is {sizes!r}, not names to features. {_REMEDY}")
        return StateSpec(tuple(sizes), tuple(map(int, sizes.values())), single=len(sizes) == 1)
    size: Any = getattr(cell, "hidden_size", None)
    if not _is_size(size):
        raise CellError(f"{name} has neither state_sizes nor an integer hidden_size. {_REMEDY}")
    reasons = []
    for names in (("h",), ("h", "c")):
        spec = StateSpec(names, (int(size),) * len(names), single=len(names) == 1)
        try:
            _try(cell, x, spec)
        except Exception as error:  # noqa: BLE001  the user's cell may raise anything; it is told below
            reasons.append(f"with {len(names)} state(s) {', '.join(names)}: {error}")
        else:
            return spec
    raise CellError(
        f"{name} has no state_sizes, and neither one state nor a pair of hidden_size = {size} "
        f"features fits its forward. {_REMEDY} Tried " + "; ".join(reasons)
    )


def _is_size(value: Any) -> bool:
    """A positive integer, numpy's too."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) > 0


def _try(cell: nn.Module, x: Tensor, spec: StateSpec) -> None:
    """Calls a copy of the cell on a few rows of zeros; the cell, and the random state, stay.

    Forward hooks, which would take the zeros for a step of the user's, are not called.
    """
    rows = 3  # so that unpacking a single state as a pair fails
    zeros = x.new_zeros(rows, x.size(-1))
    copy = sandbox(cell)
    for part in copy.modules():  # those before forward may make what it reads
        part._forward_hooks = OrderedDict()
    with torch.no_grad(), torch.random.fork_rng(), without_global_hooks():
        new = copy.forward(zeros, spec.wrap(spec.zeros(zeros, rows)))
    spec.unwrap(new, rows, type(cell).__name__)


def _join(shapes: list[Any]) -> str:
    return " and ".join(map(str, shapes))


def _describe(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        inner = ", ".join(type(v).__name__ for v in value) or "nothing"
        return f"a {type(value).__name__} of {inner}"
    return f"a {type(value).__name__}"
