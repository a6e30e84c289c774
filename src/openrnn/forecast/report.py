"""What the terminal shows while a forecast is made."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from openrnn.forecast.data import Data
from openrnn.forecast.dates import show_date
from openrnn.forecast.evaluate import Evaluation
from openrnn.forecast.features import Encoder, OneHot
from openrnn.forecast.score_table import about_last_year, overall_table, step_table
from openrnn.forecast.settings import Settings
from openrnn.forecast.split import Split

# Columns of the labels.
_MARGIN = 11


class Report:
    """Prints to a console: short lines with a label before each."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def line(self, label: str, text: str) -> None:
        """A labelled line, folded below its text where it is longer than the terminal."""
        # Not cut inside a word, which may be a path that is to be copied.
        lines = textwrap.wrap(
            text, self.console.width - _MARGIN, break_long_words=False, break_on_hyphens=False
        )
        for index, each in enumerate(lines):
            name = Text(f"{'' if index else label:<{_MARGIN}}", style="bold")
            self.console.print(name + Text(each), soft_wrap=True)

    def note(self, text: str) -> None:
        """A line about something that the user may want to know."""
        self.line("Note", text)

    def data(self, data: Data, encoder: Encoder) -> None:
        """What was read, and what the model is to see of it."""
        first, last = show_date(data.dates.index[0]), show_date(data.dates.index[-1])
        self.line(
            "Data", f"{data.path.name}: {data.rows:,} rows, {first} to {last}, every {data.step}"
        )
        self.line("Target", data.target)
        self.line("Features", ", ".join(_features(encoder)))
        gaps = data.step.gaps(data.dates.index)
        if gaps:
            where = "is 1 place" if gaps == 1 else f"are {gaps:,} places"
            self.note(
                f"there {where} where the next date is not one {data.step} later; the rows on "
                "both sides are taken as neighbours"
            )
        filled = sum(int((~column.observed).sum()) for column in data.columns)
        if filled:
            self.note(
                f"{filled:,} missing value{'s were' if filled > 1 else ' was'} filled in from the "
                "row before"
            )

    def split(self, data: Data, split: Split) -> None:
        """Which rows are for what."""
        label = "Split"
        for part in split.parts:
            first, last = data.dates.index[part.start], data.dates.index[part.stop - 1]
            self.line(
                label,
                f"{part.name:<10} {part.rows:>7,} rows  {show_date(first)} to {show_date(last)}",
            )
            label = ""

    def model(self, settings: Settings, weights: int) -> None:
        """What is trained."""
        layers = "1 layer" if settings.layers == 1 else f"{settings.layers} layers"
        self.line(
            "Model",
            f"{settings.cell.upper()}, {layers} of {settings.hidden}, {weights:,} weights; "
            f"window {settings.window}, horizon {settings.horizon}",
        )

    def training(self, epochs: int, best: int, loss: float) -> None:
        """How the training went."""
        self.line(
            "Best",
            f"epoch {best} of {epochs}, by its validation loss of {loss:.4f}",
        )

    def scores(self, evaluation: Evaluation, settings: Settings) -> None:
        """The model on the test part, next to what it has to beat."""
        self.console.print()
        self.console.print(overall_table(evaluation, settings))
        remark = about_last_year(evaluation)
        if remark:
            self.note(remark)
        if evaluation.horizon > 1:
            self.console.print(step_table(evaluation, settings))

    def written(self, paths: Sequence[Path]) -> None:
        """Where the results are."""
        self.console.print()
        label = "Written"
        for path in paths:
            self.line(label, f"{path}/" if path.is_dir() else str(path))
            label = ""


def _features(encoder: Encoder) -> list[str]:
    names = [
        f"{each.name} ({each.width} {'kind' if each.width == 1 else 'kinds'})"
        if isinstance(each, OneHot)
        else each.name
        for each in encoder.columns
    ]
    return names + [f"time of {name}" for name in encoder.calendar]
