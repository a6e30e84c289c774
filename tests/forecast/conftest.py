"""One trained run that tests read from, or copy before they damage it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.forecast.helpers import forecast, weather, write_csv


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "weather.csv", weather())


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `weather.csv` and the run `out` on it."""
    directory = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    source = write_csv(directory / "weather.csv", weather())
    result = forecast(source, directory / "out", "--unit", "°C", "--horizon", "2")
    assert result.exit_code == 0, result.output
    return directory


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """A copy of `trained_once` for one test."""
    return Path(shutil.copytree(trained_once, tmp_path / "trained"))
