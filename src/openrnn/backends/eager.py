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
    every: bool,
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """See `Backend`."""
    if parameters is not None:
        cell = bind(cell, parameters)
    inputs, sizes = sequence.unbind(), sequence.sizes()
    if state is None:
        state = spec.zeros(sequence.data, sizes[0])

    def step(
        t: int, rows: int, state: tuple[Tensor, ...]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        new = spec.unwrap(cell(inputs[t], spec.wrap(state)), rows, type(cell).__name__)
        return new if every else new[:1], new

    with parametrizations_once(cell):
        states, state = loop(step, sizes, state, reverse=reverse)
    return tuple(sequence.join(rows) for rows in zip(*states, strict=True)), state
