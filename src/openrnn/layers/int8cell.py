"""A cell whose products are in 8 bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from openrnn.binding import Parameters
from openrnn.errors import CellError, ShapeError
from openrnn.step.evaluate import evaluator
from openrnn.step.int8 import NO_GRADIENT
from openrnn.step.quantize import Quantized


class Int8Cell(nn.Module):
    """One step of a cell with int8 weights, made by `openrnn.quantize`: for inference alone.

    It is the step graph of the cell that it was made from, as that is in evaluation, and what that
    graph reads, as buffers: int8 weights as torch has them, (columns, depth), each with the scale
    of its rows, and what stays float32.

    Args:
        title: the class and the options of the cell that it was made from.
        step: the step in 8 bits.
        state_sizes: the features of each state, by name.
        input_size: features of x.
        described: other attributes of that cell that tell what it is, `hidden_size` say.
    """

    def __init__(
        self,
        title: str,
        step: Quantized,
        state_sizes: Mapping[str, int],
        input_size: int,
        described: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.title, self.graph, self.weights = title, step.graph, tuple(step.weights)
        self.state_sizes, self.input_size = dict(state_sizes), input_size
        self.__dict__.update(described)
        for name, tensor in step.tensors.items():
            self.register_buffer(name, tensor)

    def forward(self, x: Tensor, state: Any) -> Any:
        states = state if isinstance(state, (tuple, list)) else (state,)
        self.check((x, *states))
        given = {f"state.{name}": s for name, s in zip(self.state_sizes, states, strict=True)}
        given |= {f"parameter.{name}": tensor for name, tensor in self._buffers.items()}
        found = evaluator(self.graph, x.device)({"input.x": x, **given}, x.size(0))
        new = tuple(found[f"state.{name}"] for name in self.state_sizes)
        return new[0] if len(new) == 1 else new

    def check(self, given: Iterable[Tensor], lent: Parameters | None = None) -> None:
        """Raises an error if an input or a state is not float32, or a gradient is wanted of it.

        `lent`: what the cell reads in place of its own buffers.

        Raises:
            ShapeError: another dtype, of one of these or, after a conversion, of the cell.
            CellError: one of them requires a gradient, and torch records.
        """
        recording = torch.is_grad_enabled()
        read = lent or self._buffers
        own = (read[f"{name}_scale"] for name in self.weights[:1])  # one of those in float32
        for tensor in (*own, *given):
            assert tensor is not None
            if tensor.dtype != torch.float32 and not torch.is_autocast_enabled(tensor.device.type):
                raise ShapeError(
                    f"{type(self).__name__}: expected the input, the state and what the cell keeps "
                    f"beside its int8 weights in torch.float32, got {tensor.dtype}. Convert the "
                    "input: input.to(torch.float32); a quantized layer stays in its dtype"
                )
            if recording and tensor.requires_grad:
                raise CellError(f"{type(self).__name__}: {NO_GRADIENT}")

    def extra_repr(self) -> str:
        shapes = (f"{name} {tuple(getattr(self, name).shape)}" for name in self.weights)
        return f"{self.title}, int8: {', '.join(shapes)}"
