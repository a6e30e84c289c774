"""Recurrent over any cell: torch's, ours, a user's; and what a cell may say of its states."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import openrnn
from openrnn import Recurrent
from openrnn.backends import auto


class Peephole(nn.Module):
    """A user's cell: two states of `hidden_size`, and nothing said of them."""

    hidden_size = 7

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5 + 7, 4 * 7)
        self.peep = nn.Parameter(torch.randn(7))

    def forward(self, x: Tensor, state: Any) -> Any:
        h, c = state
        i, f, g, o = self.linear(torch.cat((x, h), -1)).chunk(4, -1)
        c = torch.sigmoid(f + self.peep * c) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class Leaky(nn.Module):
    """A user's cell with one state."""

    hidden_size = 7

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 7)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return 0.9 * h + 0.1 * torch.tanh(self.linear(x))


class ThreeStates(nn.Module):
    """A user's cell whose states differ in size, and which says so."""

    state_sizes = {"h": 3, "memory": 6, "count": 1}  # noqa: RUF012  as a user writes it

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5 + 3, 6)

    def forward(self, x: Tensor, state: Any) -> list[Tensor]:
        h, memory, count = state
        memory = memory + self.linear(torch.cat((x, h), -1))
        return [memory[:, :3].tanh(), memory, count + 1]


CELLS = {
    "torch RNNCell": lambda: nn.RNNCell(5, 7),
    "torch LSTMCell": lambda: nn.LSTMCell(5, 7),
    "torch GRUCell": lambda: nn.GRUCell(5, 7),
    "RNNCell": lambda: openrnn.RNNCell(5, 7),
    "LSTMCell": lambda: openrnn.LSTMCell(5, 7),
    "LSTMPCell": lambda: openrnn.cells.LSTMPCell(5, 7, 3),
    "GRUCell": lambda: openrnn.GRUCell(5, 7),
    "Peephole": Peephole,
    "Leaky": Leaky,
    "ThreeStates": ThreeStates,
}
SIZES = {"LSTMPCell": (3, 7), "ThreeStates": (3, 6, 1)}
PAIRS = ("torch LSTMCell", "LSTMCell", "Peephole")
cells = pytest.mark.parametrize("name", CELLS)


def sizes(name: str) -> tuple[int, ...]:
    return SIZES.get(name, (7, 7) if name in PAIRS else (7,))


def state(name: str, *batch: int) -> Any:
    tensors = tuple(torch.randn(*batch, size) for size in sizes(name))
    return tensors[0] if len(tensors) == 1 else tensors


def as_tuple(state: Any) -> tuple[Tensor, ...]:
    return (state,) if isinstance(state, Tensor) else tuple(state)


def loop(cell: nn.Module, steps: Any, state: Any) -> tuple[list[Tensor], Any]:
    """The cell fed step by step, as anybody would write it."""
    outputs = []
    for x in steps:
        state = cell(x, state)
        outputs.append(as_tuple(state)[0])
    return outputs, state


@pytest.mark.parametrize("batch_first", [False, True], ids=["time-first", "batch-first"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@cells
def test_equals_the_loop(name: str, reverse: bool, batch_first: bool) -> None:
    cell = CELLS[name]()
    layer = Recurrent(cell, reverse=reverse, batch_first=batch_first, backend="eager")
    x, initial = torch.randn(6, 4, 5), state(name, 4)
    outputs, final = loop(cell, reversed(x) if reverse else x, initial)
    expected = torch.stack(outputs[::-1] if reverse else outputs)
    output, actual = layer(x.transpose(0, 1) if batch_first else x, initial)
    assert torch.equal(output.transpose(0, 1) if batch_first else output, expected)
    assert isinstance(actual, Tensor) == isinstance(final, Tensor)
    for ours, theirs in zip(as_tuple(actual), as_tuple(final), strict=True):
        assert torch.equal(ours, theirs)


@cells
def test_without_a_state_starts_from_zeros(name: str) -> None:
    layer = Recurrent(CELLS[name]())
    x = torch.randn(6, 4, 5)
    zeros = tuple(torch.zeros(4, size) for size in sizes(name))
    output, final = layer(x)
    expected, _ = layer(x, zeros if len(zeros) > 1 else zeros[0])
    assert torch.equal(output, expected)
    assert [s.shape for s in as_tuple(final)] == [z.shape for z in zeros]


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@cells
def test_packed_equals_each_sequence_alone(name: str, reverse: bool) -> None:
    layer = Recurrent(CELLS[name](), reverse=reverse).double()
    sequences = [torch.randn(n, 5, dtype=torch.float64) for n in (3, 6, 1, 6, 2)]
    initial = tuple(s.double() for s in as_tuple(state(name, 5)))
    given = initial if len(initial) > 1 else initial[0]
    output, final = layer(pack_sequence(sequences, enforce_sorted=False), given)
    assert isinstance(output, PackedSequence)
    padded, lengths = nn.utils.rnn.pad_packed_sequence(output)
    for row, sequence in enumerate(sequences):
        alone_state = tuple(s[row] for s in initial)
        alone, alone_final = layer(sequence, alone_state if len(initial) > 1 else alone_state[0])
        torch.testing.assert_close(padded[: lengths[row], row], alone)
        for ours, theirs in zip(as_tuple(final), as_tuple(alone_final), strict=True):
            torch.testing.assert_close(ours[row], theirs)


@cells
def test_gradients_reach_input_state_and_parameters(name: str) -> None:
    layer = Recurrent(CELLS[name]()).double()
    x = torch.randn(3, 2, 5, dtype=torch.float64, requires_grad=True)
    initial = tuple(s.double().requires_grad_() for s in as_tuple(state(name, 2)))

    def run(x: Tensor, *initial: Tensor) -> tuple[Tensor, ...]:
        output, final = layer(x, initial if len(initial) > 1 else initial[0])
        return (output, *as_tuple(final))

    assert torch.autograd.gradcheck(run, (x, *initial))
    sum(result.sum() for result in run(x, *initial)).backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_the_trial_leaves_no_trace_on_the_cell() -> None:
    class Counting(Leaky):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x, h)

    cell = Counting()
    Recurrent(cell)(torch.randn(6, 4, 5))
    assert cell.calls == 6


def test_a_cell_that_keeps_things_runs_as_in_a_loop(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the trial nor the trace leaves a shadow in the cell's own containers."""

    class Keeping(Leaky):
        def __init__(self) -> None:
            super().__init__()
            self.kept: dict[str, Tensor] = {}
            self.log: list[Tensor] = []

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            h = super().forward(x, h) + self.kept.get("before", torch.zeros_like(h))
            self.kept["before"] = h.detach()
            self.log.append(h)
            return h

    cell = Keeping()
    with caplog.at_level(logging.INFO, logger="openrnn"):
        Recurrent(cell)(torch.randn(6, 4, 5))
    assert [h.shape for h in cell.log] == [(4, 7)] * 6


@pytest.mark.parametrize("backend", ["eager", "auto"])
def test_a_cell_with_a_branch_on_values_runs(backend: str) -> None:
    class Branching(Leaky):
        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return super().forward(x, h) if h.sum() >= 0 else -h

    x = torch.randn(6, 4, 5)
    cell = Branching()
    outputs, _ = loop(cell, x, torch.zeros(4, 7))
    assert torch.equal(Recurrent(cell, backend=backend)(x)[0], torch.stack(outputs))


def test_checkpointing_around_the_reference() -> None:
    layer = Recurrent(openrnn.LSTMCell(5, 7), backend="reference")
    x = torch.randn(6, 4, 5, requires_grad=True)
    checkpointed = torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)
    (gradient,) = torch.autograd.grad(checkpointed[0].sum(), x)
    (expected,) = torch.autograd.grad(layer(x)[0].sum(), x)
    torch.testing.assert_close(gradient, expected)


def test_another_cell_is_another_structure() -> None:
    layer = Recurrent(nn.GRUCell(5, 7))
    layer(torch.randn(6, 4, 5))
    layer.cell = nn.LSTMCell(5, 7)
    assert len(layer(torch.randn(6, 4, 5))[1]) == 2


def test_unequal_sizes_need_state_sizes() -> None:
    class Silent(ThreeStates):
        state_sizes = None
        hidden_size = 3

    with pytest.raises(openrnn.CellError, match="has no state_sizes, and neither") as caught:
        Recurrent(Silent())(torch.randn(6, 4, 5))
    assert "state_sizes = {'h': 20, 'c': 20}" in str(caught.value)


def test_a_cell_without_any_size() -> None:
    class Bare(nn.Module):
        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return x + h

    with pytest.raises(openrnn.CellError, match="neither state_sizes nor an integer hidden_size"):
        Recurrent(Bare())(torch.randn(6, 4, 5))
    # The state that the user gives says enough.
    x, h = torch.randn(6, 4, 5), torch.randn(4, 5)
    torch.testing.assert_close(Recurrent(Bare())(x, h)[1], h + x.sum(0))


@pytest.mark.parametrize("sizes", [{}, {"h": 0}, {"h": 2.5}, [("h", 3)], 7])
def test_state_sizes_that_make_no_sense(sizes: Any) -> None:
    cell = Leaky()
    cell.state_sizes = sizes
    with pytest.raises(openrnn.CellError, match=r"state_sizes is .*not names to features"):
        Recurrent(cell)(torch.randn(6, 4, 5))


def test_a_cell_that_returns_no_next_state() -> None:
    class Wrong(ThreeStates):
        result: Any = None

        def forward(self, x: Tensor, state: Any) -> Any:
            return self.result(*super().forward(x, state))

    cell = Wrong()
    for result, message in (
        (lambda h, m, n: h, "a tuple of 3 Tensors, got a Tensor"),
        (lambda h, m, n: (h, m), "a tuple of 3 Tensors, got a tuple of Tensor, Tensor"),
        (lambda h, m, n: (m, h, n), r"\(4, 3\) and \(4, 6\) and \(4, 1\), got \(4, 6\)"),
    ):
        cell.result = result
        with pytest.raises(openrnn.CellError, match=message):
            Recurrent(cell)(torch.randn(6, 4, 5))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.zeros(3, 7), r"state h of shape \(4, 7\) .*got \(3, 7\)"),
        (torch.zeros(4, 8), r"state h of shape \(4, 7\) .*got \(4, 8\)"),
        (torch.zeros(1, 4, 7), r"state h of shape \(4, 7\) .*got \(1, 4, 7\)"),
        ((torch.zeros(4, 7), torch.zeros(4, 7)), "a Tensor .*got a tuple of Tensor, Tensor"),
        ("zeros", "a Tensor .*got a str"),
    ],
)
def test_states_that_do_not_fit(given: Any, message: str) -> None:
    with pytest.raises(openrnn.ShapeError, match=message):
        Recurrent(openrnn.GRUCell(5, 7))(torch.randn(6, 4, 5), given)


def test_input_of_the_wrong_size() -> None:
    with pytest.raises(openrnn.ShapeError, match=r"input_size 5 .*got 6"):
        Recurrent(nn.LSTMCell(5, 7))(torch.randn(6, 4, 6))


def test_what_is_no_cell() -> None:
    with pytest.raises(openrnn.ArgumentTypeError, match="got function"):
        Recurrent(lambda x, h: h)  # type: ignore[arg-type]
    for layer in (nn.LSTM(5, 7), openrnn.LSTM(5, 7), Recurrent(Leaky())):
        with pytest.raises(openrnn.CellError, match="which runs over time already"):
            Recurrent(layer)
    with pytest.raises(openrnn.ArgumentTypeError, match="reverse should be of type bool, got: int"):
        Recurrent(Leaky(), reverse=1)  # type: ignore[arg-type]


def test_hooks_of_the_cell_run_at_each_step() -> None:
    cell = Leaky()
    seen: list[Any] = []
    cell.register_forward_hook(lambda *args: seen.append(args))
    Recurrent(cell, backend="eager")(torch.randn(6, 4, 5))
    assert len(seen) == 6


def test_auto_says_once_why_no_kernel_runs(caplog: pytest.LogCaptureFixture) -> None:
    class Sorting(Leaky):
        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return super().forward(x, h).sort(-1).values

    class Mixed(Leaky):
        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return super().forward(x, h.double().sin().float())

    auto._say.cache_clear()
    cells = [Leaky(), Sorting(), Sorting(), Mixed()]
    with caplog.at_level(logging.INFO, logger="openrnn"):
        for cell in (*cells, *cells):
            Recurrent(cell)(torch.randn(6, 4, 5))
    second, third = (record.message for record in caplog.records)
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    assert "one dtype, torch.float32 here, but" in third
    assert "in torch.float64" in third
    assert second.startswith('backend="auto" runs "eager", a plain loop: Sorting: aten.sort')
    assert "test_recurrent.py" in second
    with pytest.raises(openrnn.CellError) as caught:
        Recurrent(Sorting(), backend="reference")(torch.randn(6, 4, 5))
    assert str(caught.value) in second, "the same sentence"


def test_auto_draws_no_random_numbers_of_its_own() -> None:
    outputs = []
    for backend in ("eager", "auto"):
        cell = openrnn.cells.WeightDropLSTMCell(5, 7, dropout=0.5)
        torch.manual_seed(1)
        cell.load_state_dict({k: torch.ones_like(v) for k, v in cell.state_dict().items()})
        outputs.append(Recurrent(cell, backend=backend)(torch.ones(3, 2, 5))[0])
    torch.testing.assert_close(*outputs)


def test_repr() -> None:
    assert repr(Recurrent(nn.GRUCell(5, 7), reverse=True, backend="eager")) == (
        "Recurrent(\n  reverse=True, backend='eager'\n  (cell): GRUCell(5, 7)\n)"
    )


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_tensors_of_two_devices(backend: str) -> None:
    cell = openrnn.LSTMCell(5, 7)
    cell.weight_hh = nn.Parameter(cell.weight_hh.to("meta"))
    with pytest.raises(openrnn.BackendError, match=r"input is on cpu, but .* is on meta"):
        Recurrent(cell, backend=backend)(torch.randn(3, 2, 5))


def test_the_cpu_backend_wants_the_cpu() -> None:
    layer = Recurrent(openrnn.LSTMCell(5, 7, device="meta"), backend="cpu")
    with pytest.raises(openrnn.BackendError, match="the input is on meta"):
        layer(torch.randn(3, 2, 5, device="meta"))


def test_auto_falls_back_for_all_that_has_no_kernel() -> None:
    cell = openrnn.LSTMCell(5, 7, device="meta")
    output, _ = Recurrent(cell)(torch.randn(3, 2, 5, device="meta"))
    assert output.shape == (3, 2, 7)
