"""`openrnn.record`: every value of a step that has a name, over time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from openrnn import backends
from openrnn.backends import cpu, staged
from openrnn.backends.backend import Call, States
from openrnn.errors import ArgumentTypeError, BackendError
from openrnn.explain.places import suffixes, title
from openrnn.explain.recording import Recording
from openrnn.layers.layer import Layer
from openrnn.sequence import Sequence
from openrnn.step.program import program_of


def record(
    layer: nn.Module,
    input: Tensor | PackedSequence,
    state: Any = None,
    *,
    lengths: Any = None,
    reset: Tensor | None = None,
    reset_to: Any = None,
) -> Recording:
    """Runs a layer once, and keeps every value of its steps that has a name.

    These are the states, and the variables of the cell's forward, gates and all. Of a variable that
    is assigned several times it is the last value. The kernels compute them as they run, so it is
    about as fast as any call. There are no gradients.

    Args:
        layer: a layer of OpenRNN.
        input, state, lengths, reset, reset_to: as the layer takes them.

    Returns:
        A `Recording`: tensors by name.

    Raises:
        ArgumentTypeError: not a layer of OpenRNN.
        CellError: a cell that cannot be read, so that the names of its values are not known.
        ShapeError and others: as the layer raises them.

    Examples:
        >>> from openrnn import LSTM
        >>> recording = record(LSTM(30, 20), torch.randn(12, 3, 30))
        >>> list(recording)[:6]
        ['h_l0', 'c_l0', 'a_i_l0', 'a_f_l0', 'a_g_l0', 'a_o_l0']
        >>> recording["f"].shape
        torch.Size([12, 3, 20])
    """
    if not isinstance(layer, Layer):
        name = type(layer).__name__
        remedy = "A cell becomes a layer by openrnn.Recurrent(cell)"
        if isinstance(layer, nn.RNNBase):
            name, remedy = f"torch.nn.{name}", f"openrnn.{name} takes its arguments and state_dict"
        raise ArgumentTypeError(f"record: expected a layer of OpenRNN, got {name}. {remedy}")
    endings = suffixes(layer)
    values: dict[str, Tensor] = {}
    states: set[str] = set()
    sequences: list[Sequence] = []

    def run(call: Call) -> tuple[States, States]:
        ending = endings[len(sequences)]
        sequences.append(call.sequence)
        (*rows,), final, names = _watch(call)
        for name, data in zip(names, rows, strict=True):
            values[name + ending] = call.sequence.with_data(data).write_states()
        states.update(name + ending for name in call.spec.names)
        return tuple(rows), final

    with torch.no_grad(), backends.instead(run):
        options = {"lengths": lengths, "reset": reset, "reset_to": reset_to}
        output, last = layer(input, state, **options)
    first = sequences[0]  # what the first cell reads is what the layer got
    there = first.with_data(first.data.new_ones(*first.data.shape[:-1], 1)).cleared().write_states()
    return Recording(
        title(layer),
        values,
        states=frozenset(states),
        endings=endings,
        input=first.cleared().write_states().detach(),
        steps=there.sum(0).squeeze(-1).long(),
        output=output,
        state=last,
    )


def _watch(call: Call) -> tuple[States, States, tuple[str, ...]]:
    """All named values after each step, the last states, and the names."""
    data, spec = call.sequence.data, call.spec
    call = call._replace(every=True)
    engines = [cpu.ENGINE, staged.TORCH] if data.device.type == "cpu" else [staged.TORCH]
    for engine in engines:
        try:
            ready = staged.make_ready(engine, call, watched=True)
            break
        except BackendError:
            if engine is engines[-1]:
                raise
    rows, final = ready()
    asked = spec, data.size(-1), data.dtype, data.device
    program, _ = program_of(call.cell, call.parameters, *asked)
    return rows, final[: len(spec.names)], program.watched.states
