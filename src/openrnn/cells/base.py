"""What the cells of the box share: parameters stacked gate by gate, checks, and one step."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from openrnn.cells.zoneout import zoneout
from openrnn.errors import ShapeError
from openrnn.state import check_dtype, check_states


class Cell(torch.nn.RNNCellBase):
    """One time step with torch's parameters, `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`.

    A subclass names its `gates`, the blocks of H rows stacked in each parameter, and its `states`,
    and writes its equations in `step`. A cell of your own need not derive from this class: any
    `torch.nn.Module` with `forward(x, state) -> state` is a cell.
    """

    gates: tuple[str, ...]
    states: tuple[str, ...] = ("h",)
    # Probabilities, 0 to 1, of what is left out in training; zoneout is one for each state, or one
    # for all. Cells with these in their name take them as arguments.
    recurrent_dropout: float = 0.0
    zoneout: float | tuple[float, ...] = 0.0

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, len(self.gates), device, dtype)

    @property
    def state_sizes(self) -> dict[str, int]:
        """The features of each state, by name, in order."""
        return dict.fromkeys(self.states, self.hidden_size)

    def step(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        """The equations: `step(x, h, ...)`, from x_t (B, I) and the states to the next states."""
        raise NotImplementedError

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        self._check_input(input)
        batched = input.dim() == 2
        x = input if batched else input.unsqueeze(0)
        if hx is None:
            state = tuple(x.new_zeros(x.size(0), size) for size in self.state_sizes.values())
        else:
            batch = (input.size(0),) if batched else ()
            state = check_states(
                hx,
                self.states,
                [(*batch, size) for size in self.state_sizes.values()],
                "batch of the input, features" if batched else "features, without a batch",
                type(self).__name__,
                input.dtype,
            )
            state = state if batched else tuple(s.unsqueeze(0) for s in state)
        state = self._zone_out(self.step(x, *state), state)
        if not batched:
            state = tuple(s.squeeze(0) for s in state)
        return state[0] if len(self.states) == 1 else state

    def drop(self, value: Tensor) -> Tensor:
        """The value with recurrent dropout, for `step`: each number may be zeroed in training."""
        if not self.recurrent_dropout:
            return value
        return F.dropout(value, self.recurrent_dropout, self.training)

    def _zone_out(self, new: tuple[Tensor, ...], old: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if not self.zoneout:
            return new
        given = self.zoneout
        probabilities = given if isinstance(given, tuple) else (given,) * len(new)
        return tuple(
            zoneout(*pair, self.training) if pair[2] else pair[0]
            for pair in zip(new, old, probabilities, strict=True)
        )

    def _check_input(self, input: Tensor) -> None:
        name = type(self).__name__
        if input.dim() not in (1, 2):
            raise ShapeError(
                f"{name}: expected an input of shape (B, {self.input_size}) or "
                f"({self.input_size},), got {input.dim()}-D of shape {tuple(input.shape)}. "
                "One step takes no time dimension; for a whole sequence use openrnn.Recurrent."
            )
        if input.size(-1) != self.input_size:
            raise ShapeError(
                f"{name}: expected input_size {self.input_size} in the last dimension of the "
                f"input, got {input.size(-1)} (shape {tuple(input.shape)})"
            )
        check_dtype(input, self.weight_ih, name)
