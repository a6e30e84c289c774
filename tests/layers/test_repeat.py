"""Calls that are made like the last one, and all that makes them another call."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrize
from torch.testing._internal.two_tensor import TwoTensor

import openrnn
from openrnn.layers import repeat
from openrnn.layers.layer import Layer
from openrnn.sequence import Sequence


class Own(nn.Module):
    """A cell of the user's."""

    input_size, hidden_size = 5, 6

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.scale = nn.Linear(5 + 6, 6), 1.0

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.scale * self.linear(torch.cat((x, h), -1)))


LAYERS: dict[str, Callable[[], Layer]] = {
    "LSTM": lambda: openrnn.LSTM(5, 6),
    "LSTM batch first": lambda: openrnn.LSTM(5, 6, batch_first=True),
    "GRU with dropout": lambda: openrnn.GRU(5, 6, recurrent_dropout=0.5),
    "RNN": lambda: openrnn.RNN(5, 6),
    "LSTM cell": lambda: openrnn.Recurrent(openrnn.LSTMCell(5, 6)),
    "own cell, reverse": lambda: openrnn.Recurrent(Own(), reverse=True),
    "LSTM, layers and directions": lambda: openrnn.LSTM(5, 6, 2, bidirectional=True),
    "GRU, layers and dropout": lambda: openrnn.GRU(5, 6, 3, batch_first=True, dropout=0.5),
    "Bidirectional": lambda: openrnn.Bidirectional(Own(), openrnn.RNNCell(5, 6), merge="sum"),
    "Stack": lambda: openrnn.Stack(
        [openrnn.LSTMCell(5, 8), openrnn.GRU(8, 8), openrnn.Stack([openrnn.GRUCell(8, 6)])],
        dropout=0.5,
        residual=True,
    ),
}
x = torch.randn(4, 3, 5)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A mark for each call that is not like the last one."""
    seen: list[Any] = []
    read = Sequence.read
    monkeypatch.setattr(Sequence, "read", lambda *a, **k: seen.append(a) or read(*a, **k))
    return seen


def flat(state: Any) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else [t for part in state for t in flat(part)]


def like(state: Any, change: Callable[[Tensor], Any]) -> Any:
    """A state, nested as it is, with its tensors changed."""
    if isinstance(state, Tensor):
        return change(state)
    return tuple(like(part, change) for part in state)


def state_for(layer: nn.Module, input: Tensor) -> Any:
    return like(fresh(layer)(input)[1], lambda final: torch.randn_like(final))


def call(layer: nn.Module, input: Tensor, state: Any = None) -> list[Any]:
    """Results and gradients; the same random numbers each time."""
    torch.manual_seed(0)
    input = input.detach().requires_grad_()
    output, final = layer(input, state)
    states = flat(final)
    loss = output.square().sum() + sum(s.sin().sum() for s in states)
    wanted = [input, *(p for p in layer.parameters() if p.requires_grad)]
    return [output, *states, *torch.autograd.grad(loss, wanted)]


def fresh(layer: nn.Module) -> nn.Module:
    """A layer like this one, of which nothing is known."""
    return copy.deepcopy(layer)


def check(layer: nn.Module, input: Tensor = x, state: Any = None) -> None:
    for _ in range(3):
        pairs = zip(call(layer, input, state), call(fresh(layer), input, state), strict=True)
        for ours, wanted in pairs:
            torch.testing.assert_close(ours, wanted, rtol=0, atol=0)


def same_error(layer: nn.Module, *given: Any) -> None:
    """As of a layer of which nothing is known."""
    with pytest.raises(Exception) as first:  # noqa: PT011
        fresh(layer)(*given)
    with pytest.raises(type(first.value)) as again:
        layer(*given)
    assert str(again.value) == str(first.value)


@pytest.mark.parametrize("name", LAYERS)
def test_a_call_like_the_last_one(name: str, reads: list[Any]) -> None:
    layer = LAYERS[name]()
    first = call(layer, x)
    assert len(reads) == 1
    for other in (x, torch.randn(7, 2, 5), x.transpose(0, 1)):
        for _ in range(2):
            again = call(layer, other)
    assert len(reads) == 1, "of another length or batch too"
    torch.testing.assert_close(call(layer, x), first, rtol=0, atol=0)
    torch.testing.assert_close(again[:1], call(fresh(layer), x.transpose(0, 1))[:1])


@pytest.mark.parametrize("name", LAYERS)
def test_with_a_state(name: str, reads: list[Any]) -> None:
    layer = LAYERS[name]()
    state = state_for(layer, x)
    forms = [state] if isinstance(state, Tensor) else [state, [*state], (None, *state[1:])]
    for given in forms:
        if isinstance(layer, (openrnn.Stack, openrnn.Bidirectional)) or None not in [*given]:
            check(layer, x, given)
    changes = (lambda s: s.double(), lambda s: s[..., :5], lambda s: s[:, :1], lambda s: [s])
    bad = [like(state, change) for change in changes]
    layer(x, state)  # a call like those to come, without gradients for x
    for given in bad if isinstance(state, Tensor) else [*bad, (*state, state[0])]:
        same_error(layer, x, given)
    reads.clear()
    call(layer, x, state)
    assert not reads


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("with_state", [False, True])
def test_with_resets(name: str, with_state: bool, reads: list[Any]) -> None:
    layer = LAYERS[name]()
    state = state_for(layer, x) if with_state else None
    for _ in range(3):
        reset = torch.rand(x.shape[:2]) < 0.4
        results = []
        for module in (layer, fresh(layer)):
            torch.manual_seed(0)
            results.append(module(x, state, reset=reset)[0])
        torch.testing.assert_close(*results, rtol=0, atol=0)
    reads.clear()
    for bad in (reset.t(), reset.int(), [True]):
        with pytest.raises((openrnn.ShapeError, openrnn.ArgumentTypeError)):
            layer(x, state, reset=bad)
    reads.clear()
    layer(x, state, reset=reset)
    assert not reads


def half(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        parameter.data.mul_(0.5)


def other_parameter(layer: nn.Module) -> None:
    name, parameter = next(iter(layer.named_parameters()))
    parent, _, own = name.rpartition(".")
    setattr(layer.get_submodule(parent), own, nn.Parameter(parameter.detach() * 2))


def frozen(layer: nn.Module) -> None:
    next(layer.parameters()).requires_grad_(False)


def evaluating(layer: nn.Module) -> None:
    layer.eval()


def other_data(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        parameter.data = torch.randn_like(parameter)


def other_scale(layer: nn.Module) -> None:
    own = [cell for cell in layer.modules() if isinstance(cell, Own)]
    if own:
        own[0].scale = 0.5
    else:
        next(m for m in layer.modules() if hasattr(m, "recurrent_dropout")).recurrent_dropout = 0.25


def hooked(layer: nn.Module) -> None:
    layer.register_forward_hook(lambda module, args, result: (result[0] * 2, result[1]))


def other_backend(layer: nn.Module) -> None:
    for part in layer.modules():
        part.backend = "eager"


def hooked_inside(layer: nn.Module) -> None:
    inner = [part for part in layer.modules() if isinstance(part, Layer)]
    inner[-1].register_forward_pre_hook(lambda module, given: (given[0] * 2, *given[1:]))


def other_dropout(layer: nn.Module) -> None:
    layer.dropout = 0.25


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(
    "change",
    [
        *(half, other_parameter, frozen, evaluating, other_data, other_scale, hooked),
        *(other_backend, hooked_inside, other_dropout),
    ],
    ids=lambda change: change.__name__,
)
def test_what_has_changed_is_seen(name: str, change: Callable[[nn.Module], None]) -> None:
    layer = LAYERS[name]()
    check(layer)
    change(layer)
    check(layer)


@pytest.mark.parametrize("name", LAYERS)
def test_errors_are_those_of_a_first_call(name: str) -> None:
    layer = LAYERS[name]()
    check(layer)
    for bad in (torch.randn(4, 3, 6), torch.randn(5), torch.randn(0, 0, 5), x.double(), "x"):
        same_error(layer, bad)
    check(layer)


@pytest.mark.parametrize("name", LAYERS)
def test_other_dtypes_and_grad_modes(name: str) -> None:
    layer = LAYERS[name]()
    check(layer)
    check(layer.double(), x.double())
    check(layer.bfloat16(), x.bfloat16())
    layer.float()
    expected = call(layer, x)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.manual_seed(0)
            output, _ = layer(x)
        assert not output.requires_grad
        torch.testing.assert_close(output, expected[0], rtol=0, atol=0)
    check(layer)


@pytest.mark.parametrize("name", ["LSTM", "own cell, reverse"])
def test_who_looks_on_sees_all_calls(name: str) -> None:
    layer = LAYERS[name]()
    check(layer)
    plain = layer(x)[0]
    seen = []
    handle = register_module_forward_hook(lambda module, *_: seen.append(type(module)))
    torch.testing.assert_close(layer(x)[0], plain)
    handle.remove()
    assert seen[-1] is type(layer)
    if isinstance(layer, openrnn.Recurrent):
        assert seen.count(Own) == len(x), "each step, in a plain loop"
    assert openrnn.record(layer, x).values
    with torch.autocast("cpu"):
        assert layer(x)[0].dtype == torch.bfloat16
    own = {name: p.detach() * 2 for name, p in layer.named_parameters()}
    doubled = fresh(layer)
    doubled.load_state_dict(own)
    torch.testing.assert_close(torch.func.functional_call(layer, own, x)[0], doubled(x)[0])
    torch.testing.assert_close(layer(x)[0], plain)
    mapped = torch.func.vmap(lambda x: layer(x)[0])(x.expand(2, *x.shape))
    torch.testing.assert_close(mapped[1], plain)
    check(layer)


@pytest.mark.parametrize("swap", [False, True])
def test_weights_whose_numbers_are_elsewhere(swap: bool) -> None:
    """The eager loop runs then, as at a first call."""
    layer = openrnn.Recurrent(Own())
    check(layer)
    wanted, weight = layer(x)[0].detach(), layer.cell.linear.weight
    twice = nn.Parameter(TwoTensor(weight.detach().clone(), 2 * weight.detach()))
    if swap:
        torch.utils.swap_tensors(weight, twice)
    else:
        layer.cell.linear.weight = twice
    for _ in range(3):
        output, _ = layer(x)
        assert isinstance(output, TwoTensor)
        torch.testing.assert_close(output.a, wanted)


def test_a_parametrization_is_computed_at_each_call() -> None:
    layer = openrnn.LSTM(5, 6)
    check(layer)
    parametrize.register_parametrization(layer, "weight_hh_l0", nn.Dropout(0.5))
    layer.train()
    assert not torch.equal(layer(x)[0], layer(x)[0])
    parametrize.remove_parametrizations(layer, "weight_hh_l0", leave_parametrized=False)
    check(layer)


def test_weights_are_dropped_at_each_call() -> None:
    layer = openrnn.LSTM(5, 6, weight_drop=0.5)
    layer(x)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    layer.eval()
    check(layer)


def test_a_class_of_the_users_is_called() -> None:
    class Loud(openrnn.LSTM):
        def scan(self, *args: Any, **options: Any) -> Any:
            calls.append(self)
            return super().scan(*args, **options)

    calls: list[Any] = []
    layer = Loud(5, 6)
    for _ in range(3):
        layer(x)
    assert len(calls) == 3


@pytest.mark.parametrize("inside", [False, True])
def test_a_method_of_its_own_is_called(inside: bool) -> None:
    layer = openrnn.Stack([openrnn.LSTM(5, 6)]) if inside else openrnn.LSTM(5, 6, 2)
    check(layer)
    before = layer(x)[0]
    part: Any = layer.layers[0] if inside else layer
    scan = part.scan

    def doubled(*args: Any, **options: Any) -> Any:
        found = scan(*args, **options)
        return found._replace(output=found.output.with_data(2 * found.output.data))

    part.scan = doubled
    for _ in range(3):
        torch.testing.assert_close(layer(x)[0], 2 * before)


def test_a_method_that_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = openrnn.Recurrent(Own())
    check(layer)
    monkeypatch.setattr(
        Own, "forward", lambda self, x, h: torch.sigmoid(self.linear(torch.cat((x, h), -1)))
    )
    output, _ = layer(x)
    assert (output > 0).all()
    check(layer)


def test_a_layer_that_changes_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not looked at in vain for ever, and is right all the same."""
    made = []
    prepare = repeat._repeat_of
    monkeypatch.setattr(repeat, "_repeat_of", lambda *a: made.append(a) or prepare(*a))
    layer = openrnn.LSTM(5, 6)
    outputs = []
    for step in range(40):
        layer.note = str(step) * 2
        outputs.append(layer(x)[0])
    assert len(made) < 12
    assert all(torch.equal(output, outputs[0]) for output in outputs)


def test_copies_and_pickles() -> None:
    layer = openrnn.LSTM(5, 6)
    check(layer)
    other = pickle.loads(pickle.dumps(layer))
    half(other)
    check(other)
    shallow = copy.copy(layer)
    shallow._parameters = {name: p.detach() * 2 for name, p in layer.named_parameters()}
    for _ in range(3):
        assert not torch.equal(shallow(x)[0], layer(x)[0])
    check(layer)


@pytest.mark.parametrize("name", LAYERS)
def test_the_end_of_a_layer(name: str) -> None:
    """What is known of it does not keep it alive, whoever it knows."""
    layer = LAYERS[name]()
    seen: list[Any] = []
    layer.register_forward_hook(lambda module, *_, of=layer: seen.append(module is of))
    for _ in range(3):
        layer(x)
    assert seen == [True] * 3
    gone = weakref.ref(layer)
    del layer
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_goes_with_its_weights_at_once(name: str) -> None:
    """Not when Python looks for cycles, which may be much later."""
    layer = LAYERS[name]()
    for _ in range(3):
        layer(x)[0].sum().backward()
        with torch.no_grad():
            layer(x)
    gone = [weakref.ref(part) for part in (layer, *layer.modules(), *layer.parameters())]
    gc.disable()
    try:
        del layer
        assert [part() for part in gone] == [None] * len(gone)
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["LSTM", "own cell, reverse"])
def test_in_8_bits(name: str, reads: list[Any]) -> None:
    layer = openrnn.quantize(LAYERS[name]())
    wanted = layer(x)[0]
    for _ in range(2):
        assert torch.equal(layer(x)[0], wanted)
    assert len(reads) == 1
    for _ in range(2):
        with pytest.raises(openrnn.CellError, match="gradient"):
            layer(x.detach().requires_grad_())
    assert torch.equal(layer(x)[0], wanted)


def test_threads_that_share_a_layer() -> None:
    layer = openrnn.LSTM(5, 6)
    inputs = [torch.randn(3 + i % 4, 1 + i % 3, 5) for i in range(64)]
    expected = [fresh(layer)(x)[0] for x in inputs]
    with ThreadPoolExecutor(4) as threads:
        found = [*threads.map(lambda x: layer(x)[0], inputs)]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
