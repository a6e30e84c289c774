"""The interface between layers and whatever runs a cell over a sequence."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from openrnn.binding import Parameters
from openrnn.sequence import Sequence
from openrnn.state import StateSpec


class Backend(Protocol):
    """Runs a cell over all time steps of a sequence."""

    def __call__(
        self,
        cell: nn.Module,
        parameters: Parameters | None,
        sequence: Sequence,
        state: tuple[Tensor, ...] | None,
        spec: StateSpec,
        *,
        reverse: bool,
        every: bool,
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Returns the states after each step, as rows of the sequence, and after the last step.

        Args:
            cell: `cell(x_t, state) -> state`.
            parameters: what the cell reads in place of its own parameters, or None.
            sequence: the inputs; the states of all steps are laid out as its data.
            state: the initial states, each (B, features), one row per sequence or, of a ragged
                one, per piece; None for zeros.
            spec: what the states of the cell are.
            reverse: run from each sequence's last step to its first.
            every: of all steps all states are wanted; else only the first, the output.
        """


class Stepper(Protocol):
    """A cell made ready for one step after another: memory and packed weights are its own."""

    def __call__(self, x: Tensor) -> Tensor:
        """From x_t (B, I) to the output (B, H); the states go on."""

    def read(self) -> tuple[Tensor, ...]:
        """Copies of the states."""

    def write(self, states: tuple[Tensor, ...]) -> None:
        """Takes others."""
