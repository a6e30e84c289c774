"""Where the cells of a layer are, and what a layer is called after them."""

from __future__ import annotations

from itertools import groupby

from torch import nn

from openrnn.explain.network import class_name
from openrnn.layers.bidirectional import Bidirectional
from openrnn.layers.layer import Layer
from openrnn.layers.recurrent import Recurrent
from openrnn.layers.stack import Stack
from openrnn.layers.torchlayer import TorchLayer

_MOST = 3  # parts that a title names one by one


def title(module: nn.Module) -> str:
    """The class, what is inside and the options: "Stack(LSTMCell(30, 20), GRUCell(20, 10))".

    Equal neighbours are counted, "2 × LSTMCell(30, 20)", and of many parts two are named.
    """
    parts = [
        text if count == 1 else f"{count} × {text}"
        for text, same in groupby(map(_title_inside, _inside(module)))
        for count in [len(list(same))]
    ]
    if len(parts) > _MOST:
        parts = [parts[0], "…", parts[-1]]
    options = [module.extra_repr()] if module.extra_repr() else []
    return f"{class_name(module)}({', '.join(parts + options)})"


def _inside(module: nn.Module) -> list[nn.Module]:
    if isinstance(module, Recurrent):
        return [module.cell]
    if isinstance(module, Bidirectional):
        return [module.forward_layer.cell, module.backward_layer.cell]
    return [*module.layers] if isinstance(module, Stack) else []


def _title_inside(module: nn.Module) -> str:
    """A Recurrent without options is called as its cell."""
    if type(module) is Recurrent and not module.extra_repr():
        return title(module.cell)
    return title(module)


def suffixes(layer: Layer, before: str = "") -> tuple[str, ...]:
    """What torch puts behind the names of each cell's parameters, in the order of the cells.

    `_l0` is the first layer, `_l0_reverse` its backward cell.
    """
    if isinstance(layer, TorchLayer):
        layer = layer.stack
    if isinstance(layer, Stack):
        inside = enumerate(layer.layers)
        return tuple(s for n, part in inside for s in suffixes(part, f"{before}_l{n}"))  # type: ignore[arg-type]
    if isinstance(layer, Bidirectional):
        return before, f"{before}_reverse"
    return (before,)
