"""Lengths, resets and all states: every cell on every backend against a plain loop of the cell."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import openrnn
from openrnn import Recurrent, backends
from tests.cells.box import RANDOM, as_given, as_tuple

from .evaluate import Results, evaluate
from .test_backends import CELLS, states

STEPS, BATCH, INPUT, HIDDEN = 6, 5, 5, 6
NAN = float("nan")
BACKENDS = [name for name in backends.BACKENDS if name != "auto"]
LENGTHS = torch.tensor([3, 0, STEPS, 1, 4])
# One sequence of each kind: cut nowhere, at the first step, at the last, at each, and here and
# there.
RESET = torch.zeros(STEPS, BATCH, dtype=torch.bool)
RESET[0, 1] = RESET[STEPS - 1, 2] = True
RESET[:, 3] = True
RESET[[2, 3, 5], 4] = True
# Where some sequences end: cut at each step, before none, at the first, behind the end, at the end.
CUT = torch.tensor([[1, 1, 1, 0, 0],
                    [1, 0, 0, 1, 0],
                    [1, 0, 1, 0, 0],
                    [1, 1, 0, 0, 1],
                    [0, 0, 0, 0, 1],
                    [1, 0, 1, 1, 0]], dtype=torch.bool)  # fmt: skip
# lengths, reset, reset_to; STATE is for one of its own.
STATE = "state"
CASES: dict[str, tuple[Tensor | None, Tensor | None, str | None]] = {
    "lengths": (LENGTHS, None, None),
    "reset": (None, RESET, None),
    "reset to default": (None, RESET, "default"),
    "reset to a state": (None, RESET, STATE),
    "lengths and reset": (LENGTHS, CUT, None),
    "lengths and reset to a state": (LENGTHS, CUT, STATE),
}
cases = pytest.mark.parametrize("case", CASES)
cells = pytest.mark.parametrize("name", CELLS)
each_backend = pytest.mark.parametrize("backend", BACKENDS)
directions = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


class Called(nn.Module):
    """A layer as a function of the input and two states: the initial one, and that after a reset.

    Like `Plain` it gives the output, and the final states beside those of all steps.
    """

    def __init__(
        self,
        layer: Recurrent,
        lengths: Tensor | None,
        reset: Tensor | None,
        reset_to: str | None,
        every: bool,
    ) -> None:
        super().__init__()
        self.layer = layer
        self.lengths, self.reset, self.reset_to, self.every = lengths, reset, reset_to, every

    def forward(self, x: Tensor, given: Any) -> Any:
        torch.manual_seed(7)
        state, again = given
        output, *rest = self.layer(
            x,
            state,
            lengths=self.lengths,
            reset=self.reset,
            reset_to=again if self.reset_to == STATE else self.reset_to,
            return_states=self.every,
        )
        return output, rest


class Plain(Called):
    """The same for each sequence alone, in a loop of the cell itself."""

    def forward(self, x: Tensor, given: Any) -> Any:
        state, again = (None if s is None else as_tuple(s) for s in given)
        assert state is not None
        if self.reset_to == "default":
            again = tuple(map(torch.zeros_like, state))
        elif again is None:
            again = state
        rows = [self._run(x, b, state, again) for b in range(x.size(1))]
        final = tuple(torch.cat(states) for states in zip(*(row[1] for row in rows), strict=True))
        every = tuple(
            torch.cat([row[0][place] for row in rows], 1) for place in range(len(state))
        )
        rest = [as_given(final), as_given(every)] if self.every else [as_given(final)]
        return every[0], rest

    def _run(self, x: Tensor, b: int, state: Any, again: Any) -> tuple[list[Tensor], Any]:
        length = x.size(0) if self.lengths is None else int(self.lengths[b])
        cuts = torch.zeros(len(x) + 1) if self.reset is None else self.reset[:, b]
        reverse = self.layer.reverse
        now = tuple(s[b : b + 1] for s in state)
        steps = [tuple(torch.zeros_like(s) for s in now)] * len(x)
        for t in reversed(range(length)) if reverse else range(length):
            # A cut lies before a step: running backward it is met on the way to the step before.
            if cuts[t] if not reverse else t + 1 < length and cuts[t + 1]:
                now = tuple(s[b : b + 1] for s in again)
            now = as_tuple(self.layer.cell(x[t, b : b + 1], as_given(now)))
            steps[t] = now
        return [torch.stack(step) for step in zip(*steps, strict=True)], now


def both(
    name: str, backend: str, reverse: bool, case: tuple[Any, Any, Any], *, every: bool = False
) -> tuple[Results, Results]:
    """All results and gradients: of the layer, and of the loop. What is not read is NaN."""
    cell = CELLS[name](INPUT, HIDDEN).eval()
    x, state = torch.randn(STEPS, BATCH, INPUT), states(cell, BATCH)
    lengths, _, reset_to = case
    if lengths is not None:
        x[behind(lengths)] = NAN
    given = (state, states(cell, BATCH) if reset_to == STATE else None)
    ours = Called(Recurrent(cell, backend=backend, reverse=reverse), *case, every)
    truth = Plain(Recurrent(cell, reverse=reverse), *case, every)
    return (
        evaluate(ours, x, given, torch.float64),
        evaluate(truth, x, given, torch.float64),
    )


def behind(lengths: Tensor) -> Tensor:
    """Where no step is, (T, B)."""
    return torch.arange(STEPS).unsqueeze(1) >= lengths


@each_backend
@directions
@cases
@cells
def test_equals_the_pieces_alone(name: str, case: str, reverse: bool, backend: str) -> None:
    ours, truth = both(name, backend, reverse, CASES[case])
    torch.testing.assert_close(ours, truth)
    lengths, _, _ = CASES[case]
    if lengths is not None:
        assert (ours["output"][behind(lengths)] == 0).all()
        assert (ours["gradient of input"][behind(lengths)] == 0).all()


@each_backend
@directions
@pytest.mark.parametrize("case", ["all steps", "lengths and reset to a state"])
@cells
def test_states_of_all_steps(name: str, case: str, reverse: bool, backend: str) -> None:
    """With gradients that come in on every state of every step."""
    ours, truth = both(name, backend, reverse, CASES.get(case, (None, None, None)), every=True)
    torch.testing.assert_close(ours, truth)
