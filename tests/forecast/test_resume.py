"""Stopping a run and going on with it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import Result

from openrnn.forecast.checkpoints import Checkpoints, read_progress
from tests.forecast.helpers import complaint, forecast, run, weather, write_csv


def test_resumed_is_as_if_never_stopped(data: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert forecast(data, whole, "--epochs", "5").exit_code == 0
    assert forecast(data, parts, "--epochs", "2").exit_code == 0
    result = forecast(data, parts, "--epochs", "5", "--resume")
    assert result.exit_code == 0, result.output
    assert "going on after epoch 2" in result.stdout
    assert (whole / "forecast.csv").read_bytes() == (parts / "forecast.csv").read_bytes()
    weights = "model/weights.safetensors"
    assert (whole / weights).read_bytes() == (parts / weights).read_bytes()


def test_nothing_is_left_to_train(trained: Path) -> None:
    out = trained / "out"
    before = (out / "forecast.csv").read_bytes()
    (out / "forecast.csv").unlink()
    result = forecast(trained / "weather.csv", out, "--unit", "F", "--horizon", "2", "--resume")
    assert result.exit_code == 0, result.output
    assert "already finished, after 2 epochs" in result.stdout
    assert (out / "forecast.csv").read_bytes() == before


def test_a_moved_directory_keeps_its_best_epoch(trained: Path) -> None:
    moved = (trained / "out").rename(trained / "moved")
    before = read_progress(Checkpoints(moved / "checkpoints")).best_loss
    more = ("--unit", "°C", "--horizon", "2", "--epochs", "4", "--resume")
    assert forecast(trained / "weather.csv", moved, *more).exit_code == 0
    figures = json.loads((moved / "metrics.json").read_text(encoding="utf-8"))["training"]
    assert figures["epochs"] == 4
    assert figures["validation_loss"] <= before
    assert not (trained / "out").exists()


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (("--hidden", "5"), ["--hidden 4 (now 5)", "settings"]),
        (("--seed", "7", "--cell", "gru"), ["--cell lstm (now gru)", "--seed 0 (now 7)"]),
        (("--fill",), ["--fill not given (now given)"]),
        (("--ignore", "rain"), ["--ignore not given (now rain)"]),
        (("--epochs", "1"), ["--epochs", "at least the 2 epochs", "received 1"]),
    ],
)
def test_other_settings(trained: Path, more: tuple[str, ...], expected: list[str]) -> None:
    data, out = trained / "weather.csv", trained / "out"
    line = complaint(forecast(data, out, "--horizon", "2", "--resume", *more))
    for each in expected:
        assert each in line


def test_other_data(trained: Path) -> None:
    data, out = trained / "weather.csv", trained / "out"
    write_csv(data, weather(61))
    line = complaint(forecast(data, out, "--horizon", "2", "--resume"))
    assert "other content" in line


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_damaged_checkpoint(trained: Path, content: bytes | None) -> None:
    last = trained / "out/checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:5000] if content is None else content)
    line = complaint(
        forecast(trained / "weather.csv", trained / "out", "--horizon", "2", "--resume")
    )
    assert "last.ckpt" in line
    assert "--overwrite" in line


def test_interrupted_and_resumed(data: Path, tmp_path: Path) -> None:
    """With a real process and a real Ctrl-C."""
    out = tmp_path / "out put"
    options = ["--target", "temp", "--window", "3", "--hidden", "4", "--epochs", "100000"]
    options += ["--patience", "100000", "--out", str(out)]
    command = [sys.executable, "-m", "openrnn.cli", "forecast", str(data), *options]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        deadline = time.monotonic() + 60
        while not (out / "checkpoints/last.ckpt").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, (stdout, stderr)
    assert len(stderr.splitlines()) == 1, stderr
    assert "Traceback" not in stdout
    done = read_progress(Checkpoints(out / "checkpoints")).epochs
    assert f"epochs 1 to {done} are kept" in stderr
    again = shlex.split(stderr.split("Go on with: ")[1])
    assert again[again.index("forecast") :] == ["forecast", str(data), *options, "--resume"]

    line = complaint(forecast_as(data, out, "--epochs", "100000"))
    assert "--resume" in line
    assert f"stopped after epoch {done} of 100000" in line

    more = str(done + 1)
    result = forecast_as(data, out, "--epochs", more, "--resume")
    assert result.exit_code == 0, result.output
    assert f"going on after epoch {done}" in result.stdout
    figures = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["training"]
    assert figures["epochs"] == done + 1


def forecast_as(data: Path, out: Path, *more: str) -> Result:
    """The same run as the interrupted one, in this process."""
    options = ("--window", "3", "--hidden", "4", "--patience", "100000")
    return run("forecast", data, "--target", "temp", *options, "--out", out, *more)


def test_interrupted_before_the_first_epoch(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("openrnn.forecast.job.train", stop)
    result = forecast(data, tmp_path / "out")
    assert result.exit_code == 130
    assert result.stderr.splitlines() == [
        "openrnn forecast: stopped before the first epoch was complete: there is nothing to resume"
    ]
