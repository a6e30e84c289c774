"""What one call of a kernel runs, and what is left to torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import openrnn
from openrnn.backends.cpu.assemble import assemble
from openrnn.backends.cpu.phases import Phases
from openrnn.state import state_spec
from openrnn.step.program import Program, program_of
from tests.cells.box import BOX


def program(cell: nn.Module) -> Program:
    spec = state_spec(cell, torch.zeros(1, 5))
    return program_of(cell, None, spec, 5, torch.float32, torch.device("cpu"))[0].fused


def gradient_of(cell: nn.Module) -> Phases:
    found = program(cell)
    labels = frozenset(node.label for _, node in found.graph.inputs())
    return assemble(found.training(labels)[1], ())[0]


@pytest.mark.parametrize("cell", [openrnn.LSTMCell(5, 7), openrnn.RNNCell(5, 7)])
def test_all_of_a_gradient_is_one_call(cell: nn.Module) -> None:
    phases = gradient_of(cell)
    assert [(over.m, over.n, over.left is None) for over in phases.over_rows] == [
        (1, cell.weight_ih.size(0), True),
        (*cell.weight_hh.shape, False),
        (*cell.weight_ih.shape, False),
    ]
    assert set(phases.sums) == {f"parameter.{name}" for name, _ in cell.named_parameters()}
    for left in (phases.before, phases.after, phases.later):
        assert not left.outputs, "nothing is left to torch"


@pytest.mark.parametrize("name", BOX)
def test_what_has_rows_is_never_left_to_torch(name: str) -> None:
    """For no cell of the box: only what is made of sums over the rows is."""
    phases = gradient_of(BOX[name](5, 8))
    assert not phases.before.outputs
    assert not phases.later.outputs


class InTwoDtypes(nn.Module):
    """What is computed of x alone is in float64, which no kernel mixes with float32."""

    hidden_size = 6

    def __init__(self) -> None:
        super().__init__()
        self.of_x, self.of_h = nn.Linear(5, 6), nn.Linear(6, 6, bias=False)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        wide = (x.double() * 3).sin().float()
        return torch.tanh(self.of_x(wide) + self.of_h(h))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("is_ragged", [False, True])
def test_a_stage_without_a_kernel_is_left_to_torch(reverse: bool, is_ragged: bool) -> None:
    """In the gradient torch then looks for h in the step before."""
    cell = InTwoDtypes()
    stages = program(cell).stages
    assert assemble(stages, ("state.h",))[0].before is stages.inputs
    assert any(gradient_of(cell).later.inputs("previous"))
    results = []
    for backend in ("eager", "cpu"):
        torch.manual_seed(0)
        layer = openrnn.Recurrent(cell, reverse=reverse, backend=backend)
        x, h, again = torch.randn(40, 3, 5), torch.randn(3, 6), torch.randn(3, 6)
        leaves = [tensor.requires_grad_() for tensor in (x, h, again)]
        options = {"reset": torch.rand(40, 3) < 0.2, "reset_to": again}
        if is_ragged:
            options["lengths"] = torch.tensor([7, 40, 12])
        output, _ = layer(x, h, **options)
        gradients = torch.autograd.grad(output.square().sum(), [*leaves, *cell.parameters()])
        results.append([output, *gradients])
    for eager, cpu in zip(*results, strict=True):
        torch.testing.assert_close(cpu, eager)
