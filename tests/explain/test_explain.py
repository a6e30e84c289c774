"""What `explain` prints: the stages in the user's words, or why there are none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import openrnn
from openrnn import explain
from openrnn.step.split import STAGES
from tests.cells.box import BOX


def test_lstm(capsys: pytest.CaptureFixture[str]) -> None:
    explain(openrnn.LSTMCell(30, 20))
    assert capsys.readouterr().out == (
        "LSTMCell(30, 20)\n"
        "  parameters, once\n"
        "    (80)  v1 = bias_ih + bias_hh\n"
        "  inputs, for all T steps at once\n"
        "    (B, 80)  v2 = x @ weight_ih.T + v1\n"
        "  recurrence, at each step\n"
        "    (B, 80)  v3 = v2 + h @ weight_hh.T\n"
        "    (B, 20)  a_i = v3[:, 0:20]\n"
        "    (B, 20)  a_f = v3[:, 20:40]\n"
        "    (B, 20)  a_g = v3[:, 40:60]\n"
        "    (B, 20)  a_o = v3[:, 60:80]\n"
        "    (B, 20)  i = sigmoid(a_i)\n"
        "    (B, 20)  f = sigmoid(a_f)\n"
        "    (B, 20)  o = sigmoid(a_o)\n"
        "    (B, 20)  g = tanh(a_g)\n"
        "    (B, 20)  c' = f * c + i * g\n"
        "    (B, 20)  h' = o * tanh(c')\n"
        "    (B, 20)  next h = h'\n"
        "    (B, 20)  next c = c'\n"
        "  outputs, for all T steps at once\n"
        "    nothing\n"
    )


def test_source_is_readable_cpp() -> None:
    text = str(explain(openrnn.GRUCell(30, 20), source=True))
    forward, backward = text.split("// forward")[1].split("// backward")
    for part in (forward, backward):
        assert 'extern "C" const Kernel kernel' in part
    assert "const vec" in forward
    assert "// n" in forward, "the cell's own names are in the comments"


def test_source_of_a_cell_without_a_kernel_says_why() -> None:
    class Mixed(openrnn.RNNCell):
        def forward(self, input: Any, hx: Any = None) -> Any:
            return super().forward(input, hx.double().sin().float())

    text = str(explain(Mixed(5, 6), source=True))
    assert "There is no kernel: a kernel computes in one dtype, torch.float32 here" in text


class Peephole(nn.Module):
    hidden_size = 6

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Linear(5 + 6, 2 * 6)
        self.peep = nn.Parameter(torch.zeros(6))

    def forward(self, x: Tensor, state: Any) -> Any:
        h, c = state
        forget, candidate = self.gates(torch.cat((x, h), -1)).chunk(2, -1)
        keep = torch.sigmoid(forget + self.peep * c)
        c = keep * c + (1 - keep) * torch.tanh(candidate)
        return torch.tanh(c), c


def test_a_users_cell_in_the_users_words() -> None:
    text = str(explain(openrnn.Recurrent(Peephole()), input_size=5))
    assert "keep = sigmoid(forget + peep * c)" in text
    assert "c' = keep * c + (1 - keep) * tanh(candidate)" in text
    inputs, recurrence = text.split("recurrence")
    assert inputs.count(" @ ") == recurrence.count(" @ ") == 1, "x is multiplied before the loop"


def test_the_input_size_is_known_once_the_layer_has_run() -> None:
    layer = openrnn.Recurrent(Peephole())
    with pytest.raises(openrnn.ArgumentError, match=r"explain\(layer, input_size=30\)"):
        explain(layer)
    layer(torch.randn(3, 2, 5))
    assert "keep = " in str(explain(layer))


def test_why_a_cell_does_not_compile() -> None:
    class Sorting(nn.Module):
        state_sizes = {"h": 4}  # noqa: RUF012  as a user writes it
        input_size = 4

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return (x + h).sort(-1).values

    explanation = explain(openrnn.Recurrent(Sorting()))
    (cell,) = explanation.cells
    assert cell.program is None
    assert cell.reason is not None
    for word in ("aten.sort", "test_explain.py", "(x + h).sort(-1).values"):
        assert word in cell.reason
    assert "eager loop only" in str(explanation)


def test_layers_of_one_structure_are_explained_once() -> None:
    explanation = explain(openrnn.LSTM(5, 6, 3, bidirectional=True))
    assert [cell.places for cell in explanation.cells] == [
        ("layer 0 forward", "layer 0 backward"),
        ("layer 1 forward", "layer 1 backward", "layer 2 forward", "layer 2 backward"),
    ]
    stack = openrnn.Stack([openrnn.GRUCell(5, 6), openrnn.LSTM(6, 4)])
    assert [cell.places for cell in explain(stack).cells] == [("layer 0",), ("layer 1 layer 0",)]


@pytest.mark.parametrize("name", BOX)
def test_every_cell_of_the_box(name: str) -> None:
    """All four stages, each next state once, and no value that no line defines."""
    cell = BOX[name](5, 6)
    text = str(explain(cell))
    for stage in STAGES:
        assert f"  {stage}, " in text
    for state in cell.state_sizes:
        assert text.count(f"next {state} = ") == 1
    assert "value." not in text


def test_names_of_the_user_and_numbers_do_not_meet() -> None:
    class Numbered(nn.Module):
        hidden_size = 6

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(5, 6)

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            v1 = torch.sigmoid(self.linear(x) + h)
            v2 = torch.tanh(v1 * h)
            return v1 * v2 + v2

    text = str(explain(Numbered(), input_size=5))
    defined = [
        line.split(")  ", 1)[1].split(" = ")[0] for line in text.splitlines() if " = " in line
    ]
    assert len(set(defined)) == len(defined)


def test_torchs_own_cells() -> None:
    text = str(explain(nn.GRUCell(5, 6)))
    assert "x @ weight_ih.T + bias_ih" in text


def test_what_is_neither_layer_nor_cell() -> None:
    with pytest.raises(openrnn.ArgumentTypeError, match="or a cell, got the layer LSTM"):
        explain(nn.LSTM(5, 6))
    with pytest.raises(openrnn.ArgumentTypeError, match="got int"):
        explain(7)  # type: ignore[arg-type]


def test_explaining_draws_no_random_numbers() -> None:
    cell = openrnn.cells.WeightDropLSTMCell(5, 6, dropout=0.5)
    before = torch.get_rng_state()
    explain(cell)
    assert torch.equal(torch.get_rng_state(), before)
