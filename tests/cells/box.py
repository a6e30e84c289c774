"""All cells of the box, by name, and states to start them from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from openrnn import cells
from openrnn.cells import Cell

# factory(input_size, hidden_size, **options): an even hidden_size ≥ 2, as some have two heads.
BOX: dict[str, Callable[..., Cell]] = {
    "RNNCell": cells.RNNCell,
    "RNNCell relu": lambda i, h, **o: cells.RNNCell(i, h, nonlinearity="relu", **o),
    "LSTMCell": cells.LSTMCell,
    "LSTMPCell": lambda i, h, **o: cells.LSTMPCell(i, h, proj_size=h // 2, **o),
    "GRUCell": cells.GRUCell,
    "PeepholeLSTMCell": cells.PeepholeLSTMCell,
    "CoupledLSTMCell": cells.CoupledLSTMCell,
    "LayerNormLSTMCell": cells.LayerNormLSTMCell,
    "LayerNormGRUCell": cells.LayerNormGRUCell,
    "LayerNormRNNCell": cells.LayerNormRNNCell,
    "RecurrentDropoutLSTMCell": lambda i, h, **o: cells.RecurrentDropoutLSTMCell(
        i, h, dropout=0.3, **o
    ),
    "ZoneoutLSTMCell": lambda i, h, **o: cells.ZoneoutLSTMCell(
        i, h, zoneout_h=0.2, zoneout_c=0.4, **o
    ),
    "ZoneoutGRUCell": lambda i, h, **o: cells.ZoneoutGRUCell(i, h, zoneout=0.3, **o),
    "WeightDropLSTMCell": lambda i, h, **o: cells.WeightDropLSTMCell(i, h, dropout=0.3, **o),
    "MGUCell": cells.MGUCell,
    "OriginalGRUCell": cells.OriginalGRUCell,
    "IndRNNCell": cells.IndRNNCell,
    "IndRNNCell tanh": lambda i, h, **o: cells.IndRNNCell(i, h, nonlinearity="tanh", **o),
    "MultiplicativeLSTMCell": cells.MultiplicativeLSTMCell,
    "RHNCell": lambda i, h, **o: cells.RHNCell(i, h, depth=3, **o),
    "SLSTMCell": cells.SLSTMCell,
    "SLSTMCell 2 heads": lambda i, h, **o: cells.SLSTMCell(i, h, num_heads=2, **o),
    "MinGRUCell": cells.MinGRUCell,
    "MinLSTMCell": cells.MinLSTMCell,
    "QRNNCell f": lambda i, h, **o: cells.QRNNCell(i, h, pooling="f", **o),
    "QRNNCell fo": cells.QRNNCell,
}
RANDOM = ("RecurrentDropoutLSTMCell", "ZoneoutLSTMCell", "ZoneoutGRUCell", "WeightDropLSTMCell")


def random_states(cell: Cell, *batch: int, dtype: torch.dtype | None = None) -> tuple[Tensor, ...]:
    """Random states that the cell may have: a normaliser n, of sLSTM, is at least 1."""
    states = {
        name: torch.randn(*batch, size, dtype=dtype) for name, size in cell.state_sizes.items()
    }
    return tuple(s.abs() + 1 if name == "n" else s for name, s in states.items())


def as_given(states: tuple[Tensor, ...]) -> Any:
    """The states in the form in which a cell takes them: a lone one is no tuple."""
    return states[0] if len(states) == 1 else states


def as_tuple(state: Any) -> tuple[Tensor, ...]:
    """The states in the form of `step`: always a tuple."""
    return (state,) if isinstance(state, Tensor) else tuple(state)
