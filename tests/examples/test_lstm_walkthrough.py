"""The walk-through prints, to the letter, what stands beside this test."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_printed_output(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "lstm_walkthrough.py"), run_name="__main__")
    expected = Path(__file__).with_name("lstm_walkthrough.txt").read_text()
    assert capsys.readouterr().out == expected


def test_shapes_and_equalities_are_the_ones_promised() -> None:
    """Guards the expected text itself against being made anew from a wrong run."""
    text = Path(__file__).with_name("lstm_walkthrough.txt").read_text()
    for line in (
        "a = LSTMCell(30, 20)\n  weight_ih  (80, 30)\n  weight_hh  (80, 20)\n"
        "  bias_ih    (80)\n  bias_hh    (80)\n",
        "b = LSTMCell(20, 10)\n  weight_ih  (40, 20)\n  weight_hh  (40, 10)\n"
        "  bias_ih    (40)\n  bias_hh    (40)\n",
        "  weight_ih  (20, 100)  (80, 100)\n  weight_hh  (20, 20)   (80, 20)\n"
        "  bias_ih    (20)       (80)\n  bias_hh    (20)       (80)\n",
    ):
        assert line in text
    assert text.count("True") == 7
    assert "False" not in text
