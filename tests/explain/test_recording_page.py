"""`Recording.to_html`: one page that holds the numbers, loads nothing, and runs in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from base64 import b64decode
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import openrnn
from openrnn import record
from openrnn.explain import page as page_module
from openrnn.explain.page import fit
from openrnn.explain.recording import Recording
from openrnn.explain.selection import Track

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "page.html"


def data_of(page: Path) -> Any:
    """What the page's script reads, with tensors for the numbers."""
    (text,) = re.findall(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"))
    data = json.loads(text)
    for track in data["tracks"]:
        numbers = np.frombuffer(b64decode(track["data"]), "<f4").reshape(-1, track["count"])
        track["data"] = torch.from_numpy(numbers.copy())
    return data


def tracks_of(page: Path) -> dict[str, Any]:
    return {track["name"]: track for track in data_of(page)["tracks"]}


def lstm(steps: int = 5, **options: Any) -> Recording:
    return record(openrnn.LSTM(3, 20, **options), torch.randn(steps, 2, 3))


def test_the_numbers_are_in_it(page: Path) -> None:
    recording = lstm(num_layers=2)
    recording.to_html(page, sequence=1)
    tracks = tracks_of(page)
    assert list(tracks) == ["input", *recording]
    assert torch.equal(tracks["input"]["data"], recording.input[:, 1])
    for name, value in recording.items():
        assert torch.equal(tracks[name]["data"], value[:, 1])
    kinds = {name.removesuffix("_l0"): track["kind"] for name, track in tracks.items()}
    assert [kinds[name] for name in ("input", "c", "f", "a_f")] == ["input", "state", "gate", "sum"]
    data = data_of(page)
    assert (data["title"], data["sequence"], data["batch"]) == (recording.title, 1, 2)
    assert data["hidden"] == ["a_f", "a_g", "a_i", "a_o"]
    assert data["notes"] == []


def test_names_and_units(page: Path) -> None:
    recording = lstm()
    recording.to_html(str(page), ["h", "a_i"], units=(n for n in (3, 17)))
    tracks = tracks_of(page)
    assert list(tracks) == ["input", "h_l0", "a_i_l0"]
    assert torch.equal(tracks["h_l0"]["data"], recording["h"][:, 0, [3, 17]])
    assert (tracks["h_l0"]["units"], tracks["h_l0"]["features"]) == ([3, 17], 20)
    assert data_of(page)["hidden"] == [], "what is asked for is shown"


def test_it_loads_nothing(page: Path) -> None:
    lstm().to_html(page, labels=["a"] * 5)
    text = page.read_text(encoding="utf-8")
    assert (
        re.findall(r"https?:|url\(|@import|src=|<link(?! rel=\"icon\" href=\"data:,\")", text) == []
    )
    assert "default-src 'none'" in text
    assert "{{" not in text


BREAKING = "</script><script>document.title='broken'</script><!--"
HOSTILE = (BREAKING, "&amp; <b>", "\n", "{{data}}", "é😀")


def test_labels_cannot_break_the_page(page: Path) -> None:
    recording = lstm()
    recording.title = "<i>&</i>"
    recording.to_html(page, labels=HOSTILE)
    text = page.read_text(encoding="utf-8")
    assert "<title>&lt;i&gt;&amp;&lt;/i&gt;</title>" in text
    assert text.count("<script") == text.count("</script") == 2
    assert "broken'</script>" not in text
    assert data_of(page)["labels"] == [HOSTILE[0], HOSTILE[1], "↵", *HOSTILE[3:]]


def test_up_to_the_end_of_the_sequence(page: Path) -> None:
    recording = record(openrnn.GRU(3, 4), torch.randn(5, 2, 3), lengths=[5, 2])
    recording.to_html(page, sequence=1, labels=["a", "b"])
    data = data_of(page)
    assert (data["steps"], data["labels"]) == (2, ["a", "b"])
    assert torch.equal(data["tracks"][1]["data"], recording["h"][:2, 1])


def test_another_input(page: Path) -> None:
    recording = lstm()
    series = torch.arange(5.0)
    recording.to_html(page, input=series)
    assert torch.equal(tracks_of(page)["input"]["data"], series.unsqueeze(1))
    recording.to_html(page, input=series.unsqueeze(1).expand(5, 2).numpy())
    assert tracks_of(page)["input"]["count"] == 2


def test_the_input_has_a_name_of_its_own(page: Path) -> None:
    """That of a state too: the page tells them apart."""
    lstm().to_html(page, input_name="h_l0")
    own, *others = data_of(page)["tracks"]
    assert (own["name"], own["kind"]) == ("h_l0", "input")
    assert own["base"] not in {track["base"] for track in others}


def test_embedded_words_are_not_shown_first(page: Path) -> None:
    recording = record(openrnn.GRU(50, 4), torch.randn(5, 50))
    recording.to_html(page, labels="hello")
    assert "" in data_of(page)["hidden"], "the input has no base"
    recording.to_html(page)
    assert "" not in data_of(page)["hidden"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtypes(page: Path, dtype: torch.dtype) -> None:
    recording = record(openrnn.GRU(3, 4, dtype=dtype), torch.randn(5, 3, dtype=dtype))
    recording.to_html(page)
    assert torch.equal(tracks_of(page)["z_l0"]["data"], recording["z"].float())


def track(name: str, kind: str, steps: int, units: int) -> Track:
    return Track(name, name, "", kind, torch.zeros(steps, units), tuple(range(units)), units)


@pytest.mark.parametrize(
    ("most", "shape", "notes"),
    [
        (610, (10, 30), []),
        (609, (10, 30), ["the sums before the gates: a_h"]),
        (300, (10, 15), ["sums", "all units of a value but the first 15, of up to 30"]),
        (60, (6, 8), ["sums", "the first 8, of up to 30", "all steps but the first 6, of 10"]),
    ],
)
def test_what_is_left_out(most: int, shape: tuple[int, int], notes: list[str]) -> None:
    tracks = track("x", "input", 10, 1), track("h", "state", 10, 30), track("a_h", "sum", 10, 30)
    kept, said = fit(tracks, most)
    assert [part.name for part in kept] == (["x", "h"] if notes else ["x", "h", "a_h"])
    assert kept[1].data.shape == shape
    assert sum(part.data.numel() for part in kept) <= most
    assert len(said) == len(notes)
    assert all(note in own for note, own in zip(notes, said, strict=True))


def test_a_huge_recording_makes_a_page(page: Path) -> None:
    recording = record(openrnn.LSTM(1, 1000), torch.randn(1000, 1))
    recording.to_html(page)
    assert page.stat().st_size < 22_000_000
    assert len(data_of(page)["notes"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ["q"]}, "expected names that were recorded, h_l0, .*, got 'q'"),
        ({"sequence": 2}, "expected sequence from 0 to 1, a place in the batch, got 2"),
        ({"labels": ["a"] * 4}, "expected labels for the 5 steps of the sequence, got 4"),
        ({"units": [20]}, "expected units from 0 to 19, as h_l0 has, got 20"),
        ({"input": [1.0, 2.0]}, "expected input for the 5 steps of the sequence, got 2"),
        ({"input": torch.zeros(5, 2, 3)}, r"\(T\) or \(T, features\), got \(5, 2, 3\)"),
    ],
    ids=str,
)
def test_refused(page: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(openrnn.ArgumentError, match=rf"^Recording\.to_html: .*{message}"):
        lstm().to_html(page, **arguments)
    assert not page.exists()


@pytest.mark.parametrize("path", [".", "nowhere/page.html", "file/page.html"])
def test_a_path_that_cannot_be_written(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(openrnn.ArgumentError, match=r"to_html: expected path .*Give another path"):
        lstm().to_html(tmp_path / path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def opened(page: Path, step: int = 0, script: str = "") -> str:
    """The page's elements after its script, and then this one, have run in a browser."""
    if BROWSER is None:
        pytest.skip("there is no Chromium here: apt install chromium")
    with page.open("a", encoding="utf-8") as file:
        file.write(f"<script>{{ {script} }}</script>")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"]
    profile = f"--user-data-dir={page.parent / 'profile'}"
    address = f"{page.as_uri()}#{step}"
    done = subprocess.run(
        [BROWSER, *options, profile, "--dump-dom", address],
        capture_output=True,
        timeout=120,
        check=True,
    )
    shown = done.stdout.decode()
    root = re.findall("<html[^>]*>", shown)[0]
    assert "data-error" not in root, root
    assert "data-ready" in root, "the script came to its end"
    return shown


def tables(shown: str) -> dict[str, dict[int, float]]:
    """The numbers of the step, by name and unit."""
    found = {}
    for section in re.findall(r"<section.*?</section>", shown, re.DOTALL):
        (name,) = re.findall(r"<h2>([^<]*)<", section)
        rows = re.findall(r'<td>(\d+)</td><td title="([^"]*)">', section)
        found[name] = {int(unit): float(number) for unit, number in rows}
    return found


def check_numbers(found: dict[int, float], expected: Tensor) -> None:
    assert found
    for unit, number in found.items():
        assert np.float32(number) == expected[unit].item()


def test_a_browser_shows_the_numbers_of_the_step(page: Path) -> None:
    recording = lstm()
    recording.to_html(page, labels=HOSTILE)
    shown = opened(page, step=3)
    found = tables(shown)
    assert list(found) == ["input", "h_l0", "c_l0", "i_l0", "f_l0", "o_l0", "g_l0"]
    for name in list(found)[1:]:
        assert list(found[name]) == [0, 1, 2, 3, 4]
        check_numbers(found[name], recording[name][3, 0])
    check_numbers(found["input"], recording.input[3, 0])
    assert '<b id="at">3</b>' in shown
    assert '<span id="word">{{data}}</span>' in shown
    assert "<title>LSTM(3, 20)</title>" in shown


def test_a_reader_moves_and_chooses(page: Path) -> None:
    recording = lstm(steps=30, num_layers=2)
    recording.to_html(page)
    shown = opened(
        page,
        script="""
        const press = (key) => dispatchEvent(new KeyboardEvent("keydown", { key }));
        press("End"); press("ArrowLeft"); press("ArrowRight"); press("ArrowLeft");
        find("units").value = "2, 17-19";
        find("units").dispatchEvent(new Event("input"));
        const chip = (text) => [...document.querySelectorAll("#choice button")]
            .find((button) => button.textContent === text).click();
        ["input", "h", "c", "f", "o", "g", "a_i", "l0"].forEach(chip);
        const box = panels[0].map.getBoundingClientRect();
        panels[0].map.dispatchEvent(new PointerEvent("pointermove", {
            clientX: box.left + 0.5 * box.width / 30, clientY: box.top + 2.5 * box.height / 20,
        }));
        """,
    )
    found = tables(shown)
    assert list(found) == ["a_i_l1", "i_l1"]
    for name, numbers in found.items():
        assert list(numbers) == [2, 17, 18, 19]
        check_numbers(numbers, recording[name][28, 0])
    assert f"unit 2, step 0: {recording['a_i_l1'][0, 0, 2]:.5f}" in shown


def test_a_browser_shows_units_that_were_chosen_before(page: Path) -> None:
    recording = record(openrnn.GRU(10, 20), torch.tensor([[torch.nan] * 10] * 2))
    recording.to_html(page, units=[3, 17])
    found = tables(opened(page, step=1))
    assert found["input"] == {}, "a map, without curves"
    assert list(found["z_l0"]) == [3, 17]
    assert all(np.isnan(number) for number in found["z_l0"].values())


def test_a_browser_says_what_is_left_out(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "_MOST", 500)
    lstm().to_html(page)
    shown = unescape(opened(page))
    assert "Left out, as the page would be too large: the sums before the gates: a_i_l0" in shown
    assert "(5, 20), 14 units here" in shown
