"""Truncated backpropagation through time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from openrnn.cells.arguments import check_count
from openrnn.errors import ArgumentTypeError
from openrnn.layers.layer import Layer, check_reset_to
from openrnn.layers.stream import DEFAULT
from openrnn.sequence import read_lengths, read_reset


def tbptt(
    layer: Callable[..., Any],
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
        layer: any layer, all of whose directions run forward; or a module of your own around one,
            `model(x, state) -> (output, state)`, with an embedding of words say. What is trained
            before the layer has to be inside: each chunk is computed when it is asked for.
        input: (T, B, I), or (B, T, I) with batch_first; (T, I) without a batch. For a module of
            your own anything with T first, or second if it has `batch_first = True`.
        state: the initial state, as the layer takes it. Default: zeros, or what is learned.
        chunk: steps of each chunk, ≥ 1; the last may have fewer.
        lengths, reset, reset_to: as the layer takes them, for the whole input. At a reset the state
            becomes the initial state given here, not that of the chunk.

    Yields:
        output: that of the chunk, (chunk, B, H), in the layout of the input.
        state: the state after it, not detached.

    Raises:
        ArgumentError: chunk below 1.
        ArgumentTypeError: no layer, or one that runs backward.
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
    if isinstance(layer, Layer):
        layer.check_streams("tbptt")
    elif not callable(layer):
        raise ArgumentTypeError(
            f"tbptt: expected a layer, or a module that takes and gives a state, "
            f"got {type(layer).__name__}"
        )
    chunk = check_count("tbptt", "chunk", chunk)
    if not isinstance(input, Tensor):
        raise ArgumentTypeError(
            f"tbptt: expected the input to be a Tensor, got {type(input).__name__}. "
            "Give sequences of different lengths padded, with lengths="
        )
    check_reset_to("tbptt", reset, reset_to)
    if reset is not None and reset_to is None:
        reset_to = DEFAULT if state is None else state
    return _chunks(layer, input, state, chunk, lengths, reset, reset_to)


def _chunks(
    layer: Callable[..., Any],
    input: Tensor,
    state: Any,
    chunk: int,
    lengths: Any,
    reset: Tensor | None,
    reset_to: Any,
) -> Iterator[tuple[Tensor, Any]]:
    batched = not isinstance(layer, Layer) or input.dim() == 3
    time = 1 if batched and getattr(layer, "batch_first", False) else 0
    count = None
    if input.dim() > 1:  # else the layer says what is wrong
        count = input.size(1 - time) if batched else None
        shape = input.shape[: 1 + batched]
        lengths = read_lengths(lengths, input.size(time), count, "tbptt")
        reset = read_reset(reset, shape, time == 1, "tbptt")
    parts = torch.split(input, chunk, time)
    for number, part in enumerate(parts):
        options: dict[str, Any] = {}
        if lengths is not None:
            left = [min(max(n - number * chunk, 0), part.size(time)) for n in lengths]
            options["lengths"] = left if count is not None else left[0]
        if reset is not None:
            options |= {"reset": torch.split(reset, chunk, time)[number], "reset_to": reset_to}
        output, state = layer(part, state, **options)
        yield output, state
        state = _detached(state)
        # A history is gone with the first chunk's graph; a parameter has a gradient from each.
        reset_to = _detached(reset_to, keep_leaves=True)


def _detached(state: Any, *, keep_leaves: bool = False) -> Any:
    """A state, however nested, without its history."""
    if isinstance(state, Tensor):
        return state if keep_leaves and state.is_leaf else state.detach()
    if not isinstance(state, (tuple, list)):
        return state
    return type(state)(_detached(part, keep_leaves=keep_leaves) for part in state)
