"""Recurrent layers of Keras 3."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from openrnn.cells.base import Cell
from openrnn.cells.gru import GRUCell
from openrnn.cells.lstm import LSTMCell
from openrnn.cells.originalgru import OriginalGRUCell
from openrnn.cells.rnn import RNNCell
from openrnn.errors import ConversionError
from openrnn.extras import require_extra
from openrnn.io.assemble import assemble
from openrnn.io.functions import function_name
from openrnn.io.weights import cell_with, reorder, tensor
from openrnn.layers.layer import Layer

_MERGES = {"concat": "concat", "sum": "sum", "ave": "mean"}


def from_keras(layer: Any) -> Layer:
    """A recurrent layer of Keras, with its weights, as a layer of ours.

    | Keras | openrnn |
    |---|---|
    | `LSTM` | `LSTM` |
    | `GRU(reset_after=True)`, the default | `GRU` |
    | `GRU(reset_after=False)` | `Recurrent(OriginalGRUCell)` |
    | `SimpleRNN`, activation tanh or relu | `RNN` |
    | `RNN(StackedRNNCells(cells))` | several layers in one, or a `Stack` |
    | `Bidirectional` | a bidirectional layer, or `Bidirectional` |

    The result takes (B, T, I), as Keras does, and is a layer like any other: it can be trained,
    streamed and compiled. Where Keras has one bias it is bias_ih, and bias_hh is 0. What is
    different in a call, the page "Weights from elsewhere" tells.

    Args:
        layer: a `keras.layers` layer that is built: `LSTM`, `GRU`, `SimpleRNN`, `RNN` over cells
            of these, or `Bidirectional` over one. It is not changed.

    Returns:
        The layer, batch first, with copies of the weights in their dtype: on torch's default
        device, or where they are if Keras runs on torch. A layer with go_backwards=True becomes
        `Recurrent(cell, reverse=True)`, whose output is in order of time.

    Raises:
        ConversionError: it is no such layer, has no weights yet, or something in it has no
            counterpart: an activation, dropout, stateful=True, merge_mode "mul" or None. The
            message names it.
        MissingExtraError: Keras is not installed.

    Examples:
        >>> import keras
        >>> theirs = keras.layers.LSTM(20, return_sequences=True)
        >>> theirs.build((None, None, 30))
        >>> ours = from_keras(theirs)
        >>> ours
        LSTM(30, 20, batch_first=True)
        >>> x = torch.randn(3, 12, 30)
        >>> torch.allclose(ours(x)[0], torch.tensor(theirs(x.numpy()).tolist()), atol=1e-5)
        True
    """
    require_extra("from_keras", ("keras",), "keras")
    keras = import_module("keras")
    if type(layer) is keras.layers.Bidirectional:
        return _bidirectional(keras, layer)
    levels = [[cell] for cell in _cells(keras, layer)]
    return assemble(levels, reverse=layer.go_backwards, batch_first=True)


def _bidirectional(keras: Any, layer: Any) -> Layer:
    owner = f"from_keras: {_called(layer)}"
    if layer.merge_mode not in _MERGES:
        known = ", ".join(map(repr, _MERGES))
        raise ConversionError(
            f"{owner}: expected merge_mode to be one of {known}, got {layer.merge_mode!r}. Convert "
            "its forward_layer and its backward_layer, and merge their outputs yourself"
        )
    if layer.forward_layer.go_backwards:
        raise ConversionError(
            f"{owner}: expected a forward_layer with go_backwards=False, got True. Convert its "
            "forward_layer and its backward_layer each"
        )
    levels = [_cells(keras, inside) for inside in (layer.forward_layer, layer.backward_layer)]
    if any(len(level) > 1 for level in levels):
        raise ConversionError(
            f"{owner}: expected one cell in each direction, got StackedRNNCells. Convert its "
            "forward_layer and its backward_layer each, and merge their outputs yourself"
        )
    cells = [cell for level in levels for cell in level]
    return assemble([cells], batch_first=True, merge=_MERGES[layer.merge_mode])


def _cells(keras: Any, layer: Any) -> list[Cell]:
    """The cells of a layer in one direction, from the lowest up."""
    owner, layers = f"from_keras: {_called(layer)}", keras.layers
    if type(layer) not in (layers.LSTM, layers.GRU, layers.SimpleRNN, layers.RNN):
        raise ConversionError(
            f"{owner}: expected keras.layers.LSTM, GRU, SimpleRNN, RNN, or Bidirectional over one "
            f"of these, got {type(layer).__module__}.{type(layer).__qualname__}. A cell goes "
            "in as keras.layers.RNN(cell)"
        )
    if layer.stateful:
        raise ConversionError(
            f"{owner}: stateful=True has no counterpart. Set layer.stateful = False, and give each "
            "call the state that the last one returned, or use the stream() of the result"
        )
    cell = layer.cell
    stacked = type(cell) is layers.StackedRNNCells
    return [_cell(keras, owner, inside) for inside in (cell.cells if stacked else [cell])]


def _cell(keras: Any, owner: str, cell: Any) -> Cell:
    kinds: dict[type, tuple[type[Cell], tuple[int, ...]]] = {
        keras.layers.LSTMCell: (LSTMCell, (0, 1, 2, 3)),
        keras.layers.GRUCell: (GRUCell, (1, 0, 2)),  # z, r, n in Keras
        keras.layers.SimpleRNNCell: (RNNCell, (0,)),
    }
    if type(cell) not in kinds:
        names = ", ".join(kind.__name__ for kind in kinds)
        raise ConversionError(
            f"{owner}: expected cells that are {names} of keras.layers, got "
            f"{type(cell).__module__}.{type(cell).__qualname__}"
        )
    if not cell.built:
        raise ConversionError(
            f"{owner}: it has no weights yet. Call it, or layer.build((None, None, input_size))"
        )
    kind, order = kinds[type(cell)]
    if kind is GRUCell and not cell.reset_after:
        kind = OriginalGRUCell
    for name in ("dropout", "recurrent_dropout"):
        if getattr(cell, name):
            raise ConversionError(
                f"{owner}: {name}={getattr(cell, name)} has no counterpart: it zeroes other "
                f"numbers than ours. It is at work in training only: set {name} = 0 on its cell, "
                "layer.cell, and give the result what dropout you want"
            )
    known, activations = ["tanh"] + ["relu"] * (kind is RNNCell), keras.activations
    activation = function_name(owner, "activation", cell.activation, activations, known)
    if kind is not RNNCell:
        gates = cell.recurrent_activation
        function_name(owner, "recurrent_activation", gates, activations, ["sigmoid"])

    def read(name: str) -> Tensor:
        variable = getattr(cell, name)
        if isinstance(variable.value, Tensor):  # Keras runs on torch
            return variable.value.detach().clone()
        return tensor(owner, name, keras.ops.convert_to_numpy(variable.value))

    weights = {"weight_ih": read("kernel").T, "weight_hh": read("recurrent_kernel").T}
    if cell.bias is not None:
        bias = read("bias")  # (G·H), or (2, G·H) where the reset comes after the product
        both = bias if bias.dim() == 2 else (bias, torch.zeros_like(bias))
        weights["bias_ih"], weights["bias_hh"] = both
    weights = {name: reorder(value, order) for name, value in weights.items()}
    options = {"nonlinearity": activation} if kind is RNNCell else {}
    return cell_with(owner, kind, weights, **options)


def _called(layer: Any) -> str:
    name = getattr(layer, "name", None)
    return f"{type(layer).__name__} {name!r}" if isinstance(name, str) else type(layer).__name__
