"""All that a recurrent module computes, and the one rule by which two are compared."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

Results = dict[str, Tensor]


def tensors(value: Any, name: str) -> Results:
    """All tensors of a nested structure, by their place in it."""
    if value is None:
        return {}
    if isinstance(value, PackedSequence):
        return {name: value.data}
    if isinstance(value, Tensor):
        return {name: value}
    found: Results = {}
    for index, item in enumerate(value):
        found |= tensors(item, f"{name}.{index}")
    return found


def convert(value: Any, dtype: torch.dtype) -> Any:
    """The structure with its tensors as leaves of this dtype that want a gradient."""
    if value is None:
        return None
    if isinstance(value, PackedSequence):
        return value._replace(data=convert(value.data, dtype))
    if isinstance(value, Tensor):
        strided = torch.empty_strided(value.size(), value.stride(), dtype=dtype)
        return strided.copy_(value).requires_grad_()
    return type(value)(convert(item, dtype) for item in value)


def evaluate(module: nn.Module, input: Any, state: Any, dtype: torch.dtype) -> Results:
    """Outputs, final states and the gradients of the input, the initial states and each parameter.

    Gradients come in on the outputs and on the final states, from the same random numbers for every
    module that gives the same shapes.
    """
    module = copy.deepcopy(module).to(dtype)
    input, state = convert(input, dtype), convert(state, dtype)
    output, final = module(input, state)
    results = tensors(output, "output") | tensors(final, "final")
    generator = torch.Generator().manual_seed(1)
    loss = torch.zeros((), dtype=dtype)
    for result in results.values():
        weight = torch.randn(result.shape, generator=generator, dtype=torch.float64)
        loss = loss + (result * weight.to(dtype)).sum()
    leaves = tensors(input, "input") | tensors(state, "initial") | dict(module.named_parameters())
    # A gradient of zero may come as None: the state of a cell that never reads it, say.
    gradients = torch.autograd.grad(
        loss, list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    named = {f"gradient of {name}": g for name, g in zip(leaves, gradients, strict=True)}
    return {name: t.detach() for name, t in (results | named).items()}


def assert_as_exact(ours: Results, peer: Results, truth: Results, dtype: torch.dtype) -> None:
    """Our error against float64 is at most twice the peer's at the same dtype, plus a small floor.

    Errors are root mean squares in units of the roundings of the largest number, over all results
    together: a few numbers alone may be lucky or unlucky, where a step amplifies its roundings. So
    one result alone may have four times its peer's error. The floor is there because the peer may
    happen to be exact.

    In float64 the truth has as much error as we, so `peer` is to be the peer's in float32: its
    error, in units of its roundings, says what to expect.
    """
    assert ours.keys() == peer.keys() == truth.keys()
    errors: dict[str, tuple[Tensor, Tensor]] = {}
    for name, exact in truth.items():
        assert ours[name].shape == exact.shape, name
        assert ours[name].dtype == dtype, name
        if exact.numel() == 0:
            continue
        size = max(1.0, exact.abs().max().item())
        error, theirs = (
            (results[name].double() - exact).abs() / (size * torch.finfo(results[name].dtype).eps)
            for results in (ours, peer)
        )
        errors[name] = (error.flatten(), theirs.flatten())
        _assert_at_most(name, rms(error), 4 * rms(theirs) + 4)
    if errors:
        together = [rms(torch.cat(parts)) for parts in zip(*errors.values(), strict=True)]
        _assert_at_most("all results", together[0], 2 * together[1] + 1)


def _assert_at_most(what: str, error: float, allowed: float) -> None:
    assert error <= allowed, f"{what}: error of {error:.3g} roundings, allowed {allowed:.3g}"


def rms(error: Tensor) -> float:
    return error.square().mean().sqrt().item()
