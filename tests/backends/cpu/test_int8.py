"""Products in 8 bits, bit for bit those of `openrnn.step.int8`, whatever the processor has."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

import openrnn
from openrnn.backends.cpu import build
from openrnn.backends.cpu.runtime import built, runtime
from openrnn.step import int8

Linear = Callable[[Tensor, Tensor, Tensor], Tensor]
SIZES = [
    *((1, 1, 1), (3, 7, 5), (6, 4, 64), (7, 33, 130), (13, 100, 257), (1, 129, 1024)),
    *((2, 64, 512), (64, 257, 65), (9, 16, 17), (5, 15, 15), (0, 8, 8)),
]
sizes = pytest.mark.parametrize(("rows", "depth", "columns"), SIZES)


def linear_of() -> Linear:
    """The product of the library that is built now."""
    library = runtime(torch.float32, int8=True)

    def linear(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        result = torch.full((len(x), len(weight)), torch.nan)
        sizes = (len(x), x.size(1), len(weight))
        library.int8_linear_of(
            *sizes, x.data_ptr(), weight.data_ptr(), scale.data_ptr(), result.data_ptr()
        )
        return result

    return linear


def numbers(rows: int, depth: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of all kinds, and a weight with a column of zeros."""
    x = torch.randn(rows, depth) * torch.logspace(-25, 25, rows)[:, None]
    x[1::5] = x[1::5].abs()
    x[2::7] = 0
    x[3::11, 0] = torch.nan
    x[4::11, -1] = torch.inf
    x[5::11] = 1e-39
    weight = torch.randn(columns, depth)
    weight[3:4] = 0
    return x, *int8.quantize_weight(weight)


def assert_same(linear: Linear, rows: int, depth: int, columns: int) -> None:
    given = numbers(rows, depth, columns)
    actual, expected = linear(*given), int8.linear(*given)
    assert torch.equal(actual.isnan(), expected.isnan())
    assert torch.equal(actual.nan_to_num(), expected.nan_to_num())


@sizes
def test_bit_for_bit(rows: int, depth: int, columns: int) -> None:
    assert_same(linear_of(), rows, depth, columns)


def test_the_largest_sums_do_not_overflow() -> None:
    depth = int8.DEEPEST
    weight, scale = int8.quantize_weight(torch.tensor([[1.0], [-1.0]]).expand(2, depth))
    x = torch.ones(3, depth)
    x[1] = -1
    x[2, ::2] = -1
    actual = linear_of()(x, weight, scale)
    assert torch.equal(actual, int8.linear(x, weight, scale))
    torch.testing.assert_close(actual[:2], depth * torch.tensor([[1.0, -1], [-1, 1]]))


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Linear]]:
    """Builds the product anew, with other flags for the compiler."""

    def clear() -> None:
        built.cache_clear()
        build.compile_command.cache_clear()

    def build_with(flags: str) -> Linear:
        monkeypatch.setenv("OPENRNN_CXXFLAGS", flags)
        clear()
        return linear_of()

    yield build_with
    monkeypatch.undo()
    clear()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the flags are those of x86-64")
@pytest.mark.parametrize("flags", ["-march=x86-64 -O1", "-march=x86-64-v3 -O1"])
def test_on_older_processors(others: Callable[[str], Linear], flags: str) -> None:
    if "v3" in flags and not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        pytest.skip("this processor has no AVX2")
    linear = others(flags)
    for shape in SIZES:
        assert_same(linear, *shape)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_threads_change_nothing(kind: str) -> None:
    """One row is run by all threads together, many by each on its own."""
    layer = openrnn.quantize(getattr(openrnn, kind)(64, 144, backend="cpu"))
    before = torch.get_num_threads()
    for batch in (1, 9):
        x, results = torch.randn(12, batch, 64), []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with torch.no_grad():
                results.append(layer(x)[0])
        torch.set_num_threads(before)
        assert torch.equal(*results)


def test_a_row_is_the_same_in_every_batch() -> None:
    layer = openrnn.quantize(openrnn.LSTM(5, 13, backend="cpu"))
    x = torch.randn(4, 9, 5)
    with torch.no_grad():
        together = layer(x)[0]
        for rows in (1, 2, 5):
            assert torch.equal(layer(x[:, :rows])[0], together[:, :rows])
