"""Which node is in which stage, by assertion on the graphs, and not by speed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import openrnn
from openrnn.step.graph import Graph
from openrnn.step.program import Program
from openrnn.step.shape import batch_dim, features
from openrnn.step.split import STAGES, Stages, split
from tests.cells.box import BOX

from .test_trace import graph_of


def stages_of(cell: nn.Module) -> Stages:
    return split(graph_of(cell.double()))


def counts(graph: Graph, *ops: str) -> dict[str, int]:
    return {op: graph.count(op) for op in ops}


def test_lstm_has_one_product_in_the_loop() -> None:
    stages = stages_of(openrnn.LSTMCell(5, 7))
    assert stages.recurrence.count("matmul") == 1
    assert stages.inputs.count("matmul") == 1
    assert stages.carried == ("h", "c")
    assert not stages.outputs.outputs
    assert counts(stages.parameters, "permute", "add") == {"permute": 2, "add": 1}, "one bias"
    assert counts(stages.recurrence, "sigmoid", "tanh") == {"sigmoid": 3, "tanh": 2}
    assert counts(stages.inputs, "sigmoid", "tanh") == {"sigmoid": 0, "tanh": 0}


@pytest.mark.parametrize("cell", [openrnn.GRUCell(5, 7), nn.GRUCell(5, 7), nn.LSTMCell(5, 7)])
def test_the_input_product_is_made_for_all_steps(cell: nn.Module) -> None:
    stages = stages_of(cell)
    assert [getattr(stages, name).count("matmul") for name in STAGES] == [0, 1, 1, 0]


def test_layer_norm_lstm() -> None:
    """The norm of W_ih x is made for all steps; those of W_hh h and of c are in the loop."""
    stages = stages_of(openrnn.cells.LayerNormLSTMCell(5, 7))
    assert counts(stages.inputs, "matmul", "rsqrt", "sum") == {"matmul": 1, "rsqrt": 1, "sum": 2}
    assert counts(stages.recurrence, "matmul", "rsqrt", "sum") == {
        "matmul": 1,
        "rsqrt": 2,
        "sum": 4,
    }
    readers = {n["name"] for _, n in stages.recurrence.inputs("parameter")}
    assert readers == {"norm_hh.weight", "norm_c.weight", "norm_c.bias"}
    readers = {n["name"] for _, n in stages.inputs.inputs("parameter")}
    assert readers == {"norm_ih.weight"}
    readers = {n["name"] for _, n in stages.parameters.inputs("parameter")}
    assert {"norm_ih.bias", "norm_hh.bias"} < readers, "both biases at once"


@pytest.mark.parametrize("name", ["MinGRUCell", "MinLSTMCell", "QRNNCell f", "QRNNCell fo"])
def test_gates_of_the_input_alone_leave_no_product_in_the_loop(name: str) -> None:
    stages = stages_of(BOX[name](5, 6))
    assert stages.recurrence.count("matmul") == 0
    assert stages.inputs.count("matmul") == 1


def test_a_state_that_no_step_reads_is_an_output() -> None:
    stages = stages_of(openrnn.cells.QRNNCell(5, 6, pooling="fo"))
    assert stages.carried == ("c",)
    assert [name for name, _ in stages.outputs.outputs] == ["state.h"]


@pytest.mark.parametrize("name", BOX)
def test_no_random_numbers_in_the_loop(name: str) -> None:
    stages = stages_of(BOX[name](5, 6).train())
    for stage in STAGES:
        assert getattr(stages, stage).count("random") == 0, "they are drawn before, and given"
    given = {n["name"] for _, n in stages.inputs.inputs("random")}
    assert (
        len(stages.randoms)
        == len(given)
        == ("Dropout" in name or "Zoneout" in name) + (name == "ZoneoutLSTMCell")
    )


class Joined(nn.Module):
    """x and h in one product, as people write it."""

    hidden_size = 7

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5 + 7, 2 * 7)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        z, n = self.linear(torch.cat((x, h), -1)).chunk(2, -1)
        return torch.lerp(torch.tanh(n), h, torch.sigmoid(z))


class JoinedWithDropout(Joined):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        joined = F.dropout(torch.cat((x, h), -1), 0.5) * self.linear.weight[0]
        z, n = self.linear(torch.tanh(joined)).chunk(2, -1)
        return torch.lerp(torch.tanh(n), h, torch.sigmoid(z))


@pytest.mark.parametrize("kind", [Joined, JoinedWithDropout])
def test_a_product_with_x_and_h_joined_is_taken_apart(kind: type[Joined]) -> None:
    torch.manual_seed(0)
    cell = kind()
    stages = stages_of(cell)
    assert stages.inputs.count("matmul") == 1
    assert stages.recurrence.count("matmul") == 1
    assert stages.recurrence.count("cat") == 0
    readers = {n["name"] for _, n in stages.recurrence.inputs("parameter")}
    assert "linear.bias" not in readers, "it is added to what x gives"
    x, results = torch.randn(3, 4, 5, dtype=torch.float64), []
    for backend in ("eager", "reference"):
        torch.manual_seed(1)
        output, _ = openrnn.Recurrent(cell, backend=backend)(x)
        results.append((output, *torch.autograd.grad(output.sum(), list(cell.parameters()))))
    for eager, reference in zip(*results, strict=True):
        torch.testing.assert_close(reference, eager)


def test_views_sink_to_where_they_are_read() -> None:
    stages = stages_of(openrnn.GRUCell(5, 7))
    assert stages.inputs.count("slice") == 0
    (_name, index), *rest = stages.inputs.outputs
    assert not rest
    assert features(stages.inputs.nodes[index].shape) == 21


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("name", BOX)
def test_stages_are_whole(name: str, fuse: bool) -> None:
    """Well formed, and what one stage reads another one before it, or the step, gives."""
    cell = BOX[name](5, 6)
    program = Program(graph_of(cell.double()), fused=fuse)
    names = [f"parameter.{name}" for name, _ in cell.named_parameters()]
    for stages in (program.stages, *program.training(frozenset(["input.x", *names]))):
        given = {f"random.{node['number']}" for node in stages.randoms}
        for stage in STAGES:
            graph: Graph = getattr(stages, stage)
            graph.check()
            for _, node in graph.inputs():
                if node["kind"] == "value":
                    assert node.label in given, f"{stage} reads {node.label}"
            given |= {label for label, _ in graph.outputs}
        for _, node in stages.recurrence.inputs("state"):
            assert node["name"] in stages.carried
        assert all(batch_dim(n.shape) is None for n in stages.parameters.nodes)


def derived(cell: nn.Module) -> tuple[Stages, Stages]:
    cell = cell.double()
    names = [f"parameter.{name}" for name, _ in cell.named_parameters()]
    return Program(graph_of(cell)).training(frozenset(["input.x", *names]))


def test_fused_loops_take_in_what_they_can_compute() -> None:
    """All functions of the gates are in the loop, also in the gradient; the biases are not."""
    program = Program(graph_of(openrnn.LSTMCell(5, 7).double())).fused
    assert program.stages.inputs.count("add") == 2, "their sum, and that with the product"
    assert not program.stages.parameters.outputs, "weights are taken as they lie"
    _, backward = program.training(frozenset(["parameter.weight_hh"]))
    assert all(node.op == "input" for node in backward.inputs.nodes)
    labels = {node.label for _, node in backward.recurrence.inputs("value")}
    assert not labels, "nothing is computed for all steps and handed over"


def test_what_is_kept_is_behind_the_costly_functions() -> None:
    """Of as many bytes, the gates are kept after their sigmoid and tanh, not before."""
    forward, _ = derived(openrnn.LSTMCell(5, 7))
    kept = {
        forward.recurrence.nodes[index].op
        for name, index in forward.recurrence.outputs
        if name.startswith("saved.")
    }
    assert kept == {"input", "sigmoid", "tanh"}


def test_gradient_of_lstm() -> None:
    """In the loop one product, with W_hh; after it one for x and one for each weight."""
    _, backward = derived(openrnn.LSTMCell(5, 7))
    assert [getattr(backward, name).count("matmul") for name in STAGES] == [0, 0, 1, 3]
    assert backward.outputs.count("sum") == 1, "both biases have the same gradient"
    assert backward.recurrence.count("sigmoid") == 0


@pytest.mark.parametrize(
    ("cell", "numbers"),
    [
        (openrnn.RNNCell(5, 7), 0),
        (openrnn.LSTMCell(5, 7), 4 * 7),
        (openrnn.GRUCell(5, 7), 4 * 7),
        (openrnn.cells.MinGRUCell(5, 7), 2 * 7),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_is_kept_beside_the_states(cell: nn.Module, numbers: int) -> None:
    """For each row and step: an LSTM's four gates, a GRU's r, z, n and W_hn h; of an RNN nothing.

    torch.nn keeps as much of an LSTM; the states of all steps are kept in any case.
    """
    graph = graph_of(cell.double())
    forward, _ = derived(cell)
    states = {("state", n["name"]) for _, n in graph.inputs("state")}
    kept = 0
    for stage in STAGES:
        part: Graph = getattr(forward, stage)
        results = {index for label, index in part.outputs if label.startswith("state.")}
        for label, index in part.outputs:
            node = part.nodes[index]
            state = node.op == "input" and (node["kind"], node["name"]) in states
            if label.startswith("saved.") and not state and index not in results:
                kept += features(node.shape)
    assert kept == numbers


def test_no_product_is_made_twice() -> None:
    for name, make in BOX.items():
        _, backward = derived(make(5, 6))
        forward = graph_of(make(5, 6).double())
        products = sum(getattr(backward, stage).count("matmul") for stage in STAGES)
        assert products <= 2 * forward.count("matmul"), name


def test_print_shows_all_stages() -> None:
    shown = str(stages_of(openrnn.LSTMCell(5, 7)))
    assert [line for line in shown.splitlines() if line.endswith(":")] == [
        f"{stage}:" for stage in STAGES
    ]
