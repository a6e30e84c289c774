"""From the text of a file to columns of values."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from openrnn.forecast.data import load_data
from openrnn.forecast.table import read_table
from tests.forecast.helpers import weather, write_csv


def test_columns_keep_their_order_and_kinds(data: Path) -> None:
    loaded = load_data(data, "temp")
    assert [(each.name, each.kind) for each in loaded.columns] == [
        ("temp", "number"),
        ("rain", "number"),
        ("sky", "category"),
    ]
    assert loaded.target_column.values[0] == 10.0
    assert loaded.rows == 60
    assert [each.name for each in load_data(data, "temp", ignore=["rain"]).columns] == [
        "temp",
        "sky",
    ]


def test_fill_takes_the_value_before(tmp_path: Path) -> None:
    rows = weather()
    rows[3][1] = rows[4][1] = "NA"
    rows[6][3] = "null"
    loaded = load_data(write_csv(tmp_path / "a.csv", rows), "temp", fill=True)
    temp, _, sky = loaded.columns
    assert temp.values[3] == temp.values[4] == temp.values[2] == float(rows[2][1])
    assert temp.values[5] == float(rows[5][1])
    assert np.flatnonzero(~temp.observed).tolist() == [3, 4]
    assert sky.values[6] == rows[5][3]


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        b'\xef\xbb\xbfdate, x\r\n\r\n2020-01-01, 1\r\n2020-01-02,"2\n"\r\n2020-01-03,3\n'
    )
    table = read_table(path)
    assert table.columns == {
        "date": ["2020-01-01", "2020-01-02", "2020-01-03"],
        "x": ["1", "2", "3"],
    }
    assert table.lines == [3, 5, 6]


def test_a_column_without_a_name_gets_one(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "a.csv", weather(), ("", "temp", "rain", "sky"))
    loaded = load_data(data, "temp")
    assert loaded.dates.column == "column 1"
