"""torch's default device is for tensors of the user's: a layer computes where its input is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import openrnn

x = torch.randn(5, 3, 4)
CALLS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda layer: layer(x),
    "lengths": lambda layer: layer(x, lengths=[5, 2, 0]),
    "resets": lambda layer: layer(x, reset=reset),
    "backward": lambda layer: torch.autograd.grad(layer(x)[0].sum(), [*layer.parameters()]),
    "backward, lengths": lambda layer: torch.autograd.grad(
        layer(x, lengths=torch.tensor([5, 2, 0], device="cpu"))[0].sum(), [*layer.parameters()]
    ),
    "stream": lambda layer: layer.stream(3)(x),
}
reset = torch.rand(5, 3) < 0.4


def flat(found: Any) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else [t for part in found for t in flat(part)]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("layers", [1, 2])
def test_a_call(call: str, layers: int) -> None:
    layer = openrnn.LSTM(4, 6, layers)
    expected = flat(CALLS[call](layer))
    for _ in range(3):
        with torch.device("meta"):
            found = flat(CALLS[call](layer))
        torch.testing.assert_close(found, expected)
