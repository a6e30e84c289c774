"""Any cell over a sequence."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from openrnn import backends
from openrnn.binding import Parameters
from openrnn.errors import ArgumentTypeError, CellError, ShapeError
from openrnn.layers.layer import Layer, check_bool
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

    Args:
        cell: the cell, a `torch.nn.Module`.
        reverse: run from the last step to the first. The output stays in order of time.
            Default: False.
        batch_first: input and output are (B, T, features). Default: False, (T, B, features).
        backend: "auto", the best that can run; "cpu", generated C++; "eager", the cell itself
            in a plain loop; "reference", the step as it is compiled, in torch operations.
            Default: "auto".

    Shapes:
        input: (T, B, I); (T, I) without a batch; or a PackedSequence.
        state: (B, H), or a tuple or list of such, (H) without a batch. Default: zeros.

    Returns:
        output: (T, B, H), in the layout of the input, every step's first state.
        state: the state after the last step, as the cell returns it.

    Raises:
        ShapeError, StateError: an input or a state that does not fit.
        CellError: the cell does not follow the protocol.
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
        self._spec: tuple[nn.Module, StateSpec] | None = None  # found out at the first call
        self.seen_features: int | None = None  # of the last input, for `explain`

    def scan(
        self, sequence: Sequence, state: Any, parameters: Parameters | None = None
    ) -> tuple[Sequence, Any]:
        self._check_features(sequence)
        if self.seen_features != sequence.features:
            self.seen_features = sequence.features
        spec, states = self._initial(sequence, state)
        output, states = backends.resolve(self.backend)(
            self.cell, parameters, sequence, states, spec, reverse=self.reverse
        )
        return output, spec.wrap(tuple(map(sequence.write_state, states)))

    def _initial(
        self, sequence: Sequence, state: Any
    ) -> tuple[StateSpec, tuple[Tensor, ...] | None]:
        """What the cell's states are, and those before the first step, if the user gave any."""
        cell = self.cell
        if self._spec is not None and self._spec[0] is cell:
            spec = self._spec[1]
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
                spec = StateSpec(names, None, single=isinstance(state, Tensor))
        if state is None:
            return spec, None
        owner = f"{type(self).__name__}({type(self.cell).__name__})"
        states = spec.read(state, sequence.batch_size if sequence.batched else None, owner)
        return spec, tuple(map(sequence.read_state, states))

    def _check_features(self, sequence: Sequence) -> None:
        expected = getattr(self.cell, "input_size", None)
        if isinstance(expected, int) and sequence.features != expected:
            raise ShapeError(
                f"Recurrent({type(self.cell).__name__}): expected input_size {expected} in the "
                f"last dimension of the input, got {sequence.features}"
            )

    def extra_repr(self) -> str:
        options = {"reverse": False, "batch_first": False, "backend": "auto"}
        return ", ".join(
            f"{name}={getattr(self, name)!r}"
            for name, default in options.items()
            if getattr(self, name) != default
        )
