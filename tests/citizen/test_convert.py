"""`convert` and `to_torch`: a model changes its layers, and nothing else about it changes."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import openrnn
from openrnn.layers.dropin import DropIn

from .cases import flat

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

LAYERS: dict[str, Callable[[], nn.RNNBase]] = {
    "RNN": lambda: nn.RNN(12, 12, 2, nonlinearity="relu", batch_first=True),
    "LSTM": lambda: nn.LSTM(12, 6, 2, bidirectional=True),
    "projected": lambda: nn.LSTM(12, 6, proj_size=4, bias=False),
    "GRU": lambda: nn.GRU(12, 6, 2, bias=False, bidirectional=True, batch_first=True),
}
CELLS: dict[str, Callable[[], nn.RNNCellBase]] = {
    "RNNCell": lambda: nn.RNNCell(12, 6, nonlinearity="relu"),
    "LSTMCell": lambda: nn.LSTMCell(12, 6, bias=False),
    "GRUCell": lambda: nn.GRUCell(12, 6),
}
modules = pytest.mark.parametrize("name", [*LAYERS, *CELLS])
layers = pytest.mark.parametrize("name", LAYERS)


def make(name: str) -> nn.Module:
    return {**LAYERS, **CELLS}[name]().double()


def x_of(name: str) -> Tensor:
    shape = (3, 12) if name in CELLS else (4, 3, 12)
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def results(module: nn.Module, x: Tensor) -> list[Tensor]:
    """Outputs, states, and the gradients of x and of all parameters."""
    x = x.detach().requires_grad_()
    outputs = list(flat(module(x)))
    loss = sum((output.sin() * (1 + place)).sum() for place, output in enumerate(outputs))
    assert isinstance(loss, Tensor)
    wanted = [p for p in module.parameters() if p.requires_grad]
    return [t.detach() for t in (*outputs, *torch.autograd.grad(loss, [x, *wanted]))]


def train(module: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    for _ in range(3):
        optimizer.zero_grad()
        torch.stack([output.square().sum() for output in flat(module(x))]).sum().backward()
        optimizer.step()


def ours(module: nn.Module) -> bool:
    return isinstance(module, (DropIn, openrnn.cells.Cell))


@pytest.mark.feature("convert")
@pytest.mark.feature("to_torch")
@modules
def test_results_and_gradients_there_and_back(name: str) -> None:
    module, x = make(name), x_of(name)
    expected, kind = results(module, x), type(module)
    held = {key: id(parameter) for key, parameter in module.named_parameters()}
    values = {key: value.clone() for key, value in module.state_dict().items()}
    report = openrnn.convert(module)
    assert report.model is module
    assert type(module) is getattr(openrnn, kind.__name__)
    torch.testing.assert_close(results(module, x), expected)
    assert {key: id(parameter) for key, parameter in module.named_parameters()} == held
    assert list(module.state_dict()) == list(values)
    assert all(torch.equal(value, values[key]) for key, value in module.state_dict().items())
    back = openrnn.to_torch(module)
    assert back.model is module
    assert type(module) is kind
    assert vars(module).keys() == vars(make(name)).keys()
    assert {key: id(parameter) for key, parameter in module.named_parameters()} == held
    for after, before in zip(results(module, x), expected, strict=True):
        assert torch.equal(after, before)


@pytest.mark.feature("convert")
@pytest.mark.feature("to_torch")
@pytest.mark.feature("an optimizer built before")
@pytest.mark.feature("what stays as it is")
@pytest.mark.parametrize("name", ["Recurrent", "Stack"])
def test_cells_of_torch_in_a_layer_of_ours(name: str) -> None:
    stack = openrnn.Stack([nn.LSTMCell(12, 6), nn.GRUCell(6, 6)])
    layer = (openrnn.Recurrent(nn.LSTMCell(12, 6)) if name == "Recurrent" else stack).double()
    below = layer.layers[0].cell if name == "Stack" else layer.cell  # type: ignore[union-attr, index]
    x, seen = x_of(name), list[nn.Module]()
    parametrizations.weight_norm(below, "weight_hh")
    peer, optimizer = copy.deepcopy(layer), torch.optim.Adam(layer.parameters(), 0.05)
    below.register_forward_hook(lambda module, *_: seen.append(module))
    held, expected = [*map(id, layer.parameters())], results(layer, x)
    report = openrnn.convert(layer)
    assert len(report.replaced) == (1 if name == "Recurrent" else 2)
    assert not report.left
    torch.testing.assert_close(results(layer, x), expected)
    openrnn.to_torch(layer)
    assert not any(isinstance(module, openrnn.cells.Cell) for module in layer.modules())
    torch.testing.assert_close(results(layer, x), expected)
    assert [*map(id, layer.parameters())] == held
    openrnn.convert(layer)
    train(layer, optimizer, x)
    train(peer, torch.optim.Adam(peer.parameters(), 0.05), x)
    for after, twin in zip(layer.parameters(), peer.parameters(), strict=True):
        torch.testing.assert_close(after, twin)
    assert len(seen) == 6 * 4, "each call has four steps"
    assert all(module is below for module in seen)


@pytest.mark.feature("an optimizer built before")
@modules
def test_an_optimizer_built_before_goes_on(name: str) -> None:
    module, x = make(name), x_of(name)
    peer = copy.deepcopy(module)
    optimizers = [torch.optim.Adam(each.parameters(), 0.05) for each in (module, peer)]
    train(module, optimizers[0], x)
    train(peer, optimizers[1], x)
    openrnn.convert(module)
    train(module, optimizers[0], x)
    train(peer, optimizers[1], x)
    openrnn.to_torch(module)
    train(module, optimizers[0], x)
    train(peer, optimizers[1], x)
    for after, expected in zip(module.parameters(), peer.parameters(), strict=True):
        torch.testing.assert_close(after, expected)


@modules
def test_torchs_kernel_runs_no_longer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = make(name), x_of(name)
    assert (kind := kernels(module, x)), "the probe must see torch's kernel"
    openrnn.convert(module)
    assert not kernels(module, x)
    openrnn.to_torch(module)
    assert kernels(module, x) == kind


def kernels(module: nn.Module, x: Tensor) -> set[str]:
    """torch's own recurrent operations that run."""
    with torch.profiler.profile() as profile:
        module(x)
    known = ("aten::lstm", "aten::gru", "aten::rnn")
    return {event.key for event in profile.key_averages() if event.key.startswith(known)}


def test_modes_dtypes_devices_and_requires_grad_stay() -> None:
    model = nn.ModuleList(
        [nn.LSTM(12, 6, dtype=torch.bfloat16), nn.GRU(12, 6, device="meta"), nn.RNNCell(12, 6)]
    )
    model[0].eval()
    model[2].bias_hh.requires_grad_(False)
    random_state = torch.get_rng_state()
    openrnn.convert(model)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(map(ours, model))
    assert [module.training for module in model] == [False, True, True]
    assert {p.dtype for p in model[0].parameters()} == {torch.bfloat16}
    assert {p.device.type for p in model[1].parameters()} == {"meta"}
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == ["2.bias_hh"]


def test_dropout_is_in_force_and_warns_no_second_time() -> None:
    with pytest.warns(UserWarning, match="dropout option adds dropout"):
        single = nn.GRU(12, 6, dropout=0.5)
    model = nn.ModuleList([nn.LSTM(6, 6, 2, dropout=1.0), single]).requires_grad_(False)
    openrnn.convert(model)
    lstm, x = model[0], torch.randn(4, 3, 6)
    lower = nn.LSTM(6, 6)
    lower.load_state_dict(
        {key.replace("l1", "l0"): v for key, v in lstm.state_dict().items() if "l1" in key}
    )
    torch.testing.assert_close(lstm(x)[0], lower(torch.zeros(4, 3, 6))[0])
    assert not torch.equal(lstm.eval()(x)[0], lstm.train()(x)[0])


@pytest.mark.feature("what stays as it is")
@modules
def test_hooks_stay_and_can_be_removed(name: str) -> None:
    module, x = make(name), x_of(name)
    seen: list[Any] = []
    handles = [
        module.register_forward_pre_hook(lambda m, args: seen.append(("before", m))),
        module.register_forward_hook(lambda m, args, output: seen.append(("after", m))),
        module.register_full_backward_pre_hook(lambda m, grads: seen.append(("gradient", m))),
        module.register_full_backward_hook(lambda m, ins, outs: seen.append(("backward", m))),
        module.register_state_dict_post_hook(lambda m, *args: seen.append(("saved", m))),
        module.register_load_state_dict_post_hook(lambda m, keys: seen.append(("loaded", m))),
    ]
    openrnn.convert(module)
    output = next(flat(module(x.requires_grad_())))
    output.sum().backward()
    module.load_state_dict(module.state_dict())
    names = ["before", "after", "gradient", "backward", "saved", "loaded"]
    assert seen == [(each, module) for each in names]
    for handle in handles:
        handle.remove()
    module.load_state_dict(module.state_dict())
    next(flat(module(x))).sum().backward()
    assert len(seen) == len(names)


def test_shared_modules_references_and_weights_stay_shared() -> None:
    shared, above = nn.LSTM(12, 6), nn.LSTM(12, 6)
    above.weight_hh_l0 = shared.weight_hh_l0
    model = nn.ModuleDict({"one": shared, "two": shared, "above": above})
    kept = [shared]  # from outside the model
    report = openrnn.convert(model)
    assert str(report) == (
        "ModuleDict: 2 replaced, 0 left\n"
        "  one, two  torch.nn.LSTM -> openrnn.LSTM\n"
        "  above     torch.nn.LSTM -> openrnn.LSTM"
    )
    assert model["one"] is model["two"] is kept[0]
    assert ours(kept[0])
    assert above.weight_hh_l0 is shared.weight_hh_l0
    x = torch.randn(4, 3, 12, requires_grad=True)
    (above(x)[0] * shared(x)[0]).sum().backward()
    theirs = nn.ModuleList([nn.LSTM(12, 6), nn.LSTM(12, 6)])
    for twin, module in zip(theirs, (shared, above), strict=True):
        twin.load_state_dict(module.state_dict())
    theirs[1].weight_hh_l0 = theirs[0].weight_hh_l0
    (theirs[1](x)[0] * theirs[0](x)[0]).sum().backward()
    torch.testing.assert_close(shared.weight_hh_l0.grad, theirs[0].weight_hh_l0.grad)


def old_weight_norm(module: nn.Module, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that there is a new one
        nn.utils.weight_norm(module, name)


COMPUTED: dict[str, Callable[[nn.Module, str], Any]] = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": lambda module, name: parametrizations.spectral_norm(module, name).eval(),
    "weight_norm by a hook": old_weight_norm,
    "spectral_norm by a hook": lambda module, name: nn.utils.spectral_norm(module, name).eval(),
    "pruned": lambda module, name: prune.random_unstructured(module, name, 0.5),
}


@pytest.mark.feature("what stays as it is")
@pytest.mark.parametrize("how", COMPUTED)
@modules
def test_computed_weights(name: str, how: str) -> None:
    weight = "weight_hh" if name in CELLS else "weight_hh_l0"
    module, x = make(name), x_of(name)
    COMPUTED[how](module, weight)
    expected, keys = results(module, x), list(module.state_dict())
    report = openrnn.convert(module)
    assert ours(module)
    assert not report.left
    assert list(module.state_dict()) == keys
    torch.testing.assert_close(results(module, x), expected)
    openrnn.to_torch(module)
    assert not ours(module)
    torch.testing.assert_close(results(module, x), expected, rtol=0, atol=0)


@layers
def test_parametrizations_come_and_go_after_conversion(name: str) -> None:
    module, x = make(name), x_of(name)
    kind = type(module)
    parametrizations.weight_norm(module, "weight_hh_l0")
    openrnn.convert(module)
    parametrizations.weight_norm(module, "weight_ih_l0")
    expected = list(flat(module(x)))
    with torch.no_grad():
        module.parametrizations.weight_hh_l0.original0.mul_(2)  # type: ignore[union-attr, operator]
    assert not torch.allclose(next(flat(module(x))), expected[0])
    with torch.no_grad():
        module.parametrizations.weight_hh_l0.original0.div_(2)  # type: ignore[union-attr, operator]
    parametrize.remove_parametrizations(module, "weight_hh_l0")
    parametrize.remove_parametrizations(module, "weight_ih_l0")
    assert type(module) is getattr(openrnn, kind.__name__)
    torch.testing.assert_close(list(flat(module(x))), expected)


def test_a_parametrized_layer_that_has_run_can_be_copied() -> None:
    module, x = nn.LSTM(12, 6), torch.randn(4, 3, 12)
    parametrizations.weight_norm(module, "weight_hh_l0")
    expected = module(x)
    openrnn.convert(module)
    torch.testing.assert_close(copy.deepcopy(module)(x), expected)
    copied = copy.deepcopy(module)
    openrnn.to_torch(copied)
    torch.testing.assert_close(copied(x), expected)


@pytest.mark.feature("what stays as it is")
@modules
def test_copies_and_pickles(name: str) -> None:
    module, x = make(name), x_of(name)
    expected = list(flat(module(x)))
    openrnn.convert(module)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    copies = [copy.deepcopy(module), pickle.loads(pickle.dumps(module))]
    for twin in (*copies, torch.load(file, weights_only=False)):
        assert type(twin) is type(module)
        torch.testing.assert_close(list(flat(twin(x))), expected)
        assert not {id(p) for p in twin.parameters()} & {id(p) for p in module.parameters()}
        openrnn.to_torch(twin)
        torch.testing.assert_close(list(flat(twin(x))), expected)


def test_a_module_from_an_old_file() -> None:
    """As torch before 1.8 pickled it: without proj_size, its weights in a list."""
    module, x = nn.LSTM(12, 6), torch.randn(4, 3, 12)
    expected, state = module(x), module.__getstate__()
    del state["proj_size"], state["_flat_weights"], state["_flat_weights_names"]
    state["_all_weights"] = [[]]
    state["all_weights"] = [[*module.parameters()]]
    old = nn.LSTM.__new__(nn.LSTM)
    old.__setstate__(state)
    openrnn.convert(old)
    torch.testing.assert_close(old(x), expected)
    openrnn.to_torch(old)
    torch.testing.assert_close(old(x), expected)


class Own(nn.LSTM):
    """A user's, with a method of its own."""

    def forward(self, *args: Any) -> Any:
        return super().forward(*args)[0]


class OwnBase(nn.RNNCellBase):
    """A user's cell."""


class OwnGRU(openrnn.GRU):
    """A user's, on ours."""


@pytest.mark.refused("TorchScript")
@pytest.mark.refused("quantized modules of torch.ao")
@pytest.mark.refused("subclasses of torch's modules")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_what_is_left_and_why() -> None:
    quantized = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.LSTM(12, 6)), {nn.LSTM})
    patched, odd = nn.LSTM(12, 6), nn.LSTM(12, 6)
    patched.forward = lambda x: x  # type: ignore[method-assign, assignment]
    odd.weight_hh_l0 = nn.Parameter(torch.zeros(24, 5))
    model = nn.ModuleDict(
        {
            "own": Own(12, 6),
            "base": OwnBase(12, 6, True, 1),
            "fast": quantized,
            "script": torch.jit.script(nn.GRU(12, 6)),
            "patched": patched,
            "odd": odd,
            "ours": openrnn.LSTM(12, 6),
            "plain": nn.GRU(12, 6),
        }
    )
    before = {name: type(module) for name, module in model.named_modules()}
    report = openrnn.convert(model)
    assert str(report).splitlines() == [
        "ModuleDict: 1 replaced, 6 left",
        "  plain    torch.nn.GRU -> openrnn.GRU",
        "  own      Own left: it is of a subclass of torch.nn.LSTM, whose own methods",
        "           would be lost",
        "  base     OwnBase left: it is of a subclass of torch.nn.RNNCellBase, whose own",
        "           methods would be lost",
        "  fast.0   LSTM left: it is quantized, and its weights are no parameters",
        "  script   GRU left: it is TorchScript; convert the model before",
        "           torch.jit.script",
        "  patched  LSTM left: its forward was set on the object, and would be lost or",
        "           run still",
        "  odd      LSTM left: its weight_hh_l0 is of shape (24, 5), where its sizes ask",
        "           for (24, 6)",
    ]
    after = {name: type(module) for name, module in model.named_modules()}
    assert [name for name in after if after[name] is not before[name]] == ["plain"]
    assert str(openrnn.convert(model)).startswith("ModuleDict: 0 replaced, 6 left")


def test_what_torch_has_not_is_left() -> None:
    options: list[dict[str, Any]] = [
        {"layer_norm": True},
        {"zoneout": 0.1, "recurrent_dropout": 0.2},
        {"weight_drop": 0.1},
        {"learn_initial_state": True},
        {"checkpoint": 3},
        {"backend": "eager"},
    ]
    model = nn.ModuleList(openrnn.LSTM(12, 6, **each) for each in options)
    model.append(OwnGRU(12, 6))
    model.append(openrnn.Stack([openrnn.cells.MGUCell(12, 6), openrnn.LSTMCell(6, 4)]))
    output = model[-1](torch.ones(4, 3, 12))[0]
    report = openrnn.to_torch(model)
    assert str(report).splitlines() == [
        "ModuleList: 1 replaced, 11 left",
        "  7.layers.1.cell  openrnn.LSTMCell -> torch.nn.LSTMCell",
        "  0                LSTM left: torch.nn.LSTM has no layer_norm=True",
        "  1                LSTM left: torch.nn.LSTM has no recurrent_dropout=0.2 and no",
        "                   zoneout=0.1",
        "  2                LSTM left: torch.nn.LSTM has no weight_drop=0.1",
        "  3                LSTM left: torch.nn.LSTM has no learn_initial_state=True",
        "  4                LSTM left: torch.nn.LSTM has no checkpoint=3",
        "  5                LSTM left: torch.nn.LSTM has no backend='eager'",
        "  6                OwnGRU left: it is of a subclass of openrnn.GRU, whose own",
        "                   methods would be lost",
        "  7                Stack left: torch.nn has no such layer",
        "  7.layers.0       Recurrent left: torch.nn has no such layer",
        "  7.layers.0.cell  MGUCell left: torch.nn has no such cell",
        "  7.layers.1       Recurrent left: torch.nn has no such layer",
    ]
    torch.testing.assert_close(model[-1](torch.ones(4, 3, 12))[0], output)
    openrnn.convert(model)
    torch.testing.assert_close(model[-1](torch.ones(4, 3, 12))[0], output)
    assert type(model[-1].layers[1].cell) is openrnn.LSTMCell  # type: ignore[union-attr, index]


def test_a_report_is_data() -> None:
    report = openrnn.convert(nn.LSTM(12, 6))
    assert report.replaced == ((("",), "torch.nn.LSTM", "openrnn.LSTM"),)
    assert report.left == ()
    assert repr(report) == "LSTM: 1 replaced, 0 left\n  (model)  torch.nn.LSTM -> openrnn.LSTM"
    assert str(openrnn.convert(nn.Linear(2, 3))) == "Linear: 0 replaced, 0 left"


def test_nothing_is_changed_where_one_cannot_be() -> None:
    broken = nn.RNNCell(12, 6, nonlinearity="sigmoid")
    model = nn.ModuleList([nn.LSTM(12, 6), broken])
    state = dict(vars(model[0]))
    with pytest.raises(openrnn.ArgumentError, match="nonlinearity 'tanh' or 'relu'"):
        openrnn.convert(model)
    assert type(model[0]) is nn.LSTM
    assert vars(model[0]) == state


@pytest.mark.parametrize("ask", [openrnn.convert, openrnn.to_torch])
def test_only_a_module_is_a_model(ask: Any) -> None:
    with pytest.raises(openrnn.ArgumentTypeError, match=r"expected a model, a torch\.nn\.Module"):
        ask([nn.LSTM(12, 6)])
