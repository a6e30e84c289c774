"""`openrnn.explain`: the four stages of a layer's step, and why a cell cannot be compiled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from openrnn.backends import cpu
from openrnn.binding import Parameters, tensors_aside
from openrnn.errors import ArgumentError, ArgumentTypeError, BackendError, CellError
from openrnn.explain.expressions import stage_lines
from openrnn.layers.bidirectional import Bidirectional
from openrnn.layers.dropin import DropIn
from openrnn.layers.layer import Layer
from openrnn.layers.recurrent import Recurrent
from openrnn.layers.stack import Stack
from openrnn.state import state_spec
from openrnn.step.program import Program, traced

_TITLES = {
    "parameters": "parameters, once",
    "inputs": "inputs, for all T steps at once",
    "recurrence": "recurrence, at each step",
    "outputs": "outputs, for all T steps at once",
}


@dataclass(frozen=True)
class CellExplanation:
    """One cell: where it stands in the layer, and its step, or why that cannot be compiled."""

    places: tuple[str, ...]
    cell: str
    program: Program | None
    reason: str | None
    source: str | None = None  # the generated C++, if it was asked for

    def __str__(self) -> str:
        where = f"{', '.join(self.places)}: " if any(self.places) else ""
        lines = [f"{where}{self.cell}"]
        if self.program is None:
            return "\n".join([*lines, "  It runs in the eager loop only:", f"  {self.reason}"])
        for stage, shown in stage_lines(self.program.stages).items():
            lines += [f"  {_TITLES[stage]}", *(f"    {line}" for line in shown or ["nothing"])]
        if self.source is not None:
            lines += ["", self.source]
        return "\n".join(lines)


@dataclass(frozen=True)
class Explanation:
    """What `explain` found: as text by `str()`, cell by cell in `cells`."""

    title: str
    cells: tuple[CellExplanation, ...]

    def __str__(self) -> str:
        cells = "\n\n".join(map(str, self.cells))
        alone = len(self.cells) == 1 and self.cells[0].cell == self.title
        return cells if alone else f"{self.title}\n\n{cells}"

    def __repr__(self) -> str:
        return f"<Explanation of {self.title}>"


def explain(
    module: nn.Module, *, input_size: int | None = None, source: bool = False
) -> Explanation:
    """Prints what a layer, or a cell, does in one step, in the cell's own variable names.

    A step has four stages. *Parameters* depends on weights alone and is computed once. *Inputs*
    depends on x_t but on no state, *outputs* on a state but leads to none: both are computed for
    all T steps at once. *Recurrence* lies on the way from a state to the next, and is what each
    step has to wait for. If the cell cannot be compiled, the reason is printed instead.

    Args:
        module: a layer of OpenRNN, or a cell.
        input_size: features of x; needed only for a cell that has no `input_size`, in a layer that
            has not run yet. Default: what the cell says, or the layer has seen.
        source: show the C++ of the recurrence too, as `backend="cpu"` generates it for training:
            one function for all steps forward, one for its gradient. Default: False.

    Returns:
        The explanation, which `str()` turns into the text once more.

    Raises:
        ArgumentTypeError: not a layer of OpenRNN and not a cell.
        ArgumentError: input_size is not known.

    Examples:
        >>> explanation = explain(torch.nn.GRUCell(30, 20))
        GRUCell(30, 20)
        ...
        >>> len(explanation.cells)
        1
    """
    if not isinstance(module, nn.Module):
        raise ArgumentTypeError(
            f"explain: expected a layer of OpenRNN or a cell, got {type(module).__name__}"
        )
    title = _title(module)
    found: dict[tuple[str, Program | str], list[str]] = {}
    for place, layer, parameters in _recurrents(module, ""):
        cell = layer.cell
        try:
            outcome: Program | str = _program(layer, parameters, input_size)
        except CellError as error:
            outcome = str(error)
        found.setdefault((_title(cell), outcome), []).append(place)
    cells = tuple(
        CellExplanation(
            tuple(places),
            name,
            outcome if isinstance(outcome, Program) else None,
            outcome if isinstance(outcome, str) else None,
            _source(outcome) if source and isinstance(outcome, Program) else None,
        )
        for (name, outcome), places in found.items()
    )
    explanation = Explanation(title, cells)
    print(explanation)
    return explanation


def _source(program: Program) -> str:
    """The generated C++ of both directions, or why there is none."""
    fused = program.fused
    labels = frozenset(node.label for _, node in program.graph.inputs())
    parts = []
    forward, backward = fused.training(labels)
    for title, stages, states in (
        ("forward", forward, (f"state.{fused.states[0]}",)),
        ("backward", backward, ()),
    ):
        try:
            text = cpu.source(stages, states)
        except BackendError as error:
            text = f"There is no kernel: {error}\n"
        parts.append(f"// {title}\n{text}")
    return "\n".join(parts).rstrip()


def _title(module: nn.Module) -> str:
    """The module's class and options, without the modules inside."""
    return f"{type(module).__name__}({module.extra_repr()})"


def _recurrents(
    module: nn.Module, place: str
) -> Iterator[tuple[str, Recurrent, Parameters | None]]:
    """The recurrent layers inside a module, with their places and the parameters lent to them."""
    if isinstance(module, DropIn):
        lent = module.lend()
        for index, (layer, parameters) in enumerate(zip(module.stack.layers, lent, strict=True)):
            yield from _lent(layer, f"{place} layer {index}".strip(), parameters)
    elif isinstance(module, Recurrent):
        yield place, module, None
    elif isinstance(module, Bidirectional):
        for name, layer in (("forward", module.forward_layer), ("backward", module.backward_layer)):
            yield f"{place} {name}".strip(), layer, None
    elif isinstance(module, Stack):
        for index, layer in enumerate(module.layers):
            yield from _recurrents(layer, f"{place} layer {index}".strip())
    elif not isinstance(module, (Layer, nn.RNNBase)):
        yield place, Recurrent(module), None
    else:
        raise ArgumentTypeError(
            f"explain: expected a layer of OpenRNN or a cell, got the layer {type(module).__name__}"
        )


def _lent(
    layer: nn.Module, place: str, parameters: Any
) -> Iterator[tuple[str, Recurrent, Parameters | None]]:
    """A layer inside a drop-in layer, whose parameters are the drop-in's."""
    pairs = list(_recurrents(layer, place))
    each = parameters if isinstance(parameters, tuple) else (parameters,)
    for (where, recurrent, _), own in zip(pairs, each, strict=True):
        yield where, recurrent, own


def _program(layer: Recurrent, parameters: Parameters | None, input_size: int | None) -> Program:
    cell = layer.cell
    size = input_size or getattr(cell, "input_size", None) or layer.seen_features
    if not isinstance(size, int):
        raise ArgumentError(
            f"explain: {type(cell).__name__} has no input_size, and the layer has not run yet. "
            "Say how many features x has: explain(layer, input_size=30)"
        )
    tensors = {**tensors_aside(cell), **(parameters or {})}
    dtype = next(
        (t.dtype for t in tensors.values() if t.is_floating_point()), torch.get_default_dtype()
    )
    device = next((p.device for p in cell.parameters()), torch.device("cpu"))
    spec = state_spec(cell, torch.empty(1, size, dtype=dtype, device=device))
    return traced(cell, tensors, spec, size, dtype, device)
