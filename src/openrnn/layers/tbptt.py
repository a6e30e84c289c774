"""Truncated backpropagation through time."""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from openrnn.errors import ArgumentError, ArgumentTypeError
from openrnn.layers.layer import DEFAULT, Layer
from openrnn.sequence import read_lengths, read_reset


def tbptt(
    layer: Layer,
    input: Tensor,
    state: Any = None,
    *,
    chunk: int,
    lengths: Any = None,
    reset: Tensor | None = None,
    reset_to: Any = None,
) -> Iterator[tuple[Tensor, Any]]:
    """Runs a layer over a long sequence, a chunk of steps at a time, for truncated backpropagation.

        output_k, s_k = layer(x_k, detach(s_{k-1}))        k = 1 … ⌈T / chunk⌉

    The state is carried from chunk to chunk, its gradient is not. So the memory for the gradient is
    that of one chunk, if each is used for a gradient before the next is asked for.

    Args:
        layer: any layer, all of whose directions run forward.
        input: (T, B, I), or (B, T, I) with batch_first; (T, I) without a batch.
        state: the initial state, as the layer takes it. Default: zeros, or what is learned.
        chunk: steps of each chunk, ≥ 1; the last may have fewer.
        lengths, reset, reset_to: as the layer takes them, for the whole input. At a reset the state
            becomes the initial state given here, not that of the chunk.

    Yields:
        output: that of the chunk, (chunk, B, H), in the layout of the input.
        state: the state after it, not detached.

    Raises:
        ArgumentError: chunk below 1.
        ArgumentTypeError: not a layer, or one that runs backward.
        ShapeError and others: as the layer raises them.

    Source: Williams and Peng, "An efficient gradient-based algorithm for on-line training of
    recurrent network trajectories", 1990.

    Examples:
        >>> from openrnn import LSTM
        >>> layer, x = LSTM(3, 5), torch.randn(100, 2, 3)
        >>> for output, state in tbptt(layer, x, chunk=40):
        ...     output.square().mean().backward()
        ...     print(tuple(output.shape))
        (40, 2, 5)
        (40, 2, 5)
        (20, 2, 5)
    """
    if not isinstance(layer, Layer):
        raise ArgumentTypeError(f"tbptt: expected a layer, got {type(layer).__name__}")
    layer.check_streams("tbptt")
    if isinstance(chunk, bool) or not isinstance(chunk, numbers.Integral) or chunk < 1:
        raise ArgumentError(f"tbptt: expected chunk to be an integer ≥ 1, got {chunk!r}")
    if not isinstance(input, Tensor):
        raise ArgumentTypeError(
            f"tbptt: expected the input to be a Tensor, got {type(input).__name__}. "
            "Give sequences of different lengths padded, with lengths="
        )
    if reset is not None and reset_to is None:
        reset_to = DEFAULT if state is None else state
    return _chunks(layer, input, state, int(chunk), lengths, reset, reset_to)


def _chunks(
    layer: Layer,
    input: Tensor,
    state: Any,
    chunk: int,
    lengths: Any,
    reset: Tensor | None,
    reset_to: Any,
) -> Iterator[tuple[Tensor, Any]]:
    time = 1 if layer.batch_first and input.dim() == 3 else 0
    if input.dim() in (2, 3):  # else the layer says what is wrong
        shape = input.shape[:-1]
        count = None if input.dim() == 2 else shape[1 - time]
        lengths = read_lengths(lengths, shape[time], count, "tbptt")
        reset = read_reset(reset, shape, time == 1, "tbptt")
    parts = torch.split(input, chunk, time)
    for number, part in enumerate(parts):
        options: dict[str, Any] = {}
        if lengths is not None:
            left = (lengths - number * chunk).clamp(0, part.size(time))
            options["lengths"] = left if count is not None else left[0]
        if reset is not None:
            options |= {"reset": torch.split(reset, chunk, time)[number], "reset_to": reset_to}
        output, state = layer(part, state, **options)
        yield output, state
        state = detached(state)


def detached(state: Any) -> Any:
    """A state, however nested, without its history."""
    if isinstance(state, Tensor):
        return state.detach()
    return type(state)(map(detached, state))
