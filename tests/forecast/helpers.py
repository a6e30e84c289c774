"""Small files and quick runs."""

from __future__ import annotations

import csv
import datetime as dt
import math
from collections.abc import Sequence
from pathlib import Path

from click.testing import CliRunner, Result

from openrnn.cli import main

HEADER = ("date", "temp", "rain", "sky")
SKIES = ("sun", "rain", "fog")
# A run that takes a fraction of a second.
QUICK = ("--window", "3", "--hidden", "4", "--epochs", "2", "--test", "0.2", "--validation", "0.2")


def weather(rows: int = 60, start: dt.date = dt.date(2020, 1, 1)) -> list[list[str]]:
    """Rows under `HEADER`, one a day."""
    return [
        [
            (start + dt.timedelta(days=day)).isoformat(),
            f"{10 + 5 * math.sin(day / 5):.2f}",
            f"{day * 7 % 11}",
            SKIES[day % len(SKIES)],
        ]
        for day in range(rows)
    ]


def write_csv(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = HEADER) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def forecast(data: Path, out: Path, *more: object, target: str = "temp") -> Result:
    return run("forecast", data, "--target", target, "--out", out, *QUICK, *more)


def complaint(result: Result) -> str:
    """The only line on stderr of a run that failed as it should."""
    assert result.exit_code == 2, result.output
    assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit)
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.output
    return lines[0]
