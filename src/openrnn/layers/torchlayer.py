"""torch.nn's layout around a `Stack`: the states of all its cells in tensors of (D·L, B, H)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from openrnn.backends.backend import States, Stepper
from openrnn.errors import ShapeError
from openrnn.layers.layer import Layer, Scanned
from openrnn.layers.stack import Stack
from openrnn.layers.stream import Link, is_default
from openrnn.sequence import Sequence
from openrnn.state import check_states


class TorchLayer(Layer):
    """A layer with torch.nn's arguments and states, whose work is done by a `Stack`.

    lent_names: for each cell of the stack, the names that it knows its parameters by, and the
        layer's own.
    """

    states: tuple[str, ...] = ("h",)
    stack: Stack
    input_size: int
    hidden_size: int
    proj_size: int
    num_layers: int
    bidirectional: bool
    learn_initial_state: bool
    lent_names: list[list[tuple[str, str]]]

    @abstractmethod
    def settle(self) -> None:
        """Brings what may have changed in the layer to the stack."""

    @abstractmethod
    def lend(self, *, drop: bool = False) -> list[Any]:
        """What the cells read in place of their own parameters, nested as a state.

        `drop`: with some recurrent weights dropped, if the layer does that.
        """

    @property
    def runs_backward(self) -> bool:
        return self.bidirectional

    def forward(
        self,
        input: Any,
        hx: Any = None,
        *,
        lengths: Any = None,
        reset: Tensor | None = None,
        reset_to: Any = None,
        return_states: bool = False,
    ) -> Any:
        """See `Layer.forward`; the states of all steps are (T, D·L, B, features)."""
        return Layer.forward(
            self,
            input,
            hx,
            lengths=lengths,
            reset=reset,
            reset_to=reset_to,
            return_states=return_states,
        )

    def scan(
        self,
        sequence: Sequence,
        state: Any,
        parameters: Any = None,
        *,
        reset_to: Any = None,
        every: bool = False,
    ) -> Scanned:
        self._check_features(sequence)
        self.settle()
        again = None
        if reset_to is not None:
            again = self._split_state(sequence, reset_to, ": reset_to")
        output, final, states = self.stack.scan(
            sequence,
            self._split_state(sequence, state),
            parameters or self.lend(drop=self.training),
            reset_to=again,
            every=every,
        )
        return Scanned(
            output, self._join_state(final, 0), self._join_state(states, 1) if every else None
        )

    def link(self, like: Tensor, parameters: Any = None) -> Link | None:
        link = self.stack.link(like, parameters or self.lend())
        return None if link is None else _Link(self, like, link)

    def _split_state(self, sequence: Sequence, hx: Any, name: str = "") -> Any:
        """From torch's (D·L, B, H) to the states of each cell, nested as the stack is.

        As it is, for zeros, where none is given and none is learned.
        """
        if is_default(hx):
            if not self.learn_initial_state:
                return hx
            tensors = tuple(getattr(self, f"{name}_0") for name in self.states)
            if sequence.batched:
                batch = sequence.batch_size
                tensors = tuple(t.unsqueeze(1).expand(-1, batch, -1) for t in tensors)
        else:
            tensors = self._check_state(sequence, hx, name)
        cells: list[Any]
        if len(self.states) == 1:
            cells = list(tensors[0].unbind(0))
        else:
            cells = list(zip(*(tensor.unbind(0) for tensor in tensors), strict=True))
        return pairs(cells) if self.bidirectional else cells

    def _join_state(self, states: Any, dim: int) -> Any:
        """The inverse of `_split_state`; the cells are along `dim`."""
        cells = [cell for pair in states for cell in pair] if self.bidirectional else states
        if len(self.states) == 1:
            return _stacked(cells, dim)
        return tuple(_stacked(tensors, dim) for tensors in zip(*cells, strict=True))

    def _check_features(self, sequence: Sequence) -> None:
        owner = type(self).__name__
        if sequence.features != self.input_size:
            raise ShapeError(
                f"{owner}: expected input_size {self.input_size} in the last dimension of the "
                f"input, got {sequence.features}"
            )

    def _state_sizes(self) -> dict[str, int]:
        sizes = {"h": self.proj_size or self.hidden_size, "c": self.hidden_size}
        return {name: sizes[name] for name in self.states}

    def _check_state(self, sequence: Sequence, hx: Any, name: str) -> tuple[Tensor, ...]:
        """The states as a tuple of tensors of torch's shapes."""
        layers = self.num_layers * (2 if self.bidirectional else 1)
        batch = (sequence.batch_size,) if sequence.batched else ()
        sizes = self._state_sizes()
        return check_states(
            hx,
            tuple(f"{name}_0" for name in self.states),
            [(layers, *batch, sizes[name]) for name in self.states],
            "layers · directions, " + "batch, " * len(batch) + "features",
            type(self).__name__ + name,
            sequence.data.dtype,
        )


class _Link(Link):
    """See `openrnn.layers.stream.Link`."""

    def __init__(self, layer: TorchLayer, like: Tensor, link: Link) -> None:
        super().__init__(link.step)
        self._layer, self._link = layer, link
        self._like = Sequence(like.unsqueeze(0), (1, like.size(0)))

    def read(self) -> Any:
        return self._layer._join_state(self._link.read(), 0)

    def share(self, state: Any) -> list[tuple[Stepper, States]]:
        return self._link.share(self._layer._split_state(self._like, state))


def _stacked(tensors: Any, dim: int) -> Tensor:
    # A view is quicker, but one that is changed in place loses the hooks of FSDP.
    if len(tensors) == 1 and not (dim == 0 and tensors[0].requires_grad):
        return tensors[0].unsqueeze(dim)  # type: ignore[no-any-return]
    return torch.stack(tuple(tensors), dim)


def pairs(cells: list[Any]) -> list[Any]:
    """The forward and the backward cell of each layer, side by side."""
    return list(zip(cells[::2], cells[1::2], strict=True))
