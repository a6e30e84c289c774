"""Stack and Bidirectional: layers of different cells and sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import openrnn
from openrnn import Bidirectional, Recurrent, Stack


def test_two_cells_of_different_sizes_equal_the_loop() -> None:
    a, b = openrnn.LSTMCell(30, 20), openrnn.LSTMCell(20, 10)
    x = torch.randn(12, 3, 30)
    h_1 = c_1 = torch.zeros(3, 20)
    h_2 = c_2 = torch.zeros(3, 10)
    outputs = []
    for x_t in x:
        h_1, c_1 = a(x_t, [h_1, c_1])
        h_2, c_2 = b(h_1, [h_2, c_2])
        outputs.append(h_2)
    output, ((h_n1, c_n1), (h_n2, c_n2)) = Stack([a, b])(x)
    torch.testing.assert_close(output, torch.stack(outputs))
    for ours, theirs in ((h_n1, h_1), (c_n1, c_1), (h_n2, h_2), (c_n2, c_2)):
        torch.testing.assert_close(ours, theirs)


def mixed() -> Stack:
    return Stack(
        [
            nn.GRUCell(5, 7),
            Bidirectional(nn.LSTMCell(7, 4), nn.LSTMCell(7, 4)),
            openrnn.LSTM(8, 6, num_layers=2),
            Recurrent(openrnn.RNNCell(6, 3), reverse=True),
            Stack([openrnn.GRUCell(3, 2)]),
        ]
    )


def test_any_layers_inside() -> None:
    stack = mixed()
    output, states = stack(torch.randn(6, 4, 5))
    assert output.shape == (6, 4, 2)
    gru, (forward, backward), (h, c), rnn, (inner,) = states
    assert gru.shape == (4, 7)
    assert [s.shape for s in (*forward, *backward)] == [(4, 4)] * 4
    assert [h.shape, c.shape] == [(2, 4, 6)] * 2
    assert rnn.shape == (4, 3)
    assert inner.shape == (4, 2)
    again, _ = stack(torch.randn(6, 4, 5), states)
    assert again.shape == output.shape


@pytest.mark.parametrize("with_state", [False, True], ids=["no-state", "state"])
def test_packed_and_unbatched_equal_each_other(with_state: bool) -> None:
    stack = mixed().double()
    sequences = [torch.randn(n, 5, dtype=torch.float64) for n in (2, 6, 3)]
    states = stack(torch.randn(2, 3, 5, dtype=torch.float64))[1] if with_state else None
    packed, packed_states = stack(pack_sequence(sequences, enforce_sorted=False), states)
    padded, _ = nn.utils.rnn.pad_packed_sequence(packed)

    def row(state: Any, index: int) -> Any:
        if isinstance(state, torch.Tensor):
            return state.select(-2, index)
        return tuple(row(s, index) for s in state)

    for index, sequence in enumerate(sequences):
        alone, alone_states = stack(sequence, row(states, index) if with_state else None)
        torch.testing.assert_close(padded[: len(sequence), index], alone)
        torch.testing.assert_close(row(packed_states, index), alone_states)


def test_states_may_be_missing_for_some_layers() -> None:
    stack = Stack([openrnn.LSTMCell(5, 7), openrnn.GRUCell(7, 3)])
    x, h = torch.randn(6, 4, 5), torch.zeros(4, 3)
    assert torch.equal(stack(x, [None, h])[0], stack(x)[0])


def test_batch_first() -> None:
    x = torch.randn(6, 4, 5)
    cells = [openrnn.LSTMCell(5, 7), openrnn.GRUCell(7, 3)]
    expected, _ = Stack(cells)(x)
    actual, _ = Stack(cells, batch_first=True)(x.transpose(0, 1))
    assert torch.equal(actual.transpose(0, 1), expected)


def test_dropout_lies_between_layers_in_training_alone() -> None:
    stack = Stack([openrnn.GRUCell(5, 7), openrnn.GRUCell(7, 3)], dropout=0.5)
    x = torch.randn(6, 4, 5)
    assert not torch.equal(stack(x)[0], stack(x)[0])
    assert (stack(x)[0] != 0).all()
    stack.eval()
    assert torch.equal(stack(x)[0], stack(x)[0])


@pytest.mark.parametrize("merge", ["concat", "sum", "mean"])
def test_bidirectional(merge: str) -> None:
    a, b = nn.GRUCell(5, 7), nn.GRUCell(5, 7)
    x, states = torch.randn(6, 4, 5), (torch.randn(4, 7), torch.randn(4, 7))
    forward, h_forward = Recurrent(a)(x, states[0])
    backward, h_backward = Recurrent(b, reverse=True)(x, states[1])
    output, final = Bidirectional(a, b, merge=merge)(x, states)
    expected = {
        "concat": torch.cat((forward, backward), -1),
        "sum": forward + backward,
        "mean": (forward + backward) / 2,
    }
    torch.testing.assert_close(output, expected[merge])
    torch.testing.assert_close(final, (h_forward, h_backward))


def test_stack_rejects() -> None:
    with pytest.raises(openrnn.ArgumentError, match="at least one cell or layer"):
        Stack([])
    for dropout in (1.5, -0.1, True, "much"):
        with pytest.raises(openrnn.ArgumentError, match="dropout in the range 0 to 1"):
            Stack([nn.GRUCell(5, 7)], dropout=dropout)  # type: ignore[arg-type]
    with pytest.raises(openrnn.ArgumentError, match="give batch_first to the stack alone"):
        Stack([openrnn.GRU(5, 7, batch_first=True)])
    with pytest.raises(openrnn.CellError, match="which runs over time already"):
        Stack([nn.LSTM(5, 7)])
    stack = Stack([nn.GRUCell(5, 7), nn.GRUCell(7, 3)])
    x = torch.randn(6, 4, 5)
    for state, message in (
        (torch.zeros(4, 7), "each of its 2 layers, got a Tensor"),
        ([None], "each of its 2 layers, got 1 states"),
        ([None, torch.zeros(4, 7)], r"shape \(4, 3\)"),
    ):
        with pytest.raises(openrnn.ShapeError, match=message):
            stack(x, state)


def test_bidirectional_rejects() -> None:
    with pytest.raises(openrnn.ArgumentError, match="'concat', 'sum', 'mean', got 'max'"):
        Bidirectional(nn.GRUCell(5, 7), nn.GRUCell(5, 7), merge="max")
    layer = Bidirectional(nn.GRUCell(5, 7), nn.GRUCell(5, 7))
    with pytest.raises(openrnn.StateError, match=r"a pair.*got a Tensor"):
        layer(torch.randn(6, 4, 5), torch.zeros(4, 7))


def test_repr_shows_the_layers() -> None:
    shown = repr(Stack([nn.GRUCell(5, 7), nn.GRUCell(7, 3)], dropout=0.5, batch_first=True))
    assert "dropout=0.5, batch_first=True" in shown
    assert "GRUCell(7, 3)" in shown
