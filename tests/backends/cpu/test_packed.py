"""Weights that stay packed from call to call in inference, until one of them is another."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import openrnn
from openrnn.backends.cpu import packed

SIZE = 48  # of a layer whose weights are worth it, whatever the vectors
x = torch.randn(5, 3, SIZE)
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "LSTM": lambda: openrnn.LSTM(SIZE, SIZE),
    "GRU, two layers": lambda: openrnn.GRU(SIZE, SIZE, 2),
    "layer norm": lambda: openrnn.Recurrent(openrnn.cells.LayerNormLSTMCell(SIZE, SIZE)),
    "RNN in float64": lambda: openrnn.RNN(SIZE, 2 * SIZE).double(),
}


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[Tensor | None]:
    """The packed weights that each kernel used, one after the other."""
    seen: list[Tensor | None] = []
    run = packed.Packed.run

    def spy(self: packed.Packed, words: Any) -> bool:
        found = run(self, words)
        seen.append(self.weights)
        return found

    monkeypatch.setattr(packed.Packed, "run", spy)
    return seen


def check(layer: nn.Module) -> None:
    input = x.to(next(layer.parameters()).dtype)
    fresh = copy.deepcopy(layer)  # nothing is known of it
    torch.testing.assert_close(layer(input)[0], fresh(input)[0], rtol=0, atol=0)


def ready(layer: nn.Module) -> nn.Module:
    for _ in range(3):
        check(layer)
    return layer


@pytest.mark.parametrize("name", LAYERS)
def test_weights_are_packed_once(name: str, used: list[Tensor | None]) -> None:
    layer = ready(LAYERS[name]())
    count = 2 if "two" in name else 1
    used.clear()
    for _ in range(3):
        check(layer)
    assert len(used) == 3 * count
    assert len(set(map(id, used))) == count


def swapped(weight: Tensor) -> None:
    weight.data[[0, 1]] = weight.data[[1, 0]]


CHANGES: dict[str, Callable[[Tensor], Any]] = {
    "all are halved": lambda weight: weight.data.mul_(0.5),
    "signs": lambda weight: weight.data.neg_(),
    "two rows are swapped": swapped,
    "one number": lambda weight: weight.data.view(-1)[7].add_(1e-3),
    "other memory": lambda weight: setattr(weight, "data", torch.randn_like(weight)),
    "in place, seen by torch": lambda weight: weight.mul_(0.5),
    "columns that are apart": lambda weight: setattr(
        weight, "data", torch.randn(*weight.shape, 2, dtype=weight.dtype)[..., 0]
    ),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(name: str, change: str, used: list[Tensor | None]) -> None:
    layer = ready(LAYERS[name]())
    for parameter in layer.parameters():
        if parameter.dim() == 2:
            before = used[-1]
            CHANGES[change](parameter)
            check(layer)
            check(layer)
    assert used[-1] is not before


class Plain(nn.Module):
    """Its weights are read as they lie, whatever their strides."""

    input_size = hidden_size = SIZE

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = (nn.Parameter(0.1 * torch.randn(SIZE, SIZE)) for _ in range(2))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x @ self.w + h @ self.u)


def test_the_same_numbers_as_another_matrix(used: list[Tensor | None]) -> None:
    cell = Plain()
    layer = ready(openrnn.Recurrent(cell))
    for weight in (cell.w, cell.u):
        for turn in (weight.data.t(), torch.randn(SIZE, SIZE, 2)[..., 0]):
            before = used[-1]
            weight.data = turn
            check(layer)
            assert used[-1] is not before
            check(layer)


def test_changes_that_might_cancel_out(used: list[Tensor | None]) -> None:
    layer, input = openrnn.RNN(64, 64), torch.randn(4, 2, 64)
    for _ in range(3):
        layer(input)
    numbers = layer.weight_hh_l0.data.view(-1)
    for distance in (8, 16, 32, 64):  # of vectors, and of several of them
        before = used[-1]
        numbers.view(torch.int32)[2001] ^= 4
        numbers[2001 + distance].neg_()
        layer(input)
        assert used[-1] is not before


def test_each_number_counts(used: list[Tensor | None]) -> None:
    layer = ready(openrnn.LSTM(SIZE, SIZE))
    for parameter in layer.parameters():
        numbers = parameter.data.view(-1).view(torch.int32)
        for place in [0, len(numbers) - 1, *torch.randint(len(numbers), (40,)).tolist()]:
            before, bit = used[-1], 1 << int(torch.randint(31, ()))
            numbers[place] ^= bit
            layer(x)
            assert used[-1] is not before
            numbers[place] ^= bit
    check(layer)


def test_in_8_bits(used: list[Tensor | None]) -> None:
    layer = openrnn.quantize(openrnn.LSTM(SIZE, 2 * SIZE))
    outputs = [layer(x)[0] for _ in range(3)]
    assert used[-1] is not None
    assert torch.equal(outputs[2], outputs[0])
    for name in ("weight_hh_l0", "weight_hh_scale_l0"):
        before = used[-1]
        buffer = layer.get_buffer(name)
        buffer.data.view(-1)[3] += 1
        changed = layer(x)[0]
        assert used[-1] is not before
        assert not torch.equal(changed, outputs[2])
        assert torch.equal(layer(x)[0], changed)


def test_not_where_it_is_not_worth_the_memory(used: list[Tensor | None]) -> None:
    small, layer = openrnn.LSTM(5, 6), openrnn.LSTM(SIZE, SIZE)
    for _ in range(3):
        small(x[..., :5])
        layer(torch.randn(packed._MOST_ROWS, 2, SIZE))
    assert not used
    with torch.enable_grad():
        for _ in range(3):
            layer(x)
    assert not used


def test_threads_that_share_a_layer(used: list[Tensor | None]) -> None:
    """While its weights change now and then, each call is of those before or those after."""
    layer = ready(openrnn.LSTM(SIZE, SIZE))
    states = [copy.deepcopy(layer.state_dict()) for _ in range(2)]
    for tensor in states[1].values():
        tensor.mul_(0.5)
    expected = []
    for state in states:
        layer.load_state_dict(state)
        expected.append(layer(x)[0])
    for turn in range(6):
        layer.load_state_dict(states[turn % 2])
        with ThreadPoolExecutor(4) as threads:
            found = [*threads.map(lambda _: layer(x)[0], range(40))]
        for output in found:
            torch.testing.assert_close(output, expected[turn % 2], rtol=0, atol=0)
