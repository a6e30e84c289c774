"""What `explain`, `equations` and `draw` are asked about: a kind of layer, or a trained model."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import torch

from openrnn.cli.options import count, option
from openrnn.errors import ArgumentError

if TYPE_CHECKING:
    from torch import nn

    from openrnn.cli.kinds import Sizes

# How each command says what LAYER is.
LAYER = """LAYER is rnn, lstm, gru or a cell that `openrnn cells` lists, such as
    peepholelstm, or PeepholeLSTMCell for one step alone. Or it is the directory
    of a model that `openrnn forecast` wrote: a name with a slash in it, or of a
    directory that holds a model."""

# The options that make a layer, with the names of their values in `Sizes`.
_OPTIONS = {
    "--input": ("input_size", option("--input", count, "Features of x.")),
    "--hidden": ("hidden_size", option("--hidden", count, "Size of the hidden state.")),
    "--layers": ("num_layers", option("--layers", count, "Layers on each other. [default: 1]")),
    "--bidirectional": (
        "bidirectional",
        option("--bidirectional", bool, "Both directions.", is_flag=True),
    ),
    "--batch-first": (
        "batch_first",
        option("--batch-first", bool, "x is (B, T, I), not (T, B, I).", is_flag=True),
    ),
    "--proj": ("proj_size", option("--proj", count, "Size of the output, where it is projected.")),
}
_SHAPE = (
    option("--steps", count, "T, the steps of x, to have its number."),
    option("--batch", count, "B, the sequences in x, to have its number."),
)


@dataclass(frozen=True)
class Subject:
    """The layer or cell, and the shape of an input if it was given; of a model, its layer."""

    module: nn.Module
    x_shape: tuple[int, ...] | None
    sizes: Sizes
    about: str = ""


def takes_a_layer(*, shape: bool = True) -> Callable[[Callable[..., None]], Any]:
    """Gives a command the argument LAYER and its options; it is called with a `Subject`."""

    def decorate(command: Callable[..., None]) -> Any:
        @wraps(command)
        def run(layer: str, **given: Any) -> None:
            own = {name: given.pop(name.strip("-").replace("-", "_")) for name in _OPTIONS}
            size = (given.pop("steps"), given.pop("batch")) if shape else (None, None)
            command(_read(layer, own, *size), **given)

        options = [made for _, made in _OPTIONS.values()] + (list(_SHAPE) if shape else [])
        argument = click.argument("layer", metavar="LAYER")
        return argument(reduce(lambda made, add: add(made), reversed(options), run))

    return decorate


def _read(name: str, own: dict[str, Any], steps: int | None, batch: int | None) -> Subject:
    from openrnn.cli.kinds import Sizes, build, is_kind
    from openrnn.forecast.model_directory import model_directory

    path = Path(name)
    slash = any(sign and sign in name for sign in (os.sep, os.altsep))
    has_model = model_directory(path) is not None
    if slash or has_model or (path.is_dir() and not is_kind(name)):
        if not has_model:
            raise ArgumentError(
                f"LAYER: expected the directory of a model that openrnn forecast wrote, received "
                f"'{name}', which holds none; check the path"
            )
        given = [option for option, value in own.items() if value]
        if given:
            raise ArgumentError(
                f"{given[0]}: goes with a kind of layer, received the model in '{name}', which has "
                "its own sizes; leave it out"
            )
        return _of_model(path, steps, batch)
    values = {_OPTIONS[option][0]: value for option, value in own.items() if value}
    sizes = Sizes(**{"input_size": 0, "hidden_size": 0, **values})
    if is_kind(name) and not (sizes.input_size and sizes.hidden_size):
        raise ArgumentError(
            f"LAYER: expected {name} with both its sizes, received "
            f"{'one' if sizes.input_size or sizes.hidden_size else 'none'} of them; "
            "give --input N and --hidden N, for example --input 30 --hidden 20"
        )
    with torch.device("meta"):  # nothing asks for the numbers
        module = build(name, sizes)
    return Subject(module, _shape(module, sizes, steps, batch), sizes)


def _of_model(path: Path, steps: int | None, batch: int | None) -> Subject:
    from openrnn.cli.kinds import Sizes
    from openrnn.forecast.extras import require_loading

    require_loading("a model of openrnn forecast")
    from openrnn.forecast.storage import load_model

    trained = load_model(path)
    config, layer = trained.config, trained.model.rnn
    sizes = Sizes(layer.input_size, layer.hidden_size, layer.num_layers, batch_first=True)
    columns = ", ".join(each.name for each in config.encoder.columns)
    calendar = "".join(f", time of {turn}" for turn in config.encoder.calendar)
    about = (
        f"The model forecasts {config.encoder.target} from {config.window} rows; the features of x "
        f"are made of {columns}{calendar}."
    )
    return Subject(layer, (batch or 1, steps or config.window, layer.input_size), sizes, about)


def _shape(
    module: nn.Module, sizes: Sizes, steps: int | None, batch: int | None
) -> tuple[int, ...] | None:
    from openrnn.layers.layer import Layer

    if not isinstance(module, Layer):
        if steps:
            raise ArgumentError(
                f"--steps: goes with a layer, received {type(module).__name__}, which is one step; "
                "leave it out"
            )
        return (batch, sizes.input_size) if batch else None
    if not steps and not batch:
        return None
    if not steps or not batch:
        there, missing = ("--steps", "--batch") if steps else ("--batch", "--steps")
        raise ArgumentError(f"{there}: goes with {missing}, received it alone; give both")
    first = (batch, steps) if sizes.batch_first else (steps, batch)
    return (*first, sizes.input_size)
