"""What a layer computes, and whether two computed the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence


def results(module: nn.Module, x: Any, mode: str) -> list[Tensor]:
    """The output, and in training the gradients of the input and of each parameter.

    Args:
        module: any recurrent layer.
        x: a tensor or a PackedSequence; in training its numbers require a gradient.
        mode: "training" or "inference".
    """
    if mode == "inference":
        with torch.inference_mode():
            return [_data(module(x)[0])]
    output = _data(module(x)[0])
    return [output, *torch.autograd.grad(output.sum(), [_data(x), *module.parameters()])]


def _data(value: Tensor | PackedSequence) -> Tensor:
    return value.data if isinstance(value, PackedSequence) else value


def agree(ours: Iterable[Any], theirs: Iterable[Any]) -> bool:
    """Whether all results are equal, up to rounding at the size of each.

    Nothing is faster until it is equal.
    """
    pairs = zip(map(_tensor, ours), map(_tensor, theirs), strict=True)
    return all(_close(a, b) for a, b in pairs)


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))


def _close(a: Tensor, b: Tensor) -> bool:
    size = max(1.0, b.abs().max().item())
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-5 * size)
