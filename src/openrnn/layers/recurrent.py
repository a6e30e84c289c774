"""Any cell over a sequence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from openrnn import backends
from openrnn.backends import compiled
from openrnn.backends.autocast import is_autocast, lowered, without_autocast
from openrnn.backends.backend import Call, States, Stepper
from openrnn.backends.checkpoint import check_checkpoint, checkpointed
from openrnn.binding import Parameters
from openrnn.errors import ArgumentTypeError, CellError, ShapeError
from openrnn.layers.int8cell import Int8Cell
from openrnn.layers.layer import Layer, Scanned, check_bool
from openrnn.layers.parts import CellPart, Survey
from openrnn.layers.stream import Link, is_default
from openrnn.sequence import Sequence
from openrnn.state import StateSpec, state_spec


class Recurrent(Layer):
    """Runs any cell over a sequence: yours, one of `openrnn.cells`, or one of torch.nn.

        s_t = cell(x_t, s_{t-1})        t = 1 … T, or T … 1 with reverse
        output_t = the first tensor of s_t

    A cell is any module with `forward(x, state) -> state`, where a state is a tensor, or a tuple of
    tensors, of (B, features). It may say what its states are by
    `state_sizes = {"h": 20, "c": 20}`, name to features, in order. Without that, its states have
    `hidden_size` features, and one trial on a few zeros tells a tensor from a pair.

    It is called as `layer(x, state, *, lengths=None, reset=None, reset_to=None,
    return_states=False)`; `forward` tells of these.

    Args:
        cell: the cell, a `torch.nn.Module`.
        reverse: run from the last step to the first. The output stays in order of time.
            Default: False.
        batch_first: input and output are (B, T, features). Default: False, (T, B, features).
        backend: "auto", the best that can run; "cpu", generated C++; "eager", the cell itself
            in a plain loop; "reference", the step as it is compiled, in torch operations.
            Default: "auto".
        checkpoint: steps, ≥ 1. In training only the state before each so many steps is kept, and
            the steps are run once more for the gradient: a very long sequence needs memory for
            its input, its output and so many steps. Default: None, all that the gradient needs is
            kept.
        learn_initial_state: the initial state is a parameter for each state, `h_0` say, of
            (features), zeros at first, and the same for all sequences. A state that is given takes
            its place. Default: False.

    Shapes:
        input: (T, B, I); (T, I) without a batch; or a PackedSequence.
        state: (B, H), or a tuple or list of such, (H) without a batch. Default: zeros.

    Returns:
        output: (T, B, H), in the layout of the input, every step's first state.
        state: the state after the last step, as the cell returns it.

    Raises:
        ShapeError, StateError: an input or a state that does not fit.
        CellError: the cell does not follow the protocol.
        ArgumentError: checkpoint below 1.
        BackendError: no such backend, or it cannot run this cell here.

    Examples:
        >>> layer = Recurrent(torch.nn.LSTMCell(30, 20))
        >>> output, (h_n, c_n) = layer(torch.randn(12, 3, 30))
        >>> output.shape, h_n.shape
        (torch.Size([12, 3, 20]), torch.Size([3, 20]))
    """

    def __init__(
        self,
        cell: nn.Module,
        *,
        reverse: bool = False,
        batch_first: bool = False,
        backend: str = "auto",
        checkpoint: int | None = None,
        learn_initial_state: bool = False,
    ) -> None:
        super().__init__()
        self.batch_first = check_bool("batch_first", batch_first)
        if not isinstance(cell, nn.Module):
            raise ArgumentTypeError(
                f"Recurrent: expected a cell, a torch.nn.Module, got {type(cell).__name__}"
            )
        if isinstance(cell, (Layer, nn.RNNBase)):
            raise CellError(
                f"Recurrent: expected a cell, which makes one time step, got the layer "
                f"{type(cell).__name__}, which runs over time already. Use it as it is."
            )
        self.cell = cell
        self.reverse = check_bool("reverse", reverse)
        self.backend = backends.check(backend)
        self.checkpoint = check_checkpoint("Recurrent", checkpoint)
        self._spec: tuple[nn.Module, StateSpec] | None = None  # found out at the first call
        self.seen_features: int | None = None  # of the last input, for `explain`
        self.initial_names: tuple[str, ...] = ()  # of the parameters that are the initial state
        if check_bool("learn_initial_state", learn_initial_state):
            self._add_initial_state()

    @property
    def runs_backward(self) -> bool:
        return self.reverse

    def _add_initial_state(self) -> None:
        size = getattr(self.cell, "input_size", None)
        if not isinstance(size, int) and getattr(self.cell, "state_sizes", None) is None:
            raise CellError(
                f"Recurrent: learn_initial_state=True needs to know the states of "
                f"{type(self.cell).__name__}, which has neither state_sizes nor input_size. Name "
                "its states and their features by state_sizes = {'h': 20, 'c': 20}, say"
            )
        like = next((p for p in self.cell.parameters() if p.is_floating_point()), torch.empty(0))
        spec = state_spec(self.cell, like.new_zeros(1, size if isinstance(size, int) else 1))
        assert spec.sizes is not None
        for name, features in zip(spec.names, spec.sizes, strict=True):
            self.register_parameter(f"{name}_0", nn.Parameter(like.new_zeros(features)))
        self.initial_names = tuple(f"{name}_0" for name in spec.names)

    def scan(
        self,
        sequence: Sequence,
        state: Any,
        parameters: Parameters | None = None,
        *,
        reset_to: Any = None,
        every: bool = False,
    ) -> Scanned:
        cell, reverse = self.cell, self.reverse  # read once: torch looks modules up in a dict
        self._check_features(cell, sequence)
        spec = self._state_spec(cell, sequence, state)
        initial = again = self._read_state(spec, sequence, state)
        if reset_to is not None:
            again = self._read_state(spec, sequence, reset_to, ": reset_to")
        run = backends.resolve(self.backend)
        if self.checkpoint is not None:
            run = checkpointed(run, self.checkpoint)
        if isinstance(cell, Int8Cell):
            cell.check((sequence.data, *(initial or ()), *(again or ())), parameters)
        autocast = is_autocast(sequence.data.device)
        if autocast:
            run = without_autocast(run)
        resets = sequence.loop_resets(reverse)
        rows, final = run(
            Call(cell, parameters, sequence, spec, initial, resets, again, reverse, every)
        )
        output = sequence.with_data(lowered(rows[0]) if autocast else rows[0])
        states = None
        if every:
            states = spec.wrap(tuple(sequence.with_data(data).write_states() for data in rows))
        return Scanned(output, spec.wrap(final), states)

    def part(self, survey: Survey, features: int, parameters: Parameters | None = None) -> CellPart:
        if self.checkpoint is not None or self.initial_names or self.backend not in ("auto", "cpu"):
            raise CellError("it does more than to run a kernel")
        survey.add(self)
        spec, reverse = self.known_spec, self.reverse
        return CellPart(survey, self.cell, spec, parameters, features, reverse=reverse)

    @property
    def known_spec(self) -> StateSpec | None:
        """What the states of the cell are, once that was found out."""
        return self._spec[1] if self._spec is not None and self._spec[0] is self.cell else None

    def link(self, like: Tensor, parameters: Parameters | None = None) -> Link | None:
        spec = self.known_spec
        if spec is None:
            return None
        stepper = backends.stepper(self.backend, self.cell, parameters, spec, like)
        return None if stepper is None else _Link(self, spec, like, stepper)

    def _state_spec(self, cell: nn.Module, sequence: Sequence, state: Any) -> StateSpec:
        """What the cell's states are."""
        if torch.compiler.is_compiling():  # a layer that changes by a call would be compiled again
            spec = compiled.spec_of(cell, sequence.data)
        elif (last := self.known_spec) is not None:
            spec = last
        else:
            try:
                spec = state_spec(cell, sequence.data)
                self._spec = (cell, spec)
            except CellError:
                if not isinstance(state, (Tensor, tuple, list)):
                    raise
                # The states that the user gives show their structure as well.
                count = 1 if isinstance(state, Tensor) else len(state)
                names = tuple(f"state {i}" for i in range(count))
                given = (state,) if isinstance(state, Tensor) else state
                sizes = tuple(s.size(-1) for s in given if isinstance(s, Tensor) and s.dim())
                known = len(sizes) == count
                spec = StateSpec(names, sizes if known else None, isinstance(state, Tensor))
        return spec

    def _read_state(
        self, spec: StateSpec, sequence: Sequence, state: Any, name: str = ""
    ) -> tuple[Tensor, ...] | None:
        """The user's state, or what a call without one begins with; None is for zeros."""
        if is_default(state):
            if not self.initial_names:
                return None
            learned = [getattr(self, name) for name in self.initial_names]
            return tuple(s.expand(*sequence.state_shape, -1) for s in learned)
        owner = f"{type(self).__name__}({type(self.cell).__name__}){name}"
        return spec.read(state, sequence.state_shape, owner)

    def _check_features(self, cell: nn.Module, sequence: Sequence) -> None:
        expected, features = getattr(cell, "input_size", None), sequence.features
        if isinstance(expected, int) and features != expected:
            raise ShapeError(
                f"Recurrent({type(cell).__name__}): expected input_size {expected} in the "
                f"last dimension of the input, got {features}"
            )
        if self.seen_features != features and not torch.compiler.is_compiling():
            self.seen_features = features

    def extra_repr(self) -> str:
        options = {"reverse": False, "batch_first": False, "backend": "auto", "checkpoint": None}
        shown = [
            f"{name}={getattr(self, name)!r}"
            for name, default in options.items()
            if getattr(self, name) != default
        ]
        return ", ".join(shown + ["learn_initial_state=True"] * bool(self.initial_names))


class _Link(Link):
    """See `Link`."""

    def __init__(self, layer: Recurrent, spec: StateSpec, like: Tensor, stepper: Stepper) -> None:
        super().__init__(stepper.step)
        self._layer, self._spec, self._stepper = layer, spec, stepper
        self._like = Sequence(like.unsqueeze(0), (1, like.size(0)))

    def read(self) -> Any:
        return self._spec.wrap(self._stepper.read())

    def share(self, state: Any) -> list[tuple[Stepper, States]]:
        states = self._layer._read_state(self._spec, self._like, state)
        zeros = self._spec.zeros(self._like.data, self._like.batch_size)
        return [(self._stepper, states or zeros)]
