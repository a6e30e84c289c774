"""Equations of cells: to the letter, and computed from their own text."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import openrnn
from openrnn import cells, equations
from openrnn.explain.parts import Lane, read
from openrnn.step.evaluate import draw
from tests.cells.box import BOX

from .notation import Symbols, Value, parameters, solve


def texts(module: nn.Module, **options: Any) -> list[str]:
    return [line.text for line in equations(module, **options).lines]


# --- to the letter -------------------------------------------------------------------------------

LSTM = [
    "i_t = σ(W_ii x_t + b_ii + W_hi h_{t-1} + b_hi)",
    "f_t = σ(W_if x_t + b_if + W_hf h_{t-1} + b_hf)",
    "g_t = tanh(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg)",
    "o_t = σ(W_io x_t + b_io + W_ho h_{t-1} + b_ho)",
    "c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t",
    "h_t = o_t ⊙ tanh(c_t)",
]


@pytest.mark.parametrize(
    "module",
    [openrnn.LSTMCell(30, 20), openrnn.LSTM(30, 20), nn.LSTMCell(30, 20), nn.LSTM(30, 20)],
    ids=lambda module: f"{type(module).__module__}.{type(module).__name__}",
)
def test_lstm_reads_as_the_textbooks(module: nn.Module) -> None:
    assert texts(module) == LSTM


def test_text_of_lstm() -> None:
    assert str(equations(openrnn.LSTMCell(30, 20))) == (
        "LSTMCell(30, 20)\n"
        "\n"
        "  i_t = σ(W_ii x_t + b_ii + W_hi h_{t-1} + b_hi)\n"
        "  20     20×30 30     20   20×20   20       20\n"
        "  f_t = σ(W_if x_t + b_if + W_hf h_{t-1} + b_hf)\n"
        "  20     20×30 30     20   20×20   20       20\n"
        "  g_t = tanh(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg)\n"
        "  20        20×30 30     20   20×20   20       20\n"
        "  o_t = σ(W_io x_t + b_io + W_ho h_{t-1} + b_ho)\n"
        "  20     20×30 30     20   20×20   20       20\n"
        "  c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t\n"
        "  20    20      20      20    20\n"
        "  h_t = o_t ⊙ tanh(c_t)\n"
        "  20    20         20\n"
        "\n"
        "  weight_ih = [W_ii; W_if; W_ig; W_io]  (80, 30)\n"
        "  weight_hh = [W_hi; W_hf; W_hg; W_ho]  (80, 20)\n"
        "  bias_ih   = [b_ii; b_if; b_ig; b_io]  (80)\n"
        "  bias_hh   = [b_hi; b_hf; b_hg; b_ho]  (80)"
    )


@pytest.mark.parametrize("cell", [openrnn.GRUCell(30, 20), nn.GRUCell(30, 20)])
def test_gru(cell: nn.Module) -> None:
    assert texts(cell) == [
        "r_t = σ(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)",
        "z_t = σ(W_iz x_t + b_iz + W_hz h_{t-1} + b_hz)",
        "n_t = tanh(W_in x_t + b_in + r_t ⊙ (W_hn h_{t-1} + b_hn))",
        "h_t = (1 - z_t) ⊙ n_t + z_t ⊙ h_{t-1}",
    ]


@pytest.mark.parametrize("cell", [openrnn.RNNCell(30, 20), nn.RNNCell(30, 20)])
def test_rnn(cell: nn.Module) -> None:
    assert texts(cell) == ["h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)"]


def test_cells_of_the_box() -> None:
    """As their docstrings have them."""
    assert texts(cells.LayerNormGRUCell(30, 20)) == [
        "[r_t; z_t] = σ(LN_ih(W_irz x_t) + LN_hh(W_hrz h_{t-1}))",
        "n_t = tanh(LN_in(W_in x_t) + r_t ⊙ LN_hn(W_hn h_{t-1}))",
        "h_t = (1 - z_t) ⊙ n_t + z_t ⊙ h_{t-1}",
    ]
    assert texts(cells.SLSTMCell(30, 20, num_heads=2)) == [
        "a_{i,t} = W_ii x_t + b_ii + W_hi h_{t-1}",
        "a_{f,t} = log σ(W_if x_t + b_if + W_hf h_{t-1}) + m_{t-1}",
        "z_t = tanh(W_iz x_t + b_iz + W_hz h_{t-1})",
        "o_t = σ(W_io x_t + b_io + W_ho h_{t-1})",
        "m_t = a_{i,t} if n_{t-1} = 0 else max(a_{f,t}, a_{i,t})",
        "f_t = exp(min(a_{f,t} - m_t, 0))",
        "i_t = exp(a_{i,t} - m_t)",
        "c_t = f_t ⊙ c_{t-1} + i_t ⊙ z_t",
        "n_t = f_t ⊙ n_{t-1} + i_t",
        "h_t = o_t ⊙ c_t / n_t",
    ]
    assert texts(cells.PeepholeLSTMCell(30, 20))[4] == (
        "o_t = σ(W_io x_t + b_io + W_ho h_{t-1} + b_ho + p_o ⊙ c_t)"
    )
    assert texts(cells.LSTMPCell(30, 20, 10))[-1] == "h_t = W_hr h'_t"
    assert texts(cells.RHNCell(30, 20, depth=2))[-2:] == [
        "k'_t = σ(W'_hk h'_t + b'_hk)",
        "h_t = k'_t ⊙ tanh(W'_hn h'_t + b'_hn) + (1 - k'_t) ⊙ h'_t",
    ]


class Leaky(nn.Module):
    hidden_size, input_size = 20, 30

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(30 + 20, 20)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return 0.9 * h + 0.1 * torch.tanh(self.linear(torch.cat((x, h), -1)))


class Peephole(nn.Module):
    hidden_size, input_size = 20, 30

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Linear(30 + 20, 4 * 20)
        self.peep = nn.Parameter(torch.randn(3, 20))

    def forward(self, x: Tensor, state: Any) -> Any:
        h, c = state
        i, f, g, o = self.gates(torch.cat((x, h), -1)).chunk(4, -1)
        i = torch.sigmoid(i + self.peep[0] * c)
        f = torch.sigmoid(f + self.peep[1] * c)
        c = f * c + i * torch.tanh(g)
        return torch.sigmoid(o + self.peep[2] * c) * torch.tanh(c), c


class Worded(nn.Module):
    """A module for each gate, and words for names."""

    hidden_size, input_size = 6, 5

    def __init__(self) -> None:
        super().__init__()
        self.input_gate, self.candidate = nn.Linear(11, 6), nn.Linear(11, 6)
        self.norm = nn.LayerNorm(6)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        joined = torch.cat((x, h), -1)
        alpha = torch.sigmoid(self.input_gate(joined))
        h_tilde = F.softplus(self.candidate(joined)).clamp(max=2)
        mean = h_tilde.mean(-1, keepdim=True)
        return torch.lerp(h, self.norm(h_tilde - mean), alpha)


USERS = {"Leaky": Leaky, "Peephole": Peephole, "Worded": Worded}


def test_cells_of_users() -> None:
    assert texts(Leaky()) == ["h_t = 0.9 h_{t-1} + 0.1 tanh(W [x_t; h_{t-1}] + b)"]
    assert texts(Peephole()) == [
        "i_t = σ(W_i [x_t; h_{t-1}] + b_i + peep_i ⊙ c_{t-1})",
        "f_t = σ(W_f [x_t; h_{t-1}] + b_f + peep_f ⊙ c_{t-1})",
        "c_t = f_t ⊙ c_{t-1} + i_t ⊙ tanh(W_g [x_t; h_{t-1}] + b_g)",
        "o_t = σ(W_o [x_t; h_{t-1}] + b_o + peep_o ⊙ c_t)",
        "h_t = o_t ⊙ tanh(c_t)",
    ]
    assert texts(Worded()) == [
        "joined_t = [x_t; h_{t-1}]",
        "α_t = σ(W_input_gate joined_t + b_input_gate)",
        "h̃_t = min(softplus(W_candidate joined_t + b_candidate), 2)",
        "mean_t = mean(h̃_t)",
        "h_t = (1 - α_t) ⊙ h_{t-1} + α_t ⊙ LN(h̃_t - mean_t)",
    ]


def test_gradient_of_lstm() -> None:
    found = equations(openrnn.LSTMCell(30, 20), backward=True)
    assert [line.text for line in found.lines] == [
        "δh_t = δh_t^out + δh_t^next",
        "δa_{o,t} = δh_t ⊙ tanh(c_t) ⊙ o_t ⊙ (1 - o_t)",
        "δc_t = δc_t^next + δh_t ⊙ o_t ⊙ (1 - tanh(c_t)²)",
        "δa_{i,t} = δc_t ⊙ g_t ⊙ i_t ⊙ (1 - i_t)",
        "δa_{f,t} = δc_t ⊙ c_{t-1} ⊙ f_t ⊙ (1 - f_t)",
        "δa_{g,t} = δc_t ⊙ i_t ⊙ (1 - g_t²)",
        "δa_t = [δa_{i,t}; δa_{f,t}; δa_{g,t}; δa_{o,t}]",
        "δx_t = W_ihᵀ δa_t",
        "δh_{t-1}^next = W_hhᵀ δa_t",
        "δc_{t-1}^next = δc_t ⊙ f_t",
        "ΔW_ih = Σ_t δa_t x_tᵀ",
        "ΔW_hh = Σ_t δa_t h_{t-1}ᵀ",
        "Δb_ih = Σ_t δa_t",
        "Δb_hh = Σ_t δa_t",
    ]
    (cell,) = found.cells
    assert [line.text for line in cell.where] == [
        f"a_{{{gate},t}} = W_i{gate} x_t + b_i{gate} + W_h{gate} h_{{t-1}} + b_h{gate}"
        for gate in "ifgo"
    ]
    assert "weight_ih = W_ih = [W_ii; W_if; W_ig; W_io]  (80, 30)" in cell.notes
    assert cell.notes[-1] == "Σ_t: the sum over all steps t, and all rows of the batch"


# --- computed ------------------------------------------------------------------------------------

ALL = {**BOX, **{f"torch {kind.__name__}": kind for kind in (nn.RNNCell, nn.LSTMCell, nn.GRUCell)}}
CELLS = {**{name: lambda make=make: make(5, 6) for name, make in ALL.items()}, **USERS}


def prepared(name: str) -> tuple[nn.Module, Lane, Symbols, tuple[Tensor, ...]]:
    """A cell, what it reads at one step by its symbols, and its next states."""
    torch.manual_seed(0)
    cell = CELLS[name]().double()  # type: ignore[no-untyped-call]
    if "WeightDrop" in name:
        cell.eval()  # in training each look at the weight draws another mask
    (lane,) = read(cell).lanes
    x = torch.randn(3, lane.input_size, dtype=torch.float64, requires_grad=True)
    states = {s: torch.randn(3, n, dtype=torch.float64) for s, n in lane.states.items()}
    if "n" in states:  # the normaliser of sLSTM
        states["n"] = states["n"].abs() + 1
    given = tuple(state.requires_grad_() for state in states.values())
    torch.manual_seed(1)
    new = cell(x, given if len(given) > 1 else given[0])
    symbols = {"x_t": Value(x)}
    symbols |= {f"{s}_{{t-1}}": Value(state) for s, state in states.items()}
    torch.manual_seed(1)
    randoms = (node for node in lane.graph.nodes if node.op == "random")
    for number, node in enumerate(sorted(randoms, key=lambda node: int(node["number"]))):
        numbers = draw(node, 3, torch.device("cpu"))
        mask = node["distribution"] == "bernoulli"
        symbols[f"{'d' if mask else 'u'}{number * chr(39)}_t"] = Value(
            numbers / node["p"] if mask else numbers
        )
    return cell, lane, symbols, new if isinstance(new, tuple) else (new,)


@pytest.mark.parametrize("name", CELLS)
def test_the_equations_compute_the_step(name: str) -> None:
    cell, lane, symbols, new = prepared(name)
    (found,) = equations(cell).cells
    symbols |= parameters(found, lane.tensors)
    solve(found.lines, symbols)
    for state, expected in zip(lane.states, new, strict=True):
        torch.testing.assert_close(symbols[f"{state}_t"].tensor, expected)


@pytest.mark.parametrize("name", CELLS)
def test_the_equations_of_the_gradient_compute_it(name: str) -> None:
    cell, lane, symbols, new = prepared(name)
    (step,), (found,) = equations(cell).cells, equations(cell, backward=True).cells
    symbols |= parameters(step, lane.tensors)
    solve(step.lines, symbols)
    symbols |= parameters(found, lane.tensors)
    solve(found.where, symbols)
    arriving = re.findall(r"δ(\w+)_t\^(?:out|next)", " ".join(line.text for line in found.lines))
    loss = torch.zeros((), dtype=torch.float64)
    for state, value in zip(lane.states, new, strict=True):
        for source in ("out", "next"):
            grad = torch.randn_like(value)
            if state in arriving and f"δ{state}_t^{source}" in str(found):
                symbols[f"δ{state}_t^{source}"] = Value(grad)
                loss = loss + (grad * value).sum()
    trained = dict(cell.named_parameters())
    inputs = [symbols["x_t"], *(symbols[f"{s}_{{t-1}}"] for s in lane.states)]
    tensors = [value.tensor for value in inputs] + list(trained.values())
    grads = torch.autograd.grad(loss, tensors, allow_unused=True, materialize_grads=True)
    for value in symbols.values():
        value.tensor = value.tensor.detach()
    solve(found.lines, symbols)
    names = ["x_t", *(f"{s}_{{t-1}}^next" for s in lane.states)]
    for symbol, grad in zip(names, grads, strict=False):
        found_grad = symbols.get(f"δ{symbol}")
        torch.testing.assert_close(
            torch.zeros_like(grad) if found_grad is None else found_grad.tensor, grad
        )
    of = dict(zip(trained, grads[len(names) :], strict=True))
    own = {re.sub(r"parametrizations\.|\.original", "", key): grad for key, grad in of.items()}
    expected, whole = parameters(found, own), 0
    for line in found.lines:
        if line.name.startswith("Δ"):
            grad = expected[line.name[1:]].tensor
            total = symbols[line.name].tensor
            if "0 between heads" in str(found) and line.name == "ΔW_hh":
                total = total * (grad != 0)
            torch.testing.assert_close(total, grad)
            whole += grad.numel()
    assert whole >= sum(p.numel() for p in trained.values()), "of all parameters"


# --- in LaTeX, and for programs ------------------------------------------------------------------


@cache
def width(latex: str) -> float:
    """Of a formula that matplotlib has drawn; it takes its time, and many cells share lines."""
    from matplotlib.mathtext import MathTextParser

    return float(MathTextParser("path").parse(f"${latex}$").width)


@pytest.mark.parametrize("name", CELLS)
def test_matplotlib_draws_every_line(name: str) -> None:
    pytest.importorskip("matplotlib")
    cell = CELLS[name]()  # type: ignore[no-untyped-call]
    for backward in (False, True):
        (found,) = equations(cell, backward=backward).cells
        for line in (*found.lines, *found.where):
            assert width(line.latex_with_shapes) > 0
            assert "underset" not in line.latex


def test_latex() -> None:
    pytest.importorskip("matplotlib")
    found = equations(openrnn.LSTMCell(30, 20))
    first, *_, memory, _ = found.lines
    assert first.latex == (r"i_{t} = \sigma(W_{ii} \, x_{t} + b_{ii} + W_{hi} \, h_{t-1} + b_{hi})")
    assert memory.latex_with_shapes == (
        r"\underset{20}{c_{t}} = \underset{20}{f_{t}} \odot \underset{20}{c_{t-1}} + "
        r"\underset{20}{i_{t}} \odot \underset{20}{g_{t}}"
    )
    assert all(width(line.latex) > 0 for line in found.lines)
    assert found.latex.startswith("\\begin{aligned}\n\\underset{20}{i_{t}} &= \\sigma(")
    assert found.latex.count("&=") == len(LSTM)
    assert f"$$\n{found.latex}\n$$" in found._repr_markdown_()
    assert "`weight_ih = [W_ii; W_if; W_ig; W_io]  (80, 30)`" in found._repr_markdown_()


def test_terms_and_shapes() -> None:
    line = equations(openrnn.LSTMCell(30, 20)).lines[0]
    assert (line.name, line.shape) == ("i_t", "(B, 20)")
    assert [(term.name, term.shape) for term in line.terms] == [
        ("W_ii", "(20, 30)"),
        ("x_t", "(B, 30)"),
        ("b_ii", "(20)"),
        ("W_hi", "(20, 20)"),
        ("h_{t-1}", "(B, 20)"),
        ("b_hi", "(20)"),
    ]
    found = equations(openrnn.GRUCell(3, 4), backward=True).to_dict()
    assert json.loads(json.dumps(found)) == found
    assert found["backward"]
    assert found["cells"][0]["lines"][0]["text"] == "δh_t = δh_t^out + δh_t^next"
    assert found["cells"][0]["where"]


def test_lines_fit() -> None:
    """What is longer than 100 columns is broken at a sign, and shapes stay under their symbols."""
    for name, make in CELLS.items():
        for backward in (False, True):
            shown = str(equations(make(), backward=backward))  # type: ignore[no-untyped-call]
            assert max(map(len, shown.splitlines())) <= 100, name
    wide = str(equations(nn.GRUCell(12345, 54321, device="meta"))).splitlines()
    assert max(map(len, wide)) <= 100
    assert wide[2:4] == [
        "  r_t = σ(W_ir   x_t + b_ir + W_hr   h_{t-1} + b_hr)",
        " 54321 54321×12345 12345 54321 54321×54321 54321 54321",
    ]


def test_random_numbers_are_said() -> None:
    shown = str(equations(cells.RecurrentDropoutLSTMCell(5, 6, dropout=0.3)))
    assert "g_t = tanh(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg) ⊙ d_t" in shown
    assert "d_t: 1 / 0.7 with probability 0.7, else 0, drawn for each step, row and unit" in shown
    assert "h_t   = h_{t-1} if u_t < 0.3 else new_t" in str(
        equations(cells.ZoneoutGRUCell(5, 6, zoneout=0.3))
    )


# --- layers, and what is no cell -----------------------------------------------------------------


def test_layers() -> None:
    found = equations(openrnn.LSTM(5, 6, 3, bidirectional=True))
    assert [cell.places for cell in found.cells] == [
        ("layer 0 forward", "layer 0 backward"),
        ("layer 1 forward", "layer 1 backward", "layer 2 forward", "layer 2 backward"),
    ]
    assert len(found.lines) == 2 * len(LSTM)
    assert "layer 0 forward, layer 0 backward: LSTMCell(5, 6)\n" in str(found)
    assert found.latex.count(r"\begin{aligned}") == 2
    assert texts(openrnn.Recurrent(Leaky())) == texts(Leaky())


def test_the_features_of_x_can_be_said() -> None:
    class Unknown(nn.Module):
        hidden_size = 6

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return h + x.mean(-1, keepdim=True)

    with pytest.raises(openrnn.ArgumentError, match=r"equations\(layer, input_size=30\)"):
        equations(Unknown())
    assert texts(Unknown(), input_size=5) == ["h_t = h_{t-1} + mean(x_t)"]


def test_a_cell_that_cannot_be_read_says_why() -> None:
    class Sorting(nn.Module):
        hidden_size = input_size = 4

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return (x + h).sort(-1).values

    with pytest.raises(openrnn.CellError, match=r"aten\.sort.*\(x \+ h\)\.sort\(-1\)\.values"):
        equations(Sorting())


@pytest.mark.parametrize("wrong", [7, nn.LSTM, nn.Linear(3, 4), nn.Sequential(nn.LSTM(3, 4))])
def test_what_is_neither_layer_nor_cell(wrong: Any) -> None:
    with pytest.raises(openrnn.ArgumentTypeError, match="equations: expected a layer of OpenRNN"):
        equations(wrong)


def test_backward_is_a_bool() -> None:
    with pytest.raises(openrnn.ArgumentTypeError, match="expected backward to be True or False"):
        equations(openrnn.LSTMCell(3, 4), backward="yes")  # type: ignore[arg-type]


def test_nothing_is_drawn_and_nothing_changes() -> None:
    cell = cells.WeightDropLSTMCell(5, 6, dropout=0.5)
    before = torch.get_rng_state()
    equations(cell, backward=True)
    assert torch.equal(torch.get_rng_state(), before)
