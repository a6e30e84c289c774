"""Reading a CSV file as text, so that every later complaint can name the line it is about."""

import csv
import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path

from openrnn.errors import DataError

# What pandas, R and spreadsheets write for "no value here".
_MISSING = frozenset(
    {"", "na", "n/a", "#n/a", "nan", "-nan", "<na>", "null", "none", "nat"},
)


@dataclass(frozen=True)
class Table:
    """A CSV file as text: `columns[name][row]`, and the line each row ends on in the file."""

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]
    sha256: str

    @property
    def rows(self) -> int:
        """How many rows of data the file has, its header not counted."""
        return len(self.lines)

    def tail(self, rows: int) -> "Table":
        """The last rows only."""
        columns = {name: cells[-rows:] for name, cells in self.columns.items()}
        return Table(self.path, columns, self.lines[-rows:], self.sha256)

    def column(self, name: str, asked_by: str) -> list[str]:
        """The text of a column; `asked_by` says in the error what asked for it."""
        if name not in self.columns:
            there = ", ".join(self.columns)
            raise DataError(
                f"{asked_by}: expected a column of {self.path.name} ({there}), received '{name}'"
                f"{_suggestion(name, list(self.columns))}"
            )
        return self.columns[name]


def is_missing(text: str) -> bool:
    """Whether a cell of the table says that there is no value."""
    return text.lower() in _MISSING


def read_table(path: Path) -> Table:
    """Read a comma-separated file with a header; raise `DataError` if it is not one."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"DATA: expected a CSV file, received '{path}', which does not exist; check the path"
        ) from None
    except OSError as error:
        raise DataError(
            f"DATA: expected a readable CSV file, received '{path}': "
            f"{error.strerror or error}; check the path and its permissions"
        ) from None
    text = _decode(path, raw)
    reader = csv.reader(text.splitlines(keepends=True), skipinitialspace=True)
    try:
        header = _header(path, next((row for row in reader if row), []))
        cells: list[list[str]] = []
        lines: list[int] = []
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise DataError(
                    f"{path.name}, line {reader.line_num}: expected {len(header)} values as in "
                    f"the header, received {len(row)}; mend that line"
                )
            cells.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(
            f"{path.name}, line {reader.line_num}: expected comma-separated values, "
            f"received what is not CSV ({error}); mend that line"
        ) from None
    if not cells:
        raise DataError(
            f"{path.name}: expected rows of data below the header, received none; "
            "give a file with data"
        )
    columns = {
        name: [cell.strip() for cell in column]
        for name, column in zip(header, zip(*cells, strict=True), strict=True)
    }
    return Table(path, columns, lines, hashlib.sha256(raw).hexdigest())


def _decode(path: Path, raw: bytes) -> str:
    if not raw.strip():
        raise DataError(
            f"{path.name}: expected a CSV file with a header and rows, received an empty file; "
            "give a file with data"
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name}: expected a CSV file as UTF-8 text, received a byte that is not "
            f"(0x{raw[error.start]:02x} at {error.start}); save it as CSV UTF-8"
        ) from None
    if "\0" in text:
        raise DataError(
            f"{path.name}: expected a CSV file, received binary data; save it as CSV UTF-8"
        )
    return text


def _header(path: Path, row: list[str]) -> list[str]:
    if len(row) < 2:
        received = row[0][:40] if row else ""
        raise DataError(
            f"{path.name}: expected a header of two columns or more separated by commas, received "
            f"'{received.strip()}'; save it as CSV with commas"
        )
    # A column without a name is what pandas writes for an index.
    names = [name.strip() or f"column {index}" for index, name in enumerate(row, start=1)]
    for name in names:
        if names.count(name) > 1:
            raise DataError(
                f"{path.name}: expected every column of the header to have its own name, received "
                f"'{name}' {names.count(name)} times; rename one"
            )
    return names


def _suggestion(name: str, there: list[str]) -> str:
    folded = {column.lower(): column for column in there}
    close = difflib.get_close_matches(name.lower(), list(folded), n=1)
    return f"; did you mean '{folded[close[0]]}'?" if close else "; give one of these"
