"""Layers over time: lengths, resets, states of all steps, learned states, regularisers, parts."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
)

import openrnn
from openrnn import GRU, LSTM, RNN, Bidirectional, Recurrent, Stack, cells
from tests.cells.box import BOX, RANDOM
from tests.contract.evaluate import Results, evaluate
from tests.contract.test_time import CUT, LENGTHS, RESET, STATE, Case, behind

STEPS, BATCH, INPUT, HIDDEN = 6, 5, 5, 6


def two(backend: str, merge: str) -> Stack:
    """Two cells in two directions, and one above."""
    below = openrnn.GRUCell(INPUT, 4), openrnn.LSTMCell(INPUT, 4)
    return Stack(
        [
            Bidirectional(*below, merge=merge, backend=backend),
            openrnn.GRUCell(8 if merge == "concat" else 4, 4),
        ],
        backend=backend,
    )


def mixed(backend: str) -> Stack:
    """All kinds of layers."""
    return Stack(
        [
            nn.GRUCell(INPUT, 6),
            Bidirectional(nn.LSTMCell(6, 4), nn.LSTMCell(6, 4), backend=backend),
            LSTM(8, 6, num_layers=2, backend=backend),
            Recurrent(openrnn.RNNCell(6, 3), reverse=True, backend=backend),
            Stack([openrnn.GRUCell(3, 3)], residual=True, backend=backend),
        ],
        residual=True,
        backend=backend,
    )


LAYERS: dict[str, Callable[[str], Any]] = {
    "LSTM": lambda backend: LSTM(
        INPUT, HIDDEN, 2, batch_first=True, bidirectional=True, proj_size=3, backend=backend
    ),
    "GRU": lambda backend: GRU(INPUT, HIDDEN, 2, backend=backend),
    "RNN": lambda backend: RNN(INPUT, HIDDEN, bidirectional=True, backend=backend),
    "concat": lambda backend: two(backend, "concat"),
    "sum": lambda backend: two(backend, "sum"),
    "mean": lambda backend: two(backend, "mean"),
    "mixed": mixed,
}
CASES = {
    "lengths": Case(LENGTHS),
    "reset to default": Case(None, RESET, "default"),
    "lengths and reset": Case(LENGTHS, CUT),
    "lengths and reset to a state": Case(LENGTHS, CUT, STATE),
}
layers = pytest.mark.parametrize("name", LAYERS)
each_backend = pytest.mark.parametrize("backend", ["eager", "cpu"])
drop_ins = pytest.mark.parametrize("kind", [RNN, LSTM, GRU], ids=["RNN", "LSTM", "GRU"])


def on_tensors(function: Callable[..., Any], *states: Any) -> Any:
    """Of states that are nested alike, the state with what the function makes of their tensors."""
    if isinstance(states[0], Tensor):
        return function(*states)
    return tuple(on_tensors(function, *parts) for parts in zip(*states, strict=True))


def row(state: Any, b: int) -> Any:
    return on_tensors(lambda s: s.select(-2, b), state)


def random_states(layer: Any, count: int = BATCH) -> Any:
    """A state of the layer's form."""
    x = torch.randn(1, count, INPUT, dtype=next(layer.parameters()).dtype)
    with torch.no_grad():
        _, state = layer(x.transpose(0, 1) if layer.batch_first else x)
    return on_tensors(torch.randn_like, state)


def of_directions(layer: Any, forward: Any, backward: Any) -> Any:
    """Of two states, the parts of one that run forward, and of the other that run backward."""
    if isinstance(layer, Stack):
        parts = zip(layer.layers, forward, backward, strict=True)
        return tuple(of_directions(*part) for part in parts)
    if isinstance(layer, Bidirectional):
        return forward[0], backward[1]
    if isinstance(layer, Recurrent):
        return backward if layer.reverse else forward
    number = torch.arange(layer.num_layers * (1 + layer.bidirectional))
    of_backward = (number % 2 == 1).unsqueeze(1) & layer.bidirectional
    return on_tensors(lambda f, b: torch.where(of_backward, b, f), forward, backward)


class Called(nn.Module):
    """A layer as a function of x (T, B, I) and two states, the initial one and that after a reset.

    It gives the output (T, B, H), the final states, and those of all steps.
    """

    def __init__(self, layer: Any, case: Case) -> None:
        super().__init__()
        self.layer, self.case = layer, case

    def forward(self, x: Tensor, given: Any) -> Any:
        torch.manual_seed(7)
        state, again = given
        lengths, reset, reset_to = self.case
        if self.layer.batch_first:
            x, reset = x.transpose(0, 1), reset if reset is None else reset.t()
        output, final, states = self.layer(
            x,
            state,
            lengths=lengths,
            reset=reset,
            reset_to=again if reset_to == STATE else reset_to,
            return_states=True,
        )
        return output.transpose(0, 1) if self.layer.batch_first else output, (final, states)


class Apart(Called):
    """The same from a call of the layer for each piece of each sequence."""

    def forward(self, x: Tensor, given: Any) -> Any:
        state, again = given
        if self.case.reset_to == "default":
            again = on_tensors(torch.zeros_like, state)
        again = state if again is None else again
        runs = [self._run(x[:, b], b, row(state, b), row(again, b)) for b in range(x.size(1))]
        outputs, *rest = zip(*runs, strict=True)
        final, states = (on_tensors(lambda *s: torch.stack(s, -2), *rows) for rows in rest)
        return torch.stack(outputs, 1), (final, states)

    def _run(self, x: Tensor, b: int, state: Any, again: Any) -> tuple[Tensor, Any, Any]:
        lengths, reset, _ = self.case
        length = len(x) if lengths is None else int(lengths[b])
        cuts = [t for t in range(length) if t == 0 or (reset is not None and reset[t, b])]
        is_cut = reset is not None and bool(reset[0, b])
        runs = []
        for number, start in enumerate(cuts):
            end = cuts[number + 1] if start != cuts[-1] else length
            begin = of_directions(
                self.layer,
                again if number > 0 or is_cut else state,
                again if start != cuts[-1] else state,
            )
            runs.append(self.layer(x[start:end], begin, return_states=True))
        # One step more, for the shapes; nothing is left of it.
        runs.append(self.layer(torch.zeros_like(x[:1]), state, return_states=True))
        outputs, final, states = zip(*runs, strict=True)
        last = of_directions(self.layer, final[-2], final[0]) if cuts else state

        def padded(*steps: Tensor) -> Tensor:
            rows = torch.cat(steps)[:length]
            return F.pad(rows, (0, 0) * (rows.dim() - 1) + (0, len(x) - length))

        return padded(*outputs), last, on_tensors(padded, *states)


@each_backend
@pytest.mark.parametrize("case", CASES)
@layers
def test_equals_the_pieces_alone(name: str, case: str, backend: str) -> None:
    """Outputs, states and all gradients; what is not read is NaN."""
    layer, eager = LAYERS[name](backend), LAYERS[name]("eager")
    eager.load_state_dict(layer.state_dict())
    x, given = torch.randn(STEPS, BATCH, INPUT), (random_states(layer), random_states(layer))
    if CASES[case].lengths is not None:
        x[behind(LENGTHS)] = torch.nan
    if CASES[case].reset_to != STATE:
        given = (given[0], None)
    ours = evaluate(Called(layer, CASES[case]), x, given, torch.float64)
    truth = evaluate(Apart(eager, CASES[case]), x, given, torch.float64)
    torch.testing.assert_close(ours, truth)
    if CASES[case].lengths is not None:
        for name, result in ours.items():
            if name in ("output", "gradient of input") or name.startswith("final.1"):
                steps = result.movedim(-2, 1)  # the states have layers before the batch
                assert (steps[behind(LENGTHS)] == 0).all(), name
