"""RNNCell, LSTMCell and GRUCell against torch.nn's: values and every gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import openrnn

from .evaluate import assert_as_exact, evaluate

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("RNNCell", {}),
    "rnn-relu": ("RNNCell", {"nonlinearity": "relu"}),
    "lstm": ("LSTMCell", {}),
    "gru": ("GRUCell", {}),
}
kinds = pytest.mark.parametrize("kind", KINDS)


class _Step(nn.Module):
    """A cell with a layer's two results, for `evaluate`."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, input: Any, state: Any) -> Any:
        state = self.cell(input, state)
        return (), state


def make(kind: str, *args: Any, **options: Any) -> tuple[Any, Any]:
    name, own = KINDS[kind]
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*args, **own, **options)
    torch.manual_seed(0)
    return theirs, getattr(openrnn, name)(*args, **own, **options)


def initial_state(kind: str, *shape: int) -> Any:
    return (torch.randn(shape), torch.randn(shape)) if kind == "lstm" else torch.randn(shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("batch", [(), (0,), (1,), (17,)], ids=["unbatched", "B0", "B1", "B17"])
@pytest.mark.parametrize("with_state", [True, False], ids=["state", "no-state"])
@kinds
def test_step(
    kind: str, with_state: bool, batch: tuple[int, ...], bias: bool, dtype: torch.dtype
) -> None:
    theirs, ours = make(kind, 13, 45, bias=bias)
    state = initial_state(kind, *batch, 45) if with_state else None
    input = torch.randn(*batch, 13)
    truth = evaluate(_Step(theirs), input, state, torch.float64)
    peer = evaluate(_Step(theirs), input, state, torch.float32)
    assert_as_exact(evaluate(_Step(ours), input, state, dtype), peer, truth, dtype)


@kinds
def test_non_contiguous(kind: str) -> None:
    theirs, ours = make(kind, 5, 7)
    input = torch.randn(5, 4).t()
    state = tuple(torch.randn(7, 4).t() for _ in range(2))
    given = state if kind == "lstm" else state[0]
    torch.testing.assert_close(ours(input, given), theirs(input, given))


def test_state_as_a_list() -> None:
    _, ours = make("lstm", 5, 7)
    x, h, c = torch.randn(4, 5), torch.randn(4, 7), torch.randn(4, 7)
    torch.testing.assert_close(ours(x, [h, c]), ours(x, (h, c)))
