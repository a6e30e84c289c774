"""RNN, LSTM and GRU as modules: all that is not their values."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from typing import Any

import pytest
import torch
from torch.nn.utils import parametrizations

import openrnn

NAMES = ("RNN", "LSTM", "GRU")
OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bias": False},
    {"num_layers": 2, "batch_first": True, "dropout": 0.5, "bidirectional": True},
]
names = pytest.mark.parametrize("name", NAMES)
# The kernels of torch that would make our layers the closed box again.
CLOSED = ("rnn_tanh", "rnn_relu", "lstm", "gru", "rnn_tanh_cell", "rnn_relu_cell", "lstm_cell")
CLOSED += ("gru_cell", "mkldnn_rnn_layer", "_thnn_fused_lstm_cell", "_thnn_fused_gru_cell")


def make(name: str, *args: Any, **options: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*args, **options)
    torch.manual_seed(0)
    return theirs, getattr(openrnn, name)(*args, **options)


@pytest.mark.parametrize("options", OPTIONS)
@names
def test_same_seed_same_parameters(name: str, options: dict[str, Any]) -> None:
    theirs, ours = make(name, 5, 7, **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key
    assert [key for key, _ in ours.named_parameters()] == list(theirs.state_dict())


def test_projection_has_torchs_parameters() -> None:
    theirs, ours = make("LSTM", 5, 7, 2, bidirectional=True, proj_size=3)
    for (key, ours_value), (their_key, value) in zip(
        ours.state_dict().items(), theirs.state_dict().items(), strict=True
    ):
        assert key == their_key
        assert torch.equal(ours_value, value)


@pytest.mark.parametrize("options", OPTIONS)
@names
def test_repr(name: str, options: dict[str, Any]) -> None:
    theirs, ours = make(name, 5, 7, **options)
    assert repr(ours) == repr(theirs)


def test_repr_tells_a_backend_that_was_asked_for() -> None:
    assert repr(openrnn.GRU(5, 7, backend="eager")) == "GRU(5, 7, backend='eager')"


@names
def test_state_dict_both_ways(name: str) -> None:
    theirs, ours = make(name, 5, 7, 2, bidirectional=True)
    other = getattr(torch.nn, name)(5, 7, 2, bidirectional=True)
    other.load_state_dict(ours.state_dict())
    ours.load_state_dict(other.state_dict())
    x = torch.randn(6, 4, 5)
    torch.testing.assert_close(ours(x), theirs(x))


@names
def test_signature_is_torchs(name: str) -> None:
    """Every positional argument at torch's place; torch documents it in the order of its docs."""
    ours = list(inspect.signature(getattr(openrnn, name)).parameters)
    order = ["input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout"]
    order += ["bidirectional"]
    if name == "RNN":
        order.insert(3, "nonlinearity")
    if name == "LSTM":
        order.append("proj_size")
    assert ours[: len(order) + 2] == [*order, "device", "dtype"]
    forward = list(inspect.signature(getattr(openrnn, name).forward).parameters.values())[1:]
    named = [p.name for p in forward if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert named == ["input", "hx"]


@names
def test_positional_arguments_mean_what_they_mean_in_torch(name: str) -> None:
    args = (5, 7, 2, "relu") if name == "RNN" else (5, 7, 2)
    theirs, ours = make(name, *args, False, True, 0.25, True)
    assert repr(ours) == repr(theirs)
    for attribute in ("mode", "input_size", "hidden_size", "num_layers", "bias", "batch_first"):
        assert getattr(ours, attribute) == getattr(theirs, attribute)
    for attribute in ("dropout", "bidirectional", "proj_size"):
        assert getattr(ours, attribute) == getattr(theirs, attribute)


@names
def test_subclasses_rnn_base_alone(name: str) -> None:
    ours = getattr(openrnn, name)
    assert issubclass(ours, torch.nn.RNNBase)
    assert not issubclass(ours, (torch.nn.RNN, torch.nn.LSTM, torch.nn.GRU))


def closed_kernels(module: torch.nn.Module, *inputs: Any) -> set[str]:
    """Which of torch's own recurrent kernels ran, forward and backward."""
    with torch.autograd.profiler.profile() as profile:
        output = module(*inputs)
        torch.autograd.backward(output[0].sum())
    ran = {event.key.removeprefix("aten::") for event in profile.key_averages()}
    return {kernel for kernel in CLOSED if any(name.startswith(kernel) for name in ran)}


@pytest.mark.parametrize("module", [*NAMES, "RNNCell", "LSTMCell", "GRUCell"])
def test_calls_no_recurrent_kernel_of_torch(module: str) -> None:
    x = torch.randn(4, 5) if module.endswith("Cell") else torch.randn(3, 4, 5)
    assert closed_kernels(getattr(torch.nn, module)(5, 7), x), "the probe must see torch's kernels"
    assert not closed_kernels(getattr(openrnn, module)(5, 7), x)


@names
def test_device_and_dtype(name: str) -> None:
    module = getattr(openrnn, name)(5, 7, device="meta", dtype=torch.float64)
    assert {p.device.type for p in module.parameters()} == {"meta"}
    assert {p.dtype for p in module.parameters()} == {torch.float64}
    output, _ = module(torch.empty(3, 2, 5, device="meta", dtype=torch.float64))
    assert output.shape == (3, 2, 7)
    assert output.device.type == "meta"


@names
def test_to_dtype(name: str) -> None:
    module = getattr(openrnn, name)(5, 7).double()
    assert module(torch.randn(3, 2, 5, dtype=torch.float64))[0].dtype == torch.float64


@names
def test_deepcopy_and_pickle(name: str) -> None:
    module = getattr(openrnn, name)(5, 7, 2, bidirectional=True)
    x = torch.randn(6, 4, 5)
    expected = module(x)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        torch.testing.assert_close(twin(x), expected, rtol=0, atol=0)
        with torch.no_grad():
            twin.weight_hh_l0.zero_()
        assert not torch.equal(twin(x)[0], expected[0])
    torch.testing.assert_close(module(x), expected, rtol=0, atol=0)


@names
def test_save_and_load_of_the_whole_module(name: str) -> None:
    module = getattr(openrnn, name)(5, 7)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    twin = torch.load(file, weights_only=False)
    x = torch.randn(6, 4, 5)
    torch.testing.assert_close(twin(x), module(x), rtol=0, atol=0)


@names
def test_flatten_parameters_changes_nothing(name: str) -> None:
    module = getattr(openrnn, name)(5, 7)
    pointers = [p.data_ptr() for p in module.parameters()]
    module.flatten_parameters()
    assert [p.data_ptr() for p in module.parameters()] == pointers


@names
def test_a_new_weight_is_used(name: str) -> None:
    theirs, ours = make(name, 5, 7)
    weight = torch.randn_like(ours.weight_hh_l0)
    theirs.weight_hh_l0 = torch.nn.Parameter(weight)
    ours.weight_hh_l0 = torch.nn.Parameter(weight)
    x = torch.randn(6, 4, 5)
    torch.testing.assert_close(ours(x), theirs(x))


@names
def test_parametrized_weight(name: str) -> None:
    theirs, ours = make(name, 5, 7)
    for module in (theirs, ours):
        parametrizations.weight_norm(module, "weight_hh_l0")
    x = torch.randn(6, 4, 5)
    torch.testing.assert_close(ours(x), theirs(x))
    ours(x)[0].sum().backward()
    assert ours.parametrizations.weight_hh_l0.original0.grad.abs().sum() > 0


@names
def test_function_transforms(name: str) -> None:
    module = getattr(openrnn, name)(5, 7, 2, bidirectional=True).double()
    x = torch.randn(3, 6, 4, 5, dtype=torch.float64)

    def loss(parameters: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(module, parameters, (x,))[0].sum()

    parameters = dict(module.named_parameters())
    per_sample = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
    for sample in range(3):
        module.zero_grad()
        module(x[sample])[0].sum().backward()
        for key, parameter in module.named_parameters():
            torch.testing.assert_close(per_sample[key][sample], parameter.grad)


@names
def test_double_backward(name: str) -> None:
    module = getattr(openrnn, name)(2, 3).double()
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: module(x)[0], x)


@names
def test_compiles_without_a_graph_break(name: str) -> None:
    module = getattr(openrnn, name)(5, 7)
    x = torch.randn(3, 4, 5)
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), module(x))


@names
def test_eval_and_no_grad(name: str) -> None:
    theirs, ours = make(name, 5, 7)
    x = torch.randn(3, 4, 5)
    with torch.inference_mode():
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


@names
def test_hooks_of_the_layer_run(name: str) -> None:
    module = getattr(openrnn, name)(5, 7)
    seen: list[Any] = []
    module.register_forward_hook(lambda *args: seen.append(args))
    module(torch.randn(3, 4, 5))
    assert len(seen) == 1


@names
def test_the_inner_stack_is_no_child(name: str) -> None:
    module = getattr(openrnn, name)(5, 7)
    assert [type(m) for m in module.modules()] == [getattr(openrnn, name)]


@names
def test_bfloat16_autocast(name: str) -> None:
    module = getattr(openrnn, name)(5, 7)
    x = torch.randn(3, 4, 5)
    with torch.autocast("cpu", torch.bfloat16):
        output = module(x)[0]
    torch.testing.assert_close(output.float(), module(x)[0], atol=0.05, rtol=0.05)
