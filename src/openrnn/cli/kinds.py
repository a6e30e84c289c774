"""The layers and cells that a name on the command line stands for."""

from __future__ import annotations

import difflib
import inspect
from dataclasses import dataclass
from typing import Any

from torch import nn

import openrnn
from openrnn.errors import ArgumentError
from openrnn.explain.box import example

_DROP_INS: dict[str, Any] = {"rnn": openrnn.RNN, "lstm": openrnn.LSTM, "gru": openrnn.GRU}


@dataclass(frozen=True)
class Sizes:
    """What a layer is made with, in torch.nn's words; `proj_size` 0 of none."""

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False
    batch_first: bool = False
    proj_size: int = 0


def cells() -> dict[str, Any]:
    """The cells in the box by their names in lower case, without "cell"."""
    names = (name for name in openrnn.cells.__all__ if name != "Cell")
    return {_plain(name).removesuffix("cell"): getattr(openrnn.cells, name) for name in names}


def is_kind(name: str) -> bool:
    """Whether a name, in capitals or not, is that of a layer or a cell."""
    return _plain(name).removesuffix("cell") in {*_DROP_INS, *cells()}


def build(name: str, sizes: Sizes, asked_by: str = "LAYER") -> nn.Module:
    """The layer of this kind: one of torch.nn's, or layers of a cell; with "cell" one step alone.

    `asked_by` is what errors name.

    Raises:
        ArgumentError: there is no such kind, or it does not take one of the sizes.
    """
    kind = _plain(name).removesuffix("cell")
    boxed = cells()
    if kind not in _DROP_INS and kind not in boxed:
        raise _unknown(asked_by, name, [*_DROP_INS, *(k for k in boxed if k not in _DROP_INS)])
    if _plain(name).endswith("cell"):
        if sizes.num_layers > 1 or sizes.bidirectional or sizes.batch_first:
            raise ArgumentError(
                f"{asked_by}: expected a layer for --layers, --bidirectional and --batch-first, "
                f"received the cell {name}, which is one step; give {kind}"
            )
        cell: nn.Module = _cell(boxed[kind], sizes.input_size, sizes)
        return cell
    if kind not in _DROP_INS:
        return _layers(boxed[kind], sizes)
    options = vars(sizes).copy()
    if kind != "lstm":
        _check_no_projection(kind, sizes)
        del options["proj_size"]
    if sizes.proj_size >= sizes.hidden_size:
        raise ArgumentError(
            f"--proj: expected a number below the {sizes.hidden_size} of --hidden, "
            f"received {sizes.proj_size}"
        )
    layer: nn.Module = _DROP_INS[kind](**options)
    return layer


def _layers(make: Any, sizes: Sizes) -> nn.Module:
    """Layers of a cell, one on the other."""
    layers: list[nn.Module] = []
    size, first = sizes.input_size, sizes.batch_first
    for _ in range(sizes.num_layers):
        pair = [_cell(make, size, sizes) for _ in range(2 if sizes.bidirectional else 1)]
        layer: type[Any] = openrnn.Bidirectional if sizes.bidirectional else openrnn.Recurrent
        size = sum(next(iter(cell.state_sizes.values())) for cell in pair)
        layers.append(layer(*pair, batch_first=first and sizes.num_layers == 1))
    return layers[0] if len(layers) == 1 else openrnn.Stack(layers, batch_first=first)


def _cell(make: Any, input_size: int, sizes: Sizes) -> Any:
    if "proj_size" not in inspect.signature(make).parameters:
        _check_no_projection(make.__name__, sizes)
    elif sizes.proj_size:
        return make(input_size, sizes.hidden_size, sizes.proj_size)
    return example(make, input_size, sizes.hidden_size)


def _check_no_projection(kind: str, sizes: Sizes) -> None:
    if sizes.proj_size:
        raise ArgumentError(f"--proj: goes with lstm and lstmp, received {kind}; leave it out")


def _unknown(asked_by: str, name: str, kinds: list[str]) -> ArgumentError:
    close = difflib.get_close_matches(_plain(name).removesuffix("cell"), kinds, n=2, cutoff=0.5)
    meant = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    a_cell = "a cell or the directory of a model" if asked_by == "LAYER" else "or a cell"
    return ArgumentError(
        f"{asked_by}: expected {', '.join(_DROP_INS)}, {a_cell}, received '{name}'; "
        f"{meant}`openrnn cells` lists the cells"
    )


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
