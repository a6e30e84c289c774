"""Products in 8 bits: what the numbers become, and which products of a step become such."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openrnn.binding import tensors_of
from openrnn.state import state_spec
from openrnn.step import int8
from openrnn.step.evaluate import Evaluator
from openrnn.step.graph import Graph
from openrnn.step.quantize import Quantized, quantize, unrounded
from openrnn.step.trace import trace

HALF = 0.5 * (1 + 1e-5)  # of a scale, with the rounding of float32


def test_weights_are_at_most_half_a_scale_off() -> None:
    weight = torch.randn(9, 40) * torch.logspace(-20, 20, 9)[:, None]
    levels, scale = int8.quantize_weight(weight)
    assert levels.dtype == torch.int8
    assert levels.abs().amax(1).eq(127).all(), "all levels are used"
    error = (levels.double() * scale.double()[:, None] - weight).abs()
    assert (error <= HALF * scale[:, None]).all()


@pytest.mark.parametrize("kind", ["both", "positive", "negative", "far from 0"])
def test_rows_are_at_most_half_a_scale_off(kind: str) -> None:
    x = torch.randn(50, 40) * torch.logspace(-30, 30, 50)[:, None]
    x = {"both": x, "positive": x.abs(), "negative": -x.abs(), "far from 0": x.abs() * 10 + 7}[kind]
    levels, scale = int8.quantize_rows(x)
    assert levels.eq(levels.round()).all()
    assert (levels.amax(1).clamp(min=0) - levels.amin(1).clamp(max=0) <= 255).all()
    assert ((levels.double() * scale.double() - x).abs() <= HALF * scale).all()


def test_zeros_are_exact_and_stay() -> None:
    x = torch.randn(3, 8)
    x[:, 2], x[1] = 0, 0
    levels, scale = int8.quantize_rows(x)
    assert levels[:, 2].eq(0).all()
    assert levels[1].eq(0).all()
    assert scale[1] == 0
    weight = torch.randn(4, 8)
    weight[2] = 0
    y = int8.linear(x, *int8.quantize_weight(weight))
    assert y[1].eq(0).all()
    assert y[:, 2].eq(0).all()
    assert y[0, 0] != 0


@pytest.mark.parametrize("strange", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_makes_the_row_nan(strange: float) -> None:
    x = torch.randn(3, 8)
    x[1, 5] = strange
    y = int8.linear(x, *int8.quantize_weight(torch.randn(4, 8)))
    assert y[1].isnan().all()
    assert y[[0, 2]].isfinite().all()


def test_the_smallest_and_the_largest_numbers() -> None:
    largest = torch.finfo(torch.float32).max
    x = torch.tensor([[largest, -largest], [1e-40, -1e-42], [1e-38, 0.0]])
    levels, scale = int8.quantize_rows(x)
    assert scale.isfinite().all()
    assert levels[0].tolist() == [127, -128] or levels[0].tolist() == [128, -127]
    assert levels[1:].eq(0).all(), "what has no inverse that is finite counts as 0"
    _, weight_scale = int8.quantize_weight(torch.full((1, 2), 1e-40))
    assert weight_scale == 0


def test_the_error_of_a_product_is_that_of_its_factors() -> None:
    x, weight = torch.randn(20, 64).exp(), torch.randn(30, 64)
    levels, of_weight = int8.quantize_weight(weight)
    _, of_row = int8.quantize_rows(x)
    error = (int8.linear(x, levels, of_weight).double() - x.double() @ weight.double().T).abs()
    used = levels.double().abs() * of_weight[:, None]
    bound = HALF * (x.abs().double().sum(1)[:, None] * of_weight + of_row * used.sum(1))
    assert (error <= bound).all()
    assert (error > 0.01 * bound).any(), "and not of another size altogether"


# --- which products ------------------------------------------------------------------------------


class Cell(nn.Module):
    """A user's cell, of 5 features and 4 units."""

    state_sizes = {"h": 4}  # noqa: RUF012  as a user writes it

    def __init__(self, step: Callable[[Cell, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.ih, self.hh = nn.Linear(5, 4), nn.Linear(4, 4, bias=False)
        self.both, self.length = nn.Linear(9, 4), nn.Parameter(torch.rand(4, 1) + 1)
        self.step = step

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.step(self, x, h)


def quantized(cell: nn.Module, size: int = 5) -> tuple[Graph, Quantized]:
    cell.eval()
    spec, tensors = state_spec(cell, torch.zeros(1, size)), tensors_of(cell)
    with torch.no_grad():
        graph = trace(cell, tensors, spec, size, torch.float32, torch.device("cpu"))
        found = quantize(graph, tensors)
    found.graph.check()
    unrounded(found.graph).check()
    return graph, found


def plain(c: Cell, x: Tensor, h: Tensor) -> Tensor:
    return torch.tanh(c.ih(x) + c.hh(h))


def together(c: Cell, x: Tensor, h: Tensor) -> Tensor:
    return torch.tanh(c.both(torch.cat((x, h), 1)))


def turned(c: Cell, x: Tensor, h: Tensor) -> Tensor:
    return torch.tanh((c.ih.weight @ x.T + c.hh.weight @ h.T).T)


def normed(c: Cell, x: Tensor, h: Tensor) -> Tensor:
    weight = c.length * c.hh.weight / c.hh.weight.norm(dim=1, keepdim=True)
    return torch.tanh(c.ih(x) + F.linear(h, weight))


def twice(c: Cell, x: Tensor, h: Tensor) -> Tensor:
    return torch.tanh(c.ih(x) + c.hh(torch.tanh(c.hh(h))))


@pytest.mark.parametrize(
    ("step", "products", "weights"),
    [
        (plain, 2, {"ih_weight": (4, 5), "hh_weight": (4, 4)}),
        (together, 2, {"both_weight": (4, 5), "both_weight_2": (4, 4)}),  # x on its own
        (turned, 2, {"ih_weight": (4, 5), "hh_weight": (4, 4)}),
        (normed, 2, {"ih_weight": (4, 5), "hh_weight": (4, 4)}),
        (twice, 3, {"ih_weight": (4, 5), "hh_weight": (4, 4)}),
    ],
)
def test_every_product_of_rows_and_a_weight(
    step: Callable[[Cell, Tensor, Tensor], Tensor],
    products: int,
    weights: dict[str, tuple[int, ...]],
) -> None:
    cell = Cell(step)
    graph, found = quantized(cell)
    assert found.graph.count("int8_linear") == products
    assert found.graph.count("matmul") == 0
    shapes = {name: tuple(found.tensors[name].shape) for name in found.weights}
    assert shapes == weights or step is normed  # whose name is that of another factor
    assert sorted(shapes.values()) == sorted(weights.values())
    x, h = torch.randn(3, 5), torch.randn(3, 4)
    given = {"input.x": x, "state.h": h}
    for read, tensors in (
        (found.graph, found.tensors),
        (unrounded(found.graph), {n: t.float() for n, t in found.tensors.items()}),
    ):
        run = Evaluator(read, x.device)
        actual = run(given | {f"parameter.{n}": t for n, t in tensors.items()}, 3)["state.h"]
        torch.testing.assert_close(actual, cell(x, h), rtol=0, atol=0.03)
    assert graph.count("int8_linear") == 0, "the step itself stays"


def test_what_depends_on_weights_alone_is_computed_once() -> None:
    _, found = quantized(Cell(normed))
    assert found.graph.count("div") == found.graph.count("sqrt") == 0


def constant(c: Cell, x: Tensor, h: Tensor) -> Tensor:
    return x[:, :4] @ torch.eye(4) + h


def of_rows(c: Cell, x: Tensor, h: Tensor) -> Tensor:
    return (h.unsqueeze(1) @ h.unsqueeze(2)).squeeze(2) + x[:, :4]


@pytest.mark.parametrize("step", [constant, of_rows])
def test_no_other_product(step: Callable[[Cell, Tensor, Tensor], Tensor]) -> None:
    _, found = quantized(Cell(step))
    assert found.graph.count("int8_linear") == 0
    assert found.graph.count("matmul") == 1


def test_a_sum_that_32_bits_may_not_hold_stays_float() -> None:
    class Deep(nn.Module):
        state_sizes = {"h": 1}  # noqa: RUF012

        def __init__(self, depth: int) -> None:
            super().__init__()
            self.ih, self.hh = nn.Linear(depth, 1), nn.Linear(1, 1)

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return torch.tanh(self.ih(x) + self.hh(h))

    for depth, products in ((int8.DEEPEST, 2), (int8.DEEPEST + 1, 1)):
        _, found = quantized(Deep(depth), depth)
        assert found.graph.count("int8_linear") == products
