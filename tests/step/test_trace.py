"""From a cell to its step graph: what is understood, and what is refused with which words."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import openrnn
from openrnn.binding import bind, tensors_of
from openrnn.state import state_spec
from openrnn.step import program
from openrnn.step.evaluate import Evaluator
from openrnn.step.graph import Graph
from openrnn.step.shape import Batch
from openrnn.step.trace import trace


def graph_of(cell: nn.Module, input_size: int = 5) -> Graph:
    x = torch.zeros(1, input_size, dtype=torch.float64)
    spec = state_spec(cell, x)
    graph = trace(cell, tensors_of(cell), spec, input_size, torch.float64, x.device)
    graph.check()
    return graph


class Step(nn.Module):
    """A cell of one state of 6 features, around a function of x (B, 5), h (B, 6) and itself."""

    hidden_size = 6

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function
        self.linear = nn.Linear(5, 6)
        self.recurrent = nn.Linear(6, 6, bias=False)
        self.gain = nn.Parameter(torch.randn(6))
        self.heads = nn.Parameter(torch.randn(2, 3, 3))
        self.norm = nn.LayerNorm(6)
        self.group = nn.GroupNorm(2, 6)
        self.batch = nn.BatchNorm1d(6).eval()
        self.net = nn.Sequential(nn.Linear(6, 4), nn.SiLU(), nn.Linear(4, 6))
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("table", torch.randn(6))
        self.plain = torch.randn(6)
        self.seen: list[Tensor] = []
        self.double()
        self.plain = self.plain.double()

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.function(self, x, h)


def in_place(self: Step, x: Tensor, h: Tensor) -> Tensor:
    gates = self.linear(x) + self.recurrent(h)
    gates[:, 2:4] = torch.sigmoid(self.linear(x)[:, :2])
    gates[:, 4] += 1
    gates[:, ::2].mul_(0.5)
    gates[:, 1].add_(gates[:, 0])
    return gates.add_(self.gain)


def no_grad_inside(self: Step, x: Tensor, h: Tensor) -> Tensor:
    with torch.no_grad():
        scale = (h * self.gain).abs().mean(-1, keepdim=True)
    return torch.tanh(self.linear(x) + h) * scale


def several_without_gradient(self: Step, x: Tensor, h: Tensor) -> Tensor:
    with torch.no_grad():
        normed = F.layer_norm(h, (6,), eps=0.1)
        largest = h.max(-1, keepdim=True).values
    return torch.tanh(self.linear(x) + h) * normed + largest


def heads(self: Step, x: Tensor, h: Tensor) -> Tensor:
    y = torch.einsum("bhd,hde->bhe", h.view(-1, 2, 3), self.heads)
    return torch.tanh(self.linear(x) + y.reshape(-1, 6))


def heads_by_bmm(self: Step, x: Tensor, h: Tensor) -> Tensor:
    y = torch.bmm(h.view(-1, 2, 3).transpose(0, 1), self.heads).transpose(0, 1)
    return torch.tanh(self.linear(x) + y.reshape(-1, 6))


def one_head(self: Step, x: Tensor, h: Tensor) -> Tensor:
    y = torch.bmm(h.unsqueeze(0), self.recurrent.weight[None]).squeeze(0)
    return torch.tanh(self.linear(x) + y)


def pieces(self: Step, x: Tensor, h: Tensor) -> Tensor:
    a, b, c = h.chunk(3, -1)
    d, e = x.split((1, 4), -1)
    top, *_, bottom = h.unbind(-1)
    stacked = torch.stack((a, b * e[:, :2], c + d), 1).flatten(1)
    return stacked.flip(-1).roll(1, -1) * top.unsqueeze(1) + bottom[:, None]


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    name: getattr(F, name)
    for name in (
        *("relu", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "softplus", "hardsigmoid"),
        *("hardtanh", "relu6", "hardswish", "mish", "logsigmoid", "tanhshrink", "softsign"),
    )
} | {
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "softplus beta": lambda x: F.softplus(x, beta=2.0, threshold=1.0),
    **{
        name: getattr(torch, name)
        for name in (
            *(
                "neg",
                "abs",
                "sign",
                "exp",
                "log1p",
                "expm1",
                "sigmoid",
                "tanh",
                "erf",
                "sin",
                "cos",
            ),
            *("square", "floor", "ceil", "trunc", "round", "reciprocal", "exp2", "sinh", "cosh"),
            *("tan", "atan", "asinh"),
        )
    },
    "log": lambda x: x.abs().log(),
    "log2 and log10": lambda x: x.abs().log2() + x.abs().log10(),
    "asin and acos": lambda x: (x * 0.1).asin() * (x * 0.1).acos(),
    "acosh and atanh": lambda x: (x.abs() + 1.5).acosh() * (x * 0.1).atanh(),
    "remainder": lambda x: x % 0.3 + torch.remainder(x.flip(-1), x.abs() + 0.1),
    "glu": lambda x: torch.cat((F.glu(x), x[:, :3]), -1),
    "hard and soft shrink": lambda x: F.hardshrink(x) + F.softshrink(x),
    "threshold": lambda x: F.threshold(x, 0.1, 20.0),
    "logical_xor": lambda x: torch.logical_xor(x > 0, x > 1) * x,
    "nan_to_num": lambda x: (x / (x > 0)).nan_to_num(0.0, 1.0, -1.0) + x,
    "isnan and isinf": lambda x: torch.isnan(x / 0) * 2.0 * x + torch.isinf(x / 0) * x,
    "cosine similarity": lambda x: F.cosine_similarity(x, x.flip(-1), -1)[:, None] * x,
    "logit": lambda x: torch.logit(x.sigmoid(), eps=1e-6),
    "data": lambda x: x * x.data,
    "sqrt": lambda x: x.abs().sqrt(),
    "rsqrt": lambda x: x.abs().rsqrt(),
    "clamp": lambda x: x.clamp(-0.5, 0.5),
    "clamp min": lambda x: x.clamp(min=-0.5),
    "clamp by tensors": lambda x: torch.clamp(x, -x.abs() / 2, x.abs() / 2),
    "pow 3": lambda x: x**3,
    "pow of a number": lambda x: 2.0**x,
    "pow of a tensor": lambda x: x.abs() ** x,
    "pow 1.5": lambda x: x.abs() ** 1.5,
    "maximum": lambda x: torch.maximum(x, x.flip(-1)),
    "minimum": lambda x: torch.minimum(x, x.flip(-1) * 0.5),
    "where": lambda x: torch.where((x > 0) & ~(x > 1) | (x < -1), x, -2 * x),
    "comparisons": lambda x: ((x >= 0) * 2.0 + (x <= 0.5) - (x == 0) * 1.0 + (x != 1)) * x,
    "masked_fill": lambda x: x.masked_fill(x < 0, 0.25),
    "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: x.log_softmax(-1),
    "logsumexp": lambda x: x - x.logsumexp(-1, keepdim=True),
    "cumax": lambda x: x.softmax(-1).cumsum(-1),
    "amax": lambda x: x - x.amax(-1, keepdim=True),
    "amin": lambda x: x - x.amin(-1, keepdim=True),
    "max values": lambda x: x - x.max(-1, keepdim=True).values,
    "min values": lambda x: x - x.min(-1, keepdim=True)[0],
    "mean and var": lambda x: (x - x.mean(-1, True)) / (x.var(-1, keepdim=True) + 1e-3),
    "std": lambda x: x / (x.std(-1, keepdim=True, unbiased=False) + 0.1),
    "norm": lambda x: x / (x.norm(dim=-1, keepdim=True) + 1),
    "normalize": lambda x: F.normalize(x, dim=-1),
    "layer_norm": lambda x: F.layer_norm(x, (6,)),
    "rms_norm": lambda x: F.rms_norm(x, (6,)),
    "pad": lambda x: F.pad(x, (1, 2))[:, :6],
    "lerp": lambda x: torch.lerp(x, x.flip(-1), 0.25),
    "addcmul": lambda x: torch.addcmul(x, x, x, value=0.5),
    "detach": lambda x: x * x.detach(),
    "numbers": lambda x: x * torch.tensor(0.5) + torch.arange(6) * torch.ones(6) - torch.eye(6)[0],
    "like": lambda x: x * torch.full_like(x, 0.3) + torch.ones_like(x) + x.new_zeros(6),
    "repeat": lambda x: x[:, :2].repeat(1, 3),
    "expand": lambda x: x[:, :1].expand(-1, 6) + x[:, :1].expand_as(x),
    "rsub": lambda x: 1 - x,
    "cast": lambda x: x.float().double(),
}


def on_device(self: Step, x: Tensor, h: Tensor) -> Tensor:
    ones = torch.ones(6, dtype=h.dtype, device=h.device)
    assert h.device.type == "cpu"
    return torch.tanh(self.linear(x).to(x.device) + h * ones) if h.is_cpu else h


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "device": on_device,
    "batch norm in evaluation": lambda s, x, h: s.batch(s.linear(x) + s.recurrent(h)),
    "in place": in_place,
    "no_grad": no_grad_inside,
    "no_grad of several results": several_without_gradient,
    "heads by einsum": heads,
    "heads by bmm": heads_by_bmm,
    "one head by bmm": one_head,
    "pieces": pieces,
    "submodules": lambda s, x, h: s.net(s.norm(h)) + s.group(s.linear(x)),
    "plain attribute": lambda s, x, h: torch.tanh(s.linear(x) + h * s.plain),
    "buffer": lambda s, x, h: torch.tanh(s.linear(x) + h * s.table),
    "transposed weight": lambda s, x, h: torch.tanh(s.linear(x) + h @ s.recurrent.weight),
    "weight computed": lambda s, x, h: torch.tanh(
        s.linear(x) + h @ F.normalize(s.recurrent.weight, dim=0).T
    ),
    "vector product": lambda s, x, h: s.linear(x) + (h @ s.gain).unsqueeze(1).tanh(),
    "no state used": lambda s, x, h: s.linear(x),
    "constant": lambda s, x, h: torch.zeros(x.shape[0], 6, dtype=x.dtype),
    **{
        name: (lambda f: lambda s, x, h: f(s.linear(x) + s.recurrent(h)))(activation)
        for name, activation in ACTIVATIONS.items()
    },
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_graph_computes_what_the_cell_does(name: str) -> None:
    cell = Step(FUNCTIONS[name])
    x, h = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    given = {"input.x": x, "state.h": h}
    given |= {f"parameter.{n}": t for n, t in tensors_of(cell).items()}
    actual = Evaluator(graph_of(cell), torch.device("cpu"))(given, 4)["state.h"]
    torch.testing.assert_close(actual, cell(x, h), equal_nan=True)


@pytest.mark.parametrize("at", ["random", "zero"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_are_torchs(name: str, at: str) -> None:
    """At zero too, where functions have their corners and where every state begins."""
    cell = Step(FUNCTIONS[name])
    make = torch.randn if at == "random" else torch.zeros
    results = []
    for backend in ("eager", "reference"):
        torch.manual_seed(0)
        x = make(3, 4, 5, dtype=torch.float64).requires_grad_()
        h = make(4, 6, dtype=torch.float64).requires_grad_()
        if at == "zero":
            nn.init.zeros_(cell.linear.bias)
        output, final = openrnn.Recurrent(cell, backend=backend)(x, h)
        loss = (output.sin() * torch.arange(6)).sum() + final.cos().sum()
        results.append([output])
        if loss.requires_grad:
            inputs = [x, h, *cell.parameters()]
            results[-1] += torch.autograd.grad(loss, inputs, allow_unused=True)
    for eager, reference in zip_longest(*results):
        if eager is None or reference is None:  # None is zero
            for gradient in (eager, reference):
                assert gradient is None or not gradient.any()
        else:
            torch.testing.assert_close(reference, eager, equal_nan=True)


@pytest.mark.parametrize("make", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_torchs_own_cells(make: Any) -> None:
    cell = make(5, 7).double()
    graph = graph_of(cell)
    assert graph.count("matmul") == 2
    assert [node["name"] for _, node in graph.inputs("parameter")] == [
        "weight_ih",
        "weight_hh",
        "bias_ih",
        "bias_hh",
    ]


def test_print() -> None:
    lines = str(graph_of(openrnn.RNNCell(5, 7).double())).splitlines()
    assert lines[0].startswith("x (B, 5)")
    assert "matmul(x, %6)" in lines[7]
    assert lines[-1].startswith("return state.h = ")


def test_the_users_names_and_lines() -> None:
    graph = graph_of(openrnn.LSTMCell(5, 7).double())
    names = [node.name for node in graph.nodes if node.name]
    assert names == ["a_i", "a_f", "a_g", "a_o", "i", "f", "o", "g", "c", "h"]
    assert all(n.line and n.line.startswith("lstm.py:") for n in graph.nodes if n.name)


def test_equality_is_of_structure() -> None:
    a, b = (graph_of(openrnn.LSTMCell(5, 7).double()) for _ in range(2))
    assert a == b
    assert a != graph_of(openrnn.LSTMCell(5, 8).double())
    assert a != graph_of(openrnn.LSTMCell(5, 7, bias=False).double())


def test_batch_has_a_name() -> None:
    graph = graph_of(Step(heads))
    assert all(n.shape[0] == Batch() for _, n in graph.inputs("state"))
    assert not any(size > 1000 for n in graph.nodes for size in n.shape if isinstance(size, int))


def test_check_finds_a_wrong_shape() -> None:
    graph = graph_of(openrnn.RNNCell(5, 7).double())
    nodes = list(graph.nodes)
    nodes[-1] = copy.copy(nodes[-1])
    object.__setattr__(nodes[-1], "shape", (Batch(), 8))
    with pytest.raises(AssertionError, match="not"):
        Graph(tuple(nodes), graph.outputs).check()


def sorts(self: Step, x: Tensor, h: Tensor) -> Tensor:
    return h.sort(-1).values


def branches(self: Step, x: Tensor, h: Tensor) -> Tensor:
    return h if h.sum() > 0 else self.linear(x)


def reads_a_number(self: Step, x: Tensor, h: Tensor) -> Tensor:
    return h * h[0, 0].item()


def averages_rows(self: Step, x: Tensor, h: Tensor) -> Tensor:
    return h - h.mean(0)


def mixes_rows(self: Step, x: Tensor, h: Tensor) -> Tensor:
    return h.reshape(3, -1).t().reshape(-1, 6) if False else h.t().reshape(-1, 6)


def divides_by_rows(self: Step, x: Tensor, h: Tensor) -> Tensor:
    return h / h.shape[0]


def changes_dtype(self: Step, x: Tensor, h: Tensor) -> Tensor:
    return h.float()


OUTSIDE = torch.randn(6, dtype=torch.float64)


def reads_a_global(self: Step, x: Tensor, h: Tensor) -> Tensor:
    return h * OUTSIDE


def changes_the_state(self: Step, x: Tensor, h: Tensor) -> Tensor:
    h *= 2
    return h


def changes_a_buffer(self: Step, x: Tensor, h: Tensor) -> Tensor:
    self.table += 1
    return h * self.table


def remembers(self: Step, x: Tensor, h: Tensor) -> Tensor:
    self.last = h
    return h


def remembers_in_a_list(self: Step, x: Tensor, h: Tensor) -> Tensor:
    self.seen.append(h)
    return h


def replaces_a_buffer(self: Step, x: Tensor, h: Tensor) -> Tensor:
    self.table = self.table * 0.5
    return h * self.table


def flips_rows(self: Step, x: Tensor, h: Tensor) -> Tensor:
    return h + h.flip(0)


def normalizes_over_rows(self: Step, x: Tensor, h: Tensor) -> Tensor:
    return F.layer_norm(h.t(), (h.shape[0],)).t()


def works_on_bits(self: Step, x: Tensor, h: Tensor) -> Tensor:
    return h + (h.long() & x[:, :1].long()).double()


def draws_otherwise(self: Step, x: Tensor, h: Tensor) -> Tensor:
    return h + torch.empty_like(h).exponential_()


def masks_a_weight(self: Step, x: Tensor, h: Tensor) -> Tensor:
    return h * F.dropout(self.gain)


def indexes(self: Step, x: Tensor, h: Tensor) -> Tensor:
    return h[:, torch.tensor([1, 0, 2, 3, 4, 5])]


def first_row(self: Step, x: Tensor, h: Tensor) -> Tensor:
    return h + h[0]


def clamps_without_gradient(self: Step, x: Tensor, h: Tensor) -> Tensor:
    c = self.linear(x) + h
    with torch.no_grad():
        c.clamp_(-1, 1)
    return c


def changes_data(self: Step, x: Tensor, h: Tensor) -> Tensor:
    c = self.linear(x) + h
    c.data.mul_(0.5)
    return c


def sets_a_hook(self: Step, x: Tensor, h: Tensor) -> Tensor:
    if h.requires_grad:
        h.register_hook(lambda g: g * 2)
    return h


def drops_permuted(self: Step, x: Tensor, h: Tensor) -> Tensor:
    turned = torch.relu(h.view(-1, 2, 3).transpose(1, 2))
    return F.dropout(turned).reshape(-1, 6)


def decomposed(self: Step, x: Tensor, h: Tensor) -> Tensor:
    return h + F.embedding_bag(torch.zeros(2, 2, dtype=torch.long), self.heads[0]).sum()


REFUSED: dict[str, tuple[Callable[..., Tensor], tuple[str, ...]]] = {
    "operation": (sorts, ("aten.sort", "test_trace.py", "h.sort(-1)", "not in the table")),
    "branch": (branches, ("h.sum() > 0", "a choice that depends on values", "torch.where")),
    "item": (reads_a_number, ("one row of the batch",)),
    "mean over rows": (averages_rows, ("aten.mean", "h.mean(0)", "over the rows of the batch")),
    "rows mixed by a view": (mixes_rows, ("reshape", "test_trace.py", "mixes the rows")),
    "batch size": (divides_by_rows, ("other numbers of rows in the batch",)),
    "in place without gradient": (clamps_without_gradient, ("clamp_", "without its gradient")),
    "data in place": (changes_data, ("mul_", "c.data.mul_(0.5)", "without its gradient")),
    "hook": (sets_a_hook, ("Tensor.requires_grad", "if h.requires_grad")),
    "dropout of a permuted tensor": (drops_permuted, ("dropout", "contiguous()")),
    "composed": (decomposed, ("aten._embedding_bag", "embedding_bag(")),
    "dtype": (changes_dtype, ("torch.float64", "torch.float32", "keeps its dtype")),
    "global": (reads_a_global, ("h * OUTSIDE", "Register it as a buffer")),
    "state in place": (changes_the_state, ("state h in place", "x = x + 1")),
    "buffer": (changes_a_buffer, ("parameter table in place",)),
    "attribute": (remembers, ("changes self.last",)),
    "list": (remembers_in_a_list, ("changes self.seen",)),
    "another buffer": (replaces_a_buffer, ("changes self.table",)),
    "rows flipped": (flips_rows, ("flip", "mixes the rows")),
    "norm over rows": (normalizes_over_rows, ("mixes the rows",)),
    "weight mask": (masks_a_weight, ("without a batch", "parametrization")),
    "index": (indexes, ("aten.index", "not in the table")),
    "bits": (works_on_bits, ("aten.bitwise_and", "bits of integers")),
    "other random numbers": (draws_otherwise, ("aten.exponential", "not in the table")),
    "first row": (first_row, ("one row of the batch",)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_operation_and_the_line(name: str) -> None:
    function, words = REFUSED[name]
    cell = Step(function)
    cell.state_sizes = {"h": 6}
    layer = openrnn.Recurrent(cell, backend="reference")
    with pytest.raises(openrnn.CellError) as caught:
        layer(torch.randn(3, 4, 5, dtype=torch.float64))
    for word in ("Step", *words):
        assert word in str(caught.value), str(caught.value)


def test_hooks_are_refused() -> None:
    cell = Step(heads)
    cell.linear.register_forward_hook(lambda *_: None)
    with pytest.raises(openrnn.CellError, match="submodule 'linear' has hooks"):
        graph_of(cell)


def test_training_and_evaluation_are_different_steps() -> None:
    cell = Step(lambda s, x, h: s.dropout(s.linear(x)) + h)
    assert graph_of(cell).count("random") == 1
    assert graph_of(cell.eval()).count("random") == 0


def test_shared_parameters() -> None:
    cell = Step(lambda s, x, h: s.recurrent(torch.tanh(s.twin(h))) + s.linear(x))
    cell.twin = cell.recurrent
    x = torch.randn(3, 4, 5, dtype=torch.float64)
    gradients = []
    for backend in ("eager", "reference"):
        cell.zero_grad()
        openrnn.Recurrent(cell, backend=backend)(x)[0].sum().backward()
        gradients.append(cell.recurrent.weight.grad.clone())
    torch.testing.assert_close(*gradients)


def test_parametrizations_are_computed_outside() -> None:
    cell = openrnn.LSTMCell(5, 7).double()
    plain = graph_of(cell)
    parametrizations.weight_norm(cell, "weight_hh")
    assert len(graph_of(cell).nodes) == len(plain.nodes)
    x = torch.randn(3, 4, 5, dtype=torch.float64)
    gradients = []
    for backend in ("eager", "reference"):
        cell.zero_grad()
        openrnn.Recurrent(cell, backend=backend)(x)[0].sum().backward()
        gradients.append(cell.parametrizations.weight_hh.original1.grad.clone())
    torch.testing.assert_close(*gradients)


def test_bind_leaves_the_cell_alone() -> None:
    cell = openrnn.LSTMCell(5, 7)
    before = dict(cell.named_parameters())
    bound = bind(cell, {"weight_hh": torch.zeros(28, 7)})
    assert torch.equal(bound.weight_hh, torch.zeros(28, 7))
    assert all(before[name] is parameter for name, parameter in cell.named_parameters())


def test_traced_once_for_a_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[nn.Module] = []

    def counting(cell: nn.Module, *args: Any) -> Graph:
        traced.append(cell)
        return trace(cell, *args)

    monkeypatch.setattr(program, "trace", counting)
    program._PROGRAMS.clear()
    cell = openrnn.LSTMCell(5, 7)
    layer = openrnn.Recurrent(cell, backend="reference")
    layer(torch.randn(3, 4, 5))
    layer(torch.randn(6, 2, 5))
    with torch.no_grad():
        cell.weight_hh.mul_(2)
    layer(torch.randn(3, 4, 5))
    openrnn.Recurrent(openrnn.LSTMCell(5, 7), backend="reference", reverse=True)(
        torch.randn(2, 1, 5)
    )
    assert len(traced) == 1, "another T, B, weight or cell of the same structure is no new trace"
    openrnn.Recurrent(openrnn.LSTMCell(5, 8), backend="reference")(torch.randn(2, 1, 5))
    assert len(traced) == 2


@dataclass
class Rates:
    rate: float = 0.5


class ClassRate(Step):
    rate = 0.5


def set_field(cell: Any, rate: float) -> None:
    cell.config.rate = rate


def set_array(cell: Any, rate: float) -> None:
    cell.array[0] = rate


def set_in_set(cell: Any, rate: float) -> None:
    cell.rates.clear()
    cell.rates.add(rate)


def set_of_class(cell: Any, rate: float) -> None:
    type(cell).rate = rate


def set_method(cell: Any, rate: float) -> None:
    type(cell).scaled = lambda self, h: h * rate


@pytest.mark.parametrize(
    ("function", "change"),
    [
        (lambda s, x, h: s.linear(x) * s.rate + h, lambda cell, r: setattr(cell, "rate", r)),
        (lambda s, x, h: s.linear(x) * s.config.rate + h, set_field),
        (lambda s, x, h: s.linear(x) * s.space.rate + h, lambda c, r: setattr(c.space, "rate", r)),
        (lambda s, x, h: s.linear(x) * float(s.array[0]) + h, set_array),
        (lambda s, x, h: s.linear(x) * max(s.rates) + h, set_in_set),
        (lambda s, x, h: s.linear(x) * s.rate + h, set_of_class),
        (lambda s, x, h: s.scaled(s.linear(x)) + h, set_method),
    ],
    ids=["attribute", "dataclass", "namespace", "array", "set", "class attribute", "method"],
)
def test_a_changed_attribute_is_a_new_structure(
    function: Callable[..., Tensor], change: Callable[..., None]
) -> None:
    cell: Any = ClassRate(function)
    cell.config, cell.space = Rates(), SimpleNamespace(rate=0.5)
    cell.array, cell.rates = np.array([0.5]), {0.5}
    change(cell, 0.5)
    layer = openrnn.Recurrent(cell, backend="reference")
    x = torch.randn(1, 4, 5, dtype=torch.float64)
    first = layer(x)[0]
    change(cell, 1.0)
    torch.testing.assert_close(layer(x)[0], first * 2)


def test_programs_are_traced_by_several_threads_at_once() -> None:
    x = torch.randn(2, 3, 5)
    layers = [
        openrnn.Recurrent(openrnn.LSTMCell(5, size), backend="reference") for size in range(4, 12)
    ]
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda layer: layer(x)[0], layers * 3))
    for layer, output in zip(layers * 3, outputs, strict=True):
        torch.testing.assert_close(output, openrnn.Recurrent(layer.cell, backend="eager")(x)[0])


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (F.hardswish, [-4.0, -3.0, -1.0, 0.0, 2.0, 3.0]),
        (lambda x: x.logsumexp(-1, True).expand_as(x), [-torch.inf] * 6),
        (lambda x: x.logsumexp(-1, True).expand_as(x), [-torch.inf, 0.0, 1.0, 2.0, 3.0, 4.0]),
    ],
)
def test_values_at_the_corners(function: Callable[[Tensor], Tensor], values: list[float]) -> None:
    cell = Step(lambda s, x, h: function(h))
    h = torch.tensor([values], dtype=torch.float64)
    results = []
    for backend in ("eager", "reference"):
        given = h.clone().requires_grad_()
        layer = openrnn.Recurrent(cell, backend=backend)
        output, _ = layer(torch.zeros(1, 1, 5, dtype=torch.float64), given)
        results.append((output, *torch.autograd.grad(output.sum(), given)))
    for eager, reference in zip(*results, strict=True):
        torch.testing.assert_close(reference, eager, equal_nan=True)


@pytest.mark.parametrize("norm", [F.layer_norm, F.rms_norm])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_norms_of_half_precision_do_not_overflow(norm: Any, dtype: torch.dtype) -> None:
    cell = Step(lambda s, x, h: norm(h * 100, (6,)))
    h = torch.randn(3, 6, dtype=dtype) * 100
    x = torch.zeros(1, 3, 5, dtype=dtype)
    eager, reference = (
        openrnn.Recurrent(cell, backend=backend)(x, h)[0] for backend in ("eager", "reference")
    )
    assert eager.isfinite().all()
    torch.testing.assert_close(reference, eager)


def test_complex_numbers_are_refused() -> None:
    cell = Step(lambda s, x, h: h)
    cell.rotation = torch.ones(6, dtype=torch.complex64)
    with pytest.raises(openrnn.CellError, match="parameter rotation is complex"):
        graph_of(cell)


def test_a_loop_over_the_rows_is_refused_at_once() -> None:
    cell = Step(lambda s, x, h: torch.stack([row for row in h]))  # noqa: C416
    cell.state_sizes = {"h": 6}
    layer = openrnn.Recurrent(cell, backend="reference")
    with pytest.raises(openrnn.CellError, match="rows of the batch are taken apart"):
        layer(torch.randn(3, 4, 5, dtype=torch.float64))
