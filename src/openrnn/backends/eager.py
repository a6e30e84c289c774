"""The cell's own forward in a plain loop over time: the truth that every other backend meets."""

from __future__ import annotations

from torch import Tensor, nn

from openrnn.backends.loop import loop
from openrnn.binding import Parameters, bind, parametrizations_once
from openrnn.sequence import Sequence
from openrnn.state import StateSpec


def run(
    cell: nn.Module,
    parameters: Parameters | None,
    sequence: Sequence,
    state: tuple[Tensor, ...] | None,
    spec: StateSpec,
    *,
    reverse: bool,
) -> tuple[Sequence, tuple[Tensor, ...]]:
    """See `Backend`."""
    if parameters is not None:
        cell = bind(cell, parameters)
    if state is None:
        state = spec.zeros(sequence.data, sequence.batch_size)
    inputs = sequence.steps()

    def step(t: int, rows: int, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        new = spec.unwrap(cell(inputs[t], spec.wrap(state)), rows, type(cell).__name__)
        return new[0], new

    with parametrizations_once(cell):
        outputs, state = loop(step, sequence.sizes(), state, reverse=reverse)
    return sequence.join(outputs), state
