"""The formulas of random cells, computed as trees: the step, and its gradient beside autograd."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import hypothesis
import torch
from torch import Tensor

from openrnn import equations
from openrnn.explain.equations import CellEquations, Line
from openrnn.explain.mathematics.formula import Symbol
from openrnn.explain.mathematics.symbols import of_variable
from openrnn.explain.parts import Lane, read
from openrnn.step.evaluate import draw
from openrnn.step.shape import concrete
from tests.step.test_random_cells import RandomCell, Recipe, recipes

EXAMPLES = int(os.environ.get("OPENRNN_EXAMPLES", "50"))
ROWS = 3
Numbers = dict[Symbol, Tensor]


def origins(cell: CellEquations, raw: Numbers) -> Numbers:
    """Parts of weights, and masks, from parameters and random numbers by their own names."""
    return {s: origin.value(raw) for s, origin in cell.system.reader.origins.items()}


def constants(cell: CellEquations) -> Numbers:
    reader = cell.system.reader
    return {
        reader.symbols[index]: torch.tensor(node["value"], dtype=torch.float64).reshape(
            tuple(int(str(dim)) for dim in node.shape)
        )
        for index, node in enumerate(reader.graph.nodes)
        if node.op == "constant" and index in reader.symbols
    }


def solve(lines: Iterable[Line], numbers: Numbers) -> None:
    for line in lines:
        value, left = line.equation.right.value(numbers), line.equation.left
        if not value.dim():  # δa = 0, for all rows and features
            value = value.expand(concrete(line.equation.shape, ROWS))
        sizes = [size for symbol in left if isinstance(size := symbol.shape[-1], int)]
        parts = value.split(sizes, -1) if len(left) > 1 else [value]
        numbers.update(zip((symbol.data for symbol in left), parts, strict=True))


def given(cell: RandomCell, lane: Lane) -> tuple[Numbers, list[Tensor], Any]:
    """Numbers for all that the step reads, x and the states, and the next states."""
    torch.manual_seed(cell.recipe.seed)
    x, *states = (
        torch.randn(ROWS, n, dtype=torch.float64, requires_grad=True)
        for n in (lane.input_size, *lane.states.values())
    )
    torch.manual_seed(1)
    new = cell(x, states[0] if len(states) == 1 else tuple(states))
    torch.manual_seed(1)
    raw = {Symbol(name): tensor for name, tensor in lane.tensors.items()}
    randoms = [node for node in lane.graph.nodes if node.op == "random"]
    for node in sorted(randoms, key=lambda node: int(node["number"])):
        raw[Symbol(f"random.{node['number']}")] = draw(node, ROWS, torch.device("cpu"))
    names = [of_variable("x", "t"), *(of_variable(name, "t-1") for name in lane.states)]
    raw |= dict(zip(names, (x, *states), strict=True))
    return raw, [x, *states], (new,) if isinstance(new, Tensor) else new


@hypothesis.settings(max_examples=EXAMPLES, deadline=None, database=None)
@hypothesis.given(recipes())
def test_formulas_compute_the_step_and_its_gradient(recipe: Recipe) -> None:
    cell = RandomCell(recipe)
    cell.input_size = recipe.input_size
    (lane,) = read(cell).lanes
    raw, inputs, new = given(cell, lane)
    (step,), (back,) = equations(cell).cells, equations(cell, backward=True).cells
    numbers = raw | origins(step, raw) | constants(step)
    solve(step.lines, numbers)
    for name, expected in zip(lane.states, new, strict=True):
        found = numbers[of_variable(name, "t")]
        torch.testing.assert_close(found.expand_as(expected), expected, rtol=1e-7, atol=1e-9)

    loss, program = torch.zeros((), dtype=torch.float64), lane.program
    numbers |= origins(back, raw) | constants(back)
    for name, value in zip(lane.states, new, strict=True):
        for above, names in (("out", program.stepwise(False)), ("next", program.stages.carried)):
            arriving = torch.randn_like(value)
            numbers[replace(of_variable(name, "t"), mark="δ", above=above)] = arriving
            loss = loss + (arriving * value).sum() if name in names else loss
    trained = dict(cell.named_parameters())
    wanted = [*inputs, *trained.values()]
    grads = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    numbers = {symbol: tensor.detach() for symbol, tensor in numbers.items()}
    solve((*back.where, *back.lines), numbers)
    marks = [Symbol("x", time="t", mark="δ")]
    marks += [replace(of_variable(n, "t-1"), mark="δ", above="next") for n in lane.states]
    for mark, grad in zip(marks, grads, strict=False):
        found = numbers.get(mark, torch.zeros(()).to(grad))
        torch.testing.assert_close(found.expand_as(grad), grad, rtol=1e-6, atol=1e-8)
    by_name = {Symbol(n): g for n, g in zip(trained, grads[len(inputs) :], strict=True)}
    ones = {symbol: torch.ones_like(grad) for symbol, grad in by_name.items()}
    for line in back.lines:
        symbol = line.equation.left[0].data
        if symbol.mark == "Δ":
            origin = back.system.reader.origins[replace(symbol, mark="")]
            found = line.equation.right.value(numbers) * origin.value(ones)  # where it has numbers
            grad = origin.value(by_name)
            torch.testing.assert_close(found.expand_as(grad), grad, rtol=1e-6, atol=1e-8)
