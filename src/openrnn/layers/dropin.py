"""What RNN, LSTM and GRU share: torch.nn's parameters and layout around a `Stack`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openrnn import backends
from openrnn.backends.backend import States, Stepper
from openrnn.backends.checkpoint import check_checkpoint
from openrnn.binding import is_parametrized
from openrnn.cells.arguments import check_probability
from openrnn.cells.base import Cell
from openrnn.errors import ArgumentError, ArgumentTypeError, ShapeError
from openrnn.layers.bidirectional import Bidirectional
from openrnn.layers.layer import Layer, Scanned, check_bool
from openrnn.layers.stack import Stack
from openrnn.layers.stream import Link, is_default
from openrnn.sequence import Sequence
from openrnn.state import check_dtype, check_states

# (input_size) -> the cell of one layer and direction, on the meta device: its structure alone.
MakeCell = Callable[[int], Cell]


class Options(TypedDict, total=False):
    """What the drop-in layers take by keyword beside torch's arguments.

    recurrent_dropout: probability, 0 to 1, that in training a number is zeroed: of the candidate, g
        of an LSTM and n of a GRU, so that no memory is lost; of an RNN, of h_{t-1} on its way to
        W_hh. Drawn for each step, row and unit. Default: 0. Source: Semeniuta, Severyn and Barth,
        "Recurrent dropout without memory loss", 2016.
    zoneout: probability, 0 to 1, that in training a unit keeps its old value; in evaluation it is
        the mean of both. For an LSTM one for h and c, or a pair. Default: 0. Source: Krueger et
        al., "Zoneout: regularizing RNNs by randomly preserving hidden activations", 2016.
    weight_drop: probability, 0 to 1, that in training a number of weight_hh is zeroed, and the rest
        scaled by 1 / (1 - weight_drop); drawn once for a call. Default: 0. Source: Merity, Keskar
        and Socher, "Regularizing and optimizing LSTM language models", 2017.
    learn_initial_state: the initial state is a parameter, `h_0` (D·L, H) and `c_0`, zeros at first,
        the same for all sequences. A state that is given takes its place. Default: False.
    checkpoint: steps between the states that are kept for the gradient, as in `Recurrent`.
    backend: "auto", "cpu", "eager" or "reference", as in `Recurrent`. Default: "auto".
    """

    recurrent_dropout: float
    zoneout: float | tuple[float, ...]
    weight_drop: float
    learn_initial_state: bool
    checkpoint: int | None
    backend: str


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
    _cells: list[Cell]

    def _build(
        self,
        make_cell: MakeCell,
        bias: bool,
        layer_norm: bool,
        options: Options,
    ) -> None:
        """Called at the end of a constructor, when torch's is done.

        `bias` is the user's: layers with norms are built without torch's biases.
        """
        owner = type(self).__name__
        if unknown := [name for name in options if name not in Options.__annotations__]:
            raise ArgumentTypeError(
                f"{owner}: got an unexpected keyword argument {unknown[0]!r}. Beside torch's "
                f"arguments it takes layer_norm, {', '.join(Options.__annotations__)}"
            )

        def probability(name: str) -> float:
            return check_probability(owner, name, options.get(name, 0.0))  # type: ignore[arg-type]

        self.bias = bias
        self.layer_norm = check_bool("layer_norm", layer_norm)
        self.recurrent_dropout = probability("recurrent_dropout")
        self.weight_drop = probability("weight_drop")
        self.zoneout = self._check_zoneout(options.get("zoneout", 0.0))
        learned = options.get("learn_initial_state", False)
        self.learn_initial_state = check_bool("learn_initial_state", learned)
        self.checkpoint = check_checkpoint(owner, options.get("checkpoint"))
        self.backend = backends.check(options.get("backend", "auto"))

        output_size = self.proj_size or self.hidden_size
        directions = 2 if self.bidirectional else 1
        sizes = [self.input_size] + [output_size * directions] * (self.num_layers - 1)
        inside: dict[str, Any] = {"backend": self.backend, "checkpoint": self.checkpoint}
        cells = [[make_cell(size) for _ in range(directions)] for size in sizes]
        layers = [Bidirectional(*pair, **inside) if len(pair) == 2 else pair[0] for pair in cells]
        # Past nn.Module's registry: the stack is machinery, not a child with a name and a state.
        object.__setattr__(self, "stack", Stack(layers, **inside))
        self._cells = [cell for pair in cells for cell in pair]  # a list, so no children either
        self._add_parameters(self._cells)

    def _add_parameters(self, cells: list[Cell]) -> None:
        """Those that torch's layers have not: the norms', and the initial state."""
        like = self.weight_ih_l0
        for names, cell in zip(self._all_weights, cells, strict=True):
            ending = names[0].removeprefix("weight_ih")
            for name, parameter in cell.named_parameters():
                if "." in name:
                    own = name.replace(".", "_") + ending
                    self.register_parameter(own, nn.Parameter(like.new_empty(parameter.shape)))
                    names.append(own)
        # For each cell, the names that it knows its parameters by, and ours.
        self.lent_names = [
            [(own.rpartition("_l")[0].replace("_weight", ".weight").replace("_bias", ".bias"), own)
             for own in names]
            for names in self._all_weights
        ]  # fmt: skip
        if self.learn_initial_state:
            for name, size in self._state_sizes().items():
                initial = nn.Parameter(like.new_empty(len(cells), size))
                self.register_parameter(f"{name}_0", initial)
        self._start_parameters()

    def reset_parameters(self) -> None:
        """torch's own as torch does; the norms' weights 1, their biases and the initial state 0."""
        super().reset_parameters()
        self._start_parameters()

    def _start_parameters(self) -> None:
        initial = {f"{name}_0" for name in self.states}
        for name, parameter in self.named_parameters(recurse=False):
            if name.startswith("norm_") or name in initial:
                nn.init.constant_(parameter, float("_weight_l" in name))

    def _check_zoneout(self, zoneout: Any) -> float | tuple[float, ...]:
        owner = type(self).__name__
        if not isinstance(zoneout, (tuple, list)):
            return check_probability(owner, "zoneout", zoneout)
        if len(zoneout) != len(self.states):
            raise ArgumentError(
                f"{owner}: expected zoneout to be one probability, or one for each of the states "
                f"{', '.join(self.states)}, got {zoneout!r}"
            )
        return tuple(check_probability(owner, "zoneout", p) for p in zoneout)

    @property
    def runs_backward(self) -> bool:
        return self.bidirectional

    def flatten_parameters(self) -> None:
        """Does nothing: there is no layout in memory that would be faster."""

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

    def settle(self) -> None:
        """Brings the layer's mode and probabilities, which may have changed, to the cells."""
        stack = self.stack
        if stack.training != self.training:
            stack.train(self.training)
        if stack.dropout != self.dropout:
            stack.dropout = self.dropout
        cell = self._cells[0]
        if (cell.recurrent_dropout, cell.zoneout) != (self.recurrent_dropout, self.zoneout):
            for cell in self._cells:
                cell.recurrent_dropout, cell.zoneout = self.recurrent_dropout, self.zoneout

    def lend(self, *, drop: bool = False) -> list[Any]:
        """The layer's parameters under the names that the cells know them by, nested as a state.

        `drop`: with some recurrent weights dropped, if the layer does that.
        """
        own: dict[str, Any] = self._parameters  # but for what was put in a parameter's place
        cells: list[dict[str, Any]] = [
            {name: own[ours] if ours in own else getattr(self, ours) for name, ours in names}
            for names in self.lent_names
        ]
        if drop and self.weight_drop:
            for cell in cells:
                cell["weight_hh"] = F.dropout(cell["weight_hh"], self.weight_drop)
        return _pairs(cells) if self.bidirectional else cells

    def link(self, like: Tensor, parameters: Any = None) -> Link | None:
        # What is drawn for a call is not for many.
        drawn = (self.training and self.weight_drop) or is_parametrized(self)
        link = None if drawn else self.stack.link(like, parameters or self.lend())
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
        return _pairs(cells) if self.bidirectional else cells

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
        check_dtype(sequence.data, self.weight_ih_l0, owner)

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

    def extra_repr(self) -> str:
        options = {
            name: getattr(self, name)
            for name in (
                *("recurrent_dropout", "zoneout", "weight_drop", "layer_norm"),
                *("learn_initial_state", "checkpoint"),
            )
        }
        shown = [super().extra_repr(), *(f"{name}={v!r}" for name, v in options.items() if v)]
        shown += [f"backend={self.backend!r}"] * (self.backend != "auto")
        return ", ".join(shown)


class _Link(Link):
    """See `openrnn.layers.stream.Link`."""

    def __init__(self, layer: DropIn, like: Tensor, link: Link) -> None:
        self._layer, self._link = layer, link
        self._like = Sequence(like.unsqueeze(0), (1, like.size(0)))

    def __call__(self, x: Tensor) -> Tensor:
        return self._link(x)

    def read(self) -> Any:
        return self._layer._join_state(self._link.read(), 0)

    def share(self, state: Any) -> list[tuple[Stepper, States]]:
        return self._link.share(self._layer._split_state(self._like, state))


def _stacked(tensors: Any, dim: int) -> Tensor:
    # A view is quicker, but one that is changed in place loses the hooks of FSDP.
    if len(tensors) == 1 and not (dim == 0 and tensors[0].requires_grad):
        return tensors[0].unsqueeze(dim)  # type: ignore[no-any-return]
    return torch.stack(tuple(tensors), dim)


def _pairs(cells: list[Any]) -> list[Any]:
    """The forward and the backward cell of each layer, side by side."""
    return list(zip(cells[::2], cells[1::2], strict=True))
