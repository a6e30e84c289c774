"""The cell's own forward in a plain loop over time: the truth that every other backend meets."""

from __future__ import annotations

import torch

from openrnn.backends.backend import Call, States
from openrnn.backends.loop import loop, replaced
from openrnn.backends.packing import on_packed
from openrnn.binding import bind, parametrizations_once, without_global_hooks


@on_packed
def run(call: Call) -> tuple[States, States]:
    """See `Backend`."""
    if call.parameters is not None:  # a cell of a drop-in layer's, which shows itself as a whole
        with without_global_hooks():
            cell = bind(call.cell, call.parameters)
            return run(call._replace(cell=cell, parameters=None))
    cell, spec, sequence, reverse = call.cell, call.spec, call.sequence, call.reverse
    inputs, sizes = sequence.unbind(), sequence.sizes()
    state = call.state or spec.zeros(sequence.data, sizes[0])
    resets = None if call.resets is None else torch.split(call.resets, sizes)
    reset_to = call.reset_to or tuple(map(torch.zeros_like, state))

    def step(t: int, rows: int, state: States) -> tuple[States, States]:
        if resets:
            state = replaced(state, resets[t], reset_to)
        new = spec.unwrap(cell(inputs[t], spec.wrap(state)), rows, type(cell).__name__)
        rows_of_step = new if call.every else new[:1]
        if sequence.lengths is not None:  # dense, whatever the lengths: what has ended stays
            ended = sequence.lengths <= t
            new = replaced(new, ended, state)
            rows_of_step = tuple(s.masked_fill(ended.unsqueeze(1), 0) for s in rows_of_step)
        return rows_of_step, new

    with parametrizations_once(cell) as cell:
        states, state = loop(step, sizes, state, reverse=reverse)
    return tuple(sequence.join(rows) for rows in zip(*states, strict=True)), state
