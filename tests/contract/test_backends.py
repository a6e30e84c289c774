"""Every cell of the box, and torch's own, on every backend against the eager loop in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import openrnn
from openrnn import backends
from openrnn.state import StateSpec, state_spec
from tests.cells.box import BOX, RANDOM, as_given, as_tuple, random_states

from .evaluate import assert_as_exact, evaluate

TORCHS: dict[str, Callable[[int, int], nn.Module]] = {
    f"torch.nn.{make.__name__}": make for make in (nn.RNNCell, nn.LSTMCell, nn.GRUCell)
}
CELLS: dict[str, Callable[[int, int], nn.Module]] = {**BOX, **TORCHS}
COMPILED = [name for name in backends.BACKENDS if name not in ("auto", "eager")]
cells = pytest.mark.parametrize("name", CELLS)
compiled = pytest.mark.parametrize("backend", COMPILED)
# Evaluation is another step only where training draws random numbers.
modal = pytest.mark.parametrize(
    ("name", "training"),
    [(name, True) for name in CELLS] + [(name, False) for name in RANDOM],
    ids=lambda value: value if isinstance(value, str) else "train" if value else "eval",
)


class _Seeded(nn.Module):
    """A layer that draws the same random numbers at each call."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, input: Any, state: Any) -> Any:
        torch.manual_seed(7)
        return self.layer(input, state)


def spec_of(cell: Any) -> StateSpec:
    return state_spec(cell, torch.zeros(1, cell.input_size, dtype=cell.weight_ih.dtype))


def states(cell: nn.Module, *batch: int) -> Any:
    if isinstance(cell, openrnn.cells.Cell):
        return as_given(random_states(cell, *batch))
    spec = spec_of(cell)
    return spec.wrap(tuple(torch.randn(*batch, size) for size in spec.sizes or ()))


def compare(cell: nn.Module, backend: str, input: Any, state: Any, dtype: torch.dtype) -> None:
    eager, other = (
        _Seeded(openrnn.Recurrent(cell, backend=name)).train(cell.training)
        for name in ("eager", backend)
    )
    # Where a step amplifies its roundings one draw may be unlucky: then most of five must hold.
    failures: list[AssertionError] = []
    for draw in range(5):
        truth = evaluate(eager, input, state, torch.float64)
        peer = evaluate(eager, input, state, torch.float32)
        try:
            assert_as_exact(evaluate(other, input, state, dtype), peer, truth, dtype)
        except AssertionError as failure:
            failures.append(failure)
        if len(failures) == 3:
            raise failures[-1]
        if draw + 1 - len(failures) > 2 or not failures:
            return
        input, state = shaken(input), shaken(state)


def shaken(value: Any) -> Any:
    """Other numbers of the same kind: each is changed by about a tenth."""
    if isinstance(value, PackedSequence):
        return value._replace(data=shaken(value.data))
    if isinstance(value, Tensor):
        return value * (1 + 0.1 * torch.randn_like(value))
    return type(value)(map(shaken, value))


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 2), (2, 3, 5, 6), (37, 8, 13, 10), (3, 17, 5, 6)])
@modal
def test_values_and_gradients(
    name: str, sizes: tuple[int, int, int, int], dtype: torch.dtype, training: bool, backend: str
) -> None:
    steps, batch, inputs, hidden = sizes
    if name == "LSTMPCell" and hidden < 4:
        hidden = 4
    cell = CELLS[name](inputs, hidden).train(training)
    compare(cell, backend, torch.randn(steps, batch, inputs), states(cell, batch), dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "f16"])
@pytest.mark.parametrize("name", CELLS)
def test_half_is_stored_and_single_is_computed(name: str, dtype: torch.dtype) -> None:
    """So the kernel's error is below that of the eager loop, which rounds after each operation."""
    cell = CELLS[name](5, 6).eval()
    compare(cell, "cpu", torch.randn(12, 3, 5), states(cell, 3), dtype)


@compiled
@cells
def test_packed(name: str, backend: str) -> None:
    cell = CELLS[name](5, 6)
    sequences = [torch.randn(n, 5) for n in (3, 6, 1, 6, 2)]
    packed = pack_sequence(sequences, enforce_sorted=False)
    compare(cell, backend, packed, states(cell, 5), torch.float64)


@compiled
@cells
def test_reverse(name: str, backend: str) -> None:
    cell = CELLS[name](5, 6)
    x, state = torch.randn(4, 3, 5), states(cell, 3)
    results = []
    for which in ("eager", backend):
        layer = openrnn.Recurrent(cell, reverse=True, backend=which)
        results.append(evaluate(_Seeded(layer), x, state, torch.float64))
    torch.testing.assert_close(results[1], results[0])


@compiled
@cells
def test_empty_batch(name: str, backend: str) -> None:
    cell = CELLS[name](5, 6)
    output, final = openrnn.Recurrent(cell, backend=backend)(torch.randn(4, 0, 5))
    assert output.shape[:2] == (4, 0)
    assert all(state.size(0) == 0 for state in as_tuple(final))


@compiled
@cells
def test_inference_and_long(name: str, backend: str) -> None:
    cell = CELLS[name](5, 6).eval().double()
    x = torch.randn(300, 2, 5, dtype=torch.float64)
    with torch.inference_mode():
        expected = openrnn.Recurrent(cell, backend="eager")(x)
        actual = openrnn.Recurrent(cell, backend=backend)(x)
    torch.testing.assert_close(actual, expected)


def function_of(layer: nn.Module, spec: Any, count: int) -> Callable[..., tuple[Tensor, ...]]:
    """The layer as a function of x, states and parameters, with fixed random numbers."""
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        torch.manual_seed(7)
        parameters = dict(zip(names, rest[count:], strict=True))
        state = spec.wrap(rest[:count])
        output, final = torch.func.functional_call(layer, parameters, (x, state))
        return (output, *as_tuple(final))

    return run


@pytest.mark.parametrize("backend", ["eager", *COMPILED])
@modal
def test_gradcheck_and_gradgradcheck(name: str, training: bool, backend: str) -> None:
    cell = CELLS[name](2, 4).double().train(training)
    layer = openrnn.Recurrent(cell, backend=backend)
    x = torch.randn(2, 2, 2, dtype=torch.float64)
    spec = spec_of(cell)
    initial = [s.double() for s in as_tuple(states(cell, 2))]
    inputs = [t.detach().requires_grad_() for t in (x, *initial, *layer.parameters())]
    run = function_of(layer, spec, len(initial))
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)
