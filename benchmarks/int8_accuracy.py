"""What int8 weights cost in accuracy: of a forecast and a language model, trained here."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from torch import nn

import openrnn
from benchmarks import ao_peer
from benchmarks.table import Table

DATA = Path(__file__).parents[1] / "examples" / "data" / "seattle-weather.csv"


@dataclass(frozen=True)
class Row:
    """The figure of a model in float32, with our int8 weights, and with those of torch.ao."""

    model: str
    measure: str
    float32: float
    int8: float
    ao: float

    def cells(self) -> tuple[str, ...]:
        """Its line of the table."""
        change = f"{100 * (self.int8 / self.float32 - 1):+.2f} %"
        figures = (f"{value:.4f}" for value in (self.float32, self.int8, self.ao))
        return (self.model, self.measure, *figures, change)


def forecast() -> Row:
    """The error on the test part of `openrnn forecast examples/data/seattle-weather.csv`."""
    from openrnn.forecast.evaluate import evaluate
    from openrnn.forecast.job import run_forecast
    from openrnn.forecast.prepare import prepare
    from openrnn.forecast.settings import Settings
    from openrnn.forecast.storage import load_model

    settings = Settings(DATA, "temp_max", unit="°C")
    prepared = prepare(settings)
    with TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        run_forecast(settings, out, console=Console(quiet=True))
        model = load_model(out / "model").model

    def mae(model: nn.Module) -> float:
        found = evaluate(model, prepared.test, prepared.data, prepared.encoder.target_scale)  # type: ignore[arg-type]
        return found.overall.model.mae

    return _row("forecast of temp_max", "MAE in test, °C", model, "rnn", mae)


def language_model() -> Row:
    """The perplexity in validation of examples/language_model.py."""
    example = import_module("examples.language_model")
    torch.manual_seed(0)
    settings = example.SENTENCES
    vocabulary, parts = example.prepare_sentences(None)
    model = example.LanguageModel(len(vocabulary), settings)
    example.fit(model, parts, settings)

    def perplexity(model: nn.Module) -> float:
        value: float = example.perplexity(model, parts["validation"], settings.batch)
        return value

    return _row("language model", "perplexity in validation", model, "lstm", perplexity)


def _row(
    name: str, measure: str, model: nn.Module, layer: str, figure: Callable[[nn.Module], float]
) -> Row:
    def with_layer(changed: nn.Module) -> nn.Module:
        other = copy.deepcopy(model)
        setattr(other, layer, changed)
        return other.eval()

    theirs = copy.deepcopy(getattr(model, layer))
    openrnn.to_torch(theirs)
    changed = (openrnn.quantize(getattr(model, layer)), _Lengths(ao_peer.quantized(theirs)))
    ours, ao = (figure(with_layer(each)) for each in changed)
    return Row(name, measure, figure(model), ours, ao)


class _Lengths(nn.Module):
    """A layer of torch's, called with our `lengths`: what is behind an end is not used here."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor, state: object = None, lengths: object = None) -> object:
        return self.layer(x, state)


def table(rows: Iterable[Row]) -> Table:
    """All rows."""
    return Table(
        "Accuracy with int8 weights",
        ("model", "measure", "float32", "int8", "torch.ao int8", "change by int8"),
        [row.cells() for row in rows],
        words=2,
        notes=("The recurrent layers alone are quantized. A change below 0 is a better figure.",),
    )
