"""`openrnn explain`, `draw`, `equations` and `record` of a trained model."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import openrnn
from openrnn.forecast.last_rows import read_last_rows
from openrnn.forecast.storage import load_model
from tests.forecast.helpers import complaint, run, weather, write_csv


def content(page: Path) -> Any:
    """What the page was made of."""
    found = re.search(r"<script[^>]*>(\{.*?)</script>", page.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return json.loads(found[1])


def numbers(content: Any, name: str) -> Any:
    (track,) = (track for track in content["tracks"] if track["name"] == name)
    data = np.frombuffer(base64.b64decode(track["data"]), "<f4")
    return data.reshape(content["steps"], -1)


def test_record(trained_once: Path, tmp_path: Path) -> None:
    """The page has the gates of the last window, with its dates and the target."""
    page, data = tmp_path / "new/page.html", trained_once / "weather.csv"
    result = run("record", trained_once / "out", data, "--out", page)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "Recorded  temp from 2020-02-27 to 2020-02-29, 3 rows",
        f"Written   {page}",
    ]
    found = content(page)
    assert found["title"] == "LSTM(7, 4, batch_first=True) on temp (°C)"
    assert found["labels"] == ["2020-02-27", "2020-02-28", "2020-02-29"]
    temperatures = [[float(row[1])] for row in weather()[-3:]]
    np.testing.assert_allclose(numbers(found, "temp (°C)"), temperatures, rtol=1e-6)
    trained = load_model(trained_once / "out")
    rows = read_last_rows(trained.config, data, 3, date_format=None)
    recorded = openrnn.record(trained.model.rnn, rows.features[None])
    for name in ("h_l0", "c_l0", "f_l0"):
        np.testing.assert_array_equal(numbers(found, name), recorded[name][:, 0])
    # It is what the forecast is made from.
    with torch.no_grad():
        change = trained.model.head(recorded["h_l0"][-1])
        forecast = trained.model(rows.features[None])
    last = rows.features[-1, trained.config.encoder.target_index]
    torch.testing.assert_close(last + change, forecast)


def test_record_more_rows(trained_once: Path, tmp_path: Path) -> None:
    page, data = tmp_path / "page.html", trained_once / "weather.csv"
    assert run("record", trained_once / "out", data, "--out", page).exit_code == 0
    before = page.read_bytes()
    line = complaint(run("record", trained_once / "out", data, "--out", page, "--rows", 10))
    assert "page.html', which is there already; give another --out, or --overwrite" in line
    assert page.read_bytes() == before
    options = ("--out", page, "--rows", 10, "--overwrite")
    assert run("record", trained_once / "out", data, *options).exit_code == 0
    assert content(page)["steps"] == 10
    assert content(page)["labels"][0] == "2020-02-20"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "Missing option '--out'"),
        (("--out", "folder"), "received the directory 'folder'"),
        (("--out", "file/page.html"), "expected a directory that can be written to"),
        (("--out", "page.html", "--rows", "0"), "from 1, received '0'"),
        (("--out", "page.html", "--rows", "99"), "expected at least 99 rows, as many as asked"),
        (("--out", "page.html", "--date-format", "%d"), "expected a date in column 'date'"),
    ],
)
def test_record_nothing(
    trained_once: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    line = complaint(run("record", trained_once / "out", trained_once / "weather.csv", *options))
    assert line.startswith("openrnn record: ")
    assert expected in line
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


def test_record_bad_data(trained_once: Path, tmp_path: Path) -> None:
    page, model = tmp_path / "page.html", trained_once / "out"
    data = write_csv(tmp_path / "a.csv", [row[:3] for row in weather()], ("date", "temp", "rain"))
    assert "none named 'sky'" in complaint(run("record", model, data, "--out", page))
    rows = weather()
    rows[-1][1] = "1e300"
    data = write_csv(tmp_path / "b.csv", rows)
    assert "so extreme" in complaint(run("record", model, data, "--out", page))
    rows[-1][1] = ""
    data = write_csv(tmp_path / "c.csv", rows)
    assert "--fill" in complaint(run("record", model, data, "--out", page))
    assert "no directory" in complaint(run("record", tmp_path / "none", data, "--out", page))
    assert not page.exists()
    assert run("record", model, data, "--out", page, "--fill").exit_code == 0


def test_explain(trained_once: Path) -> None:
    result = run("explain", trained_once / "out")
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert said.startswith("The model forecasts temp from 3 rows; the features of x are made of")
    assert "temp, rain, sky, time of year. LSTM(7, 4, batch_first=True)" in said
    assert "(1, 3, 7)" in said
    said = run("explain", trained_once / "out", "--batch", 5, "--steps", 9).stdout
    assert "(5, 9, 7)" in said


def test_draw_and_equations(trained_once: Path, tmp_path: Path) -> None:
    out = tmp_path / "weights.svg"
    options = ("--view", "parameters", "--compare", "rnn", "--out", out)
    result = run("draw", trained_once / "out/model", *options)
    assert result.exit_code == 0, result.output
    picture = out.read_text(encoding="utf-8")
    assert "LSTM(7, 4, batch_first=True): 208 parameters" in picture
    assert "RNN(7, 4): 52 parameters" in picture
    assert "4×7" in run("equations", trained_once / "out").stdout


def test_a_name_of_both(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that holds a model comes before a kind of layer, and that before any other."""
    monkeypatch.chdir(trained)
    sizes = ("--input", 3, "--hidden", 2)
    (trained / "gru").mkdir()
    (trained / "out").rename(trained / "lstm")
    assert "The model forecasts temp" in run("explain", "lstm").stdout
    assert "--input: goes with a kind" in complaint(run("explain", "lstm", *sizes))
    assert run("explain", "LSTM", *sizes).stdout.startswith("LSTM(3, 2)")
    assert run("explain", "gru", *sizes).stdout.startswith("GRU(3, 2)")
    assert "'gru/', which holds none" in complaint(run("explain", "gru/"))
    (trained / "other").mkdir()
    assert "'other', which holds none" in complaint(run("explain", "other"))


@pytest.mark.parametrize("command", ["explain", "record"])
def test_without_the_extra(
    trained_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("openrnn.extras.find_spec", lambda name: None)
    more = ("a.csv", "--out", tmp_path / "a.html") if command == "record" else ()
    line = complaint(run(command, trained_once / "out", *more))
    assert 'pandas, safetensors, not installed here; run: pip install "openrnn[train]"' in line
