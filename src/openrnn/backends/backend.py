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
    ) -> tuple[Sequence, tuple[Tensor, ...]]:
        """Returns the cell's outputs, in order of time, and the state after its last step.

        Args:
            cell: `cell(x_t, state) -> state`.
            parameters: what the cell reads in place of its own parameters, or None.
            sequence: the inputs; the outputs have the same layout.
            state: the initial states, each (B, features), one row per sequence; None for zeros.
            spec: what the states of the cell are.
            reverse: run from each sequence's last step to its first.
        """
