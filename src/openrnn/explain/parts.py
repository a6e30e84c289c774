"""What a layer, or a cell, is made of, read from the module itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from openrnn.binding import Parameters, tensors_aside
from openrnn.errors import ArgumentError, ArgumentTypeError
from openrnn.explain.network import Lane, Level, Network, example_input
from openrnn.explain.places import title
from openrnn.layers.bidirectional import Bidirectional
from openrnn.layers.dropin import DropIn
from openrnn.layers.gru import GRU
from openrnn.layers.int8layer import is_quantized
from openrnn.layers.layer import Layer
from openrnn.layers.lstm import LSTM
from openrnn.layers.recurrent import Recurrent
from openrnn.layers.rnn import RNN
from openrnn.layers.stack import Stack
from openrnn.layers.torchlayer import TorchLayer
from openrnn.state import state_spec

__all__ = ["Lane", "Level", "Network", "read"]


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
        got = f"the class {module.__name__}" if isinstance(module, type) else type(module).__name__
        raise ArgumentTypeError(_expected(asked, f"got {got}"))
    layer = _ours(module)
    reader, is_cell = _Reader(asked, layer), not isinstance(layer, Layer)
    if not isinstance(layer, Layer):
        _check_cell(module, asked)
        layer = Recurrent(module)
        levels = [reader.level((layer,), _Where("", ()), input_size)]
    else:
        levels = list(reader.levels(layer, _Where("", ()), input_size))
    notes = tuple(dict.fromkeys(_notes(layer)))
    return Network(module, title(module), tuple(levels), is_cell, layer.batch_first, notes)


class _Where(NamedTuple):
    """A part of a module: its place in words, and its path in the state."""

    place: str
    path: tuple[int, ...]

    def part(self, words: str, *path: int) -> _Where:
        return _Where(f"{self.place} {words}".strip(), (*self.path, *path))


class _Reader:
    def __init__(self, asked: str, module: nn.Module) -> None:
        self._asked = asked
        self._paths = {part: path for path, part in module.named_modules()}

    def levels(self, layer: nn.Module, where: _Where, size: int | None) -> Iterator[Level]:
        """The levels of a layer for an input of `size` features, None if that is not known."""
        if isinstance(layer, TorchLayer):
            yield from self._drop_in(layer, where, size)
        elif isinstance(layer, Stack):
            for index, inside in enumerate(layer.layers):
                for level in self.levels(inside, where.part(f"layer {index}", index), size):
                    yield level
                    size = level.output_size
        elif isinstance(layer, Bidirectional):
            pair = (layer.forward_layer, layer.backward_layer)
            yield self.level(pair, where, size, merge=layer.merge)
        elif isinstance(layer, Recurrent):
            yield self.level((layer,), where, size)
        else:
            raise ArgumentTypeError(_expected(self._asked, f"got {type(layer).__name__}"))

    def _drop_in(self, layer: TorchLayer, where: _Where, size: int | None) -> Iterator[Level]:
        """The levels of a drop-in layer, whose cells read its parameters."""
        layer.settle()
        each = [p for own in layer.lend() for p in (own if isinstance(own, tuple) else (own,))]
        lent = [
            _Lent(tensors, {name: self._name(layer, ours) for name, ours in names}, number)
            for number, (tensors, names) in enumerate(zip(each, layer.lent_names, strict=True))
        ]
        directions = 2 if layer.bidirectional else 1
        for index, inside in enumerate(layer.stack.layers):
            pair: Any = (inside,)
            if isinstance(inside, Bidirectional):
                pair = (inside.forward_layer, inside.backward_layer)
            own = lent[index * directions :][:directions]
            level = self.level(pair, where.part(f"layer {index}"), size, own, of_all=len(lent))
            yield level
            size = level.output_size

    def level(
        self,
        layers: tuple[Recurrent, ...],
        where: _Where,
        size: int | None,
        lent: Sequence[_Lent] = (),
        **options: Any,
    ) -> Level:
        parts = [where]
        if len(layers) > 1:
            ways = enumerate(("forward", "backward"))
            parts = [where.part(way, *([] if lent else [index])) for index, way in ways]
        lanes = [
            self._lane(layer, own, part, size)
            for layer, own, part in zip(layers, lent or (None, None), parts, strict=False)
        ]
        return Level(tuple(lanes), where.place, **options)

    def _lane(self, layer: Recurrent, lent: _Lent | None, where: _Where, size: int | None) -> Lane:
        cell = layer.cell
        own = getattr(cell, "input_size", None)
        own = own if isinstance(own, int) else layer.seen_features
        if own is not None and size is not None and own != size:
            raise ArgumentError(
                f"{self._asked}: expected x to have {own} features, as {type(cell).__name__} "
                f"{f'in {where.place} ' if where.place else ''}takes, got {size}"
            )
        size = own or size
        if size is None:
            raise ArgumentError(
                f"{self._asked}: {type(cell).__name__} has no input_size, and the layer has not "
                f"run yet. Say how many features x has: {self._asked}(layer, input_size=30)"
            )
        tensors = tensors_aside(cell)
        names = {name: self._name(cell, name) for name in tensors}
        if lent is not None:
            tensors, names = {**tensors, **lent.tensors}, {**names, **lent.names}
        spec = state_spec(cell, example_input(cell, tensors, size))
        assert spec.sizes is not None
        states = dict(zip(spec.names, spec.sizes, strict=True))
        number = None if lent is None else lent.number
        options = layer.backend, where.path, names, number
        return Lane(cell, where.place, layer.reverse, size, tensors, states, *options)

    def _name(self, part: nn.Module, name: str) -> str:
        """What the whole module calls a tensor of a part of it."""
        return f"{self._paths.get(part, '')}.{name}".lstrip(".")


class _Lent(NamedTuple):
    """What a drop-in layer lends to its cell of this number, and what it calls that itself."""

    tensors: Parameters
    names: Mapping[str, str]
    number: int


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
        dtype=next(module.parameters()).dtype,
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
    if is_quantized(layer):
        yield "for inference alone: products of rows and weights are in 8 bits"
    if isinstance(layer, (DropIn, Stack)):
        if layer.dropout:
            yield f"dropout {layer.dropout:g} between layers, in training"
        if isinstance(layer, Stack):
            if layer.residual:
                yield "residual: a layer's input is added to its output where the sizes agree"
            for inside in layer.layers:
                yield from _notes(inside)
