"""Cells with weights, put together to a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from openrnn.cells.base import Cell
from openrnn.cells.gru import GRUCell
from openrnn.cells.lstm import LSTMCell
from openrnn.cells.rnn import RNNCell
from openrnn.layers.bidirectional import Bidirectional
from openrnn.layers.dropin import DropIn
from openrnn.layers.gru import GRU
from openrnn.layers.layer import Layer
from openrnn.layers.lstm import LSTM
from openrnn.layers.recurrent import Recurrent
from openrnn.layers.rnn import RNN
from openrnn.layers.stack import Stack

_DROP_INS: dict[type[Cell], type[DropIn]] = {LSTMCell: LSTM, GRUCell: GRU, RNNCell: RNN}


def assemble(
    levels: Sequence[Sequence[Cell]],
    *,
    reverse: bool = False,
    batch_first: bool = False,
    merge: str = "concat",
    initial: dict[str, Tensor] | None = None,
) -> Layer:
    """A drop-in layer where it is one; else layers over the cells themselves.

    Args:
        levels: for each level, from the lowest up, its cell, or its forward and backward cell;
            two cells in the only level.
        reverse: run from the last step to the first.
        batch_first: input and output are (B, T, features).
        merge: what becomes of the outputs of two directions, as in `Bidirectional`.
        initial: the initial states of the only level, by name, (D, H).
    """
    cells = [cell for level in levels for cell in level]
    if not reverse and merge == "concat" and _are_drop_in(cells):
        return _drop_in(levels, cells, batch_first, initial)
    if len(levels) > 1:
        layers = [Recurrent(cell, reverse=reverse) for cell in cells]
        return Stack(layers, batch_first=batch_first)
    options: dict[str, Any] = {
        "batch_first": batch_first,
        "learn_initial_state": initial is not None,
    }
    layer: Layer
    if len(cells) == 1:
        layer = Recurrent(cells[0], reverse=reverse, **options)
        directions = [layer]
    else:
        layer = Bidirectional(cells[0], cells[1], merge=merge, **options)
        directions = [layer.forward_layer, layer.backward_layer]
    for name, values in (initial or {}).items():
        for direction, value in zip(directions, values, strict=True):
            with torch.no_grad():
                getattr(direction, name).copy_(value)
    return layer


def _are_drop_in(cells: Sequence[Cell]) -> bool:
    """Whether the cells are of one kind and size, and there is a layer of torch's for them."""
    kinds = {
        (type(c), c.hidden_size, c.bias, c.weight_ih.dtype, getattr(c, "nonlinearity", None))
        for c in cells
    }
    return len(kinds) == 1 and type(cells[0]) in _DROP_INS


def _drop_in(
    levels: Sequence[Sequence[Cell]],
    cells: Sequence[Cell],
    batch_first: bool,
    initial: dict[str, Tensor] | None,
) -> DropIn:
    first = cells[0]
    options = {"nonlinearity": first.nonlinearity} if isinstance(first, RNNCell) else {}
    make: Any = _DROP_INS[type(first)]
    layer: DropIn = make(
        *(first.input_size, first.hidden_size, len(levels)),
        bias=first.bias,
        batch_first=batch_first,
        bidirectional=len(levels[0]) == 2,
        device="meta",
        dtype=first.weight_ih.dtype,
        learn_initial_state=initial is not None,
        **options,
    )
    weights = {
        own: getattr(cell, name)
        for names, cell in zip(layer.lent_names, cells, strict=True)
        for name, own in names
    }
    layer.load_state_dict({**weights, **(initial or {})}, assign=True)
    return layer
