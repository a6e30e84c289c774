"""What torch does to modules: each of our layers takes it as torch's own, or a plain loop, does."""

from __future__ import annotations

import copy
import io
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint

import openrnn
from openrnn.backends import staged
from openrnn.backends.cpu.kernel import Kernel

from .cases import (
    NAMES,
    Leaky,
    Loop,
    Loops,
    Pair,
    assert_alike,
    flat,
    gradients,
    inputs,
    loss_of,
    make,
    names,
    recurrent_weight,
    run,
    x_of,
)


@pytest.mark.feature("functional_call")
@names
def test_functional_call(name: str) -> None:
    pair, x = make(name), x_of(name)
    before = {key: p.clone() for key, p in pair[0].named_parameters()}
    others = {key: torch.randn_like(p) for key, p in pair[0].named_parameters()}
    results = []
    for module in pair:
        given = {key: other.clone().requires_grad_() for key, other in others.items()}
        output = functional_call(module, given, inputs(module, x))
        loss_of(output).backward()
        results.append(([*flat(output)], {key: tensor.grad for key, tensor in given.items()}))
    torch.testing.assert_close(*results)
    for key, parameter in pair[0].named_parameters():
        assert torch.equal(parameter, before[key])
        assert parameter.grad is None


class Scaled(nn.Module):
    """A parametrization with a parameter of its own, which counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.calls = 0

    def forward(self, weight: Tensor) -> Tensor:
        self.calls += 1
        return self.scale * weight.tanh()


@pytest.mark.feature("parametrize")
@names
def test_parametrize(name: str) -> None:
    pair, x = make(name), x_of(name)
    for module in pair:
        parametrize.register_parametrization(*recurrent_weight(module), Scaled())
        module.double()
    assert_alike(pair, x)
    (parametrization,) = (m for m in pair[0].modules() if isinstance(m, Scaled))
    parametrization.calls = 0
    pair[0](*inputs(pair[0], x))
    assert parametrization.calls == 1, "once for a whole sequence"
    for module in pair:
        parametrize.remove_parametrizations(*recurrent_weight(module))
    assert_alike(pair, x)


def hooked(function: Callable[..., Any]) -> Callable[[nn.Module, str], Any]:
    """torch says of these that there are new ones."""

    def apply(module: nn.Module, name: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            function(module, name)

    return apply


NORMS: dict[str, Callable[[nn.Module, str], Any]] = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "weight_norm by a hook": hooked(nn.utils.weight_norm),
    "spectral_norm by a hook": nn.utils.spectral_norm,
    "pruned": lambda module, name: prune.random_unstructured(module, name, 0.5),
}


@pytest.mark.feature("weight_norm, spectral_norm, pruning")
@pytest.mark.parametrize("norm", NORMS)
@names
def test_norms_of_a_weight(name: str, norm: str) -> None:
    pair, x = make(name), x_of(name)
    for module in pair:
        torch.manual_seed(1)
        NORMS[norm](*recurrent_weight(module))
        # In training, each time that it is read, spectral_norm comes closer to the norm.
        module.eval()
    assert_alike(pair, x)
    optimizers = [torch.optim.SGD(module.parameters(), 0.1) for module in pair]
    for optimizer in optimizers:
        optimizer.step()
    assert_alike(pair, x)


@pytest.mark.parametrize("norm", ["spectral_norm", "spectral_norm by a hook"])
@names
def test_a_spectral_norm_is_computed_once_for_a_call_in_training(name: str, norm: str) -> None:
    layer, x = make(name)[0], x_of(name)
    owner, weight = recurrent_weight(layer)
    alone = nn.Module()
    alone.weight = nn.Parameter(getattr(owner, weight).detach().clone())
    for module, own in ((owner, weight), (alone, "weight")):
        torch.manual_seed(1)
        NORMS[norm](module, own)
    steps = 4 if isinstance(owner, nn.Linear) and norm.endswith("hook") else 1
    for _ in range(steps):  # a hook of a module inside a cell runs at each step
        if norm.endswith("hook"):
            for hook in alone._forward_pre_hooks.values():
                hook(alone, ())
        else:
            alone.weight  # noqa: B018  a property
    run(layer, x)
    buffers = [dict(m.named_buffers()) for m in (owner, alone)]
    ours, theirs = ([v for k, v in sorted(b.items()) if v.dim() == 1] for b in buffers)
    assert ours
    torch.testing.assert_close(ours, theirs)


def tied(name: str) -> tuple[Pair, Tensor]:
    """Layers that share a recurrent weight, one on the other."""
    below, above = make(name), make(name)
    pairs: list[nn.Module] = []
    for first, second in zip(below, above, strict=True):
        setattr(*recurrent_weight(second), getattr(*recurrent_weight(first)))
        pairs.append(nn.ModuleList([first, second]))

    return (pairs[0], pairs[1]), x_of(name)


@pytest.mark.feature("shared weights")
@names
def test_a_weight_that_two_layers_share(name: str) -> None:
    pair, x = tied(name)
    results = []
    for both in pair:
        loss = loss_of(run(both[0], x)) + 2 * loss_of(run(both[1], x.cos()))  # type: ignore[index]
        loss.backward()
        results.append({key: p.grad for key, p in both.named_parameters()})
    torch.testing.assert_close(*results)


@pytest.mark.feature("shared weights")
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_a_weight_that_both_directions_and_layers_share(name: str) -> None:
    pair, x = make(name), x_of(name)
    for module in pair:
        module.weight_hh_l0_reverse = module.weight_hh_l0
        module.weight_hh_l1 = module.weight_hh_l0
    assert_alike(pair, x)


@pytest.mark.feature("shared weights", "Stack")
def test_a_cell_at_two_places_of_a_stack() -> None:
    cell, twin = Leaky().double(), Leaky().double()
    pair = openrnn.Stack([cell, cell]), Loops(twin, twin)
    pair[1].load_state_dict(pair[0].state_dict())
    assert_alike(pair, x_of("Stack"))


class Copied(nn.Module):
    """A user's cell of two parametrized parts, the one a copy of the other."""

    hidden_size = 12

    def __init__(self) -> None:
        super().__init__()
        self.ih = nn.Linear(12, 12)
        parametrize.register_parametrization(self.ih, "weight", Scaled())
        self.hh = copy.deepcopy(self.ih)
        with torch.no_grad():
            self.hh.parametrizations.weight[0].scale.mul_(3)  # type: ignore[index, union-attr]

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.ih(x) + self.hh(h))


@pytest.mark.parametrize("backend", ["eager", "reference", "cpu"])
def test_a_copy_has_a_parametrization_of_its_own(backend: str) -> None:
    cell, x = Copied(), torch.randn(4, 3, 12)
    layer = openrnn.Recurrent(cell, backend=backend)
    h = torch.zeros(3, 12)
    for x_t in x:
        h = cell(x_t, h)
    torch.testing.assert_close(layer(x)[1], h)
    counted = [m for m in cell.modules() if isinstance(m, Scaled)]
    for parametrization in counted:
        parametrization.calls = 0
    layer(x)[1].sum().backward()
    assert [parametrization.calls for parametrization in counted] == [1, 1]
    ours = [p.grad for p in cell.parameters()]
    theirs = torch.autograd.grad(h.sum(), [*cell.parameters()])
    torch.testing.assert_close(ours, [*theirs])


@pytest.mark.feature("frozen parameters")
@names
def test_no_gradient_is_computed_that_is_not_wanted(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, x = make(name), x_of(name)
    for module in pair:
        owner, weight = recurrent_weight(module)
        getattr(owner, weight).requires_grad_(False)
        next(module.parameters()).requires_grad_(False)
    computed: list[set[str]] = []
    scan = staged.Staged._scan

    def watched(self: Any, *args: Any) -> Any:
        results, final = scan(self, *args)
        if args[0] is self.prepared.backward:
            assert isinstance(args[0], Kernel)
            computed.append({label for label in results if label.startswith("parameter.")})
        return results, final

    monkeypatch.setattr(staged.Staged, "_scan", watched)
    assert_alike(pair, x)
    if name.endswith("Cell"):
        return
    weights = {"parameter.weight_hh", "parameter.hh.weight"}
    with_it = [bool(labels & weights) for labels in computed]
    assert with_it.count(False) == 1, computed  # of all layers and directions
    assert all(labels for labels in computed)


@pytest.mark.parametrize("name", ["LSTM", "GRUCell", "Recurrent"])
def test_a_layer_whose_parameters_are_all_frozen(name: str) -> None:
    pair, x = make(name), x_of(name)
    for module in pair:
        module.requires_grad_(False)
    assert_alike(pair, x)
    assert not next(flat(run(pair[0], x.detach()))).requires_grad


@pytest.mark.feature("a weight replaced")
@names
def test_another_tensor_as_a_weight(name: str) -> None:
    pair, x = make(name), x_of(name)
    run(pair[0], x)
    weight = torch.randn_like(getattr(*recurrent_weight(pair[0])))
    for module in pair:
        setattr(*recurrent_weight(module), nn.Parameter(weight.clone()))
    assert_alike(pair, x)
    for module in pair:
        with pytest.raises(TypeError, match="cannot assign"):
            setattr(*recurrent_weight(module), weight)
    sources = []
    for module in pair:
        owner, own = recurrent_weight(module)
        delattr(owner, own)
        source = weight.clone().requires_grad_()
        setattr(owner, own, source.tanh())
        sources.append(source)
    assert_alike(pair, x)
    assert sources[0].grad is not None
    torch.testing.assert_close(sources[0].grad, sources[1].grad)


@pytest.mark.feature("hooks")
@names
def test_hooks_see_and_change_what_they_may(name: str) -> None:
    pair, x = make(name), x_of(name)
    logs: list[list[Any]] = []
    for module in pair:
        log: list[Any] = []
        logs.append(log)

        def before(_: Any, args: Any) -> Any:
            return (args[0] * 2,)

        def after(_: Any, args: Any, output: Any, log: list[Any] = log) -> Any:
            log.append(args[0])
            log.extend(flat(output))
            first, *rest = [output] if isinstance(output, Tensor) else output
            return (first + 1, *rest)

        def gradient_before(_: Any, gradients: Any, log: list[Any] = log) -> Any:
            log.extend(g for g in gradients if g is not None)
            return tuple(None if g is None else 3 * g for g in gradients)

        def gradient_after(_: Any, ins: Any, outs: Any, log: list[Any] = log) -> Any:
            log.extend(g for g in (*ins, *outs) if g is not None)
            return tuple(None if g is None else 5 * g for g in ins)

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)
        module.register_full_backward_pre_hook(gradient_before)
        module.register_full_backward_hook(gradient_after)
    assert_alike(pair, x)
    assert len(logs[0]) > 4
    torch.testing.assert_close(*logs)


@pytest.mark.feature("hooks")
@names
def test_hooks_with_keywords(name: str) -> None:
    layer, x = make(name)[0], x_of(name)
    seen: list[Any] = []
    layer.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args, kwargs)), with_kwargs=True
    )
    layer.register_forward_hook(
        lambda _, args, kwargs, output: seen.append(kwargs), with_kwargs=True
    )
    layer(input=x)
    assert seen[0][0] == ()
    assert seen[0][1]["input"] is x
    assert seen[1]["input"] is x


@pytest.mark.feature("hooks of a cell")
@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("name", ["Recurrent", "Stack"])
def test_hooks_of_a_cell_run_at_each_step(name: str, late: bool) -> None:
    pair, x = make(name), x_of(name)
    if late:
        pair[0](x)
    counts = []
    for module in pair:
        seen: list[Any] = []
        counts.append(seen)
        owner, _ = recurrent_weight(module)
        owner.register_forward_hook(lambda m, a, out, seen=seen: seen.append(out) or out * 2)
    assert_alike(pair, x)
    assert len(counts[0]) == len(counts[1]) == 4
    torch.testing.assert_close(*counts)


@pytest.mark.feature("hooks at all modules")
@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")  # as of torch's
@names
def test_hooks_of_all_modules(name: str) -> None:
    """They see what torch's see: a layer over time once, a cell of a user's at each step."""
    pair, x = make(name), x_of(name)
    logs: list[list[Any]] = []
    for module in pair:
        log: list[Any] = []

        def note(m: nn.Module, *args: Any, log: list[Any] = log) -> None:
            if not isinstance(m, (Loop, Loops, openrnn.Recurrent, openrnn.Stack)):
                tensors = [t for t in args[-1] if t is not None]  # of results or gradients
                log.append((type(m).__name__, [t.detach() for t in flat(tensors)]))

        kinds = nn.modules.module
        handles = [
            kinds.register_module_forward_pre_hook(note),
            kinds.register_module_forward_hook(note),
            kinds.register_module_full_backward_hook(note),
        ]
        try:
            gradients(module, x)
        finally:
            for handle in handles:
                handle.remove()
        logs.append(log)
    if name == "Stack":  # a loop at each layer, in any order of the layers
        logs = [sorted(log, key=lambda entry: entry[0]) for log in logs]
    assert [entry[0] for entry in logs[0]] == [entry[0] for entry in logs[1]]
    assert len(logs[0]) >= 3
    torch.testing.assert_close(*([tensors for _, tensors in log] for log in logs))
    assert_alike(pair, x)


@pytest.mark.feature("old checkpoints")
@pytest.mark.parametrize("zip_file", [True, False], ids=["zip", "before 1.6"])
@names
def test_old_checkpoints(name: str, zip_file: bool) -> None:
    """Views of one flat array, as cuDNN wants them, in a file without metadata."""
    layer, peer = make(name)
    tensors = [torch.randn_like(tensor) for tensor in peer.state_dict().values()]
    whole = torch.cat([tensor.flatten() for tensor in tensors])
    parts = whole.split([tensor.numel() for tensor in tensors])
    views = (part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True))
    checkpointed = OrderedDict(zip(peer.state_dict(), views, strict=True))
    assert not hasattr(checkpointed, "_metadata")
    file = io.BytesIO()
    torch.save(checkpointed, file, _use_new_zipfile_serialization=zip_file)
    file.seek(0)
    loaded = torch.load(file)
    for assign in (False, True):
        for module in (layer, peer):
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.zero_()
            assert (
                str(module.load_state_dict(loaded, assign=assign))
                == "<All keys matched successfully>"
            )
        assert_alike((layer, peer), x_of(name))
        loaded = torch.load(io.BytesIO(file.getvalue()))


@names
def test_a_checkpoint_that_does_not_fit_is_refused_as_torch_does(name: str) -> None:
    layer, peer = make(name)
    state = dict(peer.state_dict())
    state["other"] = state.pop(list(state)[-1])
    for module in (layer, peer):
        with pytest.raises(RuntimeError, match=r"(?s)Missing key.*Unexpected key"):
            module.load_state_dict(state)


@pytest.mark.feature("copy.deepcopy")
@names
def test_a_copy_between_forward_and_backward(name: str) -> None:
    pair, x = make(name), x_of(name)
    results = []
    for module in pair:
        loss = loss_of(run(module, x))
        twin = copy.deepcopy(module)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.mul_(2)
        loss_of(run(twin, x)).backward()
        loss.backward()
        results.append([[p.grad for p in each.parameters()] for each in (module, twin)])
    torch.testing.assert_close(*results)


@pytest.mark.feature("a weight changed in place")
@names
def test_a_weight_changed_in_place_before_backward_is_an_error(name: str) -> None:
    pair, x = make(name), x_of(name)
    for module in pair:
        loss = loss_of(run(module, x.requires_grad_()))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@pytest.mark.feature("torch.utils.checkpoint")
@pytest.mark.parametrize("reentrant", [True, False])
@names
def test_torchs_checkpoint(name: str, reentrant: bool) -> None:
    (layer, peer), x = make(name), x_of(name)

    def checkpointed(*args: Any) -> Any:
        # Of tensors in tuples reentrant checkpoints know nothing.
        return checkpoint(lambda *args: tuple(flat(layer(*args))), *args, use_reentrant=reentrant)

    torch.testing.assert_close(gradients(layer, x, checkpointed), gradients(peer, x))


@pytest.mark.feature("clip_grad_norm_")
@pytest.mark.parametrize("foreach", [True, False])
@names
def test_clipped_gradients(name: str, foreach: bool) -> None:
    pair, x = make(name), x_of(name)
    norms = []
    for module in pair:
        gradients(module, x)
        norms.append(nn.utils.clip_grad_norm_(module.parameters(), 0.1, foreach=foreach))
    torch.testing.assert_close(*norms)
    assert norms[0] > 0.1
    for ours, theirs in zip(*(module.parameters() for module in pair), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "fused Adam": lambda parameters: torch.optim.Adam(parameters, 0.05, fused=True),
    "foreach Adam": lambda parameters: torch.optim.Adam(parameters, 0.05, foreach=True),
    "fused SGD": lambda parameters: torch.optim.SGD(parameters, 0.05, momentum=0.9, fused=True),
    "LBFGS": lambda parameters: torch.optim.LBFGS(parameters, max_iter=3),
}


@pytest.mark.feature("optimizers")
@pytest.mark.parametrize("kind", OPTIMIZERS)
@names
def test_optimizers(name: str, kind: str) -> None:
    pair, x = make(name), x_of(name)
    start = [p.detach().clone() for p in pair[0].parameters()]
    for module in pair:
        optimizer = OPTIMIZERS[kind](module.parameters())

        def closure(module: nn.Module = module, optimizer: Any = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = torch.stack([t.square().sum() for t in flat(run(module, x))]).sum()
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)  # type: ignore[arg-type]
    for ours, theirs, before in zip(*(m.parameters() for m in pair), start, strict=True):
        torch.testing.assert_close(ours, theirs)
        assert not torch.equal(ours, before)


def work(modules: list[nn.Module], xs: list[Tensor], queue: Any, done: Any) -> None:
    """In another process: what they give, and then another weight in the memory that is shared."""
    for module, x in zip(modules, xs, strict=True):
        queue.put([t.detach().clone() for t in flat(run(module, x))])
        with torch.no_grad():
            getattr(*recurrent_weight(module)).mul_(2)
    done.wait(60)


@pytest.mark.feature("another process", *NAMES)
def test_a_spawned_process_shares_the_weights() -> None:
    """One process for all of them: to start it takes the time."""
    pairs = [make(name) for name in NAMES]
    xs = [x_of(name) for name in NAMES]
    layers = [layer.share_memory() for layer, _ in pairs]
    assert all(p.is_shared() for layer in layers for p in layer.parameters())
    for layer, x in zip(layers, xs, strict=True):
        run(layer, x)  # what was prepared stays behind
    context = torch.multiprocessing.get_context("spawn")
    queue, done = context.Queue(), context.Event()
    process = context.Process(target=work, args=(layers, xs, queue, done))
    process.start()
    try:
        for (_, peer), x in zip(pairs, xs, strict=True):
            torch.testing.assert_close(queue.get(timeout=60), list(flat(run(peer, x))))
    finally:
        done.set()
        process.join(60)
    assert process.exitcode == 0
    for (layer, peer), x in zip(pairs, xs, strict=True):
        with torch.no_grad():
            getattr(*recurrent_weight(peer)).mul_(2)
        assert_alike((layer, peer), x)
