"""`openrnn export`: a trained model as C, run on the rows of the file as they are."""

from __future__ import annotations

import csv
import datetime as dt
import re
import subprocess
from pathlib import Path

import pytest
from click.testing import Result

from openrnn.forecast.predict import predict
from tests.export.programs import COMPILERS, compile_c

from .helpers import HEADER, SKIES, complaint, forecast, run, weather, write_csv

DOCS = Path(__file__).parents[2] / "docs" / "c.md"


def rows(path: Path) -> list[list[float]]:
    """The rows of the file as the header of the export has them."""
    found = []
    with path.open(encoding="utf-8") as file:
        for date, temp, rain, sky in list(csv.reader(file))[1:]:
            day = dt.date.fromisoformat(date)
            year = (day.timetuple().tm_yday - 1) / (366 if day.year % 4 == 0 else 365)
            kind = sorted(SKIES).index(sky) if sky in SKIES else -1
            found.append([float(temp), float(rain), kind, year])
    return found


def program(folder: Path, out: Path) -> Path:
    """The program of docs/c.md, compiled with the model."""
    (text,) = [t for t in re.findall(r"```c\n(.*?)```", DOCS.read_text(), re.DOTALL) if "main" in t]
    main = out / "main.c"
    main.write_text(text)
    compile_c(COMPILERS[0], folder / "program", str(main), str(out / "forecast.c"))
    return folder / "program"


def printed(program: Path, rows: list[list[float]]) -> list[list[float]]:
    text = "\n".join(" ".join(f"{number:.9g}" for number in row) for row in rows)
    result = subprocess.run([program], input=text, capture_output=True, text=True, check=True)
    return [[float(number) for number in line.split()] for line in result.stdout.splitlines()]


@pytest.mark.skipif(not COMPILERS, reason="no C compiler")
def test_the_forecast_is_that_of_predict(trained: Path, tmp_path: Path) -> None:
    out = trained / "c"
    result = run("export", trained / "out", "--to", "c", out)
    assert result.exit_code == 0, result.output
    exe = program(tmp_path, out)
    unknown = [*weather(rows=57), ["2020-02-27", "11.5", "3", "hail"]]
    for data in (weather(), unknown):
        path = write_csv(tmp_path / "weather.csv", data)
        expected = predict(trained / "out" / "model", path).values
        # The window has 3 rows; the program prints the forecast after each.
        assert printed(exe, rows(path)[-3:])[-1] == pytest.approx(expected, rel=1e-5)
    header = (out / "forecast.h").read_text(encoding="utf-8")
    for text in (
        "It forecasts temp (°C). After a reset give it 3 rows, each one day after",
        "x[0]  temp\n",
        "x[2]  sky: 0 fog, 1 rain, 2 sun, -1 any other\n",
        "x[3]  how far the date is through its year",
        "y[1]  temp 2 steps after the row",
    ):
        assert text in header


@pytest.mark.skipif(not COMPILERS, reason="no C compiler")
def test_two_layers_of_another_kind_within_a_day(tmp_path: Path) -> None:
    begin = dt.datetime(2021, 3, 1)
    hours = [(begin + dt.timedelta(hours=n)).isoformat() for n in range(60)]
    lines = [[hour, *row[1:]] for hour, row in zip(hours, weather(), strict=True)]
    data = write_csv(tmp_path / "hours.csv", lines, HEADER)
    run_out = tmp_path / "run"
    options = ("--cell", "gru", "--layers", "2", "--ignore", "sky")
    assert forecast(data, run_out, *options, target="rain").exit_code == 0
    assert run("export", run_out, "--to", "c", tmp_path / "c").exit_code == 0
    exe = program(tmp_path, tmp_path / "c")
    last = [
        [float(temp), float(rain), (59 + n / 24) / 365, n % 24 / 24]
        for n, (_, temp, rain, _) in enumerate(lines)
    ]
    expected = predict(run_out / "model", data).values
    assert printed(exe, last[-3:])[-1] == pytest.approx(expected, rel=1e-5)


def test_what_is_printed(trained: Path) -> None:
    result = run("export", trained / "out", "--to", "c", trained / "c", "--name", "temp")
    assert result.exit_code == 0, result.output
    weights = 4 * (4 * 4 * (7 + 4 + 1) + 2 * (4 + 1) + 2 * 2 + 3)
    assert result.stdout.splitlines()[:2] == ["Exported  temp", f"Weights   {weights:,} bytes"]
    assert sorted(path.name for path in (trained / "c").iterdir()) == ["temp.c", "temp.h"]


def wrong(trained: Path, *options: object) -> Result:
    return run("export", trained / "out", "--to", "c", *options)


def test_what_is_wrong(trained: Path) -> None:
    out = trained / "c"
    assert "--name: expected a name that C takes" in complaint(wrong(trained, out, "--name", "3d"))
    assert "MODEL: expected the model directory" in complaint(run("export", "no", "--to", "c", out))
    assert not out.exists()
    line = complaint(wrong(trained, trained / "weather.csv"))
    assert "DIR: expected a directory that can be written to" in line
    assert "'--to'" in complaint(run("export", trained / "out", out))
    assert wrong(trained, out).exit_code == 0
    before = (out / "forecast.c").read_bytes()
    line = complaint(wrong(trained, out))
    assert "forecast.h and forecast.c are already" in line
    assert "--overwrite" in line
    assert wrong(trained, out, "--overwrite").exit_code == 0
    assert (out / "forecast.c").read_bytes() == before


def test_a_full_disk(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, write = trained / "c", Path.write_text

    def write_half(path: Path, text: str, **options: object) -> None:
        write(path, text[: len(text) // 2], encoding="utf-8")
        raise OSError(28, "No space left on device", str(path))

    assert wrong(trained, out).exit_code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setattr(Path, "write_text", write_half)
    line = complaint(wrong(trained, out, "--overwrite"))
    assert "cannot read or write" in line
    assert "No space left on device" in line
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
