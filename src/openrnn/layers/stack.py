"""Layers of any kind and size, one on the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from openrnn.backends.backend import States, Stepper
from openrnn.cells.arguments import check_probability
from openrnn.errors import ArgumentError
from openrnn.layers.hooks import part_inside, scan_inside
from openrnn.layers.layer import Layer, Scanned, check_bool, share
from openrnn.layers.parts import Chain, Part, Survey
from openrnn.layers.recurrent import Recurrent
from openrnn.layers.stream import Link
from openrnn.sequence import Sequence


class Stack(Layer):
    """Layers one on the other: each takes the output of the one below as its input.

    The sizes may differ from layer to layer, and so may the cells.

    Args:
        layers: the layers, from the lowest up: cells, which become `Recurrent` layers, or layers
            (`Recurrent`, `Bidirectional`, `Stack`).
        dropout: probability, 0 to 1, that a feature between two layers is zeroed in training;
            never after the last layer. Default: 0.
        residual: to the output of each layer with as many features as its input, that input is
            added, as it was before dropout. Default: False.
        batch_first: input and output are (B, T, features). Default: False.
        backend, checkpoint, learn_initial_state: for the cells, as in `Recurrent`.

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
        residual: bool = False,
        batch_first: bool = False,
        backend: str = "auto",
        checkpoint: int | None = None,
        learn_initial_state: bool = False,
    ) -> None:
        super().__init__()
        self.batch_first = check_bool("batch_first", batch_first)
        self.dropout = check_probability("Stack", "dropout", dropout)
        self.residual = check_bool("residual", residual)
        options: dict[str, Any] = {
            "backend": backend,
            "checkpoint": checkpoint,
            "learn_initial_state": learn_initial_state,
        }
        self.layers = nn.ModuleList(self._layer(layer, options) for layer in layers)
        if not self.layers:
            raise ArgumentError("Stack: expected at least one cell or layer, got none")

    def _layer(self, module: nn.Module, options: dict[str, Any]) -> nn.Module:
        if not isinstance(module, Layer):
            return Recurrent(module, **options)
        if module.batch_first and not self.batch_first:
            raise ArgumentError(
                f"Stack: the layer {type(module).__name__} has batch_first=True, the stack not. "
                "Inside a stack, time comes first: give batch_first to the stack alone."
            )
        return module

    @property
    def runs_backward(self) -> bool:
        return any(layer.runs_backward for layer in self.layers)

    def scan(
        self,
        sequence: Sequence,
        state: Any,
        parameters: Any = None,
        *,
        reset_to: Any = None,
        every: bool = False,
    ) -> Scanned:
        layers: tuple[Any, ...] = tuple(self.layers)
        meaning = f"one for each of its {len(layers)} layers"
        initial = share(state, len(layers), "Stack: expected the state", meaning)
        again = share(reset_to, len(layers), "Stack: expected reset_to", meaning)
        final, states = [], []
        if self.residual:  # what comes in is added to what goes out
            sequence = sequence.cleared()
        for index, layer in enumerate(layers):
            below = sequence
            if index > 0 and self.dropout > 0:
                sequence = sequence.with_data(F.dropout(sequence.data, self.dropout, self.training))
            sequence, last, of_steps = scan_inside(
                layer,
                sequence,
                initial[index],
                None if parameters is None else parameters[index],
                reset_to=again[index],
                every=every,
            )
            if self.residual and below.features == sequence.features:
                sequence = sequence.with_data(sequence.data + below.data)
            final.append(last)
            states.append(of_steps)
        return Scanned(sequence, tuple(final), tuple(states) if every else None)

    def part(self, survey: Survey, features: int, parameters: Any = None) -> Part:
        survey.add(self)
        parts = []
        layers: tuple[Any, ...] = tuple(self.layers)
        lent = (None,) * len(layers) if parameters is None else parameters
        for layer, own in zip(layers, lent, strict=True):
            parts.append(part_inside(layer, survey, features, own))
            features = parts[-1].features
        dropout = self.dropout if self.training else 0.0
        return Chain(parts, dropout=dropout, residual=self.residual)

    def link(self, like: Tensor, parameters: Any = None) -> Link | None:
        if self.dropout > 0 and self.training:
            return None
        links: list[Link] = []
        lent = (None,) * len(self.layers) if parameters is None else parameters
        layers: tuple[Any, ...] = tuple(self.layers)
        for layer, own in zip(layers, lent, strict=True):
            link: Link | None = layer.link(like, own)
            if link is None:
                return None
            links.append(link)
            like = link.step(like)
        return _Link(self, links)

    def extra_repr(self) -> str:
        options = [f"dropout={self.dropout}"] if self.dropout else []
        options += ["residual=True"] * self.residual
        return ", ".join(options + ["batch_first=True"] * self.batch_first)


class _Link(Link):
    """See `Link`."""

    def __init__(self, stack: Stack, links: list[Link]) -> None:
        alone = len(links) == 1 and not stack.residual
        super().__init__(links[0].step if alone else self._chain)
        self._residual, self._links = stack.residual, links
        self._meaning = f"one for each of its {len(links)} layers"

    def _chain(self, x: Tensor) -> Tensor:
        for link in self._links:
            y = link.step(x)
            x = x + y if self._residual and x.size(-1) == y.size(-1) else y
        return x

    def read(self) -> Any:
        return tuple(link.read() for link in self._links)

    def share(self, state: Any) -> list[tuple[Stepper, States]]:
        states = share(state, len(self._links), "Stack: expected the state", self._meaning)
        pairs = zip(self._links, states, strict=True)
        return [part for link, own in pairs for part in link.share(own)]
