"""Recurrent cells and layers of flax: flax.linen with its parameters, and flax.nnx."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from openrnn.cells.base import Cell
from openrnn.cells.gru import GRUCell
from openrnn.cells.lstm import LSTMCell
from openrnn.cells.rnn import RNNCell
from openrnn.errors import ArgumentError, ArgumentTypeError, ConversionError
from openrnn.extras import require_extra
from openrnn.io.assemble import assemble
from openrnn.io.functions import REMEDY, function_name
from openrnn.io.weights import cell_with, tensor
from openrnn.layers.layer import Layer

# By the name of a cell of flax: ours, and what flax calls its blocks.
_CELLS: dict[str, tuple[type[Cell], tuple[str, ...]]] = {
    "LSTMCell": (LSTMCell, ("i", "f", "g", "o")),
    "OptimizedLSTMCell": (LSTMCell, ("i", "f", "g", "o")),
    "GRUCell": (GRUCell, ("r", "z", "n")),
    "SimpleCell": (RNNCell, ("",)),
}


def from_flax(module: Any, params: Any = None) -> Layer:
    """A recurrent cell or layer of flax, with its weights, as a layer of ours.

    | flax.linen, flax.nnx | openrnn |
    |---|---|
    | `LSTMCell`, `OptimizedLSTMCell` | `LSTM` |
    | `GRUCell` | `GRU` |
    | `SimpleCell`, activation tanh or relu | `RNN` |
    | `RNN` over one of these | the same, batch first unless time_major=True |
    | `Bidirectional` over two `RNN` | a bidirectional layer, or `Bidirectional` |

    The equations are torch's. flax has one bias for each gate, two for the candidate of a `GRUCell`
    of flax.linen; of ours, the one that it lacks is 0. A carry (c, h) of flax is (h, c) here.

    Args:
        module: the cell or the layer. It is not changed.
        params: for flax.linen, what `module.init` returned and training changed, with or without
            its key "params". A module of flax.nnx holds its own: None, the default.

    Returns:
        The layer, on torch's default device, with copies of the weights in their dtype: time first
        for a cell. An `RNN` with reverse=True becomes `Recurrent(cell, reverse=True)`, whose output
        is in order of time whether keep_order is set or not.

    Raises:
        ConversionError: it is no such module, the parameters are not its own, or something in it
            has no counterpart: another function, residual=True, carry_init, merge_fn. The message
            names it.
        ArgumentError, ArgumentTypeError: params with a module of flax.nnx, or none with flax.linen.
        MissingExtraError: flax is not installed.

    Examples:
        >>> import flax.linen as nn, jax
        >>> theirs = nn.RNN(nn.GRUCell(20))
        >>> variables = theirs.init(jax.random.key(0), jax.numpy.zeros((3, 12, 30)))
        >>> ours = from_flax(theirs, variables)
        >>> ours
        GRU(30, 20, batch_first=True)
        >>> x = torch.randn(3, 12, 30)
        >>> output = theirs.apply(variables, x.numpy())
        >>> torch.allclose(ours(x)[0], torch.tensor(output.tolist()), atol=1e-5)
        True
    """
    require_extra("from_flax", ("flax", "jax"), "flax")
    nnx, linen = import_module("flax.nnx"), import_module("flax.linen")
    name = type(module).__name__
    owner = f"from_flax: {name}"
    if isinstance(module, nnx.Module):
        if params is not None:
            raise ArgumentError(
                f"{owner}: expected no params, for a module of flax.nnx holds them, got a "
                f"{type(params).__name__}. Set them in the module by nnx.update"
            )
        library, params = nnx, nnx.to_pure_dict(nnx.state(module, nnx.Param))
    else:
        library = linen
    if not isinstance(params, Mapping):
        raise ArgumentTypeError(
            f"{owner}: expected params to be the mapping that init of the module returned, got "
            f"{'None' if params is None else type(params).__name__}"
        )
    params = params.get("params", params)
    if type(module) is library.RNN:
        cell = _cell(library, module.cell, _part(owner, params, "cell"))
        return assemble([[cell]], reverse=module.reverse, batch_first=not module.time_major)
    if type(module) is library.Bidirectional:
        if module.merge_fn is not type(module).merge_fn:
            raise ConversionError(
                f"{owner}: expected merge_fn to be the default, which concatenates, got "
                f"{module.merge_fn!r}. Convert forward_rnn and backward_rnn each"
            )
        cells = []
        for part in ("forward_rnn", "backward_rnn"):
            own, inside = _part(owner, params, part), getattr(module, part)
            if type(inside) is not library.RNN:
                raise ConversionError(
                    f"{owner}: expected {part} to be an RNN, got {type(inside).__name__}"
                )
            cells.append(_cell(library, inside.cell, _part(owner, own, "cell")))
        return assemble([cells], batch_first=not module.time_major)
    return assemble([[_cell(library, module, params)]])


def _cell(library: Any, cell: Any, params: Mapping[str, Any]) -> Cell:
    name = type(cell).__name__
    owner = f"from_flax: {name}"
    if name not in _CELLS or type(cell) is not getattr(library, name):
        raise ConversionError(
            f"{owner}: expected {', '.join(_CELLS)}, or RNN or Bidirectional over them, of "
            f"flax.linen or flax.nnx, got {type(cell).__module__}.{type(cell).__qualname__}"
        )
    kind, gates = _CELLS[name]
    functions = import_module("jax.nn")
    options = {}
    if kind is RNNCell:
        if cell.residual:
            raise ConversionError(f"{owner}: residual=True has no counterpart. {REMEDY}")
        known = ["tanh", "relu"]
        activation = function_name(owner, "activation_fn", cell.activation_fn, functions, known)
        options["nonlinearity"] = activation
    else:
        function_name(owner, "activation_fn", cell.activation_fn, functions, ["tanh"])
        function_name(owner, "gate_fn", cell.gate_fn, functions, ["sigmoid"])
    if cell.carry_init not in (None, functions.initializers.zeros):
        raise ConversionError(
            f"{owner}: carry_init, a state to begin with that is not zeros, has no counterpart. "
            "Convert the cell with carry_init=jax.nn.initializers.zeros, and give the result a "
            "state, or learn_initial_state"
        )
    (weight_ih, bias_ih), (weight_hh, bias_hh) = (_side(owner, params, s, gates) for s in "ih")
    weights = {"weight_ih": weight_ih, "weight_hh": weight_hh}
    weights |= {"bias_ih": bias_ih, "bias_hh": bias_hh}
    return cell_with(owner, kind, weights, **options)


def _side(
    owner: str, params: Mapping[str, Any], side: str, gates: tuple[str, ...]
) -> tuple[Tensor, Tensor]:
    """The weights of the input, "i", or of the state, "h", and their biases, 0 where none is."""
    whole = f"dense_{side}"  # some cells of flax.nnx have the gates side by side
    names = [whole] if whole in params else [side + gate for gate in gates]
    if "if_" in params:
        names = ["if_" if name == "if" else name for name in names]
    weights, biases = [], []
    for name in names:
        dense = _part(owner, params, name)
        weight = tensor(owner, f"the kernel of {name}", _part(owner, dense, "kernel")).mT
        weights.append(weight)
        bias = dense.get("bias")
        biases.append(
            weight.new_zeros(weight.size(0))
            if bias is None
            else tensor(owner, f"the bias of {name}", bias)
        )
    if len({(weight.shape, weight.dtype) for weight in weights}) > 1:
        got = ", ".join(f"{tuple(w.mT.shape)} of {w.dtype}" for w in weights)
        raise ConversionError(
            f"{owner}: expected the kernels of {', '.join(names)} to be alike, got {got}"
        )
    return torch.cat(weights), torch.cat(biases)


def _part(owner: str, params: Any, name: str) -> Any:
    if not isinstance(params, Mapping) or name not in params:
        got = ", ".join(map(str, params)) if isinstance(params, Mapping) else type(params).__name__
        raise ConversionError(f"{owner}: expected its parameters to have {name!r}, got {got}")
    return params[name]
