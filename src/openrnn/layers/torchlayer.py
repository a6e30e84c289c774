"""torch.nn's layout around a `Stack`: the states of all its cells in tensors of (D·L, B, H)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from openrnn.backends.backend import States, Stepper
from openrnn.errors import CellError, ShapeError
from openrnn.layers.hooks import has_hooks
from openrnn.layers.layer import Layer, Scanned
from openrnn.layers.parts import Joined, Part, Survey
from openrnn.layers.recurrent import Recurrent
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
        initial, again = self._read_state(sequence, state), None
        if reset_to is not None:
            again = self._read_state(sequence, reset_to, ": reset_to")
        lent = parameters or self.lend(drop=self.training)
        if (alone := self._lone_layer()) is not None:
            # Its states are the layer's as they are: to bring them into another shape costs time.
            own = alone.scan(sequence.for_torch(), initial, lent[0], reset_to=again, every=every)
            states = _with_cells(own.states) if every else None
            return Scanned(sequence.with_data(own.output.data), own.state, states)
        output, final, states = self.stack.scan(
            sequence,
            self.split_state(initial),
            lent,
            reset_to=self.split_state(again),
            every=every,
        )
        return Scanned(
            output, self.join_state(final, 0), self.join_state(states, 1) if every else None
        )

    def _lone_layer(self) -> Recurrent | None:
        """The only cell's layer, if there is one cell, and nothing looks at that layer's work."""
        if self.bidirectional or self.num_layers > 1 or torch.compiler.is_compiling():
            return None
        layer = next(iter(self.stack.layers))
        return layer if type(layer) is Recurrent and not has_hooks(layer) else None

    def part(self, survey: Survey, features: int, parameters: Any = None) -> Part:
        survey.add(self)
        if self.learn_initial_state:
            raise CellError("its initial state is made at each call")
        lent = parameters or self.lend(drop=self.training)
        if (alone := self._lone_layer()) is not None:
            return alone.part(survey, features, lent[0]).of_torch()
        count = self.num_layers * (2 if self.bidirectional else 1)
        shapes = [(count, size) for size in self._state_sizes().values()]
        return Joined(self, self.stack.part(survey, features, lent), survey.dtype, shapes)

    def link(self, like: Tensor, parameters: Any = None) -> Link | None:
        link = self.stack.link(like, parameters or self.lend())
        return None if link is None else _Link(self, like, link)

    def _read_state(self, sequence: Sequence, hx: Any, name: str = "") -> Any:
        """The state given or learned, (D·L, B, H): a tensor, or a tuple of more than one.

        As it is, for zeros, where none is given and none is learned.
        """
        if not is_default(hx):
            tensors = self._check_state(sequence, hx, name)
        elif self.learn_initial_state:
            tensors = tuple(getattr(self, f"{name}_0") for name in self.states)
            if sequence.batched:
                batch = sequence.batch_size
                tensors = tuple(t.unsqueeze(1).expand(-1, batch, -1) for t in tensors)
        else:
            return hx
        return tensors[0] if len(self.states) == 1 else tensors

    def split_state(self, state: Any) -> Any:
        """What `_read_state` gives, taken apart for each cell, nested as the stack is."""
        if is_default(state):
            return state
        if len(self.states) == 1:
            cells = list(state.unbind(0))
        else:
            cells = list(zip(*(tensor.unbind(0) for tensor in state), strict=True))
        return pairs(cells) if self.bidirectional else cells

    def join_state(self, states: Any, dim: int) -> Any:
        """The inverse of `split_state`; the cells are along `dim`."""
        cells = [cell for pair in states for cell in pair] if self.bidirectional else states
        if len(self.states) == 1:
            return torch.stack(tuple(cells), dim)
        return tuple(torch.stack(tensors, dim) for tensors in zip(*cells, strict=True))

    def _check_features(self, sequence: Sequence) -> None:
        if sequence.features != self.input_size:
            raise ShapeError(
                f"{type(self).__name__}: expected input_size {self.input_size} in the last "
                f"dimension of the input, got {sequence.features}"
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
        return self._layer.join_state(self._link.read(), 0)

    def share(self, state: Any) -> list[tuple[Stepper, States]]:
        layer = self._layer
        return self._link.share(layer.split_state(layer._read_state(self._like, state)))


def _with_cells(states: Any) -> Any:
    """The states of all steps of a lone cell, (T, B, H), as (T, 1, B, H)."""
    if isinstance(states, Tensor):
        return states.unsqueeze(1)
    return tuple(state.unsqueeze(1) for state in states)


def pairs(cells: list[Any]) -> list[Any]:
    """The forward and the backward cell of each layer, side by side."""
    return list(zip(cells[::2], cells[1::2], strict=True))
