"""Cells with dropout or zoneout: what they draw, when, and what they are without it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import openrnn
from openrnn import Recurrent
from openrnn.cells import (
    Cell,
    GRUCell,
    LSTMCell,
    RecurrentDropoutLSTMCell,
    WeightDropLSTMCell,
    ZoneoutGRUCell,
    ZoneoutLSTMCell,
)
from tests.cells.box import as_given, as_tuple, random_states
from tests.cells.equations import Blocks

BATCH, INPUT, HIDDEN = 400, 5, 6  # 2,400 draws at each step


def twin(cell: Cell, plain: Cell) -> Cell:
    """The plain cell with the same parameters."""
    plain.load_state_dict(
        {k.replace("parametrizations.weight_hh.original", "weight_hh"): v
         for k, v in cell.state_dict().items()}
    )  # fmt: skip
    return plain.to(cell.weight_ih.dtype)


def assert_share(mask: Tensor, probability: float) -> None:
    """As many are true as the probability says, within five standard deviations."""
    deviation = math.sqrt(probability * (1 - probability) / mask.numel())
    share = mask.double().mean().item()
    assert abs(share - probability) < 5 * deviation, f"{share} of {probability}"


def zoneout_cell(name: str, h: float = 0.2, c: float = 0.4) -> tuple[Cell, Cell, tuple[float, ...]]:
    """A cell, the one without zoneout, and the probabilities of its states."""
    if name == "LSTM":
        cell: Cell = ZoneoutLSTMCell(INPUT, HIDDEN, zoneout_h=h, zoneout_c=c)
        return cell, twin(cell, LSTMCell(INPUT, HIDDEN)), (h, c)
    cell = ZoneoutGRUCell(INPUT, HIDDEN, zoneout=h)
    return cell, twin(cell, GRUCell(INPUT, HIDDEN)), (h,)


zoneouts = pytest.mark.parametrize("name", ["LSTM", "GRU"])


@zoneouts
def test_zoneout_keeps_the_old_or_takes_the_new(name: str) -> None:
    cell, plain, probabilities = zoneout_cell(name)
    x, states = torch.randn(BATCH, INPUT), random_states(cell, BATCH)
    actual, new = as_tuple(cell(x, as_given(states))), as_tuple(plain(x, as_given(states)))
    masks = []
    for a, n, o, probability in zip(actual, new, states, probabilities, strict=True):
        kept = a == o
        assert torch.equal(a, torch.where(kept, o, n))
        assert_share(kept, probability)
        masks.append(kept)
    if name == "LSTM":  # h and c are drawn apart
        assert_share(masks[0] & masks[1], 0.2 * 0.4)


@zoneouts
def test_zoneout_draws_for_each_step_and_does_not_look_at_the_state(name: str) -> None:
    cell, _, _ = zoneout_cell(name)
    x, states, others = (
        torch.randn(BATCH, INPUT),
        random_states(cell, BATCH),
        random_states(cell, BATCH),
    )

    def kept(states: tuple[Tensor, ...]) -> Tensor:
        return as_tuple(cell(x, as_given(states)))[0] == states[0]

    torch.manual_seed(1)
    first, second = kept(states), kept(states)
    torch.manual_seed(1)
    assert torch.equal(kept(others), first)
    assert_share(first & second, 0.2**2)


@zoneouts
def test_zoneout_in_evaluation_is_the_expectation(name: str) -> None:
    cell, plain, probabilities = zoneout_cell(name)
    cell.eval()
    x, states = torch.randn(BATCH, INPUT), random_states(cell, BATCH)
    actual, new = as_tuple(cell(x, as_given(states))), as_tuple(plain(x, as_given(states)))
    for a, n, o, probability in zip(actual, new, states, probabilities, strict=True):
        torch.testing.assert_close(a, probability * o + (1 - probability) * n)
    assert torch.equal(as_tuple(cell(x, as_given(states)))[0], actual[0])


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@zoneouts
def test_zoneout_of_0_and_1(name: str, training: bool) -> None:
    cell, plain, _ = zoneout_cell(name, 0, 0)
    x, states = torch.randn(BATCH, INPUT), random_states(cell, BATCH)
    actual = as_tuple(cell.train(training)(x, as_given(states)))
    torch.testing.assert_close(actual, as_tuple(plain(x, as_given(states))), rtol=0, atol=0)
    cell, _, _ = zoneout_cell(name, 1, 1)
    actual = as_tuple(cell.train(training)(x, as_given(states)))
    torch.testing.assert_close(actual, states, rtol=0, atol=0)


def test_zoneout_makes_h_of_the_proposed_memory() -> None:
    """Where c keeps its old value, h does not see it."""
    cell, plain, _ = zoneout_cell("LSTM", 0, 1)
    x, states = torch.randn(BATCH, INPUT), random_states(cell, BATCH)
    assert torch.equal(cell(x, states)[0], plain(x, states)[0])


def test_recurrent_dropout_drops_candidates_alone() -> None:
    cell = RecurrentDropoutLSTMCell(INPUT, HIDDEN, dropout=0.25).double()
    x, (h, c) = torch.randn(BATCH, INPUT).double(), random_states(cell, BATCH, dtype=torch.float64)
    w = Blocks(cell)
    i, f, o = (w.sum(gate, x, h).sigmoid() for gate in "ifo")
    g = w.sum("g", x, h).tanh()
    h_t, c_t = cell(x, (h, c))
    mask = (c_t - f * c) / (i * g)
    dropped = mask.abs() < 1e-6
    torch.testing.assert_close(
        mask, torch.where(dropped, 0.0, 1 / 0.75).double(), rtol=0, atol=1e-6
    )
    assert_share(dropped, 0.25)
    torch.testing.assert_close(h_t, o * c_t.tanh())
    again = ((cell(x, (h, c))[1] - f * c) / (i * g)).abs() < 1e-6
    assert_share(dropped & again, 0.25**2)


def test_recurrent_dropout_in_evaluation_is_an_lstm() -> None:
    cell = RecurrentDropoutLSTMCell(INPUT, HIDDEN, dropout=0.25).eval()
    x, states = torch.randn(BATCH, INPUT), random_states(cell, BATCH)
    expected = twin(cell, LSTMCell(INPUT, HIDDEN))(x, states)
    torch.testing.assert_close(cell(x, states), expected, rtol=0, atol=0)


def test_recurrent_dropout_of_1_only_forgets() -> None:
    cell = RecurrentDropoutLSTMCell(INPUT, HIDDEN, dropout=1.0)
    x, (h, c) = torch.randn(BATCH, INPUT), random_states(cell, BATCH)
    torch.testing.assert_close(cell(x, (h, c))[1], Blocks(cell).sum("f", x, h).sigmoid() * c)


def test_weight_drop_in_evaluation_is_an_lstm() -> None:
    cell = WeightDropLSTMCell(INPUT, HIDDEN, dropout=0.5).eval()
    x, states = torch.randn(BATCH, INPUT), random_states(cell, BATCH)
    expected = twin(cell, LSTMCell(INPUT, HIDDEN))(x, states)
    torch.testing.assert_close(cell(x, states), expected, rtol=0, atol=0)


def test_weight_drop_draws_anew_where_nothing_is_cached() -> None:
    cell = WeightDropLSTMCell(40, 40, dropout=0.25)
    original = cell.parametrizations.weight_hh.original
    one, two = cell.weight_hh, cell.weight_hh
    for weight in (one, two):
        torch.testing.assert_close(weight, torch.where(weight == 0, 0.0, original / 0.75))
        assert_share(weight == 0, 0.25)
    assert_share((one == 0) & (two == 0), 0.25**2)


def test_weight_drop_has_one_mask_for_all_steps_and_rows_of_a_sequence() -> None:
    cell = WeightDropLSTMCell(INPUT, HIDDEN, dropout=0.5)
    x = torch.randn(7, 3, INPUT)
    plain = twin(cell, LSTMCell(INPUT, HIDDEN))
    torch.manual_seed(1)
    first, second = Recurrent(cell)(x), Recurrent(cell)(x)
    torch.manual_seed(1)
    for result in (first, second):
        plain.weight_hh = nn.Parameter(cell.weight_hh.detach())
        torch.testing.assert_close(result, Recurrent(plain)(x), rtol=0, atol=0)
    assert not torch.equal(first[0], second[0])


def test_weight_drop_gives_no_gradient_to_what_is_dropped() -> None:
    cell = WeightDropLSTMCell(INPUT, HIDDEN, dropout=0.5)
    with parametrize.cached():
        Recurrent(cell)(torch.randn(7, 3, INPUT))[0].sum().backward()
        dropped = cell.weight_hh == 0
    gradient = cell.parametrizations.weight_hh.original.grad
    assert torch.equal(gradient == 0, dropped)


def test_weight_drop_starts_as_an_lstm_and_keeps_its_state_dict() -> None:
    torch.manual_seed(1)
    cell = WeightDropLSTMCell(INPUT, HIDDEN, dropout=0.5)
    torch.manual_seed(1)
    plain = openrnn.LSTMCell(INPUT, HIDDEN)
    assert torch.equal(cell.parametrizations.weight_hh.original, plain.weight_hh)
    other = WeightDropLSTMCell(INPUT, HIDDEN, dropout=0.5)
    other.load_state_dict(cell.state_dict())
    x = torch.randn(3, INPUT)
    torch.testing.assert_close(other.eval()(x), cell.eval()(x), rtol=0, atol=0)
