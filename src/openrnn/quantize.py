"""`openrnn.quantize`: a layer with int8 weights, for inference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from openrnn.errors import ArgumentError, ArgumentTypeError
from openrnn.explain.evaluation import in_evaluation, numbers_of
from openrnn.explain.network import Lane
from openrnn.explain.parts import read
from openrnn.layers.bidirectional import Bidirectional
from openrnn.layers.dropin import DropIn
from openrnn.layers.gru import GRU
from openrnn.layers.int8cell import Int8Cell
from openrnn.layers.int8layer import Int8Layer, is_quantized
from openrnn.layers.layer import Layer
from openrnn.layers.lstm import LSTM
from openrnn.layers.recurrent import Recurrent
from openrnn.layers.rnn import RNN
from openrnn.layers.stack import Stack
from openrnn.step import quantize as step


def quantize(layer: Layer, *, input_size: int | None = None) -> Layer:
    """A copy of a layer with int8 weights, a quarter of the memory, for inference.

        W ≈ s_W Q    Q in -127 … 127     one scale s_W for each row of W, its largest number / 127
        x ≈ s_x q    q in 0 … 255, less the place of 0      one scale s_x for each row of x
        x Wᵀ ≈ s_x s_W (q Qᵀ)                               the sums in 32 bits, exactly

    Every product of x, a state or what is computed from them with a weight is done so, of any cell;
    s_x is found anew at each step and row. All else, biases, gates and states, stays float32. What
    a step computes from weights alone, a weight norm say, is computed now, and dropout is left out.

    It is called as the layer is, with `lengths`, `reset`, `return_states` and `stream`. It has
    buffers and no parameters, and no gradient: an input or a state that requires one is an error
    unless torch records nothing. A row with a number that is not finite gives NaN.

    Args:
        layer: an `RNN`, `LSTM`, `GRU`, `Recurrent`, `Bidirectional` or `Stack`, in float32. It
            stays as it is.
        input_size: features of x; needed only for a cell that has no `input_size`, in a layer that
            has not run yet. Default: what the cell says, or the layer has seen.

    Returns:
        The quantized layer: a layer of the same kind over `Int8Cell`s, or an `Int8Layer` for an
        `RNN`, `LSTM` or `GRU`.

    Raises:
        ArgumentTypeError: no layer of OpenRNN, or a subclass of one that is replaced as a whole.
        ArgumentError: it is quantized, is not in float32, has numbers that are not finite or no
            product to quantize; a hook computes its weights; or the features of x are not known.
        CellError: a cell cannot be compiled, or has no numbers.

    Source: Jacob et al., "Quantization and training of neural networks for efficient
    integer-arithmetic-only inference", 2018, for the arithmetic; a scale for each row of x as it
    comes is usual for recurrent layers, in torch.ao and ONNX Runtime too.

    Examples:
        >>> from openrnn import LSTM
        >>> lstm, x = LSTM(30, 20), torch.randn(12, 3, 30)
        >>> small = quantize(lstm)
        >>> with torch.no_grad():
        ...     output, (h_n, c_n) = small(x)
        >>> bool((output - lstm(x)[0]).abs().max() < 0.02)
        True
        >>> small.weight_hh_l0.dtype, small.weight_hh_scale_l0.shape
        (torch.int8, torch.Size([80]))
    """
    _check(layer)
    with torch.no_grad(), in_evaluation(layer) as copy:
        lanes = iter(read(copy, "quantize", input_size).lanes)
        made = _Maker(lanes).layer(copy)
    if not any(buffer.dtype == torch.int8 for buffer in made.buffers()):
        raise ArgumentError(
            f"quantize: expected a layer with products of rows and weights, got "
            f"{type(layer).__name__} without any: there is nothing to quantize"
        )
    return made.train(layer.training)


# Hooks of torch's that compute a weight before each call.
_RECOMPUTES = (BasePruningMethod, WeightNorm, SpectralNorm)


class _Maker:
    """Quantizes a copy of a layer, whose cells are these lanes, in order."""

    def __init__(self, lanes: Iterator[Lane]) -> None:
        self._lanes = lanes
        # By step and weights: a cell at two places is one.
        self._made: dict[tuple[Any, ...], Int8Cell] = {}

    def layer(self, layer: Any) -> Layer:
        if isinstance(layer, DropIn):
            return self._drop_in(layer)
        if isinstance(layer, Stack):
            layer.dropout = 0.0
            for place, inside in enumerate(layer.layers):
                layer.layers[place] = self.layer(inside)
        elif isinstance(layer, Bidirectional):
            self.layer(layer.forward_layer)
            self.layer(layer.backward_layer)
        else:
            assert isinstance(layer, Recurrent)
            self._recurrent(layer)
        return layer  # type: ignore[no-any-return]

    def _recurrent(self, layer: Recurrent) -> None:
        lane = next(self._lanes)
        key = lane.program, *map(id, lane.tensors.values())
        if key not in self._made:
            self._made[key] = _cell(lane)
        layer.cell = self._made[key]
        layer.checkpoint = None
        for name in layer.initial_names:
            initial = getattr(layer, name).detach().clone()
            delattr(layer, name)
            layer.register_buffer(name, initial)

    def _drop_in(self, layer: DropIn) -> Int8Layer:
        kind = type_before_parametrizations(layer)
        if kind not in (RNN, LSTM, GRU) or "forward" in layer.__dict__:
            raise ArgumentTypeError(
                f"quantize: expected an RNN, LSTM or GRU of openrnn, got {kind.__name__}, a "
                "subclass or an object with a forward of its own, which would be lost"
            )
        for hook in layer._forward_pre_hooks.values():
            if isinstance(hook, _RECOMPUTES):
                raise ArgumentError(
                    f"quantize: expected an {kind.__name__} with weights of its own, got one whose "
                    f"weights {type(hook).__name__} computes before each call. Make them its own "
                    "first: torch.nn.utils.prune.remove, remove_weight_norm or remove_spectral_norm"
                )
        cells = [_cell(next(self._lanes)) for _ in layer.lent_names]
        names = [f"{name}_0" for name in layer.states] if layer.learn_initial_state else []
        initial = {name: getattr(layer, name).detach().clone() for name in names}
        made = Int8Layer(layer, cells, initial)
        made.__dict__.update({k: v for k, v in layer.__dict__.items() if k.startswith("_forward")})
        return made


def _cell(lane: Lane) -> Int8Cell:
    own = {lane.names[name]: tensor for name, tensor in lane.tensors.items()}
    tensors = numbers_of("quantize", lane, lane.tensors, own)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise ArgumentError(
                f"quantize: expected weights in torch.float32, got {lane.names[name]} in "
                f"{tensor.dtype}. Convert the layer: layer.float()"
            )
    found = step.quantize(lane.graph, tensors)
    for name, tensor in found.tensors.items():
        if not tensor.isfinite().all():
            raise ArgumentError(
                f"quantize: expected weights that are finite, got {name.removesuffix('_scale')} of "
                f"{lane.name} with NaN or infinity"
            )
    described = {
        name: value
        for name in ("hidden_size", "proj_size", "bias", "gates")
        if isinstance(value := getattr(lane.cell, name, None), (int, tuple))
    }
    return Int8Cell(lane.title, found, lane.states, lane.input_size, described)


def _check(layer: Any) -> None:
    if not isinstance(layer, Layer):
        remedy = {
            nn.RNNBase: "Convert it first: openrnn.convert(layer)",
            nn.RNNCellBase: "Put a cell into a layer: openrnn.Recurrent(cell)",
        }
        other = "Of a larger model quantize the layer inside: model.rnn = quantize(model.rnn)"
        found = next((text for kind, text in remedy.items() if isinstance(layer, kind)), other)
        raise ArgumentTypeError(
            f"quantize: expected a layer of OpenRNN, got {type(layer).__name__}. {found}"
        )
    if is_quantized(layer):
        raise ArgumentError(f"quantize: {type(layer).__name__} is quantized already")
