"""Random cells, made of the operations of the table: eager, reference and cpu agree, gradients too.

OPENRNN_EXAMPLES=20000 runs more of them than the 500 of continuous integration.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hypothesis
import hypothesis.strategies as st
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import openrnn

EXAMPLES = int(os.environ.get("OPENRNN_EXAMPLES", "500"))

# Each keeps its argument's shape, and its results and slopes within a few powers of ten.
UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "neg": torch.neg,
    "abs": torch.abs,
    "sign": lambda a: a * a.sign(),
    "exp": lambda a: a.tanh().exp(),
    "log": lambda a: (a.abs() + 0.5).log(),
    "log1p": lambda a: a.abs().log1p(),
    "expm1": lambda a: a.tanh().expm1(),
    "sqrt": lambda a: (a.abs() + 0.1).sqrt(),
    "rsqrt": lambda a: (a.abs() + 0.1).rsqrt(),
    "reciprocal": lambda a: (a.abs() + 0.5).reciprocal(),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "gelu tanh": lambda a: F.gelu(a, approximate="tanh"),
    "silu": F.silu,
    "softplus": F.softplus,
    "hardsigmoid": F.hardsigmoid,
    "hardtanh": F.hardtanh,
    "logsigmoid": F.logsigmoid,
    "erf": torch.erf,
    "sin": torch.sin,
    "cos": torch.cos,
    "square": lambda a: a.tanh() ** 2,
    "cube": lambda a: a.tanh() ** 3,
    "power": lambda a: (a.abs() + 0.1) ** 1.7,
    "clamp": lambda a: a.clamp(-0.7, 0.4),
    "softmax": lambda a: a.softmax(-1),
    "log_softmax": lambda a: a.log_softmax(-1),
    "layer_norm": lambda a: F.layer_norm(a, a.shape[-1:], eps=0.1),
    "rms_norm": lambda a: F.rms_norm(a, a.shape[-1:], eps=0.1),
    "centre": lambda a: a - a.mean(-1, keepdim=True),
    "variance": lambda a: a * a.var(-1, keepdim=True, unbiased=False),
    "largest": lambda a: a - a.amax(-1, keepdim=True),
    "smallest": lambda a: a - a.min(-1, keepdim=True).values,
    "total": lambda a: a + a.sum(-1, keepdim=True).tanh(),
    "cumsum": lambda a: a.cumsum(-1).tanh(),
    "flip": lambda a: a.flip(-1),
    "roll": lambda a: a.roll(1, -1),
    "detach": lambda a: a * a.detach().tanh(),
    "even": lambda a: torch.cat((a[:, ::2], a[:, 1::2]), -1),
    "unbind": lambda a: torch.stack(a.unbind(-1)[::-1], -1),
    "in place": lambda a: (a * 1).mul_(0.5).add_(a),
    "dropout": lambda a: F.dropout(a, 0.3),
    "shift": lambda a: F.pad(a, (1, 0))[:, :-1],
}
BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": lambda a, b: a / (b.abs() + 0.5),
    "pow": lambda a, b: (a.abs() + 0.1) ** b.tanh(),
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "where": lambda a, b: torch.where(a > b, a.tanh(), b * 0.5),
    "gate": lambda a, b: torch.sigmoid(a) * b + (1 - torch.sigmoid(a)) * b.tanh(),
    "lerp": lambda a, b: torch.lerp(a, b, torch.sigmoid(a)),
}


@dataclass(frozen=True)
class Recipe:
    """What a random cell does: `steps` are (kind, operation, two places among earlier values)."""

    input_size: int
    sizes: tuple[int, ...]
    steps: tuple[tuple[str, str, int, int], ...]
    seed: int


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    place = st.integers(0, 20)
    step = st.one_of(
        st.tuples(st.just("unary"), st.sampled_from(sorted(UNARY)), place, place),
        st.tuples(st.just("binary"), st.sampled_from(sorted(BINARY)), place, place),
        st.tuples(st.just("product"), st.sampled_from(["linear", "joined", "heads"]), place, place),
    )
    return Recipe(
        draw(st.integers(1, 5)),
        tuple(draw(st.lists(st.sampled_from([2, 4, 6]), min_size=1, max_size=3))),
        tuple(draw(st.lists(step, min_size=1, max_size=10))),
        draw(st.integers(0, 2**16)),
    )


class RandomCell(nn.Module):
    """The cell of a recipe; all its values have 4 features."""

    width = 4

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.state_sizes = {f"s{i}": size for i, size in enumerate(recipe.sizes)}
        given = (recipe.input_size, *recipe.sizes)
        self.entries = nn.ModuleList(nn.Linear(size, self.width) for size in given)
        self.products = nn.ModuleList(
            nn.Linear(2 * self.width if name == "joined" else self.width, self.width)
            for kind, name, _, _ in recipe.steps
            if kind == "product"
        )
        self.heads = nn.Parameter(torch.randn(2, 2, 2))
        self.exits = nn.ModuleList(nn.Linear(self.width, size) for size in recipe.sizes)
        self.double()

    def forward(self, x: Tensor, state: Any) -> Any:
        states = (state,) if isinstance(state, Tensor) else state
        values = [entry(v) for entry, v in zip(self.entries, (x, *states), strict=True)]
        products = iter(self.products)
        for kind, name, first, second in self.recipe.steps:
            a, b = values[first % len(values)], values[second % len(values)]
            if kind == "unary":
                values.append(UNARY[name](a))
            elif kind == "binary":
                values.append(BINARY[name](a, b))
            else:
                values.append(self._product(name, next(products), a, b))
        last = values[-len(self.exits) :]
        new = [
            torch.tanh(leave(last[i % len(last)])) + (0.1 * old if i == 0 else 0)
            for i, (leave, old) in enumerate(zip(self.exits, states, strict=True))
        ]
        return new[0] if isinstance(state, Tensor) else tuple(new)

    def _product(self, name: str, linear: nn.Module, a: Tensor, b: Tensor) -> Tensor:
        result: Tensor
        if name == "heads":
            mixed = torch.einsum("bhd,hde->bhe", a.reshape(-1, 2, 2), self.heads)
            result = linear(mixed.reshape(-1, self.width))
        else:
            result = linear(torch.cat((a, b), -1) if name == "joined" else a)
        return result


def results(cell: RandomCell, backend: str, reverse: bool) -> list[Tensor | None]:
    recipe = cell.recipe
    torch.manual_seed(recipe.seed + 1)
    x = torch.randn(3, 2, recipe.input_size, dtype=torch.float64, requires_grad=True)
    initial = [torch.randn(2, s, dtype=torch.float64, requires_grad=True) for s in recipe.sizes]
    layer = openrnn.Recurrent(cell, reverse=reverse, backend=backend)
    output, final = layer(x, initial[0] if len(initial) == 1 else initial)
    finals = [final] if isinstance(final, Tensor) else list(final)
    weights = torch.Generator().manual_seed(3)
    loss = sum(
        (r * torch.randn(r.shape, dtype=r.dtype, generator=weights)).sum()
        for r in (output, *finals)
    )
    assert isinstance(loss, Tensor)
    inputs = [x, *initial, *cell.parameters()]
    return [output, *finals, *torch.autograd.grad(loss, inputs, allow_unused=True)]


@hypothesis.settings(max_examples=EXAMPLES, deadline=None, database=None)
@hypothesis.given(recipes(), st.booleans())
def test_eager_and_reference_agree(recipe: Recipe, reverse: bool) -> None:
    assert_agree(RandomCell(recipe), "reference", reverse)


# Found once: a transposed value was wanted in the loop, and by a product outside of it.
TRANSPOSED = Recipe(
    1, (2, 2, 2), (("unary", "abs", 1, 0), ("unary", "clamp", 1, 0), ("unary", "abs", 0, 0)), 0
)


# Each takes two compilations, so in continuous integration they are few.
@hypothesis.settings(max_examples=max(25, EXAMPLES // 20), deadline=None, database=None)
@hypothesis.example(TRANSPOSED, False)
@hypothesis.given(recipes(), st.booleans())
def test_eager_and_cpu_agree(recipe: Recipe, reverse: bool) -> None:
    assert_agree(RandomCell(recipe), "cpu", reverse)


def assert_agree(cell: RandomCell, backend: str, reverse: bool) -> None:
    for eager, other in zip(
        results(cell, "eager", reverse), results(cell, backend, reverse), strict=True
    ):
        if eager is None or other is None:
            for gradient in (eager, other):
                assert gradient is None or not gradient.any(), "None is a gradient of zero"
        else:
            # torch's own hardsigmoid has a slope of 1/6 in single precision.
            torch.testing.assert_close(other, eager, rtol=1e-6, atol=1e-8)
