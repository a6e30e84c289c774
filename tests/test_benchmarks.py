"""The benchmark measures what it says, and prints no ratio of two that disagree."""

from __future__ import annotations

import subprocess
import sys
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from benchmarks import (
    accuracy,
    ao_peer,
    custom,
    flax_peer,
    int8,
    int8_accuracy,
    layers,
    onnx_peer,
    packed,
    reset,
    stream,
    targets,
)
from benchmarks.agreement import agree, results
from benchmarks.run import Plan
from benchmarks.shapes import LAYERS, Shape
from benchmarks.timing import QUICK, Effort, medians
from rich.console import Console

ROOT = Path(__file__).parents[1]
SMALL = {"one": Shape(4, 3, 5, 6), "two": Shape(4, 3, 5, 6, layers=2, directions=2)}


def test_the_command_writes_all_tables(tmp_path: Path) -> None:
    page = tmp_path / "bench.md"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--out", str(page)]
    command += ["--only", "LSTM", "--only", "PeepholeLSTMCell"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    text = page.read_text()
    headings = [line[3:].split()[0] for line in text.splitlines() if line.startswith("## ")]
    assert headings[:6] == ["openrnn", "Custom", "LSTM", "LSTM", "One", "Inference"]
    assert headings[6:] == ["Error", "Memory", "Targets"]
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| LSTM | seed |")]
    assert len(rows) == 4 + 2 + 2  # two modes with 1 and 2 threads; int8; error and memory
    assert all(float(row[-2]) > 0 for row in rows[:4])
    assert "differs" not in text
    assert "GFLOP/s" in text


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("shape", SMALL)
@pytest.mark.parametrize("threads", [1, 2])
def test_onnx_computes_the_same(layer: str, shape: str, threads: int) -> None:
    if not onnx_peer.available():
        pytest.skip("onnx and onnxruntime are not installed")
    module, x = _torch_layer(layer, shape)
    output = onnx_peer.contender(layer, module, x, threads)()
    assert agree(output, results(module, x, "inference"))


@pytest.mark.parametrize("shape", SMALL)
def test_flax_computes_the_same(shape: str) -> None:
    if not flax_peer.available():
        pytest.skip("jax and flax are not installed")
    module, x = _torch_layer("LSTM", shape)
    assert agree(flax_peer.contender(module, x)(), results(module, x, "inference"))


def _torch_layer(layer: str, shape: str) -> tuple[torch.nn.RNNBase, torch.Tensor]:
    size = SMALL[shape]
    module = size.layer(torch.nn, layer)
    assert isinstance(module, torch.nn.RNNBase)
    return module, torch.randn(size.steps, size.batch, size.inputs)


def test_without_other_libraries_their_columns_are_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    for peer in (onnx_peer, flax_peer):
        monkeypatch.setattr(peer, "available", lambda: False)
    row = layers.compare("LSTM", "seed", "inference", 1, QUICK, peak=100)
    table = layers.table([row])
    assert table.rows[0][table.columns.index("ONNX Runtime ms")] == "-"
    assert any("[bench]" in note for note in table.notes)


def test_no_ratio_of_other_results(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in (layers, packed):
        monkeypatch.setattr(part, "openrnn", SimpleNamespace(LSTM=Wrong))
    measured = targets.Measured(packed=[packed.compare("seed", 1, QUICK)])
    for mode in ("training", "inference"):
        row = layers.compare("LSTM", "seed", mode, 1, QUICK, peak=100)
        measured.layers.append(row)
        assert row.ratio is row.ratio_to_best is row.of_peak is None
        assert row.cells()[5] == row.cells()[-2] == "differs"
    assert measured.packed[0].cells()[-2:] == ("differs", "differs")
    assert measured.differing()
    reached = {line[0]: line for line in targets.table(measured).rows}
    for target in ("LSTM inference, each", "packed LSTM training, each"):
        assert reached[target][-2:] == ("differs", "no")
    assert targets.means(measured.layers) == []


class Wrong(torch.nn.LSTM):
    """Wrong by one part in a hundred."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        output, final = super().forward(input, hx)
        if isinstance(output, torch.Tensor):
            return 1.01 * output, final
        return output._replace(data=1.01 * output.data), final


def test_custom_cells_draw_the_same_masks() -> None:
    row = custom.compare("ZoneoutGRUCell", "seed", 1, QUICK)
    assert row.ms is not None
    assert row.ms.keys() == {"auto", "eager", "LSTM"}


def test_an_error_is_in_units_of_the_peers() -> None:
    row = accuracy.compare("LSTM", "seed")
    assert row.where == "output" or row.where.startswith("gradient of ")
    assert 0 < row.together <= row.largest


@pytest.mark.parametrize("layer", LAYERS)
def test_a_stream_is_compared_with_all_that_are_there(layer: str) -> None:
    row = stream.compare(layer, "stream", 1, QUICK)
    assert not row.differing
    peers = {stream.OURS, stream.TORCH} | {onnx_peer.NAME for _ in "1" if onnx_peer.available()}
    assert row.median.keys() == row.slowest.keys() == peers


@pytest.mark.parametrize("layer", int8.INT8_LAYERS)
@pytest.mark.parametrize("shape", ["seed", "stream"])
def test_int8_is_compared_with_all_that_are_there(layer: str, shape: str) -> None:
    row = int8.compare(layer, shape, 1, QUICK)
    peers = {int8.OURS, int8.FLOAT, ao_peer.NAME}
    if layer == "LSTM" and onnx_peer.available():
        peers.add(onnx_peer.NAME)
    assert row.ms.keys() == row.errors.keys() == peers
    assert row.errors[int8.FLOAT] < 1e-5 < row.errors[int8.OURS] < int8.MOST
    assert row.ratio_to(int8.FLOAT) == row.ms[int8.FLOAT] / row.ms[int8.OURS]


def test_an_error_that_8_bits_do_not_explain_has_no_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = int8.openrnn.quantize

    def worse(layer: Any) -> torch.nn.Module:
        small = plain(layer)
        small.weight_hh_scale_l0 *= 1.5
        return small

    monkeypatch.setattr(int8.openrnn, "quantize", worse)
    row = int8.compare("LSTM", "seed", 1, QUICK)
    assert row.differing == {int8.OURS}
    assert row.ratio_to(int8.FLOAT) is row.ratio_to(*int8.PEERS) is None
    assert row.cells()[4] == "differs"
    assert targets.Measured(int8=[row]).differing()


def test_resets_are_compared_with_a_loop_that_computes_the_same() -> None:
    row = reset.compare("seed", 1, QUICK)
    assert row.ms is not None
    assert row.ms.keys() == {"reset", "none", "loop"}


def test_medians_alternate() -> None:
    calls: list[str] = []
    contenders = {name: lambda name=name: calls.append(name) for name in "ab"}
    assert medians(contenders, Effort(seconds=0, turn=0)).keys() == {"a", "b"}
    assert "".join(calls) == "ab ba ab ba ab".replace(" ", "")


def test_flops_are_those_of_the_products() -> None:
    assert Shape(10, 2, 3, 5).flops("LSTM", "inference") == 2 * 10 * 2 * 4 * 5 * (3 + 5)
    both = Shape(10, 2, 3, 5, layers=2, directions=2)
    once = 2 * 2 * 10 * 2 * 3 * 5 * ((3 + 5) + (10 + 5))
    assert both.flops("GRU", "inference") == once
    assert both.flops("GRU", "training") == 3 * once


def test_only_all_of_it_is_complete() -> None:
    assert Plan().complete
    parts = (Plan(names=("LSTM",)), Plan(shapes=("seed",)), Plan(threads=(1,)), Plan(quick=True))
    assert not any(plan.complete for plan in parts)


def test_tables_fit_into_a_terminal() -> None:
    """No word is cut, with the longest names and the largest figures."""
    ms = dict.fromkeys((layers.OURS, *layers.PEERS, "auto", "eager", "LSTM", "ours", "torch"), 9e3)
    ms |= dict.fromkeys(("padded", "lengths", "reset", "none", "loop"), 9e3)
    latency = dict.fromkeys((stream.OURS, *stream.PEERS), 9e4)
    of_int8, figures = dict.fromkeys((int8.OURS, int8.FLOAT, *int8.PEERS), 9e3), (99.0,) * 3
    row = layers.Row("LSTM", "bidirectional", "inference", 2, ms, frozenset(), 1)
    error = accuracy.Row("LSTM", "bidirectional", 1, "gradient of weight_ih_l0_reverse", 1)
    tables = [
        layers.table([row]),
        custom.table([custom.Row("LayerNormLSTMCell", "series", 2, ms)]),
        packed.table([packed.Row("series", 2, 0.5, ms)]),
        reset.table([reset.Row("series", 2, ms)]),
        stream.table([stream.Row("LSTM", "stream", 2, latency, latency, frozenset())]),
        int8.table([int8.Row("LSTM", "hydrology", 2, of_int8, dict.fromkeys(of_int8, 0.01))]),
        int8_accuracy.table(
            [int8_accuracy.Row("forecast of temp_max", "MAE in test, °C", *figures)]
        ),
        accuracy.table([error]),
        targets.table(targets.Measured(layers=[row], accuracy=[error])),
    ]
    for table in tables:
        console = Console(width=80, file=StringIO())
        with console.capture() as capture:
            table.show(console)
        hidden = [table.columns.index(name) for name in table.page_only]
        shown = [cell for row in table.rows for i, cell in enumerate(row) if i not in hidden]
        text = capture.get()
        assert set(" ".join(shown).split()) <= set(text.split()), text
        assert max(map(len, text.splitlines())) <= 80
