"""`record`: the values of the eager loop, by the cell's own names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.testing import assert_close

import openrnn
from openrnn import record
from openrnn.explain.recording import Recording

STEPS, BATCH, INPUT, HIDDEN = 6, 3, 4, 5


def by_hand(step: Any, x: Tensor, states: tuple[Tensor, ...], reverse: bool) -> dict[str, Tensor]:
    """All that `step` names, (T, B, features); its first names are those of the states."""
    rows: list[dict[str, Tensor]] = []
    for row in x.flip(0) if reverse else x:
        rows.append(step(row, *states))
        states = tuple(list(rows[-1].values())[: len(states)])
    rows = rows[::-1] if reverse else rows
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def lstm_step(layer: Any, ending: str) -> Any:
    w_x, w_h, b_x, b_h = (
        getattr(layer, name + ending) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )

    def step(x: Tensor, h: Tensor, c: Tensor) -> dict[str, Tensor]:
        a_i, a_f, a_g, a_o = (F.linear(x, w_x, b_x) + F.linear(h, w_h, b_h)).chunk(4, -1)
        i, f, g, o = a_i.sigmoid(), a_f.sigmoid(), a_g.tanh(), a_o.sigmoid()
        c = f * c + i * g
        sums = {"a_i": a_i, "a_f": a_f, "a_g": a_g, "a_o": a_o}
        return {"h": o * c.tanh(), "c": c, "i": i, "f": f, "g": g, "o": o, **sums}

    return step


def zeros(count: int) -> tuple[Tensor, ...]:
    return (torch.zeros(BATCH, HIDDEN),) * count


@torch.no_grad()
def test_lstm_of_two_layers_and_directions() -> None:
    layer = openrnn.LSTM(INPUT, HIDDEN, num_layers=2, bidirectional=True)
    x = torch.randn(STEPS, BATCH, INPUT)
    recording = record(layer, x)
    expected: dict[str, Tensor] = {}
    for number in (0, 1):
        outputs = []
        for ending in (f"_l{number}", f"_l{number}_reverse"):
            found = by_hand(lstm_step(layer, ending), x, zeros(2), ending.endswith("reverse"))
            expected |= {name + ending: value for name, value in found.items()}
            outputs.append(found["h"])
        x = torch.cat(outputs, -1)
    assert set(recording) == set(expected)
    assert len(recording) == 40
    for name, value in expected.items():
        assert_close(recording[name], value, msg=lambda text, name=name: f"{name}: {text}")
    assert recording.states == {name for name in expected if name[:2] in ("h_", "c_")}
    assert_close(recording.output, x)
    assert_close(recording.state[0][0], recording["h_l0"][-1])


@torch.no_grad()
def test_gru() -> None:
    layer = openrnn.GRU(INPUT, HIDDEN)
    x = torch.randn(STEPS, BATCH, INPUT)

    def step(x: Tensor, h: Tensor) -> dict[str, Tensor]:
        r_x, z_x, n_x = F.linear(x, layer.weight_ih_l0, layer.bias_ih_l0).chunk(3, -1)
        r_h, z_h, n_h = F.linear(h, layer.weight_hh_l0, layer.bias_hh_l0).chunk(3, -1)
        r, z = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
        n = (n_x + r * n_h).tanh()
        sums = {"r_x": r_x, "z_x": z_x, "n_x": n_x, "r_h": r_h, "z_h": z_h, "n_h": n_h}
        return {"h": (1 - z) * n + z * h, "r": r, "z": z, "n": n, **sums}

    expected = by_hand(step, x, zeros(1), False)
    recording = record(layer, x)
    assert {name.removesuffix("_l0") for name in recording} == set(expected)
    for name, value in expected.items():
        assert_close(recording[name], value)
        assert recording[name] is recording[f"{name}_l0"]


class Leaky(nn.Module):
    """As a user writes it: names of one's own, one of them twice."""

    hidden_size = HIDDEN

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(INPUT + HIDDEN, 2 * HIDDEN)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        both = self.linear(torch.cat((x, h), -1))
        speed, target = both.chunk(2, -1)
        speed = torch.sigmoid(speed)
        target = torch.tanh(target)
        return h + speed * (target - h)


@torch.no_grad()
def test_a_cell_of_the_users() -> None:
    cell, x = Leaky(), torch.randn(STEPS, BATCH, INPUT)

    def step(x: Tensor, h: Tensor) -> dict[str, Tensor]:
        both = cell.linear(torch.cat((x, h), -1))
        speed, target = both[:, :HIDDEN].sigmoid(), both[:, HIDDEN:].tanh()
        return {"h": h + speed * (target - h), "both": both, "speed": speed, "target": target}

    expected = by_hand(step, x, zeros(1), False)
    recording = record(openrnn.Recurrent(cell), x)
    assert set(recording) == set(expected)
    for name, value in expected.items():
        assert_close(recording[name], value)


@torch.no_grad()
def test_slstm() -> None:
    cell = openrnn.cells.SLSTMCell(INPUT, HIDDEN)
    x = torch.randn(STEPS, BATCH, INPUT)
    recording = record(openrnn.Recurrent(cell), x)

    def step(x: Tensor, h: Tensor, c: Tensor, n: Tensor, m: Tensor) -> dict[str, Tensor]:
        recurrent = h @ cell.weight_hh.view(4 * HIDDEN, HIDDEN).T
        a_i, a_f, a_z, a_o = (F.linear(x, cell.weight_ih, cell.bias_ih) + recurrent).chunk(4, -1)
        kept = F.logsigmoid(a_f) + m
        m = torch.where(n == 0, a_i, torch.maximum(kept, a_i))
        i, f = torch.exp(a_i - m), torch.exp((kept - m).clamp(max=0))
        z, o = a_z.tanh(), a_o.sigmoid()
        c, n = f * c + i * z, f * n + i
        return {"h": o * c / n, "c": c, "n": n, "m": m, "i": i, "f": f, "z": z, "o": o}

    for name, value in by_hand(step, x, zeros(4), False).items():
        assert_close(recording[name], value)
    assert recording.states == {"h", "c", "n", "m"}


LENGTHS = [4, 0, 6]


def check_lengths(layer: Any, x: Tensor, recording: Recording) -> None:
    """Each sequence is as on its own, with zeros behind its end; x is (T, B, I)."""
    for place, length in enumerate(recording.steps.tolist()):
        alone = record(layer, x[:length, place]) if length else {}
        for name in recording:
            value = recording[name][:, place]
            assert torch.equal(value[length:], torch.zeros_like(value[length:]))
            if length:
                assert_close(value[:length], alone[name])
        assert torch.equal(recording.input[:length, place], x[:length, place])


def test_lengths() -> None:
    layer = openrnn.LSTM(INPUT, HIDDEN, bidirectional=True)
    x = torch.randn(STEPS, BATCH, INPUT)
    recording = record(layer, x, lengths=LENGTHS)
    assert recording.steps.tolist() == LENGTHS
    check_lengths(layer, x, recording)


def test_packed() -> None:
    layer = openrnn.LSTM(INPUT, HIDDEN, bidirectional=True)
    x = torch.randn(STEPS, 2, INPUT)
    packed = pack_padded_sequence(x, torch.tensor([4, 6]), enforce_sorted=False)
    recording = record(layer, packed)
    assert recording.steps.tolist() == [4, 6]
    check_lengths(layer, x, recording)


def test_all_sequences_empty() -> None:
    recording = record(
        openrnn.GRU(INPUT, HIDDEN), torch.randn(STEPS, BATCH, INPUT), lengths=[0] * BATCH
    )
    assert torch.equal(recording["z"], torch.zeros(STEPS, BATCH, HIDDEN))


def test_reset() -> None:
    layer = openrnn.LSTM(INPUT, HIDDEN, num_layers=2, bidirectional=True)
    x = torch.randn(STEPS, BATCH, INPUT)
    reset = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    reset[2] = True
    recording = record(layer, x, reset=reset)
    parts = record(layer, x[:2]), record(layer, x[2:])
    for name in recording:
        assert_close(recording[name], torch.cat([part[name] for part in parts]))


def test_layouts() -> None:
    """Time comes first, whatever the layout of the input."""
    x = torch.randn(STEPS, BATCH, INPUT)
    layer = openrnn.LSTM(INPUT, HIDDEN)
    recording = record(layer, x)
    layer.batch_first = True
    turned = record(layer, x.transpose(0, 1))
    alone = record(layer, x[:, 1])
    for name in recording:
        assert_close(turned[name], recording[name])
        assert_close(alone[name], recording[name][:, 1])
    assert turned.output.shape == (BATCH, STEPS, HIDDEN)
    assert torch.equal(turned.input, x)
    assert (turned.steps.tolist(), alone.steps.tolist()) == ([STEPS] * BATCH, STEPS)


def test_the_state_that_is_given() -> None:
    layer = openrnn.LSTM(INPUT, HIDDEN)
    x = torch.randn(STEPS, BATCH, INPUT)
    whole = record(layer, x)
    first = record(layer, x[:2])
    rest = record(layer, x[2:], first.state)
    assert_close(rest["i"], whole["i"][2:])


def test_projection() -> None:
    recording = record(openrnn.LSTM(INPUT, HIDDEN, proj_size=2), torch.randn(STEPS, BATCH, INPUT))
    assert (recording["h"].size(-1), recording["c"].size(-1)) == (2, HIDDEN)


def test_names() -> None:
    stack = openrnn.Stack(
        [
            openrnn.RNNCell(INPUT, HIDDEN),
            openrnn.Bidirectional(openrnn.RNNCell(HIDDEN, 2), openrnn.RNNCell(HIDDEN, 2)),
        ]
    )
    recording = record(stack, torch.randn(STEPS, BATCH, INPUT))
    assert list(recording) == ["h_l0", "a_l0", "h_l1", "a_l1", "h_l1_reverse", "a_l1_reverse"]
    assert recording.title.startswith("Stack(RNNCell(4, 5), Bidirectional(2 × RNN")
    assert "h_l1_reverse  (6, 3, 2)" in repr(recording)
    with pytest.raises(KeyError, match=r"'a' was not recorded: there are h_l0, a_l0, h_l1"):
        recording["a"]


def test_no_gradient() -> None:
    layer = openrnn.LSTM(INPUT, HIDDEN)
    x = torch.randn(STEPS, BATCH, INPUT, requires_grad=True)
    recording = record(layer, x)
    assert not any(value.requires_grad for value in recording.values())
    assert not recording.output.requires_grad
    assert not recording.input.requires_grad


def test_a_recording_is_of_its_own() -> None:
    x = torch.randn(STEPS, BATCH, INPUT)
    before = x.clone()
    recording = record(openrnn.GRU(INPUT, HIDDEN), x)
    x.zero_()
    assert torch.equal(recording.input, before)


@pytest.mark.parametrize(
    "options",
    [
        {"weight_drop": 0.5},
        {"zoneout": (0.3, 0.3)},
        {"recurrent_dropout": 0.3},
        {"dropout": 0.4, "num_layers": 2},
        {"layer_norm": True, "learn_initial_state": True},
    ],
    ids=str,
)
def test_in_training(options: dict[str, Any]) -> None:
    """The masks are drawn as in any call, and are in what is recorded."""
    layer = openrnn.LSTM(INPUT, HIDDEN, **options)
    x = torch.randn(STEPS, BATCH, INPUT)
    torch.manual_seed(7)
    output, (_, c_n) = layer(x)
    torch.manual_seed(7)
    recording = record(layer, x)
    last = f"_l{layer.num_layers - 1}"
    assert_close(recording.output, output)
    assert_close(recording[f"h{last}"], output)
    assert_close(recording[f"c{last}"][-1], c_n[-1])


def test_not_a_layer() -> None:
    with pytest.raises(
        openrnn.ArgumentTypeError,
        match=r"expected a layer of OpenRNN, got GRUCell\. A cell becomes",
    ):
        record(openrnn.GRUCell(INPUT, HIDDEN), torch.randn(STEPS, BATCH, INPUT))
    with pytest.raises(openrnn.ArgumentTypeError, match=r"openrnn\.GRU takes its arguments"):
        record(nn.GRU(INPUT, HIDDEN), torch.randn(STEPS, BATCH, INPUT))


def test_a_cell_that_cannot_be_read() -> None:
    class Sorting(nn.Module):
        state_sizes = {"h": INPUT}  # noqa: RUF012  as a user writes it

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return (x + h).sort(-1).values

    with pytest.raises(openrnn.CellError, match="sort"):
        record(openrnn.Recurrent(Sorting()), torch.randn(STEPS, BATCH, INPUT))


def test_the_layer_runs_as_before_afterwards() -> None:
    layer = openrnn.LSTM(INPUT, HIDDEN)
    x = torch.randn(STEPS, BATCH, INPUT)
    with pytest.raises(openrnn.ShapeError):
        record(layer, x[..., :2])
    assert_close(layer(x)[0], record(layer, x).output)
