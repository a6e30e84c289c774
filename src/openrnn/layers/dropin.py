"""What RNN, LSTM and GRU share: torch.nn's parameters, which are lent to the cells inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

import torch.nn.functional as F
from torch import Tensor, nn

from openrnn import backends
from openrnn.backends.checkpoint import check_checkpoint
from openrnn.binding import is_parametrized
from openrnn.cells.arguments import check_probability
from openrnn.cells.base import Cell
from openrnn.errors import ArgumentError, ArgumentTypeError, CellError
from openrnn.layers.bidirectional import Bidirectional
from openrnn.layers.layer import check_bool
from openrnn.layers.parts import Part, Survey
from openrnn.layers.stack import Stack
from openrnn.layers.stream import Link
from openrnn.layers.torchlayer import TorchLayer, pairs
from openrnn.sequence import Sequence
from openrnn.state import check_dtype

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


class DropIn(nn.RNNBase, TorchLayer):
    """A layer of torch.nn's: `weight_ih_l0` and the like, states of (D·L, B, H).

    The parameters are the layer's own, as torch names them. The work is done by a `Stack` of cells
    without parameters, to which the layer lends its own at each call; so copies, pickles,
    parametrizations and `functional_call` need no special care.
    """

    dropout: float
    weight_ih_l0: Tensor
    backend: str
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

    def flatten_parameters(self) -> None:
        """Does nothing: there is no layout in memory that would be faster."""

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
        return pairs(cells) if self.bidirectional else cells

    def part(self, survey: Survey, features: int, parameters: Any = None) -> Part:
        if self.training and self.weight_drop:
            raise CellError("it drops weights at each call")
        return super().part(survey, features, parameters)

    def link(self, like: Tensor, parameters: Any = None) -> Link | None:
        # What is drawn for a call is not for many.
        drawn = (self.training and self.weight_drop) or is_parametrized(self)
        return None if drawn else super().link(like, parameters)

    def _check_features(self, sequence: Sequence) -> None:
        super()._check_features(sequence)
        check_dtype(sequence.data, self.weight_ih_l0, type(self).__name__)

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
