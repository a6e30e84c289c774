"""`openrnn predict`, and model directories that are not whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from openrnn.forecast.predict import predict
from tests.forecast.helpers import HEADER, complaint, run, weather, write_csv


def test_next_dates(trained_once: Path, tmp_path: Path) -> None:
    out = tmp_path / "new/next.csv"
    data = trained_once / "weather.csv"
    result = run("predict", trained_once / "out/model", data, "--out", out)
    assert result.exit_code == 0, result.output
    for text in ("temp after 2020-02-29", "temp (°C)", "2020-03-01", "2020-03-02", "next.csv"):
        assert text in result.stdout
    frame = pd.read_csv(out)
    assert frame["date"].tolist() == ["2020-03-01", "2020-03-02"]
    prediction = predict(trained_once / "out/model", data)
    assert frame["temp"].tolist() == pytest.approx(prediction.values.tolist(), rel=1e-4)


def test_it_is_the_model_that_was_tested(trained_once: Path, tmp_path: Path) -> None:
    """From a file that ends in the test part it forecasts what forecast.csv says."""
    tested = pd.read_csv(trained_once / "out/forecast.csv")
    for last in ("2020-02-17", "2020-02-20"):
        rows = [row for row in weather() if row[0] <= last]
        prediction = predict(trained_once / "out", write_csv(tmp_path / "a.csv", rows))
        expected = tested[tested["last_known_date"] == last]
        assert [str(each.date()) for each in prediction.dates] == expected["date"].tolist()
        np.testing.assert_allclose(prediction.values, expected["forecast"], rtol=1e-4)


def test_only_the_window_matters(trained_once: Path, tmp_path: Path) -> None:
    model = trained_once / "out/model"
    expected = predict(model, trained_once / "weather.csv").values
    rows = weather()
    rows[2][1] = "unknown"
    rows[3][2] = ""
    columns = [3, 1, 0, 2]  # in another order, and with one more
    mixed = [[*(row[i] for i in columns), "x"] for row in rows]
    header = [*(HEADER[i] for i in columns), "more"]
    data = write_csv(tmp_path / "a.csv", mixed, header)
    np.testing.assert_array_equal(predict(model, data).values, expected)
    data = write_csv(tmp_path / "b.csv", mixed[-3:], header)
    np.testing.assert_array_equal(predict(model, data).values, expected)


def test_fill(trained_once: Path, tmp_path: Path) -> None:
    rows = weather()
    rows[-1][2] = ""
    data = write_csv(tmp_path / "a.csv", rows)
    model = trained_once / "out/model"
    line = complaint(run("predict", model, data))
    assert "line 61 (2020-02-29)" in line
    assert "--fill" in line
    assert "--ignore" not in line
    assert run("predict", model, data, "--fill").exit_code == 0


@pytest.mark.parametrize(
    ("rows", "header", "expected"),
    [
        (weather(2), HEADER, ["at least 3 rows", "received 2"]),
        (
            [row[:3] for row in weather()],
            HEADER[:3],
            ["date, temp, rain, sky", "none named 'sky'"],
        ),
        (weather(), ("day", *HEADER[1:]), ["none named 'date'"]),
        ([[*row[:1], "cold", *row[2:]] for row in weather()], HEADER, ["'temp'", "'cold'"]),
        (weather()[::-1], HEADER, ["order of time"]),
        (weather()[::7], HEADER, ["one day apart", "one week apart"]),
    ],
)
def test_bad_data(
    trained_once: Path, tmp_path: Path, rows: Any, header: Any, expected: list[str]
) -> None:
    data = write_csv(tmp_path / "weather.csv", rows, header)
    line = complaint(run("predict", trained_once / "out/model", data))
    for each in ["openrnn predict: ", *expected]:
        assert each in line


def test_values_too_extreme(trained_once: Path, tmp_path: Path) -> None:
    rows = weather()
    rows[-1][1] = "1e300"
    data = write_csv(tmp_path / "weather.csv", rows)
    assert "so extreme" in complaint(run("predict", trained_once / "out/model", data))


def test_output_cannot_be_written(trained_once: Path, tmp_path: Path) -> None:
    model, data = trained_once / "out/model", trained_once / "weather.csv"
    (tmp_path / "file").write_text("")
    assert "the directory" in complaint(run("predict", model, data, "--out", tmp_path))
    line = complaint(run("predict", model, data, "--out", tmp_path / "file/next.csv"))
    assert "give another --out" in line


def change_config(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(model: Path) -> None:
        path = model / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        change(config)
        path.write_text(json.dumps(config), encoding="utf-8")

    return damage


def change_weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def damage(model: Path) -> None:
        path = model / "weights.safetensors"
        weights = load_file(path)
        change(weights)
        save_file(weights, path)

    return damage


def truncate(name: str, size: int) -> Callable[[Path], None]:
    def damage(model: Path) -> None:
        (model / name).write_bytes((model / name).read_bytes()[:size])

    return damage


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda model: (model / "config.json").unlink(), ["config.json", "No such file"]),
        (
            lambda model: (model / "weights.safetensors").unlink(),
            ["weights.safetensors", "no such"],
        ),
        (truncate("weights.safetensors", 500), ["weights.safetensors"]),
        (truncate("weights.safetensors", 0), ["weights.safetensors"]),
        (truncate("config.json", 100), ["config.json", "not JSON"]),
        (lambda model: (model / "config.json").write_bytes(b"\xff"), ["config.json"]),
        (lambda model: (model / "config.json").write_text("[]"), ["no format version"]),
        (change_config(lambda c: c.update(format=99)), ["format 1", "format 99", "train again"]),
        (change_config(lambda c: c.pop("format")), ["no format version"]),
        (change_config(lambda c: c.pop("columns")), ["'columns' is missing"]),
        (change_config(lambda c: c.update(window=0)), ["window"]),
        (change_config(lambda c: c.update(date=None)), ["date"]),
        (change_config(lambda c: c.update(target="snow")), ["config.json", "target"]),
        (change_config(lambda c: c.update(calendar=["week"])), ["calendar"]),
        (change_config(lambda c: c.update(calendar=[])), ["5 features for 7"]),
        (change_config(lambda c: c["columns"][0].update(std=0)), ["std"]),
        (change_config(lambda c: c["columns"][0].update(mean="x")), ["config.json"]),
        (change_config(lambda c: c["columns"][0].update(mean=float("nan"))), ["mean of 'temp'"]),
        (change_config(lambda c: c["columns"][0].update(kind="text")), ["'text'"]),
        (change_config(lambda c: c["columns"][0].pop("name")), ["'name' is missing"]),
        (change_config(lambda c: c["step"].update(unit="moon")), ["step"]),
        (change_config(lambda c: c["step"].update(count="x")), ["config.json"]),
        (change_config(lambda c: c["size"].update(cell="cnn")), ["size"]),
        (change_config(lambda c: c["size"].update(layers=-1)), ["size"]),
        (change_config(lambda c: c["size"].update(depth=1)), ["config.json"]),
        (
            change_config(lambda c: c["size"].update(hidden=10**7)),
            ["weights.safetensors", "'head.weight' is (2, 4)", "(2, 10000000)"],
        ),
        (change_config(lambda c: c["size"].update(horizon=1)), ["'head.bias' is (2,)", "(1,)"]),
        (change_weights(lambda w: w.pop("head.bias")), ["'head.bias' is not there"]),
        (change_weights(lambda w: w.update(x=torch.ones(1))), ["'x' is (1,)", "none"]),
        (
            change_weights(lambda w: w.update({"head.bias": torch.full((2,), torch.nan)})),
            ["'head.bias'", "not finite"],
        ),
    ],
)
def test_damaged_model(trained: Path, damage: Callable[[Path], None], expected: list[str]) -> None:
    model = trained / "out/model"
    damage(model)
    line = complaint(run("predict", model, trained / "weather.csv"))
    for each in ["openrnn predict: MODEL: ", *expected]:
        assert each in line


def test_no_model(trained_once: Path, tmp_path: Path) -> None:
    data = trained_once / "weather.csv"
    assert "no directory" in complaint(run("predict", tmp_path / "none", data))
    assert "no directory" in complaint(run("predict", data, data))
    assert "config.json" in complaint(run("predict", tmp_path, data))
