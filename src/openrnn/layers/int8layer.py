"""A layer of torch.nn's layout with int8 weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from openrnn.layers.dropin import DropIn
from openrnn.layers.stack import Stack
from openrnn.layers.torchlayer import TorchLayer, pairs

_TAKEN = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional")
_TAKEN += ("proj_size", "backend", "learn_initial_state")


class Int8Layer(TorchLayer):
    """An RNN, LSTM or GRU with int8 weights, made by `openrnn.quantize`: for inference alone.

    It is called as the layer that it was made from, and takes and gives the same states. Its
    numbers are buffers: those of its cells, and the initial state where that was learned.

    Args:
        layer: the layer that it was made from.
        stack: its cells, in 8 bits.
        initial: the initial state by name, `h_0` (D·L, H), or nothing.
    """

    def __init__(self, layer: DropIn, stack: Stack, initial: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name in _TAKEN:
            setattr(self, name, getattr(layer, name))
        self.states = layer.states
        self.title = f"{type(layer).__name__}({layer.extra_repr()})"
        self.stack = stack
        count = self.num_layers * (2 if self.bidirectional else 1)
        self.lent_names = [[] for _ in range(count)]
        for name, tensor in initial.items():
            self.register_buffer(name, tensor)

    def settle(self) -> None:
        """Nothing to bring: a layer for inference has no other mode."""

    def lend(self, *, drop: bool = False) -> list[Any]:
        """Nothing: the cells have what they read."""
        nothing: list[Any] = [{} for _ in self.lent_names]
        return pairs(nothing) if self.bidirectional else nothing

    def extra_repr(self) -> str:
        return self.title
