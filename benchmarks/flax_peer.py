"""The same LSTM in flax, under jax.jit, on one core."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn

from benchmarks.timing import Contender

NAME = "flax"


def available() -> bool:
    """Whether its packages are installed."""
    return find_spec("jax") is not None and find_spec("flax") is not None


def contender(module: nn.RNNBase, x: Tensor) -> Contender:
    """A call of a compiled function that computes the output of torch's LSTM for x.

    The number of jax's threads is that of the cores which the first call may use, for as long as
    the process runs: make the first one where one thread is held to one core.
    """
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    jax, linen = import_module("jax"), import_module("flax.linen")
    ends = ("", "_reverse") if module.bidirectional else ("",)
    weights = [
        [_weights(jax.numpy, module, f"l{number}{end}") for end in ends]
        for number in range(module.num_layers)
    ]

    def forward(weights: list[list[Any]], x: Any) -> Any:
        for layer in weights:
            outputs = []
            for reverse, parameters in enumerate(layer):
                cell = linen.OptimizedLSTMCell(module.hidden_size)
                run = linen.RNN(cell, time_major=True, reverse=bool(reverse), keep_order=True)
                outputs.append(run.apply({"params": {"cell": parameters}}, x))
            x = jax.numpy.concatenate(outputs, axis=-1)
        return x

    compiled, given = jax.jit(forward), jax.numpy.asarray(x.detach().numpy())
    return lambda: [compiled(weights, given).block_until_ready()]


def _weights(numpy: Any, module: nn.RNNBase, end: str) -> dict[str, dict[str, Any]]:
    """One direction of one layer, in flax's names: ii, if, ig, io and hi, hf, hg, ho."""
    bias = getattr(module, f"bias_ih_{end}") + getattr(module, f"bias_hh_{end}")
    found: dict[str, dict[str, Any]] = {}
    for side in ("i", "h"):
        weight = getattr(module, f"weight_{side}h_{end}").detach()
        for gate, kernel in zip("ifgo", weight.chunk(4), strict=True):
            found[side + gate] = {"kernel": numpy.asarray(kernel.T.contiguous().numpy())}
    for gate, part in zip("ifgo", bias.detach().chunk(4), strict=True):
        found["h" + gate]["bias"] = numpy.asarray(part.numpy())
    return found
