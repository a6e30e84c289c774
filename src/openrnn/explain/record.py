"""`openrnn.record`: every value of a step that has a name, over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from openrnn import backends
from openrnn.backends import cpu, staged
from openrnn.backends.backend import Call, States
from openrnn.errors import ArgumentTypeError, BackendError
from openrnn.explain.places import suffixes
from openrnn.layers.layer import Layer
from openrnn.step.program import program_of


class Recording(Mapping[str, Tensor]):
    """What `record` found: tensors by name, each (T, B, features), or (T, features).

    The names are the variables of the cell, with torch's endings where there are several cells:
    `i_l0` is i of the first layer, `i_l0_reverse` that of its backward cell. Of one cell alone the
    ending may be left out. Behind a sequence's end all is 0.

    output: what the layer returned.
    state: the state after the last step.
    """

    def __init__(
        self,
        title: str,
        values: dict[str, Tensor],
        endings: tuple[str, ...],
        output: Any,
        state: Any,
    ) -> None:
        self.title, self.output, self.state = title, output, state
        self._values, self._endings = values, endings

    def __getitem__(self, name: str) -> Tensor:
        if name in self._values:
            return self._values[name]
        if len(self._endings) == 1 and name + self._endings[0] in self._values:
            return self._values[name + self._endings[0]]
        raise KeyError(f"{name!r} was not recorded: there are {', '.join(self._values)}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        lines = [f"Recording of {self.title}"]
        width = max(map(len, self._values), default=0)
        lines += [f"  {name:<{width}}  {tuple(v.shape)}" for name, v in self._values.items()]
        return "\n".join(lines)


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
        raise ArgumentTypeError(
            f"record: expected a layer of OpenRNN, got {type(layer).__name__}. "
            "A cell becomes a layer by openrnn.Recurrent(cell)"
        )
    endings = suffixes(layer)
    values: dict[str, Tensor] = {}
    places = iter(endings)

    def run(call: Call) -> tuple[States, States]:
        ending = next(places)
        (*rows,), final, names = _watch(call)
        for name, data in zip(names, rows, strict=True):
            values[name + ending] = call.sequence.with_data(data).write_states()
        return tuple(rows), final

    with torch.no_grad(), backends.instead(run):
        options = {"lengths": lengths, "reset": reset, "reset_to": reset_to}
        output, last = layer(input, state, **options)
    title = f"{type(layer).__name__}({layer.extra_repr()})"
    return Recording(title, values, endings, output, last)


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
