"""What RNN, LSTM and GRU share: torch.nn's parameters and layout around a `Stack`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from openrnn import backends
from openrnn.binding import Parameters
from openrnn.errors import ShapeError
from openrnn.layers.bidirectional import Bidirectional
from openrnn.layers.layer import Layer
from openrnn.layers.stack import Stack
from openrnn.sequence import Sequence
from openrnn.state import check_dtype, check_states

# (input_size) -> the cell of one layer and direction, on the meta device: its structure alone.
MakeCell = Callable[[int], nn.Module]


class DropIn(nn.RNNBase, Layer):
    """A layer of torch.nn's: `weight_ih_l0` and the like, states of (D·L, B, H).

    The parameters are the layer's own, as torch names them. The work is done by a `Stack` of cells
    without parameters, to which the layer lends its own at each call; so copies, pickles,
    parametrizations and `functional_call` need no special care.
    """

    states: tuple[str, ...] = ("h",)
    dropout: float
    weight_ih_l0: Tensor
    backend: str
    stack: Stack

    def _build(self, make_cell: MakeCell, backend: str) -> None:
        """Called at the end of a constructor, when torch's is done."""
        self.backend = backends.check(backend)
        output_size = self.proj_size or self.hidden_size
        directions = 2 if self.bidirectional else 1
        sizes = [self.input_size] + [output_size * directions] * (self.num_layers - 1)
        layers: list[nn.Module] = [
            Bidirectional(make_cell(size), make_cell(size), backend=backend)
            if self.bidirectional
            else make_cell(size)
            for size in sizes
        ]
        # Past nn.Module's registry: the stack is machinery, not a child with a name and a state.
        object.__setattr__(self, "stack", Stack(layers, backend=backend))

    def flatten_parameters(self) -> None:
        """Does nothing: there is no layout in memory that would be faster."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        return super().forward(input, hx)

    def scan(self, sequence: Sequence, state: Any, parameters: Any = None) -> tuple[Sequence, Any]:
        self._check_features(sequence)
        stack = self.stack
        if stack.training != self.training:
            stack.train(self.training)
        if stack.dropout != self.dropout:
            stack.dropout = self.dropout
        states = None if state is None else self._split_state(sequence, state)
        output, states = stack.scan(sequence, states, parameters or self.lend())
        return output, self._join_state(states)

    def lend(self) -> list[Any]:
        """The layer's parameters under the names that the cells know them by, nested as a state."""
        own: dict[str, Any] = self._parameters  # but for what was put in a parameter's place
        cells: list[Parameters] = [
            {
                name.split("_l")[0]: own[name] if name in own else getattr(self, name)
                for name in names
            }
            for names in self._all_weights
        ]
        return _pairs(cells) if self.bidirectional else cells

    def _split_state(self, sequence: Sequence, hx: Any) -> list[Any]:
        """From torch's (D·L, B, H) to the states of each cell, nested as the stack is."""
        tensors = self._check_state(sequence, hx)
        cells: list[Any]
        if len(self.states) == 1:
            cells = list(tensors[0].unbind(0))
        else:
            cells = list(zip(*(tensor.unbind(0) for tensor in tensors), strict=True))
        return _pairs(cells) if self.bidirectional else cells

    def _join_state(self, states: Any) -> Any:
        """The inverse of `_split_state`."""
        cells = [cell for pair in states for cell in pair] if self.bidirectional else states
        if len(self.states) == 1:
            return _stacked(cells)
        return tuple(_stacked(tensors) for tensors in zip(*cells, strict=True))

    def _check_features(self, sequence: Sequence) -> None:
        owner = type(self).__name__
        if sequence.features != self.input_size:
            raise ShapeError(
                f"{owner}: expected input_size {self.input_size} in the last dimension of the "
                f"input, got {sequence.features}"
            )
        check_dtype(sequence.data, self.weight_ih_l0, owner)

    def _check_state(self, sequence: Sequence, hx: Any) -> tuple[Tensor, ...]:
        """The states as a tuple of tensors of torch's shapes."""
        layers = self.num_layers * (2 if self.bidirectional else 1)
        batch = (sequence.batch_size,) if sequence.batched else ()
        sizes = {"h": self.proj_size or self.hidden_size, "c": self.hidden_size}
        return check_states(
            hx,
            tuple(f"{name}_0" for name in self.states),
            [(layers, *batch, sizes[name]) for name in self.states],
            "layers · directions, " + "batch, " * len(batch) + "features",
            type(self).__name__,
            sequence.data.dtype,
        )

    def extra_repr(self) -> str:
        shown = super().extra_repr()
        return shown if self.backend == "auto" else f"{shown}, backend={self.backend!r}"


def _stacked(tensors: Any) -> Tensor:
    return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(tuple(tensors))


def _pairs(cells: list[Any]) -> list[Any]:
    """The forward and the backward cell of each layer, side by side."""
    return list(zip(cells[::2], cells[1::2], strict=True))
