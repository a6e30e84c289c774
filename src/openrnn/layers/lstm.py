"""Layers of long short-term memory."""

from __future__ import annotations

from typing import Any

from typing_extensions import Unpack

from openrnn.cells.base import Cell
from openrnn.cells.layernormlstm import LayerNormLSTMCell
from openrnn.cells.lstm import LSTMCell
from openrnn.cells.lstmp import LSTMPCell
from openrnn.errors import ArgumentError
from openrnn.layers.dropin import DropIn, Options


class LSTM(DropIn):
    """Long short-term memory over a sequence: a drop-in for `torch.nn.LSTM`.

    Each layer and direction is an `LSTMCell`, or an `LSTMPCell` with a projection; their
    documentation has the equations. Its parameters here are `weight_ih_l0`, `weight_hh_l0`,
    `bias_ih_l0`, `bias_hh_l0` and, projected, `weight_hr_l0`, with `_reverse` behind for the
    backward direction.

    It is called as `layer(input, hx, *, lengths=None, reset=None, reset_to=None,
    return_states=False)`; `Layer.forward` tells of these. The states of all steps are
    (T, D·L, B, H).

    Args:
        input_size: features I of each x_t, ≥ 1.
        hidden_size: units H, ≥ 1.
        num_layers: layers L, one on the other, ≥ 1. Default: 1.
        bias: with the biases b_ih and b_hh, or without. Default: True.
        batch_first: input and output are (B, T, features). The states stay (D·L, B, H).
            Default: False.
        dropout: probability, 0 to 1, that an output feature of a layer is zeroed in training;
            never after the last layer. Default: 0.
        bidirectional: a second set of cells runs from the last step to the first. Default: False.
        proj_size: features P of the output, 0 ≤ P < H; 0 is no projection, and P is then H below.
            Default: 0.
        device, dtype: of the parameters. Default: torch's defaults.
        layer_norm: the cells are `LayerNormLSTMCell`; each layer has `norm_ih_weight_l0` and the
            like in place of the biases; takes no projection. Default: False.
        recurrent_dropout, zoneout, weight_drop, learn_initial_state, checkpoint, backend: as
            `Options` tells. Default: none of these; backend "auto".

    Shapes:
        D is 2 if bidirectional, else 1.
        input: (T, B, I); (T, I) without a batch; or a PackedSequence.
        hx: (h_0, c_0), a tuple or a list, (D·L, B, P) and (D·L, B, H), or (D·L, P) and (D·L, H)
            without a batch. Default: zeros.

    Returns:
        output: (T, B, D·P), the last layer's h_t at every step; packed if the input is.
        (h_n, c_n): (D·L, B, P) and (D·L, B, H), each layer's and direction's states after its
            last step.

    Raises:
        ArgumentError, ValueError, TypeError: an argument of the constructor out of its range.
        ShapeError: input or state of the wrong rank, size or dtype.
        StateError: the state is not two tensors.
        BackendError: no such backend.

    Source: as `LSTMCell` and `LSTMPCell`.

    Examples:
        >>> lstm = LSTM(30, 20, num_layers=2, bidirectional=True)
        >>> output, (h_n, c_n) = lstm(torch.randn(12, 3, 30))
        >>> output.shape, h_n.shape
        (torch.Size([12, 3, 40]), torch.Size([4, 3, 20]))
    """

    states = ("h", "c")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        layer_norm: bool = False,
        **options: Unpack[Options],
    ) -> None:
        if layer_norm and proj_size:
            raise ArgumentError(
                f"LSTM: layer_norm=True takes no projection: expected proj_size=0, got {proj_size}"
            )
        super().__init__(
            "LSTM",
            input_size,
            hidden_size,
            num_layers,
            False if layer_norm else bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
        )

        def make_cell(size: int) -> Cell:
            if proj_size:
                return LSTMPCell(size, hidden_size, proj_size, bias, device="meta")
            kind = LayerNormLSTMCell if layer_norm else LSTMCell
            return kind(size, hidden_size, bias, device="meta")

        self._build(make_cell, bias, layer_norm, options)
