"""Exported layers, as C runs them, against the layers themselves."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import openrnn
from openrnn import backends, cells
from openrnn.layers.layer import Layer
from tests.backends.cpu.test_steps import WithoutRows
from tests.cells.box import BOX
from tests.contract.evaluate import assert_as_exact
from tests.step.test_random_cells import BINARY, TRANSPOSED, UNARY, RandomCell, Recipe

from .programs import COMPILERS, RESET, STEPS, run

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")

INPUT, HIDDEN = 5, 6
MORE = {
    "asin": lambda a: a.tanh().asin(),
    "acos": lambda a: a.tanh().acos(),
    "atan": torch.atan,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "asinh": torch.asinh,
    "acosh": lambda a: (a.abs() + 1.5).acosh(),
    "atanh": lambda a: (a.tanh() * 0.9).atanh(),
    "tan": lambda a: a.tanh().tan(),
    "exp2": torch.exp2,
    "log2": lambda a: (a.abs() + 0.5).log2(),
    "log10": lambda a: (a.abs() + 0.5).log10(),
    "floor": torch.floor,
    "ceil": torch.ceil,
    "trunc": torch.trunc,
    "round": torch.round,
    "remainder": lambda a: torch.remainder(a, -0.7),
    "logic": lambda a: a * ((a > 0.1) & ~(a >= 0.9) | (a <= -0.3) & (a != 1)).to(a.dtype),
    "equal": lambda a: torch.where((a > 0) == (a < 1), a, a - 1),
    "outer": lambda a: torch.einsum("bi,bj->bij", a, a.flip(-1)).amax(1),
    "attention": lambda a: (
        a.view(-1, 2, 2) @ a.view(-1, 2, 2).transpose(1, 2)
    ).reshape(-1, 4),
    "columns": lambda a: a.view(-1, 2, 2).sum(1).repeat(1, 2),
    "running": lambda a: a.view(-1, 2, 2).cumsum(1).reshape(-1, 4),
    "infinite": lambda a: a.clamp(max=float("inf")) / a.new_full((4,), float("inf")),
}  # fmt: skip


class Operations(nn.Module):
    """The result of each operation, of a value that depends on x and on the state."""

    def __init__(self, operations: list[Any]) -> None:
        super().__init__()
        self.operations = operations
        self.entry = nn.Linear(INPUT, 4)
        self.state_sizes = {"results": 4 * len(operations), "h": 4}
        self.input_size = INPUT

    def forward(self, x: Tensor, state: Any) -> Any:
        a = self.entry(x) + state[1]
        b = a.flip(-1) * 1.5
        results = [f(a, b) if f in BINARY.values() else f(a) for f in self.operations]
        return torch.cat(results, -1), a.tanh()


class Delay(nn.Module):
    """States that are passed on as they are, one of them not read, and names that C has taken."""

    state_sizes = {"float": 3, "one": 2, "two": 2, "count": 1, "unread": 2}  # noqa: RUF012
    input_size = 2

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.randn(3, 2))
        self.y0 = nn.Parameter(torch.randn(3))
        self.double_u = nn.Parameter(torch.randn(1))

    def forward(self, x: Tensor, state: Any) -> Any:
        _, one, two, count, _ = state
        j = F.linear(two, self.gamma, self.y0)
        state = (j * self.double_u + count).tanh()
        return state, x, one, count + 1, x * 2


class Swap(nn.Module):
    """Two states that change places, of one number each."""

    state_sizes = {"first": 1, "second": 1}  # noqa: RUF012
    input_size = 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, 2))

    def forward(self, x: Tensor, state: Any) -> Any:
        first, second = state
        return second, torch.sin(first + F.linear(x, self.weight))


class Places(nn.Module):
    """Values that must not take each other's place in memory too early."""

    state_sizes = {"turned": 4, "left": 4, "right": 4}  # noqa: RUF012
    input_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.randn(4, 4) for _ in range(4))

    def forward(self, x: Tensor, state: Any) -> Any:
        turned, left, right = state
        deep = x + left - right
        for weight in self.weights:
            deep = F.linear(deep, weight).tanh()
        return (turned.flip(-1) * 0.5 + deep).tanh(), (right + x).sin(), left * 0.5 + x


class Blind(nn.Module):
    """A cell that does not look at x, and has learned nothing."""

    hidden_size, input_size = 3, 1

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return h * 0.5 + torch.tensor([0.25, -1.0, 3.0], dtype=h.dtype)


class Norm(nn.Module):
    """Weights that are computed from others, and a buffer with an infinite number."""

    limit: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.hidden_size, self.input_size = 4, INPUT
        self.joined = nn.Linear(INPUT + 4, 4)
        self.scale = nn.Parameter(torch.randn(4, 1))
        self.register_buffer("limit", torch.tensor([0.1, 0.5, float("inf"), 1.0]))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        weight = self.scale * self.joined.weight / self.joined.weight.norm(dim=1, keepdim=True)
        total = F.linear(torch.cat([x, h], -1), weight, self.joined.bias)
        return torch.minimum(total, self.limit)


def recipes(count: int) -> list[Recipe]:
    """Random ones, the same each time."""
    pick = random.Random(0)
    operations = [("unary", name) for name in sorted({*UNARY} - {"dropout"})]
    operations += [("binary", name) for name in sorted(BINARY)]
    operations += [("product", name) for name in ("linear", "joined", "heads")] * 4
    return [
        Recipe(
            INPUT,
            tuple(pick.choices([2, 4, 6], k=pick.randint(1, 3))),
            tuple(
                (*pick.choice(operations), pick.randint(0, 20), pick.randint(0, 20))
                for _ in range(pick.randint(3, 10))
            ),
            seed,
        )
        for seed in range(count)
    ]


def box(name: str, size: int = INPUT, **options: Any) -> Any:
    return BOX[name](size, HIDDEN, **options)


def layers() -> dict[str, nn.Module]:
    """All that is exported, by a name."""
    found: dict[str, nn.Module] = {name: box(name) for name in BOX}
    found |= {f"no bias {name}": box(name, bias=False) for name in ("LSTMCell", "GRUCell")}
    found |= {
        "LSTM": openrnn.LSTM(INPUT, HIDDEN, 2, dropout=0.5, batch_first=True),
        "projection": openrnn.LSTM(INPUT, HIDDEN, 2, proj_size=3),
        "GRU": openrnn.GRU(
            INPUT, HIDDEN, 2, zoneout=0.2, layer_norm=True, weight_drop=0.3,
            recurrent_dropout=0.2, learn_initial_state=True,
        ),
        "RNN": openrnn.RNN(INPUT, HIDDEN, nonlinearity="relu"),
        "Recurrent": openrnn.Recurrent(Norm()),
        "torch LSTM": nn.LSTM(INPUT, HIDDEN, 2),
        "torch GRU": nn.GRU(INPUT, HIDDEN),
        "torch cell": openrnn.Recurrent(nn.LSTMCell(INPUT, HIDDEN), learn_initial_state=False),
        "learned": openrnn.Recurrent(cells.LSTMCell(INPUT, HIDDEN), learn_initial_state=True),
        "Stack": openrnn.Stack(
            [
                box("LSTMCell"),
                openrnn.Stack([box("GRUCell", HIDDEN), box("RNNCell", HIDDEN)], residual=True),
                openrnn.LSTM(HIDDEN, HIDDEN, 2),
                box("LSTMPCell", HIDDEN),
            ],
            residual=True,
            dropout=0.3,
        ),
        "operations": Operations([f for name, f in UNARY.items() if name != "dropout"]),
        "more": Operations([*BINARY.values(), *MORE.values()]),
        "delay": Delay(),
        "swap": Swap(),
        "places": Places(),
        "without rows": WithoutRows(),
        "blind": Blind(),
        "norm": Norm(),
        "transposed": RandomCell(TRANSPOSED),
    }  # fmt: skip
    found["changed"] = changed = openrnn.GRU(INPUT, HIDDEN, zoneout=0.1)
    changed.zoneout = 0.5
    shared = box("GRUCell", HIDDEN)
    found["shared"] = openrnn.Stack([box("GRUCell"), shared, shared])
    return found | {f"random {r.seed}": RandomCell(r) for r in recipes(12)}


NAMES = tuple(layers())
DOUBLE = ("LSTM", "Stack", "more", "SLSTMCell 2 heads")


def in_c(name: str) -> str:
    return name.replace(" ", "_").lower()


def input_to(layer: nn.Module, dtype: torch.dtype) -> Tensor:
    """Twenty steps, one of them, just before the reset, with a NaN."""
    size = getattr(layer, "input_size", INPUT)
    size = layer.recipe.input_size if isinstance(layer, RandomCell) else size
    x = torch.randn(STEPS, size, dtype=torch.float64).to(dtype)
    x[RESET - 1, -1] = float("nan")
    return x


def eager(layer: nn.Module, x: Tensor) -> Tensor:
    """The output, with a reset, of a copy in evaluation and in the dtype of x."""
    layer = copy.deepcopy(layer).to(x.dtype).eval()
    if not isinstance(layer, (Layer, nn.RNNBase)):
        layer = openrnn.Recurrent(layer)
    dim = 0 if getattr(layer, "batch_first", False) else 1
    with backends.instead(backends.BACKENDS["eager"]):
        parts = [layer(part.unsqueeze(dim))[0].squeeze(dim) for part in (x[:RESET], x[RESET:])]
    return torch.cat(parts).detach()


class Exported:
    """All layers, their inputs, and what C made of them."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        self.layers = {name: _varied(layer).float() for name, layer in layers().items()}
        self.layers |= {f"double {n}": copy.deepcopy(self.layers[n]).double() for n in DOUBLE}
        dtypes = {
            n: torch.float64 if n.startswith("double ") else torch.float32 for n in self.layers
        }
        self.inputs = {n: input_to(layer, dtypes[n]) for n, layer in self.layers.items()}
        outputs = run(
            {in_c(name): layer for name, layer in self.layers.items()},
            {in_c(name): x for name, x in self.inputs.items()},
            folder,
        )
        self.outputs = {name: outputs[in_c(name)] for name in self.layers}


def _varied(layer: nn.Module) -> nn.Module:
    """The layer with random numbers for those that begin as 0 or 1."""
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if "norm" in name or name.endswith("_0"):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return layer


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(tmp_path_factory.mktemp("c"))


@pytest.mark.feature("C")
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_layer(exported: Exported, name: str) -> None:
    layer, x, ours = exported.layers[name], exported.inputs[name], exported.outputs[name]
    peer, truth = eager(layer, x), eager(layer, x.double())
    assert torch.equal(ours.isnan(), peer.isnan())
    assert not ours[: RESET - 1].isnan().any()
    kept = ~truth.isnan()
    ours, peer, truth = (each[kept] for each in (ours, peer, truth))
    assert_as_exact({"y": ours}, {"y": peer}, {"y": truth}, torch.float32)


@pytest.mark.parametrize("name", [f"double {name}" for name in DOUBLE])
def test_float64_is_double(exported: Exported, name: str) -> None:
    ours, truth = exported.outputs[name], eager(exported.layers[name], exported.inputs[name])
    torch.testing.assert_close(ours, truth, rtol=1e-12, atol=1e-13, equal_nan=True)
