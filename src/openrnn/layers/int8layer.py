"""A layer of torch.nn's layout with int8 weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from openrnn.errors import CellError
from openrnn.layers.bidirectional import Bidirectional
from openrnn.layers.dropin import DropIn
from openrnn.layers.int8cell import Int8Cell
from openrnn.layers.stack import Stack
from openrnn.layers.torchlayer import TorchLayer, pairs

_TAKEN = (
    *("input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional"),
    *("proj_size", "backend", "learn_initial_state"),
)


class Int8Layer(TorchLayer):
    """An RNN, LSTM or GRU with int8 weights, made by `openrnn.quantize`: for inference alone.

    It is called as the layer that it was made from, and takes and gives the same states. What its
    cells read are buffers of its own, `weight_ih_l0` and `weight_ih_scale_l0` say, which it lends
    them as a `DropIn` does.

    Args:
        layer: the layer that it was made from.
        cells: its cells, in 8 bits.
        initial: the initial state by name, `h_0` (D·L, H), or nothing.
    """

    def __init__(
        self, layer: DropIn, cells: Sequence[Int8Cell], initial: Mapping[str, Tensor]
    ) -> None:
        super().__init__()
        for name in _TAKEN:
            setattr(self, name, getattr(layer, name))
        self.states = layer.states
        self.title = f"{type(layer).__name__}({layer.extra_repr()})"
        self.lent_names = []
        for names, cell in zip(layer.lent_names, cells, strict=True):
            ending = names[0][1].removeprefix("weight_ih")  # "_l0_reverse" say
            self.lent_names.append([(name, name + ending) for name, _ in cell.named_buffers()])
            for name, own in self.lent_names[-1]:
                self.register_buffer(own, getattr(cell, name))
            cell.to("meta")
        for name, tensor in initial.items():
            self.register_buffer(name, tensor)
        inside: list[nn.Module] = [*cells]
        options: dict[str, Any] = {"backend": layer.backend}
        if self.bidirectional:
            inside = [Bidirectional(*pair, **options) for pair in pairs(inside)]
        object.__setattr__(self, "stack", Stack(inside, **options))  # as in a DropIn

    def settle(self) -> None:
        """Nothing to bring: what is for inference alone has one mode."""

    def lend(self, *, drop: bool = False) -> list[Any]:
        lent: list[Any] = [
            {name: self._buffers[own] for name, own in names} for names in self.lent_names
        ]
        return pairs(lent) if self.bidirectional else lent

    def extra_repr(self) -> str:
        return f"{self.title}, int8"


def is_quantized(module: nn.Module) -> bool:
    """Whether any part of a module has int8 weights of ours."""
    return any(isinstance(part, (Int8Cell, Int8Layer)) for part in module.modules())


def check_float(asked: str, module: Any) -> None:
    """Raises a CellError if a module that is to be written down has int8 weights of ours."""
    if isinstance(module, nn.Module) and is_quantized(module):
        raise CellError(
            f"{asked}: expected a layer with weights in float32, received {type(module).__name__} "
            "with int8 weights; give the layer that it was made from"
        )
