"""`Recording.plot`: what is drawn, and what is refused."""

from __future__ import annotations

from importlib.util import find_spec
from io import BytesIO
from typing import Any

import pytest
import torch
from torch import nn

import openrnn
from openrnn import record
from openrnn.explain.recording import Recording
from openrnn.explain.views.colors import DARK

matplotlib_figure = pytest.importorskip("matplotlib.figure")
to_hex = pytest.importorskip("matplotlib.colors").to_hex


def titles(figure: Any) -> list[str]:
    """Of the heat maps that are there."""
    return [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]


def labels(figure: Any) -> list[str]:
    """Along the time axis of the last heat map."""
    figure.savefig(BytesIO())
    drawn = [axes for axes in figure.axes if axes.get_title(loc="left")]
    return [text.get_text() for text in drawn[-1].get_xticklabels()]


def lstm(**options: Any) -> Recording:
    return record(openrnn.LSTM(3, 20, **options), torch.randn(5, 2, 3))


def test_states_and_gates_are_drawn() -> None:
    recording = lstm()
    figure = recording.plot()
    assert isinstance(figure, matplotlib_figure.Figure)
    names = ["h_l0", "c_l0", "i_l0", "f_l0", "o_l0", "g_l0"]
    assert titles(figure) == [f"{name}  (5, 20)" for name in names]
    assert figure.get_suptitle() == "LSTM(3, 20), sequence 0 of a batch of 2"
    image = figure.axes[2].images[0]
    assert image.get_array().shape == (20, 5), "units from top to bottom, time from left to right"
    assert torch.equal(torch.from_numpy(image.get_array().data), recording["i"][:, 0].T)


def test_on_a_dark_page() -> None:
    figure = lstm().plot("h", dark=True)
    assert to_hex(figure.get_facecolor()) == DARK.page
    axes = figure.axes[0]
    texts = [axes.xaxis.label, *axes.get_yticklabels(), *axes.get_xticklabels()]
    assert {to_hex(text.get_color()) for text in texts} == {DARK.text}


def test_sums_before_gates_are_left_out() -> None:
    def drawn(cell: nn.Module) -> list[str]:
        figure = record(openrnn.Recurrent(cell), torch.randn(5, 2, 4)).plot()
        return [title.split()[0] for title in titles(figure)]

    assert drawn(openrnn.GRUCell(4, 4)) == ["h", "r", "z", "n"]
    assert drawn(openrnn.cells.LayerNormGRUCell(4, 4)) == ["h", "r", "z", "n"]
    assert drawn(openrnn.cells.SLSTMCell(4, 4)) == ["h", "c", "n", "m", "i", "f", "z", "o"]
    assert drawn(openrnn.cells.MinGRUCell(4, 4)) == ["h", "n", "z"]


def test_colours_by_the_range() -> None:
    figure = lstm().plot(["c", "f"])
    signed, gate = (axes.images[0] for axes in figure.axes[:2])
    low, high = signed.get_clim()
    assert (signed.get_cmap().name, low) == ("RdBu_r", -high)
    assert (gate.get_cmap().name, gate.get_clim()) == ("Greens", (0, 1))
    n = record(openrnn.Recurrent(openrnn.cells.SLSTMCell(3, 4)), torch.randn(5, 2, 3)).plot("n")
    low, high = n.axes[0].images[0].get_clim()
    assert low == 0
    assert high > 1


def test_names_and_units() -> None:
    recording = lstm(num_layers=2)
    assert titles(recording.plot("i")) == ["i_l0  (5, 20)", "i_l1  (5, 20)"]
    figure = recording.plot(["a_i_l1"], units=[3, 17], sequence=1)
    (axes,) = figure.axes[:1]
    assert torch.equal(
        torch.from_numpy(axes.images[0].get_array().data), recording["a_i_l1"][:, 1, [3, 17]].T
    )
    figure.savefig(BytesIO())
    assert [text.get_text() for text in axes.get_yticklabels()] == ["3", "17"]
    assert recording.plot("h", units=slice(4)).axes[0].images[0].get_array().shape == (4, 5)


def test_of_very_many_the_states_alone() -> None:
    figure = lstm(num_layers=6).plot()
    assert titles(figure)[::4] == ["h_l0  (5, 20)", "c_l0  (5, 20)", "h_l4  (5, 20)"]
    assert len(titles(figure)) == 12
    assert "the states alone, as there are 36 values" in figure.get_suptitle()


def test_labels() -> None:
    recording = record(openrnn.GRU(3, 4), torch.randn(5, 3))
    words = ["for", "$x$", "is", "<b>", "\n"]
    assert labels(recording.plot(labels=words)) == ["for", "$x$", "is", "<b>", "↵"]
    assert labels(recording.plot(labels="hello")) == list("hello")


def test_up_to_the_end_of_the_sequence() -> None:
    recording = record(openrnn.GRU(3, 4), torch.randn(5, 2, 3), lengths=[5, 2])
    figure = recording.plot("z", sequence=1, labels=["a", "b"])
    assert figure.axes[0].images[0].get_array().shape == (4, 2)
    padded = recording.plot("z", sequence=1, labels=["a", "b", "-", "-", "-"])
    assert labels(padded) == labels(figure) == ["a", "b"]


@pytest.mark.parametrize("steps", [1, 60, 1000])
@pytest.mark.parametrize("units", [1, 1000])
def test_sizes(steps: int, units: int) -> None:
    recording = record(openrnn.RNN(1, units), torch.randn(steps, 1))
    figure = recording.plot("h", labels=[f"word{n}" for n in range(steps)])
    figure.savefig(BytesIO())
    assert len(labels(figure)) <= 80
    assert max(figure.get_size_inches()) < 15


def test_not_finite() -> None:
    recording = record(openrnn.GRU(1, 4), torch.tensor([[[0.0]], [[torch.nan]], [[1.0]]]))
    recording.plot().savefig(BytesIO())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ["q"]}, r"expected names that were recorded, h_l0, .*, n_l0, got 'q'"),
        ({"names": []}, r"at least one name, got \[\]"),
        ({"sequence": 2}, r"expected sequence from 0 to 1, a place in the batch, got 2"),
        ({"sequence": -1}, r"expected sequence from 0 to 1, a place in the batch, got -1"),
        ({"units": [4]}, r"expected units from 0 to 3, as h_l0 has, got 4"),
        ({"units": []}, r"at least one number"),
        ({"labels": ["a"]}, r"expected labels for the 5 steps of the sequence, got 1"),
        ({"labels": ["a"], "sequence": 1}, r"the 3 steps of the sequence \(or 5, with padding\)"),
    ],
    ids=str,
)
def test_refused(arguments: dict[str, Any], message: str) -> None:
    recording = record(openrnn.GRU(3, 4), torch.randn(5, 2, 3), lengths=[5, 3])
    with pytest.raises(openrnn.ArgumentError, match=rf"^Recording\.plot: .*{message}"):
        recording.plot(**arguments)


@pytest.mark.parametrize("arguments", [{"sequence": "0"}, {"units": ["0"]}, {"units": 0.5}])
def test_wrong_types(arguments: dict[str, Any]) -> None:
    recording = record(openrnn.GRU(3, 4), torch.randn(5, 2, 3))
    with pytest.raises(openrnn.ArgumentTypeError, match=r"to be (an )?integers?, got"):
        recording.plot(**arguments)


def test_nothing_to_show() -> None:
    recording = record(openrnn.GRU(3, 4), torch.randn(5, 2, 3), lengths=[5, 0])
    with pytest.raises(openrnn.ArgumentError, match="sequence 1 of length 0"):
        recording.plot(sequence=1)
    alone = record(openrnn.GRU(3, 4), torch.randn(5, 3))
    with pytest.raises(openrnn.ArgumentError, match=r"from 0 to 0, as the input has no batch"):
        alone.plot(sequence=1)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "openrnn.extras.find_spec",
        lambda name: None if name == "matplotlib" else find_spec(name),
    )
    with pytest.raises(openrnn.MissingExtraError, match=r"plot needs matplotlib.*openrnn\[train\]"):
        lstm().plot()
