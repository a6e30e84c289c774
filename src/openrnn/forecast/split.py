"""Cutting the rows by time into training, validation and test part."""

import math
from dataclasses import dataclass

from openrnn.errors import DataError


@dataclass(frozen=True)
class Part:
    """The rows from `start` up to, and not including, `stop`."""

    name: str
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many rows the part has."""
        return self.stop - self.start


@dataclass(frozen=True)
class Split:
    """Three parts that follow each other in time and cover all rows."""

    training: Part
    validation: Part
    test: Part

    @property
    def parts(self) -> tuple[Part, Part, Part]:
        """The parts in the order of time."""
        return self.training, self.validation, self.test


def split_by_time(
    rows: int, *, test: float, validation: float, window: int, horizon: int, name: str = "data"
) -> Split:
    """Give the last rows to the test, those before to the validation, the rest to the training.

    Raises `DataError` if a part has no room for a single target: the training part needs a whole
    window and horizon, the later ones a horizon only, as their windows may look back.
    """
    sizes = _sizes(rows, test, validation)
    if not _fits(sizes, window, horizon):
        raise DataError(
            f"{name}: expected at least {_least_rows(test, validation, window, horizon)} rows for "
            f"--window {window} --horizon {horizon} --test {test:g} --validation {validation:g}, "
            f"received {rows}; give more rows, a shorter window or horizon, or other fractions"
        )
    trained, validated, _ = sizes
    return Split(
        Part("training", 0, trained),
        Part("validation", trained, trained + validated),
        Part("test", trained + validated, rows),
    )


def _sizes(rows: int, test: float, validation: float) -> tuple[int, int, int]:
    tested = math.floor(rows * test + 0.5)
    validated = math.floor(rows * validation + 0.5)
    return rows - tested - validated, validated, tested


def _fits(sizes: tuple[int, int, int], window: int, horizon: int) -> bool:
    trained, validated, tested = sizes
    return trained >= window + horizon and validated >= horizon and tested >= horizon


def _least_rows(test: float, validation: float, window: int, horizon: int) -> int:
    rows = math.floor(max((window + horizon) / (1 - test - validation), horizon / test)) - 2
    rows = max(rows, math.floor(horizon / validation) - 2, 1)
    while not _fits(_sizes(rows, test, validation), window, horizon):
        rows += 1
    return rows
