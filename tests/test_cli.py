"""The command line itself, on kinds of layers; jobs and models are tested in tests/forecast."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

import openrnn
from openrnn import cells
from openrnn.cli import main
from openrnn.cli.kinds import Sizes, build, is_kind
from openrnn.explain.parts import read

# The commands, in the order of the help, and what each is given.
COMMANDS = {
    "forecast": "DATA.csv",
    "predict": "MODEL DATA.csv",
    "explain": "LAYER",
    "equations": "LAYER",
    "draw": "LAYER",
    "record": "MODEL DATA.csv",
    "export": "MODEL DIR",
    "cells": "",
}
SIZES = ("--input", "30", "--hidden", "20")


def test_version() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert result.stdout == f"openrnn {openrnn.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    listed = [line.split()[0] for line in result.stdout.split("Commands:")[1].splitlines() if line]
    assert listed == [*COMMANDS]
    assert "..." not in result.stdout.split("Commands:")[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert COMMANDS[command] in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize("command", ["forecast", "draw"])
def test_help_imports_nothing_heavy(command: str) -> None:
    code = (
        "import sys, openrnn, openrnn.cli\n"
        f"try: openrnn.cli.main(['{command}', '--help'])\n"
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


# --- layers by their names -----------------------------------------------------------------------


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def shown(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_explain_a_layer() -> None:
    text = shown("explain", "lstm", *SIZES, "--layers", "2", "--bidirectional")
    assert text.startswith("LSTM(30, 20, num_layers=2, bidirectional=True)\n")
    assert "(T, B, 40)" in text
    text = shown("explain", "lstm", *SIZES, "--steps", "12", "--batch", "3")
    assert "(12, 3, 30)" in text
    text = shown("explain", "gru", *SIZES, "--steps", 12, "--batch", 3, "--batch-first")
    assert "(3, 12, 30)" in text
    assert "(4, 30)" in shown("explain", "LSTMCell", *SIZES, "--batch", 4)
    assert "(T, B, 5)" in shown("explain", "lstm", *SIZES, "--proj", 5)
    assert "void" in shown("explain", "rnn", *SIZES, "--source")


@pytest.mark.parametrize("name", [name for name in cells.__all__ if name != "Cell"])
def test_every_cell_is_a_layer_and_a_step(name: str) -> None:
    sizes = Sizes(6, 4, num_layers=2, bidirectional=True, batch_first=True)
    assert isinstance(build(name, Sizes(6, 4)), getattr(cells, name))
    layer = build(name.removesuffix("Cell").upper(), sizes)
    network = read(layer)
    assert network.batch_first
    assert [len(level.lanes) for level in network.levels] == [2, 2]
    assert [level.input_size for level in network.levels] == [6, network.levels[0].output_size]
    assert is_kind(name)
    assert is_kind(name.removesuffix("Cell").lower())


def test_the_names_of_torch_are_its_layers() -> None:
    for name in ("RNN", "LSTM", "GRU"):
        assert type(build(name.lower(), Sizes(6, 4))) is getattr(openrnn, name)
    assert isinstance(build("peephole-lstm", Sizes(6, 4)).cell, cells.PeepholeLSTMCell)
    assert build("lstmp", Sizes(6, 4, proj_size=3)).cell.proj_size == 3


def test_equations(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown("equations", "gru", *SIZES)
    assert "r_t = σ(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)" in text
    assert "δh_t" in shown("equations", "gru", *SIZES, "--backward")
    assert shown("equations", "gru", *SIZES, "--latex").startswith(r"\begin{aligned}")
    monkeypatch.setenv("COLUMNS", "50")
    narrow = shown("equations", "peepholelstmcell", *SIZES).splitlines()
    assert max(map(len, narrow)) <= 50
    assert any(line.lstrip().startswith("+ ") for line in narrow)


def test_draw(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "new" / "lstm.svg"
    text = shown("draw", "lstm", *SIZES, "--view", "cell", "--out", out)
    assert text == f"Written   {out}\n"
    light = out.read_text(encoding="utf-8")
    assert "tanh" in light
    line = complaint(run("draw", "lstm", *SIZES, "--out", out))
    assert "there already; give another --out, or --overwrite" in line
    assert out.read_text(encoding="utf-8") == light
    shown("draw", "lstm", *SIZES, "--view", "cell", "--out", out, "--overwrite", "--dark")
    assert "#0d1117" in out.read_text(encoding="utf-8")
    out = tmp_path / "weights.svg"
    shown("draw", "lstm", *SIZES, "--view", "parameters", "--compare", "mgu", "--out", out)
    assert ": 2,080 parameters" in out.read_text(encoding="utf-8")


OUT = ("--out", "picture.svg")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("explain", "lst", *SIZES), ["rnn, lstm, gru, a cell", "did you mean 'lstm'"]),
        (
            ("explain", "arima", *SIZES),
            ["the directory of a model, received 'arima'; `openrnn cells`"],
        ),
        (("explain", "./lstm", *SIZES), ["received './lstm', which holds none"]),
        (("explain", "lstm"), ["both its sizes, received none", "--input 30 --hidden 20"]),
        (("explain", "lstm", "--input", "3"), ["received one of them"]),
        (("explain", "lstm", "--input", "0"), ["'--input'", "from 1, received '0'"]),
        (("explain", "lstmcell", *SIZES, "--layers", "2"), ["one step; give lstm"]),
        (("explain", "lstmcell", *SIZES, "--steps", "2"), ["--steps: goes with a layer"]),
        (("explain", "lstm", *SIZES, "--steps", "2"), ["--steps: goes with --batch"]),
        (("equations", "gru", *SIZES, "--proj", "2"), ["--proj: goes with lstm and lstmp"]),
        (("equations", "lstm", *SIZES, "--proj", "20"), ["below the 20 of --hidden"]),
        (("draw", "lstm", *SIZES), ["Missing option '--out'"]),
        (("draw", "lstm", *SIZES, *OUT, "--view", "loop"), ["'sequence', 'cell'", "'loop'"]),
        (("draw", "lstm", *SIZES, *OUT, "--compare", "rnn"), ["goes with --view parameters"]),
        (
            ("draw", "lstm", *SIZES, *OUT, "--view", "parameters", "--compare", "aru"),
            ["--compare: expected rnn", "did you mean 'gru'"],
        ),
        (("draw", "lstm", *SIZES, "--out", "a.pdf"), [".svg or .png", "--out a.svg"]),
        (("draw", "lstm", *SIZES, "--out", "file/a.svg"), ["--out: expected a directory"]),
        (("draw", "lstm", *SIZES, "--out", "folder.svg"), ["received the directory"]),
    ],
)
def test_what_is_wrong(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    expected: list[str],
) -> None:
    """One line, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder.svg").mkdir()
    line = complaint(run(*arguments))
    for each in (f"openrnn {arguments[0]}: ", *expected):
        assert each in line
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder.svg"]


def test_a_layer_larger_than_the_memory_is_explained() -> None:
    text = shown("explain", "gru", "--input", "1", "--hidden", 10**5)
    assert "weight_hh_l0 (300000, 100000)" in text


def test_too_large_for_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openrnn.forecast.extras.require_loading", lambda _: torch.empty(10**15))
    line = complaint(run("predict", "model", "data.csv"))
    assert "not enough memory for such sizes" in line


def test_other_errors_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("openrnn.forecast.extras.require_training", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        CliRunner().invoke(main, ["forecast", "data.csv", "--target", "x"], catch_exceptions=False)


def complaint(result: Result) -> str:
    """The only line on stderr of a command that failed as it should."""
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert not result.stdout
    return line
