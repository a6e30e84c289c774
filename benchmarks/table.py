"""A table of figures, for a terminal of 80 columns and for a Markdown page."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

NOTHING = "-"
DIFFERS = "differs"


@dataclass(frozen=True)
class Table:
    """Rows of figures under a title.

    Args:
        title: what is measured.
        columns: their names.
        rows: one text for each column.
        words: how many columns, from the left, are words; the others are figures.
        notes: sentences below the table.
        parted: in the terminal, one table for each value of the first column.
        page_only: columns that only the page has.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    words: int
    notes: tuple[str, ...] = ()
    parted: bool = False
    page_only: tuple[str, ...] = ()

    def markdown(self) -> list[str]:
        """The lines of the table, without its title."""
        rules = ["---"] * self.words + ["---:"] * (len(self.columns) - self.words)
        lines = [_line(self.columns), "|" + "|".join(rules) + "|", *map(_line, self.rows)]
        for note in self.notes:
            lines += ["", note]
        return lines

    def show(self, console: Console) -> None:
        """Prints it."""
        if self.parted:
            for name, rows in groupby(self.rows, key=lambda row: row[0]):
                hidden = (self.columns[0], *self.page_only)
                console.print(self._rich(f"{self.title}: {name}", list(rows), hidden))
        else:
            console.print(self._rich(self.title, self.rows, self.page_only))
        for note in self.notes:
            console.print(note, style="dim", highlight=False)
        console.print()

    def _rich(self, title: str, rows: list[tuple[str, ...]], hidden: tuple[str, ...]) -> RichTable:
        table = RichTable(title=title, box=box.SIMPLE_HEAD, padding=0)
        shown = [i for i, name in enumerate(self.columns) if name not in hidden]
        for i in shown:
            if i < self.words:
                table.add_column(self.columns[i])
            else:  # a line may break in the title only
                words = [*self.columns[i].split(), *(row[i] for row in rows)]
                table.add_column(self.columns[i], justify="right", width=max(map(len, words)))
        for row in rows:
            table.add_row(*(row[i] for i in shown))
        return table


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def time(milliseconds: float | None) -> str:
    """A time with as many digits as mean something, or a sign that there is none."""
    if milliseconds is None:
        return NOTHING
    return f"{milliseconds:.{3 if milliseconds < 1 else 2 if milliseconds < 100 else 1}f}"


def number(value: float | None, digits: int = 2) -> str:
    """A ratio, say, or a sign that there is none."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def percent(fraction: float | None) -> str:
    """A fraction in per cent, or a sign that there is none."""
    return NOTHING if fraction is None else f"{100 * fraction:.1f}"
