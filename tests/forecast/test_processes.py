"""Several processes, which Lightning starts: they share the work, and one of them writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openrnn.forecast.checkpoints import Checkpoints, read_progress
from openrnn.forecast.ranks import is_first_process
from tests.forecast.helpers import QUICK, complaint, forecast, weather, write_csv

TWO = ("--accelerator", "cpu", "--devices", "2")
LONG = ("--epochs", "100000", "--patience", "100000")


def start(data: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """A run of two processes, of which this is the first."""
    command = [sys.executable, "-m", "openrnn.cli", "forecast", str(data), "--target", "temp"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *QUICK, "--out", str(out), *TWO, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What both processes have printed."""
    try:
        return process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()


def epochs(out: Path) -> int:
    checkpoints = Checkpoints(out / "checkpoints")
    return read_progress(checkpoints).epochs if checkpoints.exist() else 0


def wait_for_epochs(process: subprocess.Popen[str], out: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while epochs(out) < count:
        assert process.poll() is None, end(process)
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    """Each takes half of each batch, 40 windows in all, and of the 15 windows to validate with."""
    data = write_csv(tmp_path / "weather.csv", weather(73))
    process = start(data, tmp_path / "two", "--batch-size", "16")
    stdout, stderr = end(process)
    assert process.returncode == 0, stderr
    assert stdout.count("weather.csv: 73 rows") == 1
    assert stdout.count("persistence (no change)") == 1
    assert not stderr
    assert not list((tmp_path / "two").rglob(".*"))
    assert forecast(data, tmp_path / "one", "--batch-size", "32").exit_code == 0
    two, one = (
        json.loads((tmp_path / out / "metrics.json").read_text(encoding="utf-8"))
        for out in ("two", "one")
    )
    assert one["training"]["epochs"] == two["training"]["epochs"] == 2
    assert two["training"] == pytest.approx(one["training"], rel=1e-5)
    assert two["overall"]["model"] == pytest.approx(one["overall"]["model"], rel=1e-5)


def test_a_killed_process_is_told_of_and_the_run_goes_on(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = start(data, out, *LONG)
    wait_for_epochs(first, out, 1)
    second = subprocess.run(["pgrep", "-P", str(first.pid)], capture_output=True, check=True)
    os.kill(int(second.stdout), signal.SIGKILL)
    _, stderr = end(first)
    assert first.returncode == 2
    (line,) = stderr.splitlines()
    assert "expected 2 processes to the end, but process 1 ended with SIGKILL" in line
    assert "--resume" in line

    done = epochs(out)
    first = start(data, out, *LONG, "--resume")
    wait_for_epochs(first, out, done + 1)
    first.kill()
    stdout, stderr = end(first)  # the second one's pipes are closed when it has ended
    assert f"going on after epoch {done}" in stdout
    (line,) = stderr.splitlines()
    assert "expected 2 processes to the end, but another one ended" in line

    done = epochs(out)
    result = forecast(data, out, "--epochs", done + 1, "--patience", "100000", "--resume")
    assert result.exit_code == 0, result.output
    figures = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["training"]
    assert figures["epochs"] == done + 1


def test_more_processes_than_windows_to_validate_with(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("openrnn.forecast.job.train")  # else it would start as many
    line = complaint(forecast(data, tmp_path / "out", "--accelerator", "cpu", "--devices", 13))
    assert "--devices 13 --num-nodes 1: expected at most as many processes" in line
    assert "validation part, 12, received 13" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_ranks(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for each in ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(each, raising=False)
    assert is_first_process()
    monkeypatch.setenv(name, "0")
    assert is_first_process()
    monkeypatch.setenv(name, "1")
    assert not is_first_process()
