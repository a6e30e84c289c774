"""The cells of a layer: where each of them stands, and what it reads and writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from openrnn import cells
from openrnn.binding import tensors_aside
from openrnn.errors import ArgumentError, ArgumentTypeError
from openrnn.layers.bidirectional import Bidirectional
from openrnn.layers.dropin import DropIn
from openrnn.layers.gru import GRU
from openrnn.layers.layer import Layer
from openrnn.layers.lstm import LSTM
from openrnn.layers.recurrent import Recurrent
from openrnn.layers.rnn import RNN
from openrnn.layers.stack import Stack
from openrnn.state import state_spec
from openrnn.step.graph import Graph
from openrnn.step.program import Program, traced


@dataclass(frozen=True, eq=False)
class Lane:
    """One cell and the direction in which it runs.

    place: "layer 1 backward" say; "" of a cell alone.
    tensors: what the cell reads, by its own names for it.
    states: their features, by name.
    number: which of the (D·L, B, H) states of the layer are the cell's, if they lie in one tensor.
    """

    cell: nn.Module
    place: str
    reverse: bool
    input_size: int
    tensors: Mapping[str, Tensor]
    states: Mapping[str, int]
    number: int | None = None

    @property
    def name(self) -> str:
        return type(self.cell).__name__

    @property
    def title(self) -> str:
        """The cell's class and options."""
        return f"{self.name}({self.cell.extra_repr()})"

    @property
    def parameters(self) -> dict[str, Tensor]:
        """What is trained: of the tensors those that are no buffers."""
        buffers = {name for name, _ in self.cell.named_buffers()}
        return {name: t for name, t in self.tensors.items() if name not in buffers}

    @property
    def gates(self) -> tuple[str, ...]:
        """The names that the cell gives its gates; of torch's own cells, those that ours have."""
        ours = getattr(cells, self.name, None)
        given = getattr(self.cell, "gates", getattr(ours, "gates", ()))
        named = isinstance(given, (tuple, list)) and all(isinstance(name, str) for name in given)
        return tuple(given) if named else ()

    @property
    def output_size(self) -> int:
        return next(iter(self.states.values()))

    @cached_property
    def program(self) -> Program:
        """The step.

        Raises:
            CellError: it cannot be traced.
        """
        like = _like(self.cell, self.tensors, self.input_size)
        spec = state_spec(self.cell, like)
        return traced(self.cell, self.tensors, spec, self.input_size, like.dtype, like.device)

    @property
    def graph(self) -> Graph:
        return self.program.graph


@dataclass(frozen=True, eq=False)
class Level:
    """The cells that read the same x: one, or one for each direction.

    place: "layer 1" say.
    of_all: how many cells the tensors that hold the states are for, if they are for several.
    """

    lanes: tuple[Lane, ...]
    place: str
    merge: str = "concat"
    of_all: int | None = None

    @property
    def input_size(self) -> int:
        return self.lanes[0].input_size

    @property
    def output_size(self) -> int:
        sizes = [lane.output_size for lane in self.lanes]
        return sum(sizes) if self.merge == "concat" else sizes[0]


@dataclass(frozen=True, eq=False)
class Network:
    """A layer as levels, from the lowest up; a cell alone is one level."""

    title: str
    levels: tuple[Level, ...]
    is_cell: bool
    batch_first: bool
    notes: tuple[str, ...] = field(default=())

    @property
    def lanes(self) -> list[Lane]:
        return [lane for level in self.levels for lane in level.lanes]


def read(module: Any, asked: str = "draw", input_size: int | None = None) -> Network:
    """What a layer, or a cell, is made of.

    Args:
        module: a layer of OpenRNN or of torch.nn, or a cell.
        asked: the function that error messages name.
        input_size: features of x, where the module does not say it.

    Raises:
        ArgumentTypeError: neither a layer nor a cell.
        ArgumentError: the features of x are not known, or are others.
        CellError: a cell whose states are not known.
    """
    if not isinstance(module, nn.Module):
        raise ArgumentTypeError(_expected(asked, f"got {type(module).__name__}"))
    layer = _ours(module)
    if not isinstance(layer, Layer):
        _check_cell(module, asked)
        layer = Recurrent(module)
        layers = [_Reader(asked).level((layer,), "", input_size)]
    else:
        layers = list(_Reader(asked).levels(layer, "", input_size))
    notes = tuple(dict.fromkeys(_notes(layer)))
    title = f"{type(module).__name__}({module.extra_repr()})"
    is_cell = not isinstance(_ours(module), Layer)
    return Network(title, tuple(layers), is_cell, layer.batch_first, notes)


class _Reader:
    def __init__(self, asked: str) -> None:
        self._asked = asked

    def levels(self, layer: nn.Module, place: str, size: int | None) -> Iterator[Level]:
        """The levels of a layer for an input of `size` features, None if that is not known."""
        if isinstance(layer, DropIn):
            yield from self._drop_in(layer, place, size)
        elif isinstance(layer, Stack):
            for index, inside in enumerate(layer.layers):
                for level in self.levels(inside, f"{place} layer {index}".strip(), size):
                    yield level
                    size = level.output_size
        elif isinstance(layer, Bidirectional):
            pair = (layer.forward_layer, layer.backward_layer)
            yield self.level(pair, place, size, merge=layer.merge)
        elif isinstance(layer, Recurrent):
            yield self.level((layer,), place, size)
        else:
            raise ArgumentTypeError(_expected(self._asked, f"got {type(layer).__name__}"))

    def _drop_in(self, layer: DropIn, place: str, size: int | None) -> Iterator[Level]:
        lent = layer.lend()
        directions = 2 if layer.bidirectional else 1
        for index, (inside, own) in enumerate(zip(layer.stack.layers, lent, strict=True)):
            where = f"{place} layer {index}".strip()
            pair: Any = (inside,)
            if isinstance(inside, Bidirectional):
                pair = (inside.forward_layer, inside.backward_layer)
            parameters = own if isinstance(own, tuple) else (own,)
            number = index * directions
            total = layer.num_layers * directions
            level = self.level(pair, where, size, parameters, number, of_all=total)
            yield level
            size = level.output_size

    def level(
        self,
        layers: tuple[Recurrent, ...],
        place: str,
        size: int | None,
        lent: tuple[Any, ...] = ({}, {}),
        first: int | None = None,
        **options: Any,
    ) -> Level:
        directions = [""] if len(layers) == 1 else ["forward", "backward"]
        lanes = [
            self._lane(
                layer,
                own,
                f"{place} {direction}".strip(),
                size,
                None if first is None else first + index,
            )
            for index, (layer, own, direction) in enumerate(
                zip(layers, lent, directions, strict=False)
            )
        ]
        return Level(tuple(lanes), place, **options)

    def _lane(
        self, layer: Recurrent, lent: Any, place: str, size: int | None, number: int | None
    ) -> Lane:
        cell = layer.cell
        own = getattr(cell, "input_size", None)
        own = own if isinstance(own, int) else layer.seen_features
        if own is not None and size is not None and own != size:
            raise ArgumentError(
                f"{self._asked}: expected x to have {own} features, as {type(cell).__name__} "
                f"{f'in {place} ' if place else ''}takes, got {size}"
            )
        size = own or size
        if size is None:
            raise ArgumentError(
                f"{self._asked}: {type(cell).__name__} has no input_size, and the layer has not "
                f"run yet. Say how many features x has: {self._asked}(layer, input_size=30)"
            )
        tensors = {**tensors_aside(cell), **lent}
        spec = state_spec(cell, _like(cell, tensors, size))
        assert spec.sizes is not None
        states = dict(zip(spec.names, spec.sizes, strict=True))
        return Lane(cell, place, layer.reverse, size, tensors, states, number)


def _like(cell: nn.Module, tensors: Mapping[str, Tensor], size: int) -> Tensor:
    """An input of the cell."""
    floats = (t.dtype for t in tensors.values() if t.is_floating_point())
    dtype = next(floats, torch.get_default_dtype())
    device = next((p.device for p in cell.parameters()), torch.device("cpu"))
    return torch.empty(1, size, dtype=dtype, device=device)


def _ours(module: nn.Module) -> nn.Module:
    """The layer of OpenRNN with the structure of one of torch.nn's; any other module as it is."""
    if isinstance(module, Layer) or not isinstance(module, nn.RNNBase):
        return module
    make: Any = {"LSTM": LSTM, "GRU": GRU}.get(module.mode, RNN)
    options: dict[str, Any] = {"proj_size": module.proj_size} if module.proj_size else {}
    if make is RNN:
        options["nonlinearity"] = module.mode.removeprefix("RNN_").lower()
    return make(  # type: ignore[no-any-return]
        module.input_size,
        module.hidden_size,
        module.num_layers,
        bias=module.bias,
        batch_first=module.batch_first,
        dropout=module.dropout if module.num_layers > 1 else 0.0,
        bidirectional=module.bidirectional,
        device="meta",
        **options,
    )


def _check_cell(module: nn.Module, asked: str) -> None:
    if not hasattr(module, "state_sizes") and not hasattr(module, "hidden_size"):
        raise ArgumentTypeError(
            _expected(asked, f"got {type(module).__name__}, without state_sizes or hidden_size")
        )


def _expected(asked: str, got: str) -> str:
    return (
        f"{asked}: expected a layer of OpenRNN or torch.nn, or a cell, {got}. "
        "Of a larger module give the recurrent layer inside"
    )


def _notes(layer: nn.Module) -> Iterator[str]:
    """What happens between the cells."""
    if isinstance(layer, (DropIn, Stack)):
        if layer.dropout:
            yield f"dropout {layer.dropout:g} between layers, in training"
        if isinstance(layer, Stack):
            if layer.residual:
                yield "residual: a layer's input is added to its output where the sizes agree"
            for inside in layer.layers:
                yield from _notes(inside)
