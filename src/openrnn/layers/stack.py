"""Layers of any kind and size, one on the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from openrnn.cells.arguments import check_probability
from openrnn.errors import ArgumentError, StateError
from openrnn.layers.layer import Layer, check_bool
from openrnn.layers.recurrent import Recurrent
from openrnn.sequence import Sequence


class Stack(Layer):
    """Layers one on the other: each takes the output of the one below as its input.

    The sizes may differ from layer to layer, and so may the cells.

    Args:
        layers: the layers, from the lowest up: cells, which become `Recurrent` layers, or layers
            (`Recurrent`, `Bidirectional`, `Stack`).
        dropout: probability, 0 to 1, that a feature between two layers is zeroed in training;
            never after the last layer. Default: 0.
        batch_first: input and output are (B, T, features). Default: False.
        backend: for the cells, as in `Recurrent`. Default: "auto".

    Shapes:
        input: (T, B, I); (T, I) without a batch; or a PackedSequence.
        state: a tuple or list with the state of each layer; any of them may be None.

    Returns:
        output: (T, B, H), the last layer's output at every step.
        state: a tuple with each layer's state after its last step.

    Raises:
        ArgumentError: no layer, or dropout outside 0 to 1.
        ArgumentTypeError: something that is neither a cell nor a layer.
        ShapeError, StateError, CellError, BackendError: as in `Recurrent`.

    Examples:
        >>> stack = Stack([torch.nn.LSTMCell(30, 20), torch.nn.LSTMCell(20, 10)])
        >>> output, ((h_1, c_1), (h_2, c_2)) = stack(torch.randn(12, 3, 30))
        >>> output.shape, c_1.shape, c_2.shape
        (torch.Size([12, 3, 10]), torch.Size([3, 20]), torch.Size([3, 10]))
    """

    layers: nn.ModuleList
    dropout: float

    def __init__(
        self,
        layers: Iterable[nn.Module],
        *,
        dropout: float = 0.0,
        batch_first: bool = False,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.batch_first = check_bool("batch_first", batch_first)
        self.dropout = check_probability("Stack", "dropout", dropout)
        self.layers = nn.ModuleList(self._layer(layer, backend) for layer in layers)
        if not self.layers:
            raise ArgumentError("Stack: expected at least one cell or layer, got none")

    def _layer(self, module: nn.Module, backend: str) -> nn.Module:
        if not isinstance(module, Layer):
            return Recurrent(module, backend=backend)
        if module.batch_first and not self.batch_first:
            raise ArgumentError(
                f"Stack: the layer {type(module).__name__} has batch_first=True, the stack not. "
                "Inside a stack, time comes first: give batch_first to the stack alone."
            )
        return module

    def scan(self, sequence: Sequence, state: Any, parameters: Any = None) -> tuple[Sequence, Any]:
        layers: tuple[Any, ...] = tuple(self.layers)
        states = (None,) * len(layers) if state is None else state
        if isinstance(states, Tensor) or len(states) != len(layers):
            count = "a Tensor" if isinstance(states, Tensor) else f"{len(states)} states"
            raise StateError(
                f"Stack: expected one state for each of its {len(layers)} layers, got {count}"
            )
        if parameters is None:
            parameters = (None,) * len(layers)
        new_states = []
        for index, layer in enumerate(layers):
            if index > 0 and self.dropout > 0:
                sequence = sequence.with_data(F.dropout(sequence.data, self.dropout, self.training))
            sequence, new_state = layer.scan(sequence, states[index], parameters[index])
            new_states.append(new_state)
        return sequence, tuple(new_states)

    def extra_repr(self) -> str:
        options = [f"dropout={self.dropout}"] if self.dropout else []
        return ", ".join(options + ["batch_first=True"] * self.batch_first)
