"""Layers on a GPU, where there is no generated kernel yet: right results, moves, and errors."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import openrnn
from openrnn import Recurrent
from openrnn.errors import BackendError
from tests.cells.box import BOX, RANDOM
from tests.contract.evaluate import Results, assert_as_exact, evaluate

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "LSTM": ("LSTM", {}),
    "LSTM, 2 layers, both directions": ("LSTM", {"num_layers": 2, "bidirectional": True}),
    "LSTM, projection": ("LSTM", {"proj_size": 3}),
    "LSTM, batch first": ("LSTM", {"batch_first": True}),
    "GRU": ("GRU", {}),
    "RNN": ("RNN", {}),
    "RNN relu": ("RNN", {"nonlinearity": "relu"}),
}
LENGTHS = torch.tensor([3, 0, 7, 1])
x = torch.randn(7, 4, 5)
RESET = torch.rand(7, 4) < 0.3
TIME: dict[str, dict[str, Any]] = {
    "plain": {},
    "lengths": {"lengths": LENGTHS},
    "resets": {"reset": RESET},
    "resets and lengths": {"reset": RESET, "lengths": LENGTHS},
    "all states": {"return_states": True},
}


class At(nn.Module):
    """A module on a device, of what is on the CPU and comes back there."""

    def __init__(self, device: torch.device, module: nn.Module, options: dict[str, Any]) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).to(device)
        self.device, self.options = device, options

    def forward(self, input: Any, state: Any) -> Any:
        there = to(input, self.device), to(state, self.device)
        output, *rest = to(self.module(*there, **self.options), CPU)
        return output, rest


def to(value: Any, device: torch.device) -> Any:
    if value is None:
        return None
    if isinstance(value, (Tensor, PackedSequence)):
        return value.to(device)
    return tuple(to(item, device) for item in value)


def results(
    device: torch.device, module: nn.Module, input: Any, dtype: torch.dtype, **options: Any
) -> Results:
    """What `evaluate` says of the module on that device, on the CPU."""
    found = evaluate(At(device, module, options), input, None, dtype)
    return {name: tensor.cpu() for name, tensor in found.items()}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("packed", [False, True], ids=["dense", "packed"])
def test_a_layer_is_torchs(name: str, packed: bool) -> None:
    kind, options = LAYERS[name]
    ours, peer = (getattr(library, kind)(5, 6, **options) for library in (openrnn, nn))
    peer.load_state_dict(ours.state_dict())
    sequences: Any = x
    if packed:
        sequences = pack_padded_sequence(x, [7, 3, 2, 1])
    truth = results(CPU, peer, sequences, torch.float64)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        theirs, found = (results(GPU, m, sequences, torch.float32) for m in (peer, ours))
    assert_as_exact(found, theirs, truth, torch.float32)


@pytest.mark.parametrize("name", [name for name in BOX if name not in RANDOM])
@pytest.mark.parametrize("backend", ["auto", "eager", "reference"])
@pytest.mark.parametrize("time", TIME)
def test_a_cell_is_as_on_the_cpu(name: str, backend: str, time: str) -> None:
    layer = Recurrent(BOX[name](5, 6), backend="eager")
    expected = results(CPU, layer, x, torch.float64, **TIME[time])
    layer.backend = backend
    found = results(GPU, layer, x, torch.float64, **TIME[time])
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize("name", RANDOM)
def test_a_cell_that_draws(name: str) -> None:
    layer = Recurrent(BOX[name](5, 6)).to(GPU)
    output, _ = layer(x.to(GPU).requires_grad_())
    output.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


LAYER_CALLS: dict[str, Callable[[Any, Tensor], Any]] = {
    "one layer": lambda layer, x: layer(x),
    "stream": lambda layer, x: layer.stream(4)(x),
}


@pytest.mark.parametrize("call", LAYER_CALLS)
@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_layer_moves_between_devices(call: str, num_layers: int) -> None:
    layer = openrnn.LSTM(5, 6, num_layers)
    run = LAYER_CALLS[call]
    with torch.no_grad():
        for _ in range(2):
            expected = run(layer, x)[0]
            for _ in range(3):  # plain calls are repeated from the second on
                torch.testing.assert_close(run(layer, x)[0], expected)
            layer.to(GPU)
            for _ in range(3):
                found = run(layer, x.to(GPU))[0]
                assert found.device == GPU
                torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-3)
            layer.to("cpu")


def test_a_stack() -> None:
    stack = openrnn.Stack([openrnn.LSTMCell(5, 8), openrnn.GRUCell(8, 3)]).double()
    expected = stack(x.double())[0]
    found = stack.to(GPU)(x.double().to(GPU))[0]
    torch.testing.assert_close(found.cpu(), expected)


def test_double_backward() -> None:
    layer = openrnn.LSTM(5, 6).double().to(GPU)
    given = x.double().to(GPU).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], given[:3].detach().requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast(dtype: torch.dtype) -> None:
    ours, peer = openrnn.LSTM(5, 6).to(GPU), nn.LSTM(5, 6).to(GPU)
    peer.load_state_dict(ours.state_dict())
    with torch.autocast("cuda", dtype):
        found, expected = ours(x.to(GPU))[0], peer(x.to(GPU))[0]
    assert found.dtype == dtype  # where cuDNN gives float16 always
    torch.testing.assert_close(found.float(), expected.float(), rtol=2e-2, atol=2e-2)
    found.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in ours.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision(dtype: torch.dtype) -> None:
    layer = openrnn.GRU(5, 6)
    expected = layer(x)[0]
    found = layer.to(GPU, dtype)(x.to(GPU, dtype))[0]
    assert found.dtype == dtype
    torch.testing.assert_close(found.cpu().float(), expected, rtol=5e-2, atol=5e-2)


@pytest.mark.filterwarnings("ignore")  # torch's own, of its own modules
def test_compile() -> None:
    layer = openrnn.LSTM(5, 6).to(GPU)
    expected = layer(x.to(GPU))[0]
    found = torch.compile(layer)(x.to(GPU))[0]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_another_device_than_the_layers(num_layers: int) -> None:
    layer = openrnn.LSTM(5, 6, num_layers)
    layer(x)
    with pytest.raises((RuntimeError, BackendError), match=r"cuda.*cpu|cpu.*cuda"):
        layer(x.to(GPU))
    layer.to(GPU)
    layer(x.to(GPU))
    with pytest.raises((RuntimeError, BackendError), match=r"cuda.*cpu|cpu.*cuda"):
        layer(x)
    with pytest.raises((RuntimeError, BackendError), match=r"cuda.*cpu|cpu.*cuda"):
        layer(x.to(GPU), (torch.zeros(num_layers, 4, 6), torch.zeros(num_layers, 4, 6)))


def test_the_cpu_backend_is_refused() -> None:
    layer = openrnn.LSTM(5, 6, backend="cpu").to(GPU)
    with pytest.raises(BackendError, match="cuda"):
        layer(x.to(GPU))


def test_auto_says_that_it_runs_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    openrnn.backends.auto._say.cache_clear()
    openrnn.LSTM(5, 6).to(GPU)(x.to(GPU))
    assert "There is no generated kernel for cuda yet" in caplog.text


def test_look_inside() -> None:
    layer = openrnn.LSTM(5, 6)
    here = openrnn.record(layer, x)
    layer.to(GPU)
    there = openrnn.record(layer, x.to(GPU))
    assert str(openrnn.explain(layer))
    torch.testing.assert_close(there["h"].cpu(), here["h"], rtol=1e-3, atol=1e-3)


def test_convert_and_save(tmp_path: Any) -> None:
    model = nn.Sequential(nn.LSTM(5, 6)).to(GPU)
    expected = model(x.to(GPU))[0]
    openrnn.convert(model)
    torch.testing.assert_close(model(x.to(GPU))[0], expected, rtol=1e-3, atol=1e-3)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    here = openrnn.LSTM(5, 6)
    found = torch.load(tmp_path / "weights.pt", map_location="cpu")
    here.load_state_dict({name.removeprefix("0."): value for name, value in found.items()})
    torch.testing.assert_close(here(x)[0], expected.cpu(), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_int8() -> None:
    layer = openrnn.quantize(openrnn.LSTM(5, 6))
    expected = layer(x)[0]
    torch.testing.assert_close(layer.to(GPU)(x.to(GPU))[0].cpu(), expected, rtol=1e-3, atol=1e-3)
