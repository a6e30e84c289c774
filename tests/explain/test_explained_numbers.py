"""The numbers in `explain` are those of the module: shapes, parameters, multiply-adds."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.flop_counter import FlopCounterMode

import openrnn
from openrnn import cells, explain
from openrnn.backends import eager, instead
from openrnn.explain.explanation import Explanation
from tests.cells.box import BOX


class Gated(nn.Module):
    """A user's cell: one product of [x, h], weights on the right, and what nothing reads."""

    state_sizes = {"h": 6, "age": 1}  # noqa: RUF012  as a user writes it
    input_size = 5

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Linear(5 + 6 + 1, 2 * 6)
        self.out = nn.Parameter(torch.zeros(6, 6))
        self.unused = nn.Parameter(torch.zeros(2, 3))
        self.register_buffer("scale", torch.ones(6))

    def forward(self, x: Tensor, state: Any) -> Any:
        h, age = state
        keep, new = self.gates(torch.cat((x, h, age), -1)).chunk(2, -1)
        keep = torch.sigmoid(keep) * self.scale
        return (keep * h + (1 - keep) * torch.tanh(new)) @ self.out, age + 1


def _normed() -> nn.Module:
    layer = openrnn.GRU(5, 6)
    return parametrizations.weight_norm(layer, "weight_hh_l0")


def _shared() -> nn.Module:
    cell = openrnn.LSTMCell(5, 6)
    return openrnn.Bidirectional(cell, cell, merge="mean")


def _stack() -> nn.Module:
    both = openrnn.Bidirectional(openrnn.LSTMCell(6, 4), openrnn.GRUCell(6, 3))
    inside = openrnn.LSTM(7, 5, 2, bidirectional=True)
    return openrnn.Stack([openrnn.GRUCell(5, 6), both, inside], batch_first=True, dropout=0.1)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "RNN": lambda: openrnn.RNN(5, 6),
    "LSTM": lambda: openrnn.LSTM(5, 6, 3, bidirectional=True, batch_first=True),
    "GRU": lambda: openrnn.GRU(5, 6, 2, bias=False, dtype=torch.float64),
    "LSTM, projected": lambda: openrnn.LSTM(5, 6, 2, proj_size=3, bidirectional=True),
    "LSTM, layer norm": lambda: openrnn.LSTM(5, 6, layer_norm=True, learn_initial_state=True),
    "torch LSTM": lambda: nn.LSTM(5, 6, 2, proj_size=3, bidirectional=True, batch_first=True),
    "torch GRU": lambda: nn.GRU(5, 6, 2, bidirectional=True),
    "torch RNN": lambda: nn.RNN(5, 6, nonlinearity="relu", bias=False),
    "Recurrent": lambda: openrnn.Recurrent(Gated(), learn_initial_state=True),
    "Recurrent, torch": lambda: openrnn.Recurrent(nn.LSTMCell(5, 6), batch_first=True),
    "weight norm": _normed,
    "shared": _shared,
    "stack": _stack,
}
CELLS: dict[str, Callable[[], nn.Module]] = {
    **{name: lambda make=make: make(5, 6) for name, make in BOX.items()},  # type: ignore[misc]
    "torch LSTMCell": lambda: nn.LSTMCell(5, 6),
    "user": Gated,
}
ALL = {**CELLS, **LAYERS}


@cache
def explained(name: str) -> tuple[nn.Module, Explanation]:
    module = ALL[name]()
    if name in CELLS:
        return module, explain(module, x_shape=(3, 5))
    first = getattr(module, "batch_first", False)
    return module, explain(module, x_shape=(3, 4, 5) if first else (4, 3, 5))


@pytest.mark.parametrize("name", ALL)
def test_parameters_are_those_of_the_module(name: str) -> None:
    module, explanation = explained(name)
    real = dict(module.named_parameters())
    assert {p.name: p.shape for p in explanation.parameters} == {
        name: tuple(p.shape) for name, p in real.items()
    }
    assert explanation.numbers == sum(p.numel() for p in real.values())
    assert explanation.bytes == sum(p.nbytes for p in real.values())
    assert math.isclose(sum(p.share for p in explanation.parameters), 1)
    for parameter in explanation.parameters:
        assert sum(math.prod(b.shape) for b in parameter.blocks) == parameter.numbers
        assert parameter.of or parameter.note, parameter.name


@pytest.mark.parametrize("name", BOX)
def test_blocks_are_the_gates_of_the_cell(name: str) -> None:
    cell, explanation = explained(name)
    (weight,) = (p for p in explanation.parameters if p.name == "weight_ih")
    assert tuple(block.name for block in weight.blocks) == cell.gates
    assert {block.shape for block in weight.blocks} == {(6, 5)}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", ALL)
def test_shapes_are_those_of_a_call(name: str) -> None:
    """The call that is shown is made, with states of the shapes that are shown."""
    module, explanation = explained(name)
    dtype = next(module.parameters()).dtype
    x, *others = explanation.shapes
    known: dict[str, Any] = {"x": torch.randn(x.sizes, dtype=dtype), "state": None}  # type: ignore[arg-type]
    known |= {"cell": module, "layer": module}
    states = [shape for shape in others if shape.role == "state"]
    known |= {s.names[0]: torch.ones(s.sizes, dtype=dtype) for s in states if not s.where}  # type: ignore[arg-type]
    with instead(eager.run):  # which compiles nothing
        exec(explanation.call, known)
    for shape in others:
        assert len(shape.dims) == len(shape.sizes)
        after = shape.names[-1].removeprefix("next ")
        found = eval(shape.where or after, known)
        assert found.shape == shape.sizes, shape


@pytest.mark.parametrize("name", ALL)
def test_text_html_and_data(name: str) -> None:
    _, explanation = explained(name)
    text = str(explanation)
    assert max(map(len, text.splitlines())) <= 80
    assert not any(line != line.rstrip() for line in text.splitlines())
    ET.fromstring(explanation._repr_html_())
    data = explanation.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert set(data) > {"title", "shapes", "parameters", "compared", "multiply_adds", "cells"}


class Counted:
    """The multiply-adds that torch counts: two of its operations each."""

    def __enter__(self) -> Counted:
        self._mode = FlopCounterMode(display=False)
        self._mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._mode.__exit__(*error)
        self.multiply_adds = self._mode.get_total_flops() // 2


@pytest.mark.parametrize("name", [*BOX, "user"])
def test_multiply_adds_of_cells(name: str) -> None:
    cell, explanation = explained(name)
    states = tuple(torch.ones(3, size) for size in cell.state_sizes.values())  # type: ignore[union-attr]
    with Counted() as counted:
        cell(torch.ones(3, 5), states if len(states) > 1 else states[0])
    assert counted.multiply_adds > 0
    assert explanation.multiply_adds_of_call == counted.multiply_adds


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU", "LSTM, projected", "stack", "shared"])
def test_multiply_adds_of_layers(name: str) -> None:
    module, explanation = explained(name)
    x = torch.ones(explanation.shapes[0].sizes, dtype=next(module.parameters()).dtype)  # type: ignore[arg-type]
    with instead(eager.run), Counted() as counted:
        module(x)
    assert explanation.multiply_adds_of_call == counted.multiply_adds


def test_what_is_before_the_loop_and_what_in_it() -> None:
    (cell,) = explain(openrnn.LSTMCell(30, 20)).cells
    assert cell.multiply_adds is not None
    assert cell.multiply_adds.inputs == 80 * 30
    assert cell.multiply_adds.recurrence == 80 * 20
    (cell,) = explain(cells.MinGRUCell(30, 20)).cells
    assert cell.multiply_adds is not None
    assert cell.multiply_adds.recurrence == 0


def _compared(module: nn.Module) -> Iterator[tuple[str, int, int | None]]:
    for row in explain(module).compared:
        yield row.name, row.parameters, row.blocks


def test_beside_plain_cells() -> None:
    one = 20 * 30 + 20 * 20 + 2 * 20
    plain = [("RNN", one, 1), ("GRU", 3 * one, 3), ("LSTM", 4 * one, 4)]
    assert list(_compared(nn.LSTM(30, 20))) == [*plain, ("this", 4 * one, 4)]
    assert list(_compared(openrnn.RNNCell(30, 20))) == [*plain, ("this", one, 1)]
    peephole = cells.PeepholeLSTMCell(30, 20)
    assert list(_compared(peephole)) == [*plain, ("this", 4 * one + 60, 4)]
    without = explain(nn.GRU(30, 20, bias=False)).compared
    assert [row.times for row in without] == [1, 3, 4, 3]


def test_two_directions() -> None:
    two = explain(openrnn.LSTM(30, 20, 2, bidirectional=True)).directions
    one = explain(openrnn.LSTM(30, 20, 2)).directions
    assert one is None
    assert two is not None
    assert (two.forward, two.backward, two.shared) == (9120, 9120, 0)
    assert (two.each, two.output, two.wider) == (20, 40, (("layer 1", 40),))
    _, explanation = explained("shared")
    assert explanation.directions is not None
    assert explanation.directions.shared == explanation.numbers == 4 * (5 * 6 + 6 * 6 + 2 * 6)
    assert "Both directions read the same" in str(explanation)


def test_letters_stand_where_nothing_is_given() -> None:
    shapes = {s.names[0]: (s.dims, s.sizes) for s in explain(nn.LSTM(30, 20)).shapes}
    assert shapes["x"] == (("T", "B", "I"), ("T", "B", 30))
    assert shapes["output"] == (("T", "B", "D·H"), ("T", "B", 20))
    assert shapes["c_0"] == (("D·L", "B", "H"), (1, "B", 20))
    projected = explain(nn.LSTM(30, 20, proj_size=5, batch_first=True)).shapes
    assert [shape.dims[-1] for shape in projected] == ["I", "D·P", "P", "H"]
    assert projected[0].sizes == ("B", "T", 30)


def test_notes_of_parameters() -> None:
    _, explanation = explained("Recurrent")
    notes = {p.name: p.note for p in explanation.parameters if p.note}
    learned = "the initial state, learned"
    assert notes == {"h_0": learned, "age_0": learned, "cell.unused": "no step reads it"}


def test_blocks_of_one_unit_are_matrices() -> None:
    explanation = explain(openrnn.LSTM(5, 1))
    shapes = {p.of: {block.shape for block in p.blocks} for p in explanation.parameters}
    assert shapes["weight_ih"] == {(1, 5)}
    assert shapes["weight_hh"] == {(1, 1)}
    assert shapes["bias_ih"] == shapes["bias_hh"] == {(1,)}
    assert set(explanation.blocks[0].weights) == {"weight_ih", "weight_hh"}


def test_a_tied_weight_is_one() -> None:
    below, above = openrnn.GRUCell(6, 6), openrnn.GRUCell(6, 6)
    above.weight_hh = below.weight_hh
    explanation = explain(openrnn.Stack([below, above]))
    (tied,) = (p for p in explanation.parameters if p.of == "weight_hh")
    assert (tied.name, tied.places) == ("layers.0.cell.weight_hh", ("layer 0", "layer 1"))
    assert "read by layer 0, layer 1" in str(explanation)


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (openrnn.GRU(5, 6), {"x_shape": (3, 5)}, r"x_shape to be \(T, B, I\)"),
        (openrnn.GRU(5, 6, batch_first=True), {"x_shape": 3}, r"x_shape to be \(B, T, I\)"),
        (openrnn.GRUCell(5, 6), {"x_shape": (4, 3, 5)}, r"x_shape to be \(B, I\)"),
        (openrnn.GRU(5, 6), {"x_shape": torch.zeros(4, 3, 5)}, "got Tensor"),
        (openrnn.GRU(5, 6), {"x_shape": (4, 3, 7)}, "5 features, .* got 7"),
        (openrnn.GRU(5, 6), {"x_shape": (4, 3, 5), "input_size": 7}, "input_size 7"),
        (openrnn.GRU(5, 6), {"input_size": 0}, "input_size to be an integer"),
    ],
)
def test_what_does_not_fit(module: nn.Module, options: dict[str, Any], message: str) -> None:
    with pytest.raises(openrnn.ArgumentError, match=f"explain: expected .*{message}"):
        explain(module, **options)
