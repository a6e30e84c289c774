"""Dtypes, and tensors that are not plain numbers: each of our layers takes them as torch does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils.flop_counter import FlopCounterMode

import openrnn

from .cases import Leaky, assert_alike, flat, gradients, inputs, loss_of, make, names, run, x_of

LAYERS = ("RNN", "LSTM", "GRU", "Recurrent", "Stack")
layers = pytest.mark.parametrize("name", LAYERS)
halves = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "f16"])
LENGTHS = torch.tensor([4, 2, 0])


@pytest.mark.feature("autocast")
@pytest.mark.parametrize("ragged", [False, True], ids=["dense", "ragged"])
@halves
@layers
def test_autocast(name: str, dtype: torch.dtype, ragged: bool) -> None:
    """Computed in float32, from the layer below's output in fewer bits; the states stay float32."""
    layer, x = make(name, torch.float32)[0], x_of(name, torch.float32)
    options = {"lengths": LENGTHS} if ragged else {}
    with torch.autocast("cpu", dtype):
        output, state, states = layer(x, return_states=True, **options)
    expected, final, every = layer(x, return_states=True, **options)
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), expected, rtol=0.02, atol=0.02)
    for ours, exact in zip(
        (*flat(state), *flat(states)), (*flat(final), *flat(every)), strict=True
    ):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, exact, rtol=0.02, atol=0.02)
    first, exact = next(flat(state)), next(flat(final))
    lowest = 2 if isinstance(layer, nn.RNNBase) else len(first)  # both directions, or all rows
    assert torch.equal(first[:lowest], exact[:lowest])
    loss_of((output.float(), state)).backward()
    assert {p.grad.dtype for p in layer.parameters() if p.grad is not None} == {torch.float32}
    assert all(p.grad is not None for p in layer.parameters())


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
@layers
def test_autocast_takes_states_and_inputs_of_any_dtype(name: str, weights: torch.dtype) -> None:
    layer, x = make(name, torch.float32)[0], x_of(name, torch.float32)
    state = layer(x)[1]
    layer.to(weights)
    for given in (state, _map(Tensor.bfloat16, state)):
        output, last = under_autocast(layer, x.bfloat16(), given, lengths=LENGTHS)
        assert output.dtype == torch.bfloat16
        # The sequence without a step has what was given.
        for kept, was in zip(flat(last), flat(given), strict=True):
            assert kept.dtype == weights
            assert torch.equal(kept[..., 2, :], was[..., 2, :].to(weights))


def _map(function: Callable[[Tensor], Tensor], state: Any) -> Any:
    return function(state) if isinstance(state, Tensor) else tuple(_map(function, s) for s in state)


def under_autocast(layer: nn.Module, *args: Any, **options: Any) -> Any:
    with torch.autocast("cpu", torch.bfloat16):
        return layer(*args, **options)


@pytest.mark.parametrize("backend", ["eager", "reference", "cpu"])
def test_autocast_on_every_backend(backend: str) -> None:
    layer, x = openrnn.LSTM(12, 6, backend=backend), x_of("LSTM", torch.float32)
    other = openrnn.LSTM(12, 6, backend="eager")
    other.load_state_dict(layer.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        output, (h, c) = layer(x)
    expected = other(x)
    torch.testing.assert_close(c, expected[1][1])
    torch.testing.assert_close(output.float(), expected[0], rtol=0.01, atol=0.01)
    assert (output.dtype, h.dtype) == (torch.bfloat16, torch.float32)


def test_autocast_is_as_exact_as_torchs() -> None:
    ours, theirs = openrnn.LSTM(12, 6), nn.LSTM(12, 6)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(50, 3, 12)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = [layer(x)[0] for layer in (ours, theirs)]
    assert outputs[1].dtype == torch.bfloat16
    exact = ours.double()(x.double())[0]
    errors = [(output.double() - exact).square().mean() for output in outputs]
    assert errors[0] < errors[1]


@pytest.mark.feature("autocast")
@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
@halves
def test_autocast_of_a_cell(name: str, dtype: torch.dtype) -> None:
    """One step is torch's functions, which autocast knows: the same dtypes."""
    pair, x = make(name, torch.float32), x_of(name, torch.float32)
    with torch.autocast("cpu", dtype):
        ours, theirs = ([*flat(run(module, x))] for module in pair)
    assert [t.dtype for t in ours] == [t.dtype for t in theirs]
    for tensor, exact in zip(ours, flat(run(pair[1], x)), strict=True):
        torch.testing.assert_close(tensor.float(), exact, rtol=0.02, atol=0.02)


@names
def test_autocast_leaves_float64_alone(name: str) -> None:
    layer, x = make(name)[0], x_of(name)
    expected = run(layer, x)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(run(layer, x), expected)


def test_autocast_in_a_compiled_function() -> None:
    layer, x = openrnn.GRU(12, 6), x_of("GRU", torch.float32)

    @torch.compile(backend="eager", fullgraph=True)
    def compiled(x: Tensor) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return layer(x)

    output, h = compiled(x)
    assert (output.dtype, h.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(output.float(), layer(x)[0], rtol=0.01, atol=0.01)


@pytest.mark.feature("float16")
@names
def test_float16(name: str) -> None:
    dtype = torch.float16
    pair, x = make(name, dtype), x_of(name, dtype)
    truth = gradients(copy.deepcopy(pair[1]).double(), x.double())
    ours, theirs = (dict(gradients(module, x)) for module in pair)
    eps = torch.finfo(dtype).eps
    for key, exact in truth.items():
        got, peer = ours[key], theirs[key]
        assert exact is not None
        assert got is not None
        assert peer is not None
        assert got.dtype == dtype
        floor = 4 * eps * max(1.0, exact.abs().max().item())
        allowed = 2 * (peer - exact).abs().max() + floor
        assert (got - exact).abs().max() <= allowed, key


@pytest.mark.feature("mixed dtypes")
@names
def test_mixed_dtypes_are_refused_as_torch_refuses_them(name: str) -> None:
    for weights, other in (
        (torch.float32, torch.float64),
        (torch.float32, torch.float16),
        (torch.bfloat16, torch.float32),
    ):
        for module in make(name, weights):
            args = inputs(module, x_of(name, weights))
            with pytest.raises((RuntimeError, ValueError)):
                module(args[0].to(other), *args[1:])
            parameter = list(module.named_parameters())[1][0]
            owner = module.get_submodule(parameter.rpartition(".")[0])
            old = getattr(owner, parameter.rpartition(".")[2])
            setattr(owner, parameter.rpartition(".")[2], nn.Parameter(old.detach().to(other)))
            with pytest.raises((RuntimeError, ValueError)):
                module(*args)


@names
def test_a_state_of_another_dtype_is_refused(name: str) -> None:
    layer, x = make(name, torch.float32)[0], x_of(name, torch.float32)
    state = inputs(layer, x)[1] if name.endswith("Cell") else run(layer, x)[1]
    wrong = [s.double() for s in flat(state)]
    with pytest.raises(RuntimeError, match="dtype"):
        layer(x, wrong[0] if len(wrong) == 1 else wrong)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_backend_by_name_refuses_a_state_of_another_dtype(backend: str) -> None:
    layer = openrnn.Recurrent(Leaky(), backend=backend)
    x, h = torch.randn(4, 3, 12), torch.zeros(3, 12)
    layer(x, h)
    refused = pytest.raises(openrnn.BackendError, match=r"input's dtype torch\.float32, got")
    with refused:
        layer(x, h.double())
    with refused:
        layer(x, h, reset=torch.ones(4, 3, dtype=torch.bool), reset_to=h.double())


@pytest.fixture
def float64_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.feature("torch.set_default_dtype")
@pytest.mark.usefixtures("float64_by_default")
@names
def test_default_dtype(name: str) -> None:
    layer = openrnn.LSTM(12, 6, learn_initial_state=True, layer_norm=True)
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
    pair = make(name, torch.get_default_dtype())
    assert {p.dtype for p in pair[0].parameters()} == {torch.float64}
    assert_alike(pair, x_of(name))
    # And what is float32 stays so.
    pair = make(name, torch.float32)
    assert_alike(pair, x_of(name, torch.float32))
    assert {t.dtype for t in flat(run(pair[0], x_of(name, torch.float32)))} == {torch.float32}


@pytest.mark.feature("deterministic mode")
@names
def test_deterministic(name: str) -> None:
    layer, x = make(name)[0], x_of(name)
    assert torch.are_deterministic_algorithms_enabled(), "conftest.py sees to it for every test"
    first, second = gradients(layer, x), gradients(layer, x)
    assert all(torch.equal(first[key], second[key]) for key in first)  # type: ignore[arg-type]


@pytest.mark.feature("meta tensors")
@names
def test_the_meta_device(name: str) -> None:
    (layer, peer), x = make(name), x_of(name)
    layer, peer, x = layer.to("meta"), peer.to("meta"), x.to("meta")
    ours, theirs = gradients(layer, x), gradients(peer, x)
    assert ours.keys() == theirs.keys()
    for key, expected in theirs.items():
        got = ours[key]
        assert got is not None
        assert expected is not None
        assert (got.shape, got.dtype, got.device) == (expected.shape, expected.dtype, x.device)


@pytest.mark.feature("fake tensors")
@names
def test_fake_tensors(name: str) -> None:
    """They say that they are on the CPU, where a kernel would read what is not there."""
    layer, x = make(name)[0], x_of(name)
    expected = gradients(layer, x)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = gradients(layer, mode.from_tensor(x))
        with torch.no_grad():  # what a kernel would write to is fake too
            assert all(isinstance(part, FakeTensor) for part in flat(run(layer, x)))
    for key, tensor in expected.items():
        assert tensor is not None
        assert fake[key] is not None
        assert fake[key].shape == tensor.shape  # type: ignore[union-attr]
    layer.zero_grad()
    with FakeTensorMode():
        made, own = make(name, None)[0], x_of(name, torch.float32)
    for part in flat(run(made, own)):  # outside of the mode
        assert isinstance(part, FakeTensor)
    assert all(torch.equal(gradients(layer, x)[k], t) for k, t in expected.items())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["Recurrent", "Stack"])
def test_a_mode_sees_every_operation(name: str) -> None:
    pair, x = make(name), x_of(name)
    counts = []
    for module in pair:
        run(module, x)
        with FlopCounterMode(display=False) as counter:
            gradients(module, x)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


@pytest.mark.feature("tensor subclasses")
@layers
def test_a_tensor_that_is_made_of_others(name: str) -> None:
    """torch dispatches on such parameters, a sharded tensor say; their memory is elsewhere."""
    (layer, peer), x = make(name), x_of(name)
    with torch.no_grad():
        for module in layer.modules():
            for key, p in module.named_parameters(recurse=False):
                twice = nn.Parameter(TwoTensor(p.detach().clone(), 2 * p.detach()))
                setattr(module, key, twice)
        output = layer(x)[0]
    assert isinstance(output, TwoTensor)
    torch.testing.assert_close(output.a, peer(x)[0])
    with torch.no_grad():
        for p in peer.parameters():
            p.mul_(2)
    torch.testing.assert_close(output.b, peer(x)[0])


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_backend_by_name_refuses_them(backend: str) -> None:
    layer, x = openrnn.GRU(12, 6, backend=backend), torch.randn(4, 3, 12)
    with pytest.raises(openrnn.BackendError, match="is a TwoTensor, whose numbers"):
        layer(TwoTensor(x, x))


@pytest.mark.feature("torch.inference_mode")
@names
def test_inference_mode(name: str) -> None:
    (layer, peer), x = make(name), x_of(name)
    with torch.inference_mode():
        ours, theirs = run(layer, x), run(peer, x)
        assert all(t.is_inference() for t in flat(ours))
        torch.testing.assert_close([*flat(ours)], [*flat(theirs)])
    assert_alike((layer, peer), x)  # nothing that was made then is in the way
    with torch.inference_mode():
        made = make(name)
    with torch.no_grad():  # with gradients torch refuses what was made then
        torch.testing.assert_close([*flat(run(made[0], x))], [*flat(run(made[1], x))])


@pytest.mark.feature("an empty batch")
@names
def test_an_empty_batch(name: str) -> None:
    pair, x = make(name), x_of(name)
    empty = x[:0] if name.endswith("Cell") else x[:, :0]
    ours, theirs = (gradients(module, empty) for module in pair)
    assert ours.keys() == theirs.keys()
    for key, expected in theirs.items():
        assert ours[key] is not None
        assert expected is not None
        assert ours[key].shape == expected.shape  # type: ignore[union-attr]
        assert not ours[key].any()  # type: ignore[union-attr]
