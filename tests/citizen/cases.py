"""What a row of the table of a citizen is tried on: eight modules, each with a peer of torch's.

The peer has the same parameters by the same names, so what is done to the one can be done to the
other. Of the six drop-ins it is torch.nn's module, of layers over cells a plain loop. The sizes are
such that few kernels are built: both layers of a drop-in, and those of a stack, take 12 features.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import openrnn


class Leaky(nn.Module):
    """A user's cell."""

    hidden_size = 12

    def __init__(self) -> None:
        super().__init__()
        self.ih, self.hh = nn.Linear(12, 12), nn.Linear(12, 12, bias=False)
        self.register_buffer("rate", torch.tensor(0.25))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return h + self.rate * (torch.tanh(self.ih(x) + self.hh(h)) - h)


class Loop(nn.Module):
    """A cell with one state over time."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = x.new_zeros(x.size(1), self.cell.hidden_size)  # type: ignore[arg-type]
        outputs = []
        for x_t in x:
            h = self.cell(x_t, h)
            outputs.append(h)
        return torch.stack(outputs), h


class Loops(nn.Module):
    """Loops one on the other."""

    def __init__(self, *cells: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(map(Loop, cells))

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        states = []
        for layer in self.layers:
            x, h = layer(x)
            states.append(h)
        return x, tuple(states)


Pair = tuple[nn.Module, nn.Module]
NAMES = ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell", "Recurrent", "Stack")
names = pytest.mark.parametrize("name", NAMES)


def make(name: str, dtype: torch.dtype | None = torch.float64) -> Pair:
    """Ours and its peer, with the same numbers as parameters; without a dtype as they are made."""
    ours: nn.Module
    if name == "Recurrent":
        ours, peer = openrnn.Recurrent(Leaky()), Loop(Leaky())
    elif name == "Stack":
        ours = openrnn.Stack([Leaky(), openrnn.GRUCell(12, 6)])
        peer = Loops(Leaky(), nn.GRUCell(12, 6))
    else:
        options = {} if name.endswith("Cell") else {"num_layers": 2, "bidirectional": True}
        ours = getattr(openrnn, name)(12, 6, **options)
        peer = getattr(nn, name)(12, 6, **options)
    peer.load_state_dict(ours.state_dict())
    return (ours, peer) if dtype is None else (ours.to(dtype), peer.to(dtype))


def x_of(name: str, dtype: torch.dtype = torch.float64) -> Tensor:
    """It wants a gradient, in every test: another kernel would be built for one that does not."""
    shape = (3, 12) if name.endswith("Cell") else (4, 3, 12)
    return torch.randn(shape, dtype=dtype, requires_grad=True)


def inputs(module: nn.Module, x: Tensor) -> tuple[Any, ...]:
    """What the module is called with; a cell has a state too."""
    if not isinstance(module, nn.RNNCellBase):
        return (x,)
    h = x.detach()[:, :1].expand(-1, 6).cos().contiguous()
    return (x, (h, h.sin()) if isinstance(module, (nn.LSTMCell, openrnn.LSTMCell)) else h)


def run(module: nn.Module, x: Tensor) -> Any:
    return module(*inputs(module, x))


def recurrent_weight(module: nn.Module) -> tuple[nn.Module, str]:
    """The module that owns the weight of the first state, and its name there."""
    if isinstance(module, (openrnn.Stack, Loops)):
        module = module.layers[0]  # type: ignore[assignment]
    if isinstance(module, (openrnn.Recurrent, Loop)):
        return module.cell.hh, "weight"  # type: ignore[union-attr, return-value]
    return module, "weight_hh_l0" if isinstance(module, nn.RNNBase) else "weight_hh"


class Everything(nn.Module):
    """One of each kind, side by side, where it is the compiler that takes the time."""

    def __init__(self, *, lengths: bool = False) -> None:
        super().__init__()
        self.kinds = nn.ModuleDict({name: make(name, torch.float32)[0] for name in NAMES})
        self.lengths = lengths

    def forward(self, x: Tensor, h: Tensor, lengths: Tensor) -> list[Tensor]:
        """`h` is a state of the cells; the layers over time take the lengths, if they are to."""
        found: list[Tensor] = []
        for name, module in self.kinds.items():
            if name.endswith("Cell"):
                result = module(x[0], (h, h.sin()) if name == "LSTMCell" else h)
            elif self.lengths:
                result = module(x, lengths=lengths)
            else:
                result = module(x)
            found.extend(flat(result))
        return found

    @staticmethod
    def inputs(steps: int, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        lengths = torch.arange(rows) * 2 % (steps + 1)
        return torch.randn(steps, rows, 12), torch.randn(rows, 6), lengths


def flat(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    else:
        for part in value:
            yield from flat(part)


def loss_of(value: Any) -> Tensor:
    """A number in which every output and state counts, each in its own way."""
    parts = [((1 + place) * t.sin()).sum() for place, t in enumerate(flat(value))]
    return torch.stack(parts).sum()


def gradients(
    module: nn.Module, x: Tensor, call: Callable[..., Any] | None = None
) -> dict[str, Tensor | None]:
    """Outputs, states, and the gradients of x and of the parameters, as `backward` leaves them."""
    module.zero_grad()
    x = x.detach().requires_grad_()
    result = (call or module)(*inputs(module, x))
    loss_of(result).backward()
    found = {f"output {place}": t.detach() for place, t in enumerate(flat(result))}
    return {**found, "x": x.grad, **{n: p.grad for n, p in module.named_parameters()}}


def assert_alike(pair: Pair, x: Tensor) -> None:
    """Both give the same outputs, states and gradients."""
    ours, theirs = (copy.copy(gradients(module, x)) for module in pair)
    assert ours.keys() == theirs.keys()
    for key, expected in theirs.items():
        assert (ours[key] is None) == (expected is None), key
        torch.testing.assert_close(ours[key], expected, msg=lambda text, key=key: f"{key}: {text}")
