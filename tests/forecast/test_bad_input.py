"""Every bad input is one line that says what was expected, what was received and what to do."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.forecast.helpers import HEADER, complaint, forecast, run, weather, write_csv

Rows = list[list[str]]


def set_cell(row: int, column: str, value: str) -> Callable[[Rows], Rows]:
    def change(rows: Rows) -> Rows:
        rows[row][HEADER.index(column)] = value
        return rows

    return change


def swap(rows: Rows) -> Rows:
    rows[4], rows[5] = rows[5], rows[4]
    return rows


def repeat(rows: Rows) -> Rows:
    return [*rows[:5], rows[4], *rows[5:]]


@pytest.mark.parametrize(
    ("change", "more", "expected"),
    [
        (
            set_cell(2, "temp", "warm"),
            (),
            ["line 4", "'temp'", "a number", "'warm'", "another --target"],
        ),
        (set_cell(2, "rain", "much"), (), ["line 4", "'rain'", "'much'", "--ignore rain"]),
        (set_cell(2, "temp", ""), (), ["line 4 (2020-01-03)", "'temp'", "none", "--fill"]),
        (set_cell(2, "rain", "NaN"), (), ["line 4 (2020-01-03)", "'rain'", "--fill"]),
        (set_cell(2, "sky", ""), (), ["line 4 (2020-01-03)", "'sky'", "--fill"]),
        (set_cell(0, "temp", ""), ("--fill",), ["line 2", "first row", "'temp'", "later row"]),
        (set_cell(2, "temp", "inf"), (), ["line 4", "a finite number", "'inf'"]),
        (set_cell(2, "rain", "-inf"), ("--fill",), ["line 4", "a finite number", "'-inf'"]),
        (set_cell(2, "date", "someday"), (), ["line 4", "a date", "'date'", "'someday'"]),
        (set_cell(0, "date", "someday"), (), ["line 2", "a date", "'date'", "'someday'"]),
        (set_cell(2, "date", ""), (), ["line 4", "a date", "''"]),
        (set_cell(2, "date", "2020-02-30"), (), ["line 4", "'2020-02-30'"]),
        (set_cell(2, "rain", "1e999"), (), ["line 4", "'rain'", "'1e999'"]),
        (set_cell(2, "rain", "1e300"), (), ["'rain'", "variance is finite", "larger unit"]),
        (swap, (), ["line 7", "order of time", "2020-01-05 after 2020-01-06", "sort"]),
        (repeat, (), ["line 7", "one row for each date", "2020-01-05 again"]),
        (lambda rows: rows[:4], (), ["at least 6 rows", "received 4", "--window 3"]),
        (lambda rows: rows[:0], (), ["rows of data below the header", "none"]),
        (lambda rows: [[*r[:2], "", r[3]] for r in rows], (), ["'rain'", "none at all"]),
        (
            lambda rows: [[*r[:3], f"text {i}"] for i, r in enumerate(rows * 2)],
            (),
            ["line 62", "order of time"],
        ),
        (
            lambda rows: [[*r[:3], f"text {i}"] for i, r in enumerate(weather(120))],
            (),
            ["'sky'", "120 different texts", "--ignore sky"],
        ),
        (
            lambda rows: [
                [f"{i % 12 + 1:02}/01/20{i // 12:02}", *r[1:]] for i, r in enumerate(rows)
            ],
            (),
            ["read in one way only", "'01/01/2000'", "--date-format"],
        ),
        (
            lambda rows: [[f"{r[0]}T00:00+0{i % 2}:00", *r[1:]] for i, r in enumerate(rows)],
            (),
            ["one time zone", "UTC"],
        ),
    ],
)
def test_rows(
    tmp_path: Path, change: Callable[[Rows], Rows], more: tuple[str, ...], expected: list[str]
) -> None:
    data = write_csv(tmp_path / "weather.csv", change(weather()))
    line = complaint(forecast(data, tmp_path / "out", *more))
    for each in ["openrnn forecast: ", *expected]:
        assert each in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ["weather.csv", "an empty file"]),
        (b"\n \n", ["an empty file"]),
        (b"\x89PNG\r\n\x1a\n\xff", ["UTF-8", "0x89"]),
        (b"PK\x00\x01,b\n1,2\n", ["binary data"]),
        (b"hello\nworld\n", ["separated by commas", "'hello'"]),
        (b"date;temp\n2020-01-01;3\n", ["separated by commas", "'date;temp'"]),
        (b"date,temp\n2020-01-01,3\n2020-01-02\n", ["line 3", "2 values", "received 1"]),
        (b"date,temp,temp\n2020-01-01,3,4\n", ["its own name", "'temp' 2 times"]),
        (b"date,temp\n", ["rows of data", "none"]),
        (b"name,temp\nann,3\nbob,4\n", ["a column of dates", "name, temp", "--date"]),
    ],
)
def test_files(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    data = tmp_path / "weather.csv"
    data.write_bytes(content)
    line = complaint(forecast(data, tmp_path / "out"))
    for each in expected:
        assert each in line


def test_no_file(tmp_path: Path) -> None:
    line = complaint(forecast(tmp_path / "none.csv", tmp_path / "out"))
    assert "none.csv" in line
    assert "does not exist" in line
    line = complaint(forecast(tmp_path, tmp_path / "out"))
    assert "Is a directory" in line


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (("--target", "temperature"), ["--target", "date, temp, rain, sky", "'temperature'"]),
        (("--target", "tmep"), ["did you mean 'temp'?"]),
        (("--target", "TEMP"), ["did you mean 'temp'?"]),
        (("--target", "date"), ["--target", "the column of dates", "temp, rain, sky"]),
        (("--target", "sky"), ["line 2", "a number", "'sky'", "'sun'"]),
        (("--date", "day"), ["--date", "date, temp, rain, sky", "'day'"]),
        (("--date", "sky"), ["line 2", "a date", "'sky'", "'sun'"]),
        (("--date-format", "%d.%m.%Y"), ["line 2", "written as %d.%m.%Y", "'2020-01-01'"]),
        (("--date-format", "%Q"), ["--date-format", "'%Q'"]),
        (("--ignore", "snow"), ["--ignore", "'snow'"]),
        (("--ignore", "temp"), ["--ignore", "other than the target"]),
        (("--window", "0"), ["--window", "1 or more", "received 0", "--window 12"]),
        (("--window", "-3"), ["--window", "received -3"]),
        (("--window", "many"), ["--window", "'many'"]),
        (("--window", "100"), ["at least", "received 60", "--window 100"]),
        (("--horizon", "0"), ["--horizon", "1 or more", "received 0"]),
        (("--horizon", "30"), ["at least", "--horizon 30"]),
        (("--hidden", "0"), ["--hidden", "received 0"]),
        (("--layers", "-1"), ["--layers", "received -1"]),
        (("--epochs", "0"), ["--epochs", "received 0"]),
        (("--patience", "0"), ["--patience", "received 0"]),
        (("--batch-size", "0"), ["--batch-size", "received 0"]),
        (("--seed", "-1"), ["--seed", "received -1"]),
        (("--seed", str(2**32)), ["--seed", "below 2**32"]),
        (("--learning-rate", "0"), ["--learning-rate", "above 0", "received 0"]),
        (("--learning-rate", "nan"), ["--learning-rate", "received nan"]),
        (("--learning-rate", "2"), ["--learning-rate", "up to 1", "received 2"]),
        (("--test", "0"), ["--test", "between 0 and 1", "received 0"]),
        (("--validation", "1.5"), ["--validation", "received 1.5"]),
        (("--test", "0.5", "--validation", "0.5"), ["sum is below 1", "0.5 + 0.5"]),
        (("--cell", "transformer"), ["--cell", "lstm, gru, rnn", "'transformer'"]),
        (("--devices", "0"), ["--devices", "received 0"]),
        (("--num-nodes", "0"), ["--num-nodes", "received 0"]),
        (("--resume",), ["--resume", "checkpoints of an earlier run", "leave --resume out"]),
        (("--resume", "--overwrite"), ["--resume and --overwrite", "both"]),
        (("--horizn", "2"), ["--horizn", "--horizon"]),
    ],
)
def test_options(data: Path, tmp_path: Path, more: tuple[str, ...], expected: list[str]) -> None:
    line = complaint(forecast(data, tmp_path / "out", *more))
    for each in expected:
        assert each in line
    assert not (tmp_path / "out").exists()


def test_no_such_accelerator(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    line = complaint(forecast(data, tmp_path / "out", "--accelerator", "gpu"))
    assert "--accelerator gpu" in line
    assert "leave them out" in line


def test_nothing_given() -> None:
    assert "DATA.csv" in complaint(run("forecast"))
    assert complaint(run("forecast")).endswith("; see openrnn forecast --help")
    assert "--target" in complaint(run("forecast", "weather.csv"))
    assert "MODEL" in complaint(run("predict"))
    assert "forecats" in complaint(run("forecats"))


@pytest.mark.parametrize("below", ["", "a/b"])
def test_output_cannot_be_written(data: Path, tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    line = complaint(forecast(data, tmp_path / "file" / below))
    assert "--out" in line
    assert "give another --out" in line


def test_too_large_for_the_memory(data: Path, tmp_path: Path) -> None:
    line = complaint(forecast(data, tmp_path / "out", "--hidden", str(10**13)))
    assert "fit into the memory" in line
    assert "--hidden 10000000000000" in line


def test_diverging_training(tmp_path: Path) -> None:
    rows = weather()
    for row in rows[36:48]:
        row[1] = "1e30"  # its square is infinite in float32
    data = write_csv(tmp_path / "weather.csv", rows)
    line = complaint(forecast(data, tmp_path / "out"))
    assert "none that is finite" in line
    assert "--learning-rate" in line


def test_only_filled_targets_in_a_part(tmp_path: Path) -> None:
    rows = weather()
    for row in rows[48:]:
        row[1] = ""
    data = write_csv(tmp_path / "weather.csv", rows)
    line = complaint(forecast(data, tmp_path / "out", "--fill"))
    assert "test part" in line
    assert "--fill" in line


@pytest.mark.parametrize("package", ["lightning", "matplotlib", "pandas", "safetensors"])
def test_no_train_extra(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setattr(
        "openrnn.extras.find_spec",
        lambda name: None if name == package else find_spec(name),
    )
    line = complaint(forecast(data, tmp_path / "out"))
    assert f"needs {package}" in line
    assert 'pip install "openrnn[train]"' in line
    if package in ("pandas", "safetensors"):
        assert 'pip install "openrnn[train]"' in complaint(run("predict", tmp_path, data))
