"""What is kept of each step for the gradient, and which states are had from the step before."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

import openrnn
from openrnn.ragged import Ragged, Steps
from openrnn.state import state_spec
from openrnn.step.gradient import Gradient, gradient
from openrnn.step.shape import features
from openrnn.step.trace import trace

H = 7


def gradient_of(cell: nn.Module) -> Gradient:
    spec, tensors = state_spec(cell, torch.zeros(1, 5)), dict(cell.named_parameters())
    graph = trace(cell, tensors, spec, 5, torch.float32, torch.device("cpu"))
    labels = [node.label for _, node in graph.inputs()]
    return gradient(graph, ["h", "y"], labels)


class Twice(nn.Module):
    """h' is made with a product of its own, which is not made twice."""

    hidden_size = H

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(5 + H, 3), nn.Linear(3, H)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.down(torch.tanh(self.up(torch.cat((x, h), -1))))


class Exchanged(nn.Module):
    """Each state becomes what the other was; one is read by a product alone."""

    state_sizes: ClassVar = {"a": H, "b": H}

    def __init__(self) -> None:
        super().__init__()
        self.of_a, self.of_x = nn.Linear(H, H, bias=False), nn.Linear(5, H)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        a, b = state
        return b, torch.tanh(self.of_x(x) + self.of_a(a)) * b


class Late(nn.Module):
    """y sees h one step later, and no step sees y: the gradient of of_h needs no loop."""

    state_sizes: ClassVar = {"y": H, "h": H}

    def __init__(self) -> None:
        super().__init__()
        self.of_x, self.of_h = nn.Linear(5, H), nn.Linear(H, H)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return self.of_h(state[1]), torch.tanh(self.of_x(x))


@pytest.mark.parametrize(
    ("cell", "numbers", "previous"),
    [
        (openrnn.RNNCell(5, H), H, {"h"}),  # h itself
        (openrnn.LSTMCell(5, H), 5 * H, {"h"}),  # four gates and c
        (openrnn.GRUCell(5, H), 5 * H, set()),  # h is multiplied by a gate's gradient
        (openrnn.cells.PeepholeLSTMCell(5, H), 5 * H, {"h"}),
        (openrnn.cells.LayerNormLSTMCell(5, H), 9 * H, {"h"}),
        (openrnn.cells.LayerNormRNNCell(5, H), 2 * H, {"h"}),
        (Twice(), 3 + H, set()),
        (Exchanged(), 2 * H, {"a"}),
        (Late(), H, {"h"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_is_kept(cell: nn.Module, numbers: int, previous: set[str]) -> None:
    found = gradient_of(cell)
    kept = {label: i for label, i in found.forward.outputs if label.startswith("saved.")}
    made = {label for label, _ in found.backward.outputs if label.startswith("value.")}
    read = [node for _, node in found.backward.inputs("previous")]
    assert sum(features(found.forward.nodes[i].shape) for i in kept.values()) == numbers
    assert {node["name"] for node in read} == previous
    assert all(node["made"] in {*kept, *made} for node in read)


@pytest.mark.parametrize(
    "cell", [Twice(), Exchanged(), Late()], ids=lambda cell: type(cell).__name__
)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_of_unusual_cells(cell: nn.Module, backend: str, reverse: bool) -> None:
    cell = cell.double()
    results = []
    for name in ("eager", backend):
        torch.manual_seed(0)
        layer = openrnn.Recurrent(cell, reverse=reverse, backend=name)
        x = torch.randn(6, 3, 5, dtype=torch.float64, requires_grad=True)
        count = len(getattr(cell, "state_sizes", (H,)))
        state = [torch.randn(3, H, dtype=torch.float64, requires_grad=True) for _ in range(count)]
        given = state[0] if count == 1 else tuple(state)
        options = {"lengths": torch.tensor([4, 6, 5]), "reset": torch.rand(6, 3) < 0.3}
        output, final = layer(x, given, **options)
        last = (final,) if count == 1 else final
        loss = output.sin().sum() + sum(s.cos().sum() for s in last)
        inputs = [x, *state, *cell.parameters()]
        results.append([output, *torch.autograd.grad(loss, inputs, materialize_grads=True)])
    for eager, other in zip(*results, strict=True):
        torch.testing.assert_close(other, eager)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("with_resets", [False, True])
def test_the_rows_of_the_step_before(reverse: bool, with_resets: bool) -> None:
    """Each sequence's rows, one after the other, in the order of the loop."""
    lengths = [4, 4, 2, 1]
    steps = Steps(Ragged.padded(lengths, 4, 1).sizes)
    resets = torch.rand(steps.total) < 0.4
    if with_resets:
        steps = steps.with_resets(resets)
    found = steps.rows_before(reverse).tolist()
    offsets = [sum(steps.sizes[:t]) for t in range(len(steps.sizes))]
    for number, length in enumerate(lengths):
        order = range(length - 1, -1, -1) if reverse else range(length)
        last = steps.total + number  # the initial state
        for t in order:
            row = offsets[t] + number
            is_reset = with_resets and resets[row]
            assert found[row] == (steps.total + len(lengths) + number if is_reset else last)
            last = row
