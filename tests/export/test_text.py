"""What stands in the files."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import openrnn
from openrnn import cells

_BIASES = ("bias_ih_l1", "bias_hh_l1")


def texts(layer: nn.Module, folder: Path, **options: Any) -> tuple[str, str]:
    files = openrnn.export_c(layer, folder, **options)
    return files.header.read_text(), files.source.read_text()


def numbers(source: str, name: str) -> torch.Tensor:
    """An array, as C reads it."""
    (text,) = re.findall(rf"{name}\[\d+\] = {{(.*?)}};", source, re.DOTALL)
    return torch.tensor([float(number) for number in text.replace("f", "").split(",")[:-1]])


def test_weights_are_the_very_same(tmp_path: Path) -> None:
    layer = openrnn.LSTM(3, 4, 2)
    with torch.no_grad():
        layer.weight_ih_l0[0] = torch.tensor([1e-45, -3.4e38, 1 / 3])
        layer.weight_ih_l0[1] = torch.tensor([-0.0, 16777216.0, 1e10])
    _, source = texts(layer, tmp_path)
    for name in ("weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1"):
        assert torch.equal(numbers(source, name), getattr(layer, name).flatten())
    assert numbers(source, "weight_ih_l0")[3].signbit()
    biases = (parameter for name, parameter in layer.named_parameters() if name in _BIASES)
    assert torch.equal(numbers(source, "bias_l1"), sum(biases, torch.zeros(16)))


def test_an_lstm_reads_like_its_equations(tmp_path: Path) -> None:
    header, source = texts(openrnn.LSTM(30, 20), tmp_path, name="lstm")
    assert "#define LSTM_INPUT_SIZE 30\n#define LSTM_OUTPUT_SIZE 20\n" in header
    assert "    float h[20]; /* LSTMCell(30, 20) */\n    float c[20];\n    float scratch" in header
    assert "/* (80, 30) */\nstatic const float weight_ih_l0[2400] = {\n" in source
    for line in (
        "const float i = sigmoid(sum[j]);",
        "const float c = f * last_c + i * g;",
        "state->h[j] = o * tanhf(c);",
    ):
        assert line in source
    assert "#include" not in source.replace("#include <math.h>", "").replace(
        '#include "lstm.h"', ""
    )
    assert "malloc" not in source


def test_sizes(tmp_path: Path) -> None:
    files = openrnn.export_c(openrnn.LSTM(30, 20), tmp_path)
    # Weights and one bias; h, c, and the sums of four gates.
    assert files.weight_bytes == 4 * 80 * (30 + 20 + 1)
    assert files.state_bytes == 4 * (20 + 20 + 80)
    double = openrnn.export_c(openrnn.LSTM(30, 20).double(), tmp_path, "double")
    assert (double.weight_bytes, double.state_bytes) == (2 * files.weight_bytes, 960)


def test_a_shared_cell_is_there_once(tmp_path: Path) -> None:
    cell = cells.RNNCell(4, 4)
    once = openrnn.export_c(openrnn.Stack([cell]), tmp_path, "once")
    twice = openrnn.export_c(openrnn.Stack([cell, cell]), tmp_path, "twice")
    assert twice.source.read_text().count("weight_hh[") == 1
    assert twice.weight_bytes < 2 * once.weight_bytes


@pytest.mark.parametrize("about", ["*/ int x; /*", "what??/", "one\n\ntwo\n"])
def test_a_comment_stays_one(tmp_path: Path, about: str) -> None:
    header, _ = texts(openrnn.RNN(2, 2), tmp_path, about=about)
    comment = header.partition("#ifndef")[0]
    assert comment.count("*/") == comment.count("/*") == 1
    assert "??" not in comment


def test_the_layer_stays_as_it_is(tmp_path: Path) -> None:
    drop_in = openrnn.LSTM(4, 4, zoneout=0.5)
    layer = openrnn.Stack([cells.WeightDropLSTMCell(3, 4, 0.5), nn.GRUCell(4, 4), drop_in])
    before = torch.random.get_rng_state()
    openrnn.export_c(layer, tmp_path)
    assert all(module.training for module in (*layer.modules(), *drop_in.stack.modules()))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_page_shows_what_is_written(tmp_path: Path) -> None:
    header, source = texts(openrnn.LSTM(30, 20), tmp_path, name="lstm")
    page = (Path(__file__).parents[2] / "docs" / "c.md").read_text(encoding="utf-8")
    interface, step = re.findall(r"```c\n(.*?)```", page, re.DOTALL)[:2]
    assert [line for line in interface.splitlines() if line not in header.splitlines()] == []
    assert textwrap.indent(step, "    ") in source
