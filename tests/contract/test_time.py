"""Lengths, resets and all states: every cell on every backend against a plain loop of the cell."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import openrnn
from openrnn import Recurrent, backends
from tests.cells.box import RANDOM, as_given, as_tuple

from .evaluate import Results, assert_as_exact, evaluate
from .test_backends import CELLS, states

STEPS, BATCH, INPUT, HIDDEN = 6, 5, 5, 6
STATE = "state"  # reset_to is a state of its own


class Case(NamedTuple):
    lengths: Tensor | None = None
    reset: Tensor | None = None
    reset_to: str | None = None


LENGTHS = torch.tensor([3, 0, STEPS, 1, 4])
# A sequence in one piece, and ones cut at the first step, at the last, at each, at some.
RESET = torch.tensor([[0, 1, 0, 1, 0],
                      [0, 0, 0, 1, 0],
                      [0, 0, 0, 1, 1],
                      [0, 0, 0, 1, 1],
                      [0, 0, 0, 1, 0],
                      [0, 0, 1, 1, 1]], dtype=torch.bool)  # fmt: skip
# With LENGTHS: cut at each step, though there is none, at some, where it ends, at its last step.
CUT = torch.tensor([[1, 1, 1, 0, 0],
                    [1, 0, 0, 1, 0],
                    [1, 0, 1, 0, 0],
                    [1, 1, 0, 0, 1],
                    [0, 0, 0, 0, 1],
                    [1, 0, 1, 1, 0]], dtype=torch.bool)  # fmt: skip
CASES = {
    "all steps": Case(),
    "lengths": Case(LENGTHS),
    "reset": Case(None, RESET),
    "reset to default": Case(None, RESET, "default"),
    "reset to a state": Case(None, RESET, STATE),
    "lengths and reset": Case(LENGTHS, CUT),
    "lengths and reset to a state": Case(LENGTHS, CUT, STATE),
}
cells = pytest.mark.parametrize("name", CELLS)
BACKENDS = [name for name in backends.BACKENDS if name != "auto"]
each_backend = pytest.mark.parametrize("backend", BACKENDS)
compiled = pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "eager"])
directions = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


class Called(nn.Module):
    """A layer as a function of x and two states, the initial one and that after a reset.

    It gives the output, and beside it the final states, and those of all steps if `every`.
    """

    def __init__(self, layer: Recurrent, case: Case, every: bool) -> None:
        super().__init__()
        self.layer, self.case, self.every = layer, case, every

    def forward(self, x: Tensor, given: Any) -> Any:
        torch.manual_seed(7)
        state, again = given
        lengths, reset, reset_to = self.case
        output, *rest = self.layer(
            x,
            state,
            lengths=lengths,
            reset=reset,
            reset_to=again if reset_to == STATE else reset_to,
            return_states=self.every,
        )
        return output, rest


class Plain(Called):
    """The same of each sequence alone, in a loop of the cell itself."""

    def forward(self, x: Tensor, given: Any) -> Any:
        state, again = (s and as_tuple(s) for s in map(as_none_or_tuple, given))
        if self.case.reset_to == "default":
            again = tuple(map(torch.zeros_like, state))
        runs = [self._run(x, b, state, again or state) for b in range(x.size(1))]
        of_steps, final = zip(*runs, strict=True)
        every = tuple(torch.cat(rows, 1) for rows in zip(*of_steps, strict=True))
        final = tuple(torch.cat(rows) for rows in zip(*final, strict=True))
        rest = [as_given(final), as_given(every)] if self.every else [as_given(final)]
        return every[0], rest

    def _run(
        self, x: Tensor, b: int, state: tuple[Tensor, ...], again: tuple[Tensor, ...]
    ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """The states after each step, and the last ones, of one sequence."""
        lengths, reset, _ = self.case
        length = len(x) if lengths is None else int(lengths[b])
        now = tuple(s[b : b + 1] for s in state)
        steps = [tuple(map(torch.zeros_like, now))] * len(x)
        reverse = self.layer.reverse
        for t in reversed(range(length)) if reverse else range(length):
            # The cut is before the step in time: running backward it lies behind the step.
            place = t + 1 if reverse else t
            if reset is not None and place < length and reset[place, b]:
                now = tuple(s[b : b + 1] for s in again)
            now = as_tuple(self.layer.cell(x[t, b : b + 1], as_given(now)))
            steps[t] = now
        return [torch.stack(rows) for rows in zip(*steps, strict=True)], now


def as_none_or_tuple(state: Any) -> tuple[Tensor, ...] | None:
    return None if state is None else as_tuple(state)


def make(name: str, case: Case) -> tuple[nn.Module, Tensor, Any]:
    """A cell, an input whose padding is NaN, and two states: the same for the same arguments."""
    torch.manual_seed(0)
    cell = CELLS[name](INPUT, HIDDEN).eval()
    x, state = torch.randn(STEPS, BATCH, INPUT), states(cell, BATCH)
    if case.lengths is not None:
        x[behind(case.lengths)] = torch.nan
    return cell, x, (state, states(cell, BATCH) if case.reset_to == STATE else None)


def behind(lengths: Tensor) -> Tensor:
    """Where no step is, (T, B)."""
    return torch.arange(STEPS).unsqueeze(1) >= lengths


def of_layer(
    name: str,
    case: Case,
    reverse: bool,
    backend: str,
    *,
    every: bool = False,
    training: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Results:
    cell, x, given = make(name, case)
    layer = Recurrent(cell.train(training), reverse=reverse, backend=backend)
    return evaluate(Called(layer, case, every), x, given, dtype)


@lru_cache(maxsize=8)  # once for all backends
def of_loop(name: str, case: str, reverse: bool, every: bool = False) -> Results:
    cell, x, given = make(name, CASES[case])
    loop = Plain(Recurrent(cell, reverse=reverse), CASES[case], every)
    return evaluate(loop, x, given, torch.float64)


@each_backend
@directions
@pytest.mark.parametrize("case", [case for case in CASES if case != "all steps"])
@cells
def test_equals_each_sequence_in_a_loop(name: str, case: str, reverse: bool, backend: str) -> None:
    results = of_layer(name, CASES[case], reverse, backend)
    torch.testing.assert_close(results, of_loop(name, case, reverse))
    lengths = CASES[case].lengths
    if lengths is not None:
        for result in (results["output"], results["gradient of input"]):
            assert (result[behind(lengths)] == 0).all()


@each_backend
@directions
@pytest.mark.parametrize("case", ["all steps", "lengths and reset to a state"])
@cells
def test_states_of_all_steps(name: str, case: str, reverse: bool, backend: str) -> None:
    """Gradients come in on every state of every step."""
    results = of_layer(name, CASES[case], reverse, backend, every=True)
    torch.testing.assert_close(results, of_loop(name, case, reverse, every=True))


@compiled
@directions
@pytest.mark.parametrize("name", RANDOM)
def test_all_backends_draw_alike(name: str, reverse: bool, backend: str) -> None:
    case = CASES["lengths and reset to a state"]
    eager, other = (
        of_layer(name, case, reverse, each, every=True, training=True)
        for each in ("eager", backend)
    )
    torch.testing.assert_close(other, eager)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
@pytest.mark.parametrize("name", ["LSTMCell", "torch.nn.GRUCell", "QRNNCell fo"])
@directions
def test_other_dtypes(reverse: bool, name: str, dtype: torch.dtype) -> None:
    case = "lengths and reset to a state"
    results, peer = (
        of_layer(name, CASES[case], reverse, backend, every=True, dtype=dtype)
        for backend in ("cpu", "eager")
    )
    assert_as_exact(results, peer, of_loop(name, case, reverse, every=True), dtype)


def leaves(value: Any) -> Any:
    """Tensors in float64 that want a gradient."""
    if isinstance(value, Tensor):
        return value.double().requires_grad_()
    return tuple(map(leaves, value))


@each_backend
@directions
@cells
def test_without_steps_the_state_stays(name: str, reverse: bool, backend: str) -> None:
    cell = CELLS[name](INPUT, HIDDEN)
    layer = Recurrent(cell, reverse=reverse, backend=backend).double()
    x = leaves(torch.full((STEPS, BATCH, INPUT), torch.nan))
    state, again = leaves(states(cell, BATCH)), leaves(states(cell, BATCH))
    output, final = layer(x, state, lengths=[0] * BATCH, reset=RESET, reset_to=again)
    assert (output == 0).all()
    torch.testing.assert_close(final, state, rtol=0, atol=0)
    results = [output, *as_tuple(final)]
    incoming = [torch.randn_like(result) for result in results]
    others = [x, *as_tuple(again), *layer.parameters()]
    gradients = torch.autograd.grad(
        results, [*as_tuple(state), *others], incoming, allow_unused=True, materialize_grads=True
    )
    count = len(results) - 1
    torch.testing.assert_close(list(gradients[:count]), incoming[1:], rtol=0, atol=0)
    assert all((gradient == 0).all() for gradient in gradients[count:])


@each_backend
@cells
def test_no_sequences(name: str, backend: str) -> None:
    layer = Recurrent(CELLS[name](INPUT, HIDDEN), backend=backend).double()
    x, state = leaves(torch.randn(STEPS, 0, INPUT)), leaves(states(layer.cell, 0))
    reset = torch.ones(STEPS, 0, dtype=torch.bool)
    output, final, every = layer(x, state, lengths=[], reset=reset, return_states=True)
    assert output.shape[:2] == (STEPS, 0)
    assert [s.shape for s in as_tuple(final)] == [s.shape for s in as_tuple(state)]
    assert [s.shape for s in as_tuple(every)] == [(STEPS, *s.shape) for s in as_tuple(state)]
    results = (output, *as_tuple(final), *as_tuple(every))
    gradients = torch.autograd.grad(
        sum(result.sum() for result in results),
        (x, *layer.parameters()),
        allow_unused=True,
        materialize_grads=True,
    )
    assert all((gradient == 0).all() for gradient in gradients)


@each_backend
@directions
def test_full_lengths_and_no_resets_change_nothing(reverse: bool, backend: str) -> None:
    layer = Recurrent(openrnn.LSTMCell(INPUT, HIDDEN), reverse=reverse, backend=backend)
    x, state = torch.randn(STEPS, BATCH, INPUT), states(layer.cell, BATCH)
    none = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    expected = layer(x, state)
    for options in (
        {"lengths": [STEPS] * BATCH},
        {"reset": none},
        {"reset": none, "reset_to": state},
    ):
        torch.testing.assert_close(layer(x, state, **options), expected, rtol=0, atol=0)


@each_backend
@directions
def test_no_gradient_crosses_a_cut(reverse: bool, backend: str) -> None:
    layer = Recurrent(openrnn.LSTMCell(INPUT, HIDDEN), reverse=reverse, backend=backend).double()
    x = leaves(torch.randn(STEPS, BATCH, INPUT))
    state, again = leaves(states(layer.cell, BATCH)), leaves(states(layer.cell, BATCH))
    reset = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    reset[2] = True
    output, _ = layer(x, state, reset=reset, reset_to=again)
    pieces = [(output[:2], x[:2]), (output[2:], x[2:])]
    first, second = reversed(pieces) if reverse else pieces
    for (piece, _), own, other in ((first, state, again), (second, again, state)):
        gradient, *of_states = torch.autograd.grad(
            piece.sum(), (x, *own, *other), retain_graph=True, materialize_grads=True,
            allow_unused=True,
        )  # fmt: skip
        steps = slice(2, None) if piece is pieces[1][0] else slice(0, 2)
        elsewhere = slice(0, 2) if piece is pieces[1][0] else slice(2, None)
        assert (gradient[steps] != 0).all()
        assert (gradient[elsewhere] == 0).all()
        assert all((g != 0).all() for g in of_states[:2])
        assert all((g == 0).all() for g in of_states[2:])


@compiled
@pytest.mark.parametrize("place", range(5), ids=["output", "h_n", "c_n", "h", "c"])
@directions
def test_gradient_of_one_result_alone(reverse: bool, place: int, backend: str) -> None:
    case = CASES["lengths and reset to a state"]
    gradients = []
    for each in ("eager", backend):
        cell, x, given = make("LSTMCell", case)
        layer = Called(Recurrent(cell, reverse=reverse, backend=each), case, True).double()
        x, given = leaves(x), leaves(given)
        output, (final, every) = layer(x, given)
        result = (output, *final, *every)[place]
        tensors = (x, *given[0], *given[1], *layer.parameters())
        gradients.append(torch.autograd.grad(result.square().sum(), tensors))
    torch.testing.assert_close(gradients[1], gradients[0])


@compiled
@pytest.mark.parametrize("wanted", ["x", "state", "reset_to", "parameters"])
def test_gradients_of_some_tensors_alone(wanted: str, backend: str) -> None:
    case = CASES["lengths and reset to a state"]
    gradients = []
    for each in ("eager", backend):
        cell, x, (state, again) = make("LSTMCell", case)
        layer = Called(Recurrent(cell, backend=each), case, every=False).requires_grad_(False)
        named = {"x": (x,), "state": state, "reset_to": again, "parameters": layer.parameters()}
        tensors = tuple(named[wanted])
        for tensor in tensors:
            tensor.requires_grad_()
        output, ((h_n, c_n),) = layer(x, (state, again))
        loss = output.square().sum() + (h_n * c_n).sum()
        gradients.append(torch.autograd.grad(loss, tensors))
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("count", "hidden"), [(150, HIDDEN), (2, 96)], ids=["blocks of rows", "threads share rows"]
)
@directions
def test_threads(reverse: bool, count: int, hidden: int, threads: int) -> None:
    steps = 20
    lengths = torch.randint(0, steps + 1, (count,))
    case = Case(lengths, torch.rand(steps, count) < 0.2, STATE)
    cell = openrnn.LSTMCell(INPUT, hidden)
    x, given = torch.randn(steps, count, INPUT), (states(cell, count), states(cell, count))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        eager, kernel = (
            evaluate(
                Called(Recurrent(cell, reverse=reverse, backend=each), case, every=True),
                x,
                given,
                torch.float64,
            )
            for each in ("eager", "cpu")
        )
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(kernel, eager)


@each_backend
def test_gradgradcheck(backend: str) -> None:
    layer = Recurrent(openrnn.LSTMCell(2, 3), backend=backend).double()
    reset = torch.tensor([[0, 1, 0], [0, 1, 0], [1, 0, 1]], dtype=torch.bool)
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        parameters = dict(zip(names, rest[4:], strict=True))
        options = {"lengths": [3, 2, 0], "reset": reset, "reset_to": rest[2:4]}
        options["return_states"] = True
        output, final, every = torch.func.functional_call(layer, parameters, (x, rest[:2]), options)
        return (output, *final, *every)

    x = torch.randn(3, 3, 2)
    inputs = leaves((x, *states(layer.cell, 3), *states(layer.cell, 3)))
    inputs += tuple(p.detach().requires_grad_() for p in layer.parameters())
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)
