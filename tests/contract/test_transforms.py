"""torch.func's transforms and forward-mode AD, on any backend: they run the cell itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vjp, vmap

import openrnn

pytestmark = [
    # torch's own: its derivatives of derivatives are scripted, and its gru_cell is not vectorized.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:There is a performance drop because we have not yet"),
]

LAYERS: dict[str, Any] = {
    "Recurrent": lambda backend: openrnn.Recurrent(openrnn.LSTMCell(5, 6), backend=backend),
    "torch cell": lambda backend: openrnn.Recurrent(nn.GRUCell(5, 6), backend=backend),
    "RNN": lambda backend: openrnn.RNN(5, 6, backend=backend),
    "GRU": lambda backend: openrnn.GRU(5, 6, backend=backend),
    "LSTM": lambda backend: openrnn.LSTM(5, 6, 2, bidirectional=True, backend=backend),
    "Stack": lambda backend: openrnn.Stack(
        [openrnn.GRUCell(5, 4), openrnn.LSTMCell(4, 6)], backend=backend
    ),
}
layers = pytest.mark.parametrize("name", LAYERS)
backends = pytest.mark.parametrize("backend", openrnn.backends.BACKENDS)


def make(name: str, backend: str) -> tuple[nn.Module, nn.Module]:
    """The layer, and its twin in the eager loop."""
    layer, eager = LAYERS[name](backend).double(), LAYERS[name]("eager").double()
    eager.load_state_dict(layer.state_dict())
    return layer, eager


def x(*shape: int) -> Tensor:
    return torch.randn(*shape, 5, dtype=torch.float64)


@pytest.mark.feature("torch.func")
@backends
@layers
def test_vjp_and_jvp(name: str, backend: str) -> None:
    layer, eager = make(name, backend)
    point, direction = x(4, 3), x(4, 3)
    results = []
    for each in (layer, eager):

        def output(point: Tensor, each: nn.Module = each) -> Tensor:
            return each(point)[0]

        value, pull = vjp(output, point)
        pushed = jvp(output, (point,), (direction,))
        results.append((value, pull(value.sin()), pushed))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.feature("torch.func")
@backends
@layers
def test_vmap_over_inputs(name: str, backend: str) -> None:
    layer, _ = make(name, backend)
    batch = x(2, 4, 3)
    together = vmap(lambda point: layer(point)[0])(batch)
    torch.testing.assert_close(together, torch.stack([layer(point)[0] for point in batch]))


@backends
@layers
def test_gradients_of_each_sample(name: str, backend: str) -> None:
    layer, _ = make(name, backend)
    samples = x(3, 4, 2)

    def loss(parameters: dict[str, Tensor], sample: Tensor) -> Tensor:
        return functional_call(layer, parameters, (sample,))[0].square().sum()

    each = vmap(grad(loss), (None, 0))(dict(layer.named_parameters()), samples)
    for index, sample in enumerate(samples):
        layer.zero_grad()
        layer(sample)[0].square().sum().backward()
        for parameter_name, parameter in layer.named_parameters():
            torch.testing.assert_close(each[parameter_name][index], parameter.grad)


@pytest.mark.feature("torch.func")
@backends
@layers
def test_forward_mode(name: str, backend: str) -> None:
    layer, eager = make(name, backend)
    point, direction = x(4, 3), x(4, 3)
    tangents = []
    for each in (layer, eager):
        with forward_ad.dual_level():
            output = each(forward_ad.make_dual(point, direction))[0]
            tangents.append(forward_ad.unpack_dual(output).tangent)
    torch.testing.assert_close(*tangents)


@pytest.mark.feature("gradients of gradients")
@backends
@layers
def test_gradient_of_a_gradient(name: str, backend: str) -> None:
    layer, eager = make(name, backend)
    results = []
    for each in (layer, eager):
        point = x(4, 3) * 0 + 0.5
        point.requires_grad_()
        (first,) = torch.autograd.grad(each(point)[0].sin().sum(), point, create_graph=True)
        parameters = list(each.parameters())
        penalty = first.square().sum()
        results.append(torch.autograd.grad(penalty, [point, *parameters], allow_unused=True))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@backends
@layers
def test_only_what_is_wanted_gets_a_gradient(name: str, backend: str) -> None:
    layer, _ = make(name, backend)
    first, *rest = layer.parameters()
    for parameter in rest:
        parameter.requires_grad_(False)
    layer(x(4, 3))[0].sum().backward()
    assert first.grad is not None
    assert all(parameter.grad is None for parameter in rest)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@backends
def test_torchs_tracers_see_the_cells_own_operations(backend: str) -> None:
    layer, eager = make("LSTM", backend)
    point = x(4, 3)
    traced = torch.jit.trace(layer, point)
    torch.testing.assert_close(traced(point), eager(point))


@pytest.mark.filterwarnings("ignore")  # what torch.export imports warns of its own
@backends
def test_export(backend: str) -> None:
    layer, eager = make("Recurrent", backend)
    point = x(4, 3)
    exported = torch.export.export(layer, (point,)).module()
    torch.testing.assert_close(exported(point), eager(point))
