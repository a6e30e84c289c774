"""The checks of `ranks.py`: what several processes do equals what one does, to rounding."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD

import openrnn
from openrnn.backends import staged
from openrnn.backends.cpu.kernel import Kernel

from .cases import flat, make
from .ranks import Check, Group

T, B, I = 4, 8, 12  # noqa: E741  T, B, I as everywhere
LAYERS = ("LSTM", "GRU", "RNN", "Recurrent", "Stack")
Wrap = Callable[[nn.Module, Group], nn.Module]


class Model(nn.Module):
    """A layer, and what is usually behind one."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.layer = make(name)[0] if name in LAYERS else learned()
        self.head = nn.Linear(6 if name == "Stack" else 12, 2, dtype=torch.float64)

    def forward(self, x: Tensor, lengths: Any = None) -> tuple[Tensor, Any]:
        output, state = self.layer(x, lengths=lengths)
        return self.head(output), state


def learned() -> nn.Module:
    """The layer with most parameters that torch's has not."""
    layer = openrnn.LSTM(
        I, 6, 2, bidirectional=True, learn_initial_state=True, layer_norm=True, dtype=torch.float64
    )
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-0.5, 0.5)
    return layer


def loss_of(results: tuple[Tensor, Any], share: float = 1.0) -> Tensor:
    """Of outputs and final states; `share` is that of these sequences in a mean over all."""
    output, state = results
    losses = output.square().sum() / T
    return share * (losses + sum(s.sin().sum() for s in flat(state))) / B


def part(x: Tensor, group: Group, dim: int = 1) -> Tensor:
    """A rank's own sequences."""
    return x.tensor_split(group.size, dim)[group.rank]


def data() -> tuple[Tensor, Tensor]:
    """A batch, and lengths that differ, from rank to rank too."""
    return torch.randn(T, B, I, dtype=torch.float64), torch.tensor([4, 4, 3, 3, 2, 1, 0, 4])


@contextmanager
def kernels(counts: list[int]) -> Iterator[None]:
    """Counts the kernels that run, forward and backward; anything else in their place fails."""
    scan, ran = staged.Staged._scan, [0, 0]

    def watched(self: Any, what: Any, *args: Any) -> Any:
        assert isinstance(what, Kernel), what
        ran[what is self.prepared.backward] += 1
        return scan(self, what, *args)

    staged.Staged._scan = watched  # type: ignore[method-assign]
    try:
        yield
    finally:
        staged.Staged._scan = scan  # type: ignore[method-assign]
    assert all(ran), "the kernels have run, not the eager loop"
    counts.append(ran)  # type: ignore[arg-type]


def whole(parameters: Any) -> list[Tensor]:
    """Parameters, or their gradients, as one process has them."""
    return [p.full_tensor() if isinstance(p, DTensor) else p for p in parameters]


def assert_close(ours: Any, expected: Any) -> None:
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


def ddp(model: nn.Module, group: Group, **options: Any) -> nn.Module:
    return DistributedDataParallel(model, process_group=group.all, **options)


def fsdp(model: nn.Module, group: Group, **options: Any) -> nn.Module:
    fully_shard(model.layer, mesh=group.mesh, **options)
    fully_shard(model, mesh=group.mesh, **options)
    assert all(isinstance(p, DTensor) for p in model.parameters())
    return model


def layer_by_layer(model: nn.Module, group: Group) -> nn.Module:
    for layer in model.layer.layers:  # type: ignore[union-attr]
        fully_shard(layer, mesh=group.mesh)
    return fsdp(model, group)


def train(name: str, wrap: Wrap, group: Group, *, ragged: bool = False, batch: int = B) -> None:
    """Some steps; what is left at the end is what one process would have."""
    one = Model(name)
    many = wrap(copy.deepcopy(one), group)
    x, ends = data()
    x, ends = x[:, :batch], ends[:batch]
    lengths = ends if ragged else None
    own = part(ends, group, 0) if ragged else None
    counts: list[Any] = []
    # One that no factor of the gradients escapes, as it does Adam.
    optimizers = [SGD(model.parameters(), 0.5, momentum=0.9) for model in (one, many)]
    for _ in range(2):
        for optimizer in optimizers:
            optimizer.zero_grad()
        with kernels(counts):
            expected = one(x, lengths)
            loss_of(expected).backward()
        with kernels(counts):
            results = many(part(x, group), own)
            # The mean over ranks is taken of gradients: a rank's loss is its share, times ranks.
            loss_of(results, group.size).backward()
        assert_close(results[0], part(expected[0], group))
        for optimizer in optimizers:
            optimizer.step()
    assert_close(whole(many.parameters()), [*one.parameters()])
    assert counts[0::2] == counts[1::2]


def accumulate(name: str, wrap: Wrap, group: Group) -> None:
    """Gradients of several batches, exchanged with the last of them."""
    one = Model(name)
    many = wrap(copy.deepcopy(one), group)
    batches = [data()[0] for _ in range(3)]
    for number, x in enumerate(batches):
        loss_of(one(x)).backward()
        last = number == len(batches) - 1
        if isinstance(many, FSDPModule):
            many.set_requires_gradient_sync(last)
            loss_of(many(part(x, group)), group.size).backward()
        elif last:
            loss_of(many(part(x, group)), group.size).backward()
        else:
            with many.no_sync():  # type: ignore[operator]
                loss_of(many(part(x, group)), group.size).backward()
            other = torch.stack([p.grad.sum() for p in many.parameters()])  # type: ignore[union-attr]
            mean = other.clone()
            dist.all_reduce(mean, group=group.all)
            assert not torch.allclose(mean / group.size, other), "they differ from rank to rank"
    assert_close(whole(p.grad for p in many.parameters()), [p.grad for p in one.parameters()])


class Branches(nn.Module):
    """Layers of which each batch takes one, and one that none takes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(make(name)[0] for name in ("LSTM", "Recurrent", "GRU"))

    def forward(self, x: Tensor, number: int) -> Tensor:
        return self.layers[number](x)[0]  # type: ignore[no-any-return]


def unused(group: Group) -> None:
    """Ranks that take different branches: each waits for no gradient that will not come."""
    one = Branches()
    many = ddp(copy.deepcopy(one), group, find_unused_parameters=True)
    x = data()[0]
    for _ in range(2):
        one.zero_grad(), many.zero_grad()
        for rank, own in enumerate(x.tensor_split(group.size, 1)):
            (one(own, rank % 2).square().sum() / group.size).backward()
        many(part(x, group), group.rank % 2).square().sum().backward()
        for ours, expected in zip(many.parameters(), one.parameters(), strict=True):
            assert (ours.grad is None) == (expected.grad is None)
            if expected.grad is not None:
                assert_close(ours.grad, expected.grad)


def mixed_precision(group: Group) -> None:
    """Sharded in float32, computed in bfloat16: the kernels take what FSDP gives them."""
    one = openrnn.LSTM(I, 6)
    many = copy.deepcopy(one)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    fully_shard(many, mesh=group.mesh, mp_policy=policy)
    x = torch.randn(T, B, I)
    counts: list[Any] = []
    with kernels(counts):
        output, (_, c_n) = many(part(x, group))
        (output.float().square().sum() + c_n.float().sum()).backward()
    gradients = []
    for own in x.tensor_split(group.size, 1):
        half = copy.deepcopy(one).bfloat16()
        output_half, (_, c_half) = half(own.bfloat16())
        (output_half.float().square().sum() + c_half.float().sum()).backward()
        gradients.append([p.grad.float() for p in half.parameters()])  # type: ignore[union-attr]
        if own is x.tensor_split(group.size, 1)[group.rank]:
            assert torch.equal(output, output_half)
    mean = [torch.stack(same).mean(0) for same in zip(*gradients, strict=True)]
    torch.testing.assert_close(whole(p.grad for p in many.parameters()), mean)


def saved(name: str, group: Group) -> None:
    """What ranks save, each its part, is loaded as a whole, or gathered for torch's own layer."""
    one = Model(name)
    many = fsdp(copy.deepcopy(one), group)
    loss_of(many(part(data()[0], group)), group.size).backward()
    optimizer = SGD(many.parameters(), 0.1)
    optimizer.step()
    expected = whole(many.parameters())
    checkpoint = group.folder / f"checkpoint of {name}"
    dcp.save({"model": many.state_dict()}, checkpoint_id=checkpoint, process_group=group.all)
    dist.barrier(group.all)
    alone = Model(name)
    dcp.load({"model": alone.state_dict()}, checkpoint_id=checkpoint, process_group=group.all)
    assert_close([*alone.parameters()], expected)
    state = get_model_state_dict(many, options=StateDictOptions(full_state_dict=True))
    if name == "LSTM":
        peer = nn.LSTM(I, 6, 2, bidirectional=True, dtype=torch.float64)
        weights = {key.removeprefix("layer."): p for key, p in state.items() if "layer." in key}
        peer.load_state_dict(weights)
        assert_close([*peer.parameters()], expected[: len(weights)])


def in_place(group: Group) -> None:
    """An output that the user changes in place: FSDP's hooks on it still gather the weights."""
    for first in (False, True):
        one = openrnn.LSTM(I, 6, batch_first=first, dtype=torch.float64)
        many = copy.deepcopy(one)
        fully_shard(many, mesh=group.mesh, reshard_after_forward=True)
        x, lengths = data()
        x = x.transpose(0, 1) if first else x
        for ragged in (False, True):
            for model in (one, many):
                own = x if model is one else part(x, group, 0 if first else 1)
                ends = lengths if model is one else part(lengths, group, 0)
                output, (h_n, c_n) = model(own, lengths=ends if ragged else None)
                output += 1
                h_n *= 2
                loss = output.square().sum() + (h_n * c_n).sum()
                (loss * (1 if model is one else group.size)).backward()
        assert_close(whole(p.grad for p in many.parameters()), [p.grad for p in one.parameters()])


CHECKS: dict[str, Check] = {
    **{f"{name}, DDP": partial(train, name, ddp) for name in (*LAYERS, "learned")},
    **{f"{name}, FSDP": partial(train, name, fsdp) for name in (*LAYERS, "learned")},
    **{
        f"{name}, {how}, lengths": partial(train, name, wrap, ragged=True)
        for name in ("LSTM", "Recurrent", "Stack")
        for how, wrap in (("DDP", ddp), ("FSDP", fsdp))
    },
    "Stack, FSDP layer by layer": partial(train, "Stack", layer_by_layer),
    "Stack, FSDP layer by layer, lengths": partial(train, "Stack", layer_by_layer, ragged=True),
    "LSTM, DDP, gradients as views": partial(
        train, "LSTM", partial(ddp, gradient_as_bucket_view=True, static_graph=True)
    ),
    "LSTM, FSDP, weights kept for backward": partial(
        train, "LSTM", partial(fsdp, reshard_after_forward=False)
    ),
    **{
        f"{name}, {how}, a rank without sequences": partial(train, name, wrap, batch=1)
        for name in ("LSTM", "Stack")
        for how, wrap in (("DDP", ddp), ("FSDP", fsdp))
    },
    **{
        f"{name}, {how}, accumulated": partial(accumulate, name, wrap)
        for name in ("LSTM", "Recurrent", "Stack")
        for how, wrap in (("DDP", ddp), ("FSDP", fsdp))
    },
    "DDP, unused parameters": unused,
    "FSDP, mixed precision": mixed_precision,
    "FSDP, changed in place": in_place,
    **{f"{name}, FSDP, saved": partial(saved, name) for name in ("LSTM", "Stack")},
}


def build_kernels() -> None:
    """Those of all checks, for ranks that are forked afterwards.

    No gradient is computed here: torch does not fork after that.
    """
    for name in (*LAYERS, "learned"):
        Model(name)(data()[0])
    for dtype in (torch.float64, torch.bfloat16):
        openrnn.LSTM(I, 6, dtype=dtype)(torch.randn(T, B, I, dtype=dtype))
