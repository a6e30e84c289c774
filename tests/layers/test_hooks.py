"""Hooks of a layer that is inside another: they run, and what they see is what a call would be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import openrnn

T, B = 5, 3
INPUTS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "dense": ((T, B, 4), {}),
    "one sequence": ((T, 4), {}),
    "one of a length": ((T, 4), {"lengths": 3}),
    "resets": ((T, B, 4), {"reset": torch.arange(T * B).view(T, B) % 4 == 1}),
    "lengths": ((T, B, 4), {"lengths": [2, 0, 4]}),
    "lengths and resets": (
        (T, B, 4),
        {"lengths": [4, 1, 5], "reset": torch.arange(T * B).view(T, B) % 4 == 1},
    ),
}


def layers(kind: str, batch_first: bool = False) -> tuple[nn.Module, list[nn.Module]]:
    if kind == "Bidirectional":
        both = openrnn.Bidirectional(nn.GRUCell(4, 4), nn.GRUCell(4, 4), batch_first=batch_first)
        return both, [both.forward_layer, both.backward_layer]
    inside = [openrnn.GRU(4, 4), openrnn.Bidirectional(nn.RNNCell(4, 2), nn.RNNCell(4, 2))]
    stack = openrnn.Stack([nn.LSTMCell(4, 4), *inside], batch_first=batch_first)
    return stack, list(stack.layers)


def flat(value: Any) -> list[Tensor]:
    if isinstance(value, PackedSequence):
        value = value.data
    return [value] if isinstance(value, Tensor) else [t for part in value for t in flat(part)]


@pytest.mark.parametrize("name", [*INPUTS, "packed"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", ["Stack", "Bidirectional"])
def test_nothing_but_the_hooks_is_added(kind: str, batch_first: bool, name: str) -> None:
    layer, inside = layers(kind, batch_first)
    if name == "packed":
        x = torch.randn(T, B, 4)
        input, options = pack_padded_sequence(x, torch.tensor([2, 5, 5]), enforce_sorted=False), {}
    else:
        shape, options = INPUTS[name]
        input = torch.randn(shape)
        if batch_first and input.dim() == 3:
            input = input.transpose(0, 1)
            if "reset" in options:
                options = {**options, "reset": options["reset"].transpose(0, 1)}
    results = []
    seen: list[tuple[Any, Any]] = []
    for hooked in (False, True):
        if hooked:
            for each in inside:
                each.register_forward_hook(lambda _, args, out: seen.append((args[0], out[0])))
        layer.zero_grad()
        result = layer(input, return_states=True, **options)
        torch.stack([t.square().sum() for t in flat(result)]).sum().backward()
        results.append([*flat(result), *(p.grad for p in layer.parameters())])
    torch.testing.assert_close(*results)
    assert len(seen) == len(inside)
    given, padded = seen[0]
    x = pad_packed_sequence(input)[0] if isinstance(input, PackedSequence) else input
    x = x.transpose(0, 1) if batch_first and x.dim() == 3 and name != "packed" else x
    assert given.shape == x.shape
    there = given != 0
    assert torch.equal(given[there], x[there])
    assert padded.shape[:-1] == x.shape[:-1]


@pytest.mark.parametrize("kind", ["Stack", "Bidirectional"])
def test_hooks_change_what_comes_and_goes(kind: str) -> None:
    layer, inside = layers(kind)
    x = torch.randn(T, B, 4)
    expected = layer(x)[0] * 2
    inside[-1].register_forward_hook(lambda _, args, out: (out[0] * 2, out[1]))
    if kind == "Bidirectional":
        inside[0].register_forward_hook(lambda _, args, out: (out[0] * 2, out[1]))
    torch.testing.assert_close(layer(x)[0], expected)
    gradients: list[Tensor] = []
    inside[-1].register_full_backward_hook(lambda _, into, out: gradients.append(into[0]))
    layer(x.requires_grad_())[0].sum().backward()
    assert gradients[0].shape == (T, B, 4)


def test_hooks_run_in_a_stream() -> None:
    stack = openrnn.Stack([nn.GRUCell(4, 4), nn.GRUCell(4, 4)])
    stream = stack.stream()
    stream(torch.randn(4)), stream(torch.randn(4))
    seen: list[Any] = []
    stack.layers[1].register_forward_hook(lambda *_: seen.append(1))
    stream(torch.randn(4)), stream(torch.randn(4))
    assert len(seen) == 2
