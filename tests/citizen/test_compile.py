"""torch.compile and torch.export: one graph, one operator for all steps, any T and B."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor import metrics
from torch.nn.utils.rnn import pack_padded_sequence

import openrnn
from tests.cells.box import BOX, RANDOM

from .cases import NAMES, Everything, flat

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
OVER_TIME = ("RNN", "LSTM", "GRU", "Recurrent", "Stack")
feature = pytest.mark.feature
WAYS: dict[str, Any] = {
    "plain": (feature("torch.compile"), feature("any T and B")),
    "lengths": feature("lengths in a graph"),
    "all three": feature("resets and all states in a graph"),
    "reset": (),
    "every": (),
}
CASES = [
    *((name, "plain") for name in LAYERS),
    *((name, way) for way in ("lengths", "all three") for name in (*OVER_TIME, "reverse")),
    ("LSTM", "reset"),
    ("Stack", "every"),
]
SMALL: dict[str, Callable[[], nn.Module]] = {
    "RNN": lambda: openrnn.RNN(5, 6),
    "LSTM": lambda: openrnn.LSTM(5, 6),
    "GRU": lambda: openrnn.GRU(5, 6),
    "Recurrent": lambda: openrnn.Recurrent(Cell()),
    "Stack": stack,
}


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
    loss = sum((result * torch.randn(result.shape)).sum() for result in found)
    assert isinstance(loss, Tensor)
    return [*found, *torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)]


def the_one_graph(counter: CompileCounterWithBackend) -> list[Any]:
    """The nodes of the graph that was made for all sizes; an empty one is torch's."""
    graphs = [list(graph.graph.nodes) for graph in counter.graphs]
    (nodes,) = [nodes for nodes in graphs if nodes]
    return nodes


@pytest.mark.parametrize(
    ("name", "options"), [pytest.param(*case, marks=WAYS[case[1]]) for case in CASES]
)
def test_one_graph_for_all_sizes(name: str, options: str) -> None:
    layer = LAYERS[name]()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=counter)
    for sizes in ((7, 3), (4, 5), (12, 2)):
        x, given = torch.randn(*sizes, 5), {}
        if options in ("reset", "all three"):
            given["reset"] = torch.rand(sizes) < 0.3
        if options in ("every", "all three"):
            given["return_states"] = True
        if options in ("lengths", "all three"):
            steps, rows = reversed(sizes) if name == "GRU" else sizes  # it has batch_first
            given["lengths"] = torch.arange(rows) * 2 % (steps + 1)
            behind = torch.arange(steps).unsqueeze(1) >= given["lengths"]
            x[behind.t() if name == "GRU" else behind] = float("nan")
        x.requires_grad_()
        expected = results(layer, layer, x, **given)
        torch.testing.assert_close(results(compiled, layer, x, **given), expected)
    nodes = the_one_graph(counter)
    scans = [node for node in nodes if node.target is torch.ops.openrnn.scan]
    assert 1 <= len(scans) <= 4, "one for each cell, none for each step"


@pytest.mark.feature("resets and all states in a graph", "LSTM")
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


@pytest.mark.feature("torch.compile")
@pytest.mark.feature("any T and B")
@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells(name: str) -> None:
    cell = getattr(openrnn, name)(5, 6)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(cell, fullgraph=True, dynamic=True, backend=counter)
    for rows in (3, 5, 2):
        x = torch.randn(rows, 5, requires_grad=True)
        torch.testing.assert_close(results(compiled, cell, x), results(cell, cell, x))
    assert the_one_graph(counter)


def test_lengths_in_the_eager_loop() -> None:
    """It, too, has no rows in the graph whose number depends on the lengths."""
    layer = openrnn.Recurrent(nn.LSTMCell(5, 6), reverse=True, backend="eager")
    x, lengths = torch.randn(4, 3, 5, requires_grad=True), torch.tensor([2, 4, 0])
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    given: dict[str, Any] = {"lengths": lengths, "return_states": True}
    expected = results(layer, layer, x, **given)
    torch.testing.assert_close(results(compiled, layer, x, **given), expected)


def test_lengths_and_checkpoints() -> None:
    layer, x = openrnn.GRU(5, 6, checkpoint=2), torch.randn(5, 3, 5, requires_grad=True)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    lengths = torch.tensor([5, 1, 3])
    expected = results(layer, layer, x, lengths=lengths)
    torch.testing.assert_close(results(compiled, layer, x, lengths=lengths), expected)


@pytest.mark.refused("a PackedSequence in one graph")
def test_a_packed_sequence_breaks_the_graph() -> None:
    layer, x = openrnn.GRU(5, 6), torch.randn(4, 3, 5)
    packed = pack_padded_sequence(x, torch.tensor([4, 2, 1]))
    with pytest.raises(Exception, match=r"Tensor\.item|graph break|data-dependent"):
        torch.compile(layer, fullgraph=True, backend="eager")(packed)
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="eager")
    torch.testing.assert_close(compiled(packed)[0].data, layer(packed)[0].data)


def test_lengths_that_do_not_fit_are_an_error_when_they_come() -> None:
    layer, x = openrnn.GRU(5, 6), torch.randn(4, 2, 5)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    compiled(x, lengths=torch.tensor([4, 2]))
    for lengths, wrong in (([5, 2], "0. = 5"), ([4, -1], "1. = -1")):
        with pytest.raises(openrnn.ArgumentError, match=f"from 0 to T = 4.*got lengths.{wrong}"):
            compiled(x, lengths=torch.tensor(lengths))


@pytest.mark.feature("torch.func in a graph")
@pytest.mark.parametrize("name", SMALL)
def test_transforms_inside_of_what_is_compiled(name: str) -> None:
    """Of the operator they know nothing: the steps are unrolled."""
    layer, x = SMALL[name](), torch.randn(2, 2, 5)

    def call(x: Tensor) -> Tensor:
        return layer(x)[0].sin()  # type: ignore[no-any-return]

    def transformed(x: Tensor) -> tuple[Any, ...]:
        return (
            torch.vmap(call)(torch.stack([x, x.cos()])),
            torch.func.grad(lambda x: call(x).sum())(x),
            torch.func.jvp(call, (x,), (x.cos(),)),
        )

    compiled = torch.compile(transformed, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), transformed(x))


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


@pytest.mark.refused("a cell that no kernel can be made of")
def test_a_cell_without_a_kernel() -> None:
    x = torch.randn(3, 2, 5)
    layer = openrnn.Recurrent(Sorting())
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))
    strict = openrnn.Recurrent(Sorting(), backend="cpu")
    with pytest.raises(Exception, match="sort"):
        torch.compile(strict, fullgraph=True, backend="aot_eager")(x)


@pytest.mark.feature("code around")
@pytest.mark.parametrize("name", SMALL)
def test_what_is_around_is_fused_as_usual(name: str) -> None:
    """By the default compiler: in one loop before the layer, and one behind it."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = SMALL[name]()

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.layer((x * 2).cos() + 1)[0] - 0.1).exp()  # type: ignore[no-any-return]

    net, x = Net(), torch.randn(7, 3, 5, requires_grad=True)
    compiled = torch.compile(net, fullgraph=True)
    metrics.reset()
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), net(x))
    assert metrics.generated_kernel_count == 2
    if name == "GRU":
        torch.testing.assert_close(results(compiled, net, x), results(net, net, x))


@pytest.mark.feature("any number of steps", *OVER_TIME)
def test_a_graph_does_not_grow_with_the_steps() -> None:
    everything, sizes = Everything(), []
    for steps in (3, 300):
        torch._dynamo.reset()
        counter = CompileCounterWithBackend("eager")
        with torch.no_grad():
            torch.compile(everything, fullgraph=True, backend=counter, dynamic=False)(
                *Everything.inputs(steps, 2)
            )
        sizes.append(len(the_one_graph(counter)))
    assert sizes[0] == sizes[1]


FRESH = """
import torch

try:
    torch._inductor.aoti_load_package("aoti.pt2")
except RuntimeError as error:
    assert "openrnn::scan" in str(error)
else:
    raise AssertionError("it cannot run without openrnn")

import openrnn
inputs, expected = torch.load("numbers")
programs = [torch.export.load("export.pt2").module(), torch._inductor.aoti_load_package("aoti.pt2")]
for program in programs:
    torch.testing.assert_close(program(*inputs), expected)
print("right")
"""


@pytest.mark.feature("torch.export", *NAMES)
@pytest.mark.feature("AOTInductor", *NAMES)
@pytest.mark.refused("a program without openrnn")
def test_exported_programs_run_in_a_fresh_process(tmp_path: Path) -> None:
    """Of torch.export, and of AOTInductor; for other T and B than those of the example."""
    steps, rows = torch.export.Dim("T", min=2), torch.export.Dim("B", min=2)
    everything = Everything(lengths=True).eval()
    with torch.no_grad():
        exported = torch.export.export(
            everything,
            Everything.inputs(7, 3),
            dynamic_shapes=({0: steps, 1: rows}, {0: rows}, {0: rows}),
        )
    torch.export.save(exported, tmp_path / "export.pt2")
    torch._inductor.aoti_compile_and_package(
        exported,
        package_path=str(tmp_path / "aoti.pt2"),
        inductor_configs={"aot_inductor.compile_wrapper_opt_level": "O0"},
    )
    inputs = Everything.inputs(9, 4)
    torch.save((inputs, [t.detach() for t in everything(*inputs)]), tmp_path / "numbers")
    command = [sys.executable, "-c", FRESH]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.stdout.strip() == "right", said.stderr[-2000:]


@pytest.mark.feature("gradients of a program")
@pytest.mark.parametrize(
    ("name", "strict"), [*((name, False) for name in SMALL), ("Recurrent", True)]
)
def test_an_exported_program_has_gradients(name: str, strict: bool) -> None:
    """Of all that it is given, whatever the example wanted, and gradients of these."""
    layer, x = SMALL[name](), torch.randn(4, 3, 5)
    program = torch.export.export(layer, (x,), strict=strict).module()
    inputs = [x.requires_grad_(), *program.parameters()]
    assert [*map(id, layer.parameters())] == [*map(id, inputs[1:])]

    def penalty(run: Any) -> list[Tensor]:
        (gradient,) = torch.autograd.grad(run(x)[0].sin().sum(), x, create_graph=True)
        return [gradient, *torch.autograd.grad(gradient.square().sum(), inputs, allow_unused=True,
                                               materialize_grads=True)]  # fmt: skip

    torch.testing.assert_close(penalty(program), penalty(layer))


@pytest.mark.refused("vmap of an exported program")
def test_vmap_of_an_exported_program_is_refused() -> None:
    layer, x = openrnn.Recurrent(Cell()), torch.randn(2, 4, 3, 5)
    program: Any = torch.export.export(layer, (x[0],)).module()
    with pytest.raises(RuntimeError, match="Batching rule not implemented for openrnn::scan"):
        torch.vmap(lambda x: program(x)[0])(x)


def test_a_graph_survives_as_text() -> None:
    from openrnn.explain.parts import read
    from openrnn.step import text

    for name, make in BOX.items():
        (lane,) = read(make(5, 6)).lanes
        assert text.read(text.write(lane.graph)) == lane.graph, name
