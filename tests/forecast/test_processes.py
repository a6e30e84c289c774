"""Several processes, which Lightning starts: they share the work, and one of them writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from openrnn.forecast.ranks import is_first_process
from tests.forecast.helpers import QUICK


def test_two_processes(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "openrnn.cli", "forecast", str(data), "--target", "temp"]
    command += [*QUICK, "--out", str(out), "--accelerator", "cpu", "--devices", "2"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("weather.csv: 60 rows") == 1
    assert result.stdout.count("persistence (no change)") == 1
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["training"]["epochs"] == 2
    assert not list(out.rglob(".*"))


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_ranks(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for each in ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(each, raising=False)
    assert is_first_process()
    monkeypatch.setenv(name, "0")
    assert is_first_process()
    monkeypatch.setenv(name, "1")
    assert not is_first_process()
