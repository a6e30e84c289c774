"""A layer that another has inside, and its hooks."""

from __future__ import annotations

from typing import Any

from openrnn.errors import CellError
from openrnn.layers.layer import Layer, Scanned
from openrnn.layers.parts import Part, Survey, part_of
from openrnn.sequence import Sequence


def has_hooks(layer: Layer) -> bool:
    """Whether the layer calls something of the user's beside its forward."""
    return bool(
        layer._forward_pre_hooks
        or layer._forward_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
    )


def part_inside(layer: Layer, survey: Survey, features: int, parameters: Any) -> Part:
    """`Layer.part` of a layer inside another."""
    if has_hooks(layer):
        raise CellError("it has hooks")
    return part_of(layer, survey, features, parameters)


def scan_inside(
    layer: Layer,
    sequence: Sequence,
    state: Any,
    parameters: Any = None,
    *,
    reset_to: Any = None,
    every: bool = False,
) -> Scanned:
    """`layer.scan`, or, where the layer has hooks, a call on padded tensors, which runs them."""
    if not has_hooks(layer):
        return layer.scan(sequence, state, parameters, reset_to=reset_to, every=every)
    input, lengths, reset = sequence.write_padded()
    time_first = not layer.batch_first or not sequence.batched
    options: dict[str, Any] = {"lengths": lengths, "reset": reset, "reset_to": reset_to}
    options = {name: value for name, value in options.items() if value is not None}
    if every:
        options["return_states"] = True
    if not time_first:
        input = input.transpose(0, 1)
        if reset is not None:
            options["reset"] = reset.transpose(0, 1)
    output, last, *states = layer(input, state, **options)
    if not time_first:
        output = output.transpose(0, 1)
    return Scanned(sequence.read_padded(output), last, states[0] if every else None)
