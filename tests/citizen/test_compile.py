"""torch.compile and torch.export: one graph, one operator for all steps, any T and B."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

import openrnn
from tests.cells.box import BOX, RANDOM

from .cases import flat

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own, of its own modules


class Cell(nn.Module):
    """A user's, which tells neither its states nor its input's features."""

    hidden_size = 6

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h, self.scale = nn.Linear(5, 6), nn.Linear(6, 6), 0.5

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.x(x) + self.scale * self.h(h))


class Sorting(Cell):
    """One that no kernel can be made of."""

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return super().forward(x, h).sort()[0]


def stack() -> nn.Module:
    return openrnn.Stack([openrnn.LSTMCell(5, 6), openrnn.GRUCell(6, 4)])


# Of the box those that differ from the rest in kind.
CELLS = ("LayerNormLSTMCell", "WeightDropLSTMCell", "RHNCell", "SLSTMCell 2 heads", "QRNNCell fo")
LAYERS: dict[str, Any] = {
    "LSTM": lambda: openrnn.LSTM(5, 6, 2, bidirectional=True),
    "LSTM proj": lambda: openrnn.LSTM(5, 6, proj_size=4),
    "GRU": lambda: openrnn.GRU(5, 6, batch_first=True),
    "RNN": lambda: openrnn.RNN(5, 6, learn_initial_state=True),
    "Recurrent": lambda: openrnn.Recurrent(Cell()),
    "reverse": lambda: openrnn.Recurrent(nn.LSTMCell(5, 6), reverse=True),
    "Stack": stack,
    **{name: lambda name=name: openrnn.Recurrent(BOX[name](5, 6)) for name in CELLS},
}
CASES = [(name, "plain") for name in LAYERS]
CASES += [(name, way) for name in ("LSTM", "reverse", "Stack") for way in ("reset", "every")]


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def results(layer: Any, module: nn.Module, x: Tensor, **options: Any) -> list[Tensor]:
    """What the layer gives, and all gradients."""
    torch.manual_seed(3)
    found = list(flat(layer(x, **options)))
    torch.manual_seed(4)
    inputs = [x, *module.parameters()]
    loss = sum((result * torch.randn_like(result)).sum() for result in found)
    assert isinstance(loss, Tensor)
    return [*found, *torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_one_graph_for_all_sizes(name: str, options: str) -> None:
    layer = LAYERS[name]()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=counter)
    for sizes in ((7, 3), (4, 5), (12, 2)):
        x = torch.randn(*sizes, 5, requires_grad=True)
        given: dict[str, Any] = {
            "plain": {},
            "reset": {"reset": torch.rand(sizes) < 0.3},
            "every": {"return_states": True},
        }[options]
        expected = results(layer, layer, x, **given)
        torch.testing.assert_close(results(compiled, layer, x, **given), expected)
    graphs = [list(graph.graph.nodes) for graph in counter.graphs]
    (nodes,) = [nodes for nodes in graphs if nodes]  # one for all sizes; an empty one is torch's
    scans = [node for node in nodes if node.target is torch.ops.openrnn.scan]
    assert 1 <= len(scans) <= 4, "one for each cell, none for each step"


def test_given_states_have_gradients() -> None:
    layer = openrnn.LSTM(5, 6)
    x, reset = torch.randn(7, 3, 5), torch.rand(7, 3) < 0.3
    state, again = (tuple(torch.randn(2, 1, 3, 6, requires_grad=True)) for _ in range(2))
    options = {"reset": reset, "reset_to": again}
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    gradients = [
        torch.autograd.grad(sum(t.sum() for t in flat(run(x, state, **options))),  # type: ignore[arg-type]
                            (*state, *again))
        for run in (layer, compiled)
    ]  # fmt: skip
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("make", [openrnn.LSTMCell, openrnn.GRUCell, openrnn.RNNCell])
def test_cells(make: Any) -> None:
    cell, x = make(5, 6), torch.randn(3, 5, requires_grad=True)
    compiled = torch.compile(cell, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(results(compiled, cell, x), results(cell, cell, x))


def test_what_changes_is_compiled_anew() -> None:
    layer, x = openrnn.Recurrent(Cell()), torch.randn(7, 3, 5)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    before = compiled(x)[0]
    layer.cell.scale = 2.0
    after = compiled(x)[0]
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, layer(x)[0])


@pytest.mark.parametrize("name", RANDOM)
def test_training_and_evaluation(name: str) -> None:
    layer, x = openrnn.Recurrent(BOX[name](5, 6)), torch.randn(9, 3, 5)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.manual_seed(1)
    trained = compiled(x)[0]
    torch.manual_seed(1)
    torch.testing.assert_close(trained, layer(x)[0])
    layer.eval()
    torch.testing.assert_close(compiled(x)[0], layer(x)[0])


def test_a_cell_without_a_kernel() -> None:
    x = torch.randn(3, 2, 5)
    layer = openrnn.Recurrent(Sorting())
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))
    strict = openrnn.Recurrent(Sorting(), backend="cpu")
    with pytest.raises(Exception, match="sort"):
        torch.compile(strict, fullgraph=True, backend="aot_eager")(x)


def test_the_default_compiler() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.out = openrnn.GRU(5, 6), nn.Linear(6, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.relu(self.layer(x * 2)[0]))  # type: ignore[no-any-return]

    net, x = Net(), torch.randn(7, 3, 5, requires_grad=True)
    compiled = torch.compile(net, fullgraph=True)
    torch.testing.assert_close(results(compiled, net, x), results(net, net, x))


FRESH = """
import sys, torch, openrnn
for path in sys.argv[1:]:
    x, expected = torch.load(path + ".numbers")
    actual = torch.export.load(path + ".pt2").module()(x)
    torch.testing.assert_close(actual, expected)
print("right")
"""


@pytest.mark.parametrize("strict", [False, True])
def test_export_runs_in_a_fresh_process(strict: bool, tmp_path: Path) -> None:
    sizes = {0: torch.export.Dim("T", min=2), 1: torch.export.Dim("B", min=2)}
    paths = []
    for name in ("LSTM", "Recurrent", "Stack"):
        layer = LAYERS[name]().eval()
        exported = torch.export.export(
            layer, (torch.randn(7, 3, 5),), dynamic_shapes=(sizes,), strict=strict
        )
        paths.append(str(tmp_path / name))
        x = torch.randn(9, 4, 5)
        torch.save((x, layer(x)), paths[-1] + ".numbers")
        torch.export.save(exported, paths[-1] + ".pt2")
    command = [sys.executable, "-c", FRESH, *paths]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.stdout.strip() == "right", said.stderr[-2000:]


def test_a_graph_survives_as_text() -> None:
    from openrnn.explain.parts import read
    from openrnn.step import text

    for name, make in BOX.items():
        (lane,) = read(make(5, 6)).lanes
        assert text.read(text.write(lane.graph)) == lane.graph, name
