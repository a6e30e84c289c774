"""What a model learns from must not know of what it is tested on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openrnn.errors import DataError
from openrnn.forecast.columns import Column
from openrnn.forecast.data import load_data
from openrnn.forecast.features import OneHot, Scale, calendar_of, fit_encoder
from openrnn.forecast.split import Part, split_by_time
from openrnn.forecast.steps import Step
from openrnn.forecast.windows import make_windows, origins
from tests.forecast.helpers import weather, write_csv


def column(name: str, values: Any, kind: Any = "number") -> Column:
    array: Any = np.asarray(values, dtype=np.float64 if kind == "number" else np.object_)
    return Column(name, kind, array, np.ones(len(array), dtype=np.bool_))


def test_the_example_is_tested_on_2015() -> None:
    path = Path(__file__).parents[2] / "examples/data/seattle-weather.csv"
    data = load_data(path, "temp_max")
    split = split_by_time(data.rows, test=0.25, validation=0.15, window=12, horizon=1)
    assert split.test.rows == 365
    assert data.dates.index[split.test.start] == pd.Timestamp("2015-01-01")
    assert data.dates.index[split.test.stop - 1] == pd.Timestamp("2015-12-31")


fractions = st.floats(0.05, 0.45)


@given(st.integers(1, 500), fractions, fractions, st.integers(1, 20), st.integers(1, 5))
def test_parts_follow_each_other(
    rows: int, test: float, validation: float, window: int, horizon: int
) -> None:
    asked = {"test": test, "validation": validation, "window": window, "horizon": horizon}
    try:
        split = split_by_time(rows, **asked)  # type: ignore[arg-type]
    except DataError as error:
        least = int(str(error).split("at least ")[1].split()[0])
        assert least > rows
        assert split_by_time(least, **asked)  # type: ignore[arg-type]
        return
    assert split.training.start == 0
    assert split.training.stop == split.validation.start
    assert split.validation.stop == split.test.start
    assert split.test.stop == rows
    observed = np.ones(rows, dtype=np.bool_)
    for part in split.parts:
        starts = origins(part, window, horizon, observed)
        targets = starts[:, None] + np.arange(1, horizon + 1)
        assert len(starts) > 0
        assert targets.min() >= part.start
        assert targets.max() == part.stop - 1
        assert starts.min() - window + 1 >= 0
    # Later parts miss no target: their windows look back into the part before.
    assert len(origins(split.test, window, horizon, observed)) == split.test.rows - horizon + 1


def test_scales_and_categories_know_the_training_part_only(tmp_path: Path) -> None:
    rows = weather()
    changed = [list(row) for row in rows]
    for row in changed[36:]:
        row[1], row[2], row[3] = "999", "-999", "hail"
    encoders = []
    for name, content in (("a.csv", rows), ("b.csv", changed)):
        data = load_data(write_csv(tmp_path / name, content), "temp")
        split = split_by_time(data.rows, test=0.2, validation=0.2, window=3, horizon=1)
        assert split.training.stop == 36
        encoders.append(fit_encoder(data.columns, split.training, "temp"))
    assert encoders[0] == encoders[1]
    temp, _, sky = encoders[0].columns
    values = np.array([float(row[1]) for row in rows[:36]])
    assert isinstance(temp, Scale)
    assert temp.mean == pytest.approx(values.mean())
    assert temp.std == pytest.approx(values.std())
    assert sky == OneHot("sky", ("fog", "rain", "sun"))


def test_an_unseen_category_is_all_zeros() -> None:
    encoder = fit_encoder(
        [column("x", [1, 2, 3, 4]), column("c", ["b", "a", "z", "a"], "category")],
        Part("training", 0, 2),
        "x",
    )
    dates = pd.date_range("2020-01-01", periods=4)
    encoded = encoder.encode(
        [column("c", ["b", "a", "z", "a"], "category"), column("x", [1, 2, 3, 4])], dates
    )
    assert encoder.width == 3
    assert encoder.target_index == 0
    assert encoded.tolist() == [[-1, 0, 1], [1, 1, 0], [3, 0, 0], [5, 1, 0]]


def test_a_constant_column_is_zeros() -> None:
    columns = [column("x", [5.1, 5.1, 5.1, 6.1])]
    encoder = fit_encoder(columns, Part("training", 0, 3), "x")
    encoded = encoder.encode(columns, pd.date_range("2020-01-01", periods=4))
    assert encoded[:, 0].tolist() == pytest.approx([0, 0, 0, 1], abs=1e-6)


def test_calendar() -> None:
    hour = Step("microsecond", 3_600_000_000)
    assert calendar_of(hour) == ("year", "day")
    assert calendar_of(Step("microsecond", 24 * hour.count)) == ("year",)
    assert calendar_of(Step("month", 1)) == ("year",)
    assert calendar_of(Step("month", 12)) == ()
    encoder = fit_encoder([column("x", [0, 1])], Part("training", 0, 2), "x", ("year", "day"))
    dates = pd.DatetimeIndex(["2021-01-01 06:00", "2021-07-02 12:00"])
    encoded = encoder.encode([column("x", [0, 1])], dates)
    assert encoded.shape == (2, 5)
    # A quarter of a day, and half a year, after their beginnings.
    assert encoded[0, 3:].tolist() == pytest.approx([1, 0], abs=1e-6)
    assert encoded[1, 1:3].tolist() == pytest.approx([0, -1], abs=1e-6)


def test_windows_are_the_rows_before_their_targets(data: Path) -> None:
    loaded = load_data(data, "temp")
    split = split_by_time(loaded.rows, test=0.2, validation=0.2, window=3, horizon=2)
    encoder = fit_encoder(loaded.columns, split.training, "temp")
    features = encoder.encode(loaded.columns, loaded.dates.index)
    rows = origins(split.test, 3, 2, loaded.target_column.observed)
    windows = make_windows(features, encoder.target_index, rows, 3, 2)
    assert len(windows) == 11
    inputs, targets = windows[0]
    # The first date of the test part, 48 days in, is the first that is forecast.
    assert loaded.dates.index[48] == pd.Timestamp("2020-02-18")
    assert torch.equal(inputs, torch.from_numpy(features[45:48]))
    assert torch.equal(targets, torch.from_numpy(features[48:50, 0]))
    inputs, targets = windows[10]
    assert torch.equal(targets, torch.from_numpy(features[58:60, 0]))
    batch, _ = windows.__getitems__([3, 1])
    assert torch.equal(batch[1], windows[1][0])


def test_filled_targets_are_not_forecast() -> None:
    observed = np.ones(10, dtype=np.bool_)
    observed[6] = False
    assert origins(Part("test", 5, 10), 2, 1, observed).tolist() == [4, 6, 7, 8]
    assert origins(Part("test", 5, 10), 2, 2, observed).tolist() == [6, 7]
