"""Layers of gated recurrent units."""

from __future__ import annotations

from typing import Any

from typing_extensions import Unpack

from openrnn.cells.gru import GRUCell
from openrnn.cells.layernormgru import LayerNormGRUCell
from openrnn.errors import ArgumentError
from openrnn.layers.dropin import DropIn, Options


class GRU(DropIn):
    """Gated recurrent units over a sequence: a drop-in for `torch.nn.GRU`.

    Each layer and direction is a `GRUCell`, whose documentation has the equations; its parameters
    here are `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`, with `_reverse` behind for
    the backward direction.

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
        device, dtype: of the parameters. Default: torch's defaults.
        layer_norm: the cells are `LayerNormGRUCell`; each layer has `norm_ih_weight_l0` and the
            like in place of the biases. Default: False.
        recurrent_dropout, zoneout, weight_drop, learn_initial_state, checkpoint, backend: as
            `Options` tells. Default: none of these; backend "auto".

    Shapes:
        D is 2 if bidirectional, else 1.
        input: (T, B, I); (T, I) without a batch; or a PackedSequence.
        hx: h_0, (D·L, B, H), or (D·L, H) without a batch. Default: zeros.

    Returns:
        output: (T, B, D·H), the last layer's h_t at every step; packed if the input is.
        h_n: (D·L, B, H), each layer's and direction's state after its last step.

    Raises:
        ArgumentError, ValueError, TypeError: an argument of the constructor out of its range.
        ShapeError: input or state of the wrong rank, size or dtype.
        StateError: the state is not a tensor.
        BackendError: no such backend.

    Source: as `GRUCell`.

    Examples:
        >>> gru = GRU(30, 20, bidirectional=True)
        >>> output, h_n = gru(torch.randn(12, 3, 30))
        >>> output.shape, h_n.shape
        (torch.Size([12, 3, 40]), torch.Size([2, 3, 20]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        layer_norm: bool = False,
        proj_size: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        if proj_size is not None:
            raise ArgumentError(f"GRU: only LSTM takes proj_size, got proj_size={proj_size}")
        super().__init__(
            "GRU",
            input_size,
            hidden_size,
            num_layers,
            False if layer_norm else bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
        )
        kind = LayerNormGRUCell if layer_norm else GRUCell
        self._build(
            lambda size: kind(size, hidden_size, bias, device="meta"),
            bias,
            layer_norm,
            options,
        )
