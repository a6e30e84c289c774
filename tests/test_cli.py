"""The command line itself; its jobs are tested in tests/forecast."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

import openrnn
from openrnn.cli import main


def test_version() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert result.stdout == f"openrnn {openrnn.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    assert "forecast" in result.stdout
    assert "predict" in result.stdout


@pytest.mark.parametrize("command", ["forecast", "predict"])
def test_help_of_a_command(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert "DATA.csv" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, openrnn, openrnn.cli\n"
        "try: openrnn.cli.main(['forecast', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'lightning', 'pandas', 'matplotlib', 'safetensors', 'rich'}\n"
        "sys.exit(str(sorted(heavy & set(sys.modules))) if heavy & set(sys.modules) else 0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_ctrl_c_outside_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("openrnn.forecast.extras.require_training", stop)
    result = CliRunner().invoke(main, ["forecast", "data.csv", "--target", "x"])
    assert result.exit_code == 130
    assert result.stderr.splitlines() == ["openrnn forecast: stopped; nothing was written"]


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device", "forecast.csv")

    monkeypatch.setattr("openrnn.forecast.extras.require_training", fail)
    result = CliRunner().invoke(main, ["forecast", "data.csv", "--target", "x"])
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "openrnn forecast: cannot read or write 'forecast.csv': No space left on device"
    ]
