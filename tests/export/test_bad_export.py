"""What cannot be exported says so by name, and nothing is written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import openrnn
from openrnn.errors import ArgumentError, ArgumentTypeError, CellError, OpenRNNError


class Dice(nn.Module):
    """A cell that draws random numbers in evaluation, too."""

    hidden_size = input_size = 3

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return h + torch.rand_like(x)


class Branches(nn.Module):
    """A cell that looks at a value."""

    hidden_size = input_size = 3

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return x if h.sum() > 0 else h


class Unknown(nn.Module):
    """A cell that does not say how many features x has."""

    hidden_size = 3

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return h + x.sum(-1, keepdim=True)


CASES: dict[str, tuple[Any, type[OpenRNNError], list[str]]] = {
    "no layer": (nn.Linear(3, 3), ArgumentTypeError, ["export_c: expected a layer", "Linear"]),
    "no module": ("lstm", ArgumentTypeError, ["export_c: expected a layer", "str"]),
    "both directions": (
        openrnn.GRU(3, 3, bidirectional=True),
        ArgumentTypeError,
        ["GRU(3, 3, bidirectional=True)", "layer 0 backward", "a forward direction alone"],
    ),
    "torch, both directions": (
        nn.LSTM(3, 3, 2, bidirectional=True),
        ArgumentTypeError,
        ["LSTM(3, 3, num_layers=2, bidirectional=True)", "from the last step to the first"],
    ),
    "backward": (
        openrnn.Recurrent(openrnn.GRUCell(3, 3), reverse=True),
        ArgumentTypeError,
        ["reverse=True), which runs", "from the last step to the first"],
    ),
    "random": (
        openrnn.Stack([openrnn.RNNCell(3, 3), Dice()]),
        CellError,
        ["received Dice (in layer 1)", "random numbers in evaluation"],
    ),
    "cannot be read": (Branches(), CellError, ["received Branches: ", "test_bad_export.py"]),
    "half": (openrnn.LSTM(3, 3).half(), CellError, ["torch.float16", "layer.float()"]),
    "several dtypes": (
        openrnn.Stack([openrnn.RNNCell(3, 3), openrnn.RNNCell(3, 3).double()]),
        CellError,
        ["float32", "float64"],
    ),
    "no numbers": (openrnn.LSTM(3, 3, device="meta"), CellError, ["on the meta device"]),
    "features unknown": (Unknown(), ArgumentError, ["export_c(layer, input_size=30)"]),
}  # fmt: skip


@pytest.mark.refused("a stream that runs backward")
@pytest.mark.refused("random numbers in evaluation")
@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_exported(tmp_path: Path, case: str) -> None:
    layer, kind, expected = CASES[case]
    with pytest.raises(kind) as caught:
        openrnn.export_c(layer, tmp_path / "new")
    assert [text for text in expected if text not in str(caught.value)] == [], caught.value
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["", "3d", "a-b", "a b", "_x", "über", "a/b", "../up"])
def test_a_name_that_c_does_not_take(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArgumentError, match=r"expected a name that C takes.*name='model'"):
        openrnn.export_c(openrnn.RNN(2, 2), tmp_path, name)
    assert not [*tmp_path.iterdir()]
    with pytest.raises(ArgumentTypeError, match="name of type str, received int"):
        openrnn.export_c(openrnn.RNN(2, 2), tmp_path, 3)  # type: ignore[arg-type]


def test_files_that_are_there(tmp_path: Path) -> None:
    rnn = openrnn.RNN(2, 2)
    (tmp_path / "model.h").write_text("mine")
    with pytest.raises(ArgumentError, match=r"model\.h is already.*overwrite=True"):
        openrnn.export_c(rnn, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.h"]
    assert (tmp_path / "model.h").read_text() == "mine"
    files = openrnn.export_c(rnn, str(tmp_path), overwrite=True)
    assert sorted(tmp_path.iterdir()) == [files.source, files.header]
    (tmp_path / "other.c").mkdir()
    with pytest.raises(ArgumentError, match=r"other\.c is already"):
        openrnn.export_c(rnn, tmp_path, "other", overwrite=True)


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ArgumentError, match="expected a directory that can be written to"):
            openrnn.export_c(openrnn.RNN(2, 2), place)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_both_files_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        openrnn.export_c(openrnn.RNN(2, 2), tmp_path)
    assert not [*tmp_path.iterdir()]
