"""Where the cells of a layer are."""

from __future__ import annotations

from openrnn.layers.bidirectional import Bidirectional
from openrnn.layers.dropin import DropIn
from openrnn.layers.layer import Layer
from openrnn.layers.stack import Stack


def suffixes(layer: Layer, before: str = "") -> tuple[str, ...]:
    """What torch puts behind the names of each cell's parameters, in the order of the cells.

    `_l0` is the first layer, `_l0_reverse` its backward cell.
    """
    if isinstance(layer, DropIn):
        layer = layer.stack
    if isinstance(layer, Stack):
        inside = enumerate(layer.layers)
        return tuple(s for n, part in inside for s in suffixes(part, f"{before}_l{n}"))  # type: ignore[arg-type]
    if isinstance(layer, Bidirectional):
        return before, f"{before}_reverse"
    return (before,)
