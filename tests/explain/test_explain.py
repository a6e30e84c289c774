"""What `explain` prints: the step in the user's words, or why there is none; and how it shows."""

from __future__ import annotations

import builtins
import re
import sys
import xml.etree.ElementTree as ET
from io import BytesIO, TextIOWrapper
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import openrnn
from openrnn import explain
from openrnn.backends import cpu
from openrnn.step.split import STAGES
from tests.cells.box import BOX


def test_the_step_of_an_lstm() -> None:
    (cell,) = explain(openrnn.LSTMCell(30, 20)).cells
    assert str(cell) == (
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
        "    nothing"
    )


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """All of it but the steps, which the test above has."""
    explanation = explain(openrnn.LSTM(30, 20, 2, bidirectional=True), x_shape=(12, 3, 30))
    printed = capsys.readouterr().out
    assert printed == f"{explanation}\n"
    top, bottom = printed.split("layer 0 forward, layer 0 backward: LSTMCell(30, 20)\n")
    assert top == PRINTED
    assert bottom.endswith(
        "\nlayer 1 forward, layer 1 backward: LSTMCell(40, 20)\n"
        "  The same step as in layer 0 forward, with x (B, 40), h (B, 20), c (B, 20).\n"
        '\nBackend\n  On a CPU, backend="auto" runs "cpu": C++ generated from the step.\n'
    )


PRINTED = """\
LSTM(30, 20, num_layers=2, bidirectional=True)
  18,240 parameters, 71.2 KiB in float32

Shapes
  output, (h_n, c_n) = layer(x, (h_0, c_0))
  x         (T, B, I)    = (12, 3, 30)  the input
  output    (T, B, D·H)  = (12, 3, 40)  h of layer 1 at every step, forward and
                                        backward side by side
  h_0, h_n  (D·L, B, H)  = (4, 3, 20)
  c_0, c_n  (D·L, B, H)  = (4, 3, 20)
  T time steps, B sequences, I input features, H hidden units, D = 2 directions,
  L = 2 layers
  h_0 is the state before the first step, zeros if none is given; h_n is that
  after the last.
  Of the D·L states 2·l is that of layer l forward, 2·l + 1 that of layer l
  backward.

Parameters
                                           numbers    memory    share
  weight_ih_l0, weight_ih_l0_reverse         4,800  18.8 KiB   26.3 %
    2 of (80, 30)
    each 4 blocks of (20, 30): i, f, g, o
  weight_hh_l0 … weight_hh_l1_reverse        6,400  25.0 KiB   35.1 %
    4 of (80, 20)
    each 4 blocks of (20, 20): i, f, g, o
  bias_ih_l0 … bias_ih_l1_reverse              320   1.2 KiB    1.8 %
    4 of (80)
    each 4 blocks of (20): i, f, g, o
  bias_hh_l0 … bias_hh_l1_reverse              320   1.2 KiB    1.8 %
    4 of (80)
    each 4 blocks of (20): i, f, g, o
  weight_ih_l1, weight_ih_l1_reverse         6,400  25.0 KiB   35.1 %
    2 of (80, 40)
    each 4 blocks of (20, 40): i, f, g, o
  together                                  18,240  71.2 KiB  100.0 %

Beside plain cells with the same I and H
                 parameters       multiply-adds  blocks of a weight
  RNN                 4,560  1 ×          4,400                   1
  GRU                13,680  3 ×         13,200                   3
  LSTM, as this      18,240  4 ×         17,600                   4
  weight_ih and weight_hh each have 4 blocks (i, f, g, o), those of an RNN 1.

Two directions
  Double: the cells and their parameters (9,120 forward, 9,120 backward), their
  states and their multiply-adds.
  The output has the features of both: 40, where one has 20.
  So layer 1 reads 40 features, by input weights that are wider.
  Not double: T, B and I, and the units of each cell.

Multiply-adds in products
  for each step and row of the batch            share
  inputs, for all steps at once        11,200  63.6 %
  recurrence, step after step           6,400  36.4 %
  together                             17,600
  a call: 12 steps of 3 rows          633,600

"""


class Leaky(nn.Module):
    """What it keeps, and which part of its sums is the gate, are options."""

    def __init__(self, size: int, keep: float = 0.9, first: bool = True) -> None:
        super().__init__()
        self.input_size, self.hidden_size = size, 6
        self.linear = nn.Linear(size, 12)
        self.keep, self.first = keep, first

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        sums = self.linear(x)
        gate, new = (sums[:, :6], sums[:, 6:]) if self.first else (sums[:, 6:], sums[:, :6])
        return self.keep * h + gate.sigmoid() * new


def test_a_step_of_other_sizes_is_told_in_a_line() -> None:
    def steps(*cells: nn.Module) -> int:
        return str(explain(openrnn.Stack(list(cells)))).count("recurrence, at each step")

    assert steps(Leaky(5), Leaky(6)) == 1
    assert steps(Leaky(5), Leaky(6, keep=0.8)) == 2
    assert steps(Leaky(5), Leaky(6, first=False)) == 2
    assert steps(openrnn.GRUCell(5, 6), openrnn.LSTMCell(6, 3), openrnn.GRUCell(3, 7)) == 2


def test_one_step_of_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert "a call: 1 step of 1 row  " in str(explain(openrnn.GRU(5, 6), x_shape=(1, 1, 5)))
    assert "a call: 3 rows  " in str(explain(openrnn.GRUCell(5, 6), x_shape=(3, 5)))


@pytest.mark.parametrize(
    ("module", "title"),
    [
        (openrnn.Recurrent(openrnn.GRUCell(5, 6)), "Recurrent(GRUCell(5, 6))"),
        (
            openrnn.Recurrent(openrnn.GRUCell(5, 6), reverse=True),
            "Recurrent(GRUCell(5, 6), reverse=True)",
        ),
        (
            openrnn.Stack([openrnn.GRUCell(5, 6), openrnn.LSTM(6, 3)], batch_first=True),
            "Stack(GRUCell(5, 6), LSTM(6, 3), batch_first=True)",
        ),
        (
            openrnn.Stack(
                [
                    openrnn.Bidirectional(openrnn.GRUCell(n, 3), openrnn.GRUCell(n, 3))
                    for n in (5, 6)
                ]
            ),
            "Stack(Bidirectional(2 × GRUCell(5, 3)), Bidirectional(2 × GRUCell(6, 3)))",
        ),
        (
            openrnn.Stack([openrnn.GRUCell(n, n + 1) for n in range(5, 9)]),
            "Stack(GRUCell(5, 6), …, GRUCell(8, 9))",
        ),
    ],
)
def test_the_title_names_the_cells(module: nn.Module, title: str) -> None:
    assert explain(module).title == title


def test_a_layer_larger_than_the_memory() -> None:
    explanation = explain(openrnn.LSTM(10, 100_000, device="meta"))
    assert [block.shape for block in explanation.parameters[1].blocks] == [(100_000, 100_000)] * 4


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
    (cell,) = explain(openrnn.Recurrent(Peephole()), input_size=5).cells
    text = str(cell)
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

    explanation = explain(openrnn.Recurrent(Sorting()), x_shape=(12, 3, 4))
    (cell,) = explanation.cells
    assert cell.program is None
    assert cell.reason is not None
    for word in ("aten.sort", "test_explain.py", "(x + h).sort(-1).values"):
        assert word in cell.reason
    assert "eager loop only" in str(explanation)
    assert (cell.backend, cell.multiply_adds, cell.stages) == ("eager", None, {})
    assert explanation.multiply_adds is None
    assert [shape.sizes for shape in explanation.shapes] == [(12, 3, 4), (12, 3, 4), (3, 4)]


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

    (cell,) = explain(Numbered(), input_size=5).cells
    text = str(cell)
    defined = [
        line.split(")  ", 1)[1].split(" = ")[0] for line in text.splitlines() if " = " in line
    ]
    assert len(set(defined)) == len(defined)


def test_torchs_own_cells() -> None:
    text = str(explain(nn.GRUCell(5, 6)))
    assert "x @ weight_ih.T + bias_ih" in text


def test_what_is_neither_layer_nor_cell() -> None:
    with pytest.raises(
        openrnn.ArgumentTypeError, match=r"explain: expected .* got Linear, without"
    ):
        explain(nn.Linear(5, 6))
    with pytest.raises(openrnn.ArgumentTypeError, match="give the recurrent layer inside"):
        explain(nn.Sequential(nn.LSTM(5, 6)))
    with pytest.raises(openrnn.ArgumentTypeError, match="got the class LSTM"):
        explain(openrnn.LSTM)  # type: ignore[arg-type]
    with pytest.raises(openrnn.ArgumentTypeError, match="got int"):
        explain(7)  # type: ignore[arg-type]


def test_explaining_draws_no_random_numbers() -> None:
    cell = openrnn.cells.WeightDropLSTMCell(5, 6, dropout=0.5)
    before = torch.get_rng_state()
    explain(cell)
    assert torch.equal(torch.get_rng_state(), before)


# --- the backend ---------------------------------------------------------------------------------


class Mixed(openrnn.RNNCell):
    def forward(self, input: Any, hx: Any = None) -> Any:
        return super().forward(input, hx.double().sin().float())


def test_the_backend_is_the_one_that_runs() -> None:
    (cell,) = explain(openrnn.GRUCell(5, 6)).cells
    assert (cell.backend, cell.backend_reason) == ("cpu", None)
    (cell,) = explain(Mixed(5, 6)).cells
    assert (cell.backend, cell.program is not None) == ("eager", True)
    assert cell.backend_reason is not None
    with pytest.raises(openrnn.BackendError, match=re.escape(cell.backend_reason)):
        openrnn.Recurrent(Mixed(5, 6), backend="cpu")(torch.randn(2, 3, 5))


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise openrnn.BackendError("a kernel needs a C++ compiler, and there is none")

    monkeypatch.setattr(cpu, "compile_command", none)
    text = " ".join(str(explain(openrnn.GRU(5, 6))).split())
    assert 'runs "eager", a plain loop: a kernel needs a C++ compiler' in text


def test_the_backend_that_was_asked_for() -> None:
    assert 'The layer is told backend="eager"' in str(explain(openrnn.GRU(5, 6, backend="eager")))
    assert "torch.nn.GRU runs torch's own code" in str(explain(nn.GRU(5, 6)))
    assert "A cell called by itself" in str(explain(openrnn.GRUCell(5, 6)))


# --- how it shows --------------------------------------------------------------------------------


def test_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "80")):
        monkeypatch.setenv(name, value)
    explanation = explain(openrnn.GRU(5, 6))
    printed = capsys.readouterr().out
    assert "\x1b[" in printed
    lines = re.sub(r"\x1b\[[0-9;]*m", "", printed).splitlines()
    assert [line.rstrip() for line in lines] == str(explanation).splitlines()


def test_on_a_terminal_of_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = TextIOWrapper(BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    explanation = explain(openrnn.GRU(5, 6))
    stream.seek(0)
    assert stream.read().rstrip() == str(explanation).replace("·", "?").replace("×", "?")


def test_a_notebook_shows_it_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setattr(builtins, "get_ipython", lambda: shell, raising=False)
    explanation = explain(openrnn.GRU(5, 6))
    assert capsys.readouterr().out == "", "the notebook shows what is returned"
    words = "".join(ET.fromstring(explanation._repr_html_()).itertext())
    assert "weight_ih_l0 (18, 5)" in words
    assert "weight_ih_l0 (18, 5)" in str(explanation)


def test_html_is_escaped() -> None:
    class Less(nn.Module):
        input_size = hidden_size = 5

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return torch.where(x < h, x, h)

    html = explain(Less())._repr_html_()
    assert "x &lt; h" in html
    assert "x < h" in "".join(ET.fromstring(html).itertext())
