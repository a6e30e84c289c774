"""`openrnn forecast` from a file to the files."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import openrnn
from tests.forecast.helpers import QUICK, complaint, forecast, run, weather, write_csv


def test_files_written(trained_once: Path) -> None:
    out = trained_once / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoints",
        "forecast.csv",
        "forecast.png",
        "metrics.json",
        "model",
        "run.json",
    ]
    assert sorted(path.name for path in (out / "model").iterdir()) == [
        "config.json",
        "weights.safetensors",
    ]
    assert (out / "forecast.png").read_bytes().startswith(b"\x89PNG")


def test_forecast_csv(trained_once: Path) -> None:
    frame = pd.read_csv(trained_once / "out/forecast.csv", parse_dates=["date", "last_known_date"])
    assert list(frame.columns) == [
        "date",
        "step",
        "last_known_date",
        "actual",
        "forecast",
        "persistence",
        "last_year",
    ]
    temp = {pd.Timestamp(row[0]): float(row[1]) for row in weather()}
    assert len(frame) == 11 * 2  # two steps ahead from 11 days, all inside the last 12
    assert frame["date"].min() == pd.Timestamp("2020-02-18")
    assert frame["date"].max() == pd.Timestamp("2020-02-29")
    assert (frame["date"] - frame["last_known_date"]).dt.days.tolist() == frame["step"].tolist()
    assert frame["actual"].tolist() == pytest.approx([temp[date] for date in frame["date"]])
    assert frame["persistence"].tolist() == pytest.approx(
        [temp[date] for date in frame["last_known_date"]]
    )
    assert frame["last_year"].isna().all()
    assert frame["forecast"].notna().all()


def test_metrics_are_those_of_forecast_csv(trained_once: Path) -> None:
    frame = pd.read_csv(trained_once / "out/forecast.csv")
    metrics = json.loads((trained_once / "out/metrics.json").read_text(encoding="utf-8"))
    assert metrics["unit"] == "°C"
    assert metrics["test"] == {
        "first_date": "2020-02-18T00:00:00",
        "last_date": "2020-02-29T00:00:00",
        "windows": 11,
    }
    parts = [(metrics["overall"], frame)]
    parts += [(each, frame[frame["step"] == each["step"]]) for each in metrics["by_step"]]
    assert len(parts) == 3
    for found, rows in parts:
        for method, name in (("model", "forecast"), ("persistence", "persistence")):
            error = (rows[name] - rows["actual"]).to_numpy()
            assert found[method]["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-4)
            assert found[method]["rmse"] == pytest.approx(math.sqrt((error**2).mean()), rel=1e-4)
            assert found[method]["count"] == len(rows)
        assert found["last_year"] is None
    assert metrics["training"]["epochs"] == 2


def test_weights_are_tensors_and_a_config(trained_once: Path) -> None:
    model = trained_once / "out/model"
    shapes = {k: tuple(v.shape) for k, v in load_file(model / "weights.safetensors").items()}
    assert shapes == {
        "rnn.weight_ih_l0": (16, 7),
        "rnn.weight_hh_l0": (16, 4),
        "rnn.bias_ih_l0": (16,),
        "rnn.bias_hh_l0": (16,),
        "head.weight": (2, 4),
        "head.bias": (2,),
    }
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    assert config["format"] == 1
    assert config["openrnn"] == openrnn.__version__
    assert config["window"] == 3
    assert config["columns"][2] == {
        "name": "sky",
        "kind": "category",
        "categories": ["fog", "rain", "sun"],
    }
    training = [float(row[1]) for row in weather()[:36]]
    assert config["columns"][0]["mean"] == pytest.approx(np.mean(training))


def test_checkpoints_hold_no_code(trained_once: Path) -> None:
    for name in ("best", "last"):
        path = trained_once / f"out/checkpoints/{name}.ckpt"
        assert torch.load(path, weights_only=True)["epoch"] in (0, 1)


def test_terminal(trained: Path) -> None:
    more = ("--unit", "°C", "--horizon", "2", "--overwrite")
    result = forecast(trained / "weather.csv", trained / "out", *more)
    assert result.exit_code == 0
    assert result.stderr == ""
    for text in (
        "weather.csv: 60 rows, 2020-01-01 to 2020-02-29, every day",
        "temp, rain, sky (3 kinds), time of year",
        "training        36 rows  2020-01-01 to 2020-02-05",
        "validation      12 rows  2020-02-06 to 2020-02-17",
        "test            12 rows  2020-02-18 to 2020-02-29",
        "Epoch 1/2: validation loss",
        "temp, test part 2020-02-18 to 2020-02-29, 1 to 2 steps ahead",
        "persistence (no change)",
        "(°C)",
        "By step ahead",
        "no same day last year",
        "metrics.json",
    ):
        assert text in result.stdout
    own = [line for line in result.stdout.splitlines() if str(trained) not in line]
    assert max(map(len, own)) <= 80
    for chatter in ("GPU available", "Tip", "lightning", "num_workers"):
        assert chatter not in result.output


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_other_cells(data: Path, tmp_path: Path, cell: str) -> None:
    result = forecast(data, tmp_path / "out", "--cell", cell, "--layers", "2", "--no-calendar")
    assert result.exit_code == 0, result.output
    assert cell.upper() in result.stdout
    assert run("predict", tmp_path / "out/model", data).exit_code == 0


def test_same_seed_same_result(data: Path, tmp_path: Path) -> None:
    results = []
    for number, seed in enumerate((3, 3, 4)):
        torch.manual_seed(number)  # what went before in the process must not matter
        out = tmp_path / str(number)
        assert forecast(data, out, "--seed", seed).exit_code == 0
        results.append((out / "forecast.csv").read_bytes())
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_gaps_and_fills_are_said(tmp_path: Path) -> None:
    rows = weather(70)
    del rows[40:42]
    del rows[10]
    rows[55][1] = rows[20][2] = ""
    data = write_csv(tmp_path / "weather.csv", rows)
    result = forecast(data, tmp_path / "out", "--fill")
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "there are 2 places where the next date is not one day later" in text
    assert "2 missing values were filled in from the row before" in text
    frame = pd.read_csv(tmp_path / "out/forecast.csv")
    assert rows[55][0] not in set(frame["date"])  # what was filled in is not measured against
    assert rows[56][0] in set(frame["date"])


def test_a_category_first_seen_in_the_test_part(tmp_path: Path) -> None:
    rows = weather()
    rows[55][3] = "hail"
    data = write_csv(tmp_path / "weather.csv", rows)
    assert forecast(data, tmp_path / "out").exit_code == 0


def test_last_year_on_some_rows(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "weather.csv", weather(400))
    out = tmp_path / "out"
    result = forecast(data, out, "--test", "0.2", "--epochs", "1")
    assert result.exit_code == 0, result.output
    # The rows reach back a year for the last 34 of 80.
    text = " ".join(result.stdout.split())
    assert "34 of 80 forecasts have a same day last year" in text
    overall = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["overall"]
    assert overall["last_year"]["count"] == overall["model_where_last_year"]["count"] == 34


def test_default_directory(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("forecast", data, "--target", "temp", *QUICK).exit_code == 0
    assert (tmp_path / "forecast-temp/metrics.json").is_file()


def test_the_same_command_replaces_its_results(trained: Path) -> None:
    out = trained / "out"
    before = (out / "forecast.csv").read_bytes()
    same = ("--unit", "°C", "--horizon", "2")
    assert forecast(trained / "weather.csv", out, *same, "--overwrite").exit_code == 0
    assert forecast(trained / "weather.csv", out, *same).exit_code == 0
    assert (out / "forecast.csv").read_bytes() == before
    assert not list(out.rglob(".*"))


def test_another_run_is_not_replaced_unasked(trained: Path) -> None:
    data, out = trained / "weather.csv", trained / "out"
    shutil.copy(data, trained / "other.csv")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    line = complaint(forecast(data, out, "--horizon", "1"))
    for text in ("other settings", "DATA", "--horizon 2 (now 1)", "--overwrite"):
        assert text in line
    assert "DATA" in complaint(forecast(trained / "other.csv", out, "--horizon", "2"))
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert forecast(data, out, "--horizon", "1", "--overwrite").exit_code == 0


def test_files_of_something_else_are_not_replaced_unasked(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert forecast(data, out).exit_code == 0
    assert (out / "notes.txt").read_text() == "mine"
    (out / "run.json").unlink()
    line = complaint(forecast(data, out))
    assert "of something else" in line
    assert "forecast.csv" in line
    (out / "run.json").write_text("{")
    assert "run.json" in complaint(forecast(data, out))
