"""The interface between layers and whatever runs a cell over a sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from openrnn.binding import Parameters
from openrnn.sequence import Sequence
from openrnn.state import StateSpec

States = tuple[Tensor, ...]


class Call(NamedTuple):
    """What is asked of a backend.

    cell: `cell(x_t, state) -> state`.
    parameters: what the cell reads in place of its own parameters, or None.
    sequence: the inputs.
    spec: what the states of the cell are.
    state: the initial states, each (*sequence.state_shape, features), in the user's order; None for
        zeros.
    resets: the rows, as packed data has them, before which the loop replaces the state, (N,) bool,
        or None.
    reset_to: what the states become there, of the same form.
    reverse: run from each sequence's last step to its first.
    every: of all steps all states are wanted; else only the first, the output.
    """

    cell: nn.Module
    parameters: Parameters | None
    sequence: Sequence
    spec: StateSpec
    state: States | None
    resets: Tensor | None
    reset_to: States | None
    reverse: bool
    every: bool


class Backend(Protocol):
    """Runs a cell over all time steps of a sequence."""

    def __call__(self, call: Call) -> tuple[States, States]:
        """The states after each step, laid out as the sequence's data, and after the last step, of
        the form of the initial ones.

        Of padded sequences they are 0 where no step is; one without steps ends in its initial
        state.
        """


class Stepper(Protocol):
    """A cell made ready for one step after another: memory and packed weights are its own.

    step: from x_t (B, I) to the output (B, H); the states go on.
    """

    step: Callable[[Tensor], Tensor]

    def read(self) -> States:
        """Copies of the states."""

    def write(self, states: States) -> None:
        """Takes others."""
