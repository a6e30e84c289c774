"""One page of HTML on which a reader moves through a recording."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from openrnn.errors import ArgumentError
from openrnn.explain.selection import Track, check_count, read_labels, select, steps_of
from openrnn.files import write_text

if TYPE_CHECKING:
    from openrnn.explain.recording import Recording

_OWNER = "Recording.to_html"
_MOST = 4_000_000  # numbers on a page, which has 21 MB then
_FEW = 8  # units of each value that are worth more than further steps
_CURVES = 8  # features of an input that are shown as curves


def write_page(
    path: Path,
    recording: Recording,
    names: str | Iterable[str] | None,
    sequence: int,
    units: Iterable[int] | slice | None,
    labels: Iterable[Any] | None,
    input: Any,
    input_name: str,
) -> None:
    """See `Recording.to_html`."""
    steps = steps_of(_OWNER, recording, sequence)
    padded = len(recording.input)
    words = read_labels(_OWNER, labels, steps, padded)
    tracks = select(_OWNER, recording, names, sequence, units)
    series = _read_input(recording, sequence, input, input_name, steps, padded)
    hidden = set()
    if names is None:
        worth = {track.base for track in tracks if track.kind != "sum"}
        hidden = {track.base for track in tracks} - worth
    if words and input is None and series.features > _CURVES:  # words that were embedded
        hidden.add(series.base)
    kept, notes = fit((series, *tracks), _MOST)
    shown = len(kept[0].data)
    content = {
        "title": recording.title,
        "sequence": int(sequence),
        "batch": recording.input.size(1) if recording.input.dim() == 3 else None,
        "steps": steps,
        "shown": shown,
        "labels": words and words[:shown],
        "notes": notes,
        "hidden": sorted(hidden),
        "curves": _CURVES,
        "tracks": [_as_json(track) for track in kept],
    }
    # ASCII, and no "<": nothing in it can end the element that it is in.
    data = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    parts = {"title": escape(recording.title), "data": data}
    template = files("openrnn.explain").joinpath("page.html").read_text(encoding="utf-8")
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)
    try:
        write_text(path, page)
    except OSError as error:
        raise ArgumentError(
            f"{_OWNER}: expected path to be a file that can be written, got '{path}': "
            f"{error.strerror or error}. Give another path"
        ) from None


def fit(tracks: tuple[Track, ...], most: int) -> tuple[tuple[Track, ...], list[str]]:
    """As much as has at most this many numbers, and what to tell of the rest.

    The sums before the gates go first, then units, then steps; the first of the tracks stays.
    """

    def size() -> int:
        return sum(track.data.numel() for track in tracks)

    notes = []
    sums = [track.name for track in tracks if track.kind == "sum"]
    if size() > most and 0 < len(sums) < len(tracks) - 1:
        tracks = tuple(track for track in tracks if track.kind != "sum")
        notes.append(f"the sums before the gates: {', '.join(sums)}")
    steps, widest = len(tracks[0].data), max(len(track.units) for track in tracks)
    if size() > most and widest > _FEW:
        each = max(most // (steps * len(tracks)), _FEW)
        tracks = tuple(track.part(steps, each) for track in tracks)
        notes.append(f"all units of a value but the first {each}, of up to {widest}")
    if size() > most:
        shown = max(most * steps // size(), 1)
        tracks = tuple(track.part(shown, len(track.units)) for track in tracks)
        notes.append(f"all steps but the first {shown}, of {steps}")
    return tracks, notes


def _read_input(
    recording: Recording, sequence: int, input: Any, name: str, steps: int, padded: int
) -> Track:
    """The series along the axis."""
    if input is None:
        own = recording.input
        input = own[:, sequence] if own.dim() == 3 else own
    else:
        input = torch.as_tensor(input)
        if input.dim() not in (1, 2):
            raise ArgumentError(
                f"{_OWNER}: expected input of (T) or (T, features), got {tuple(input.shape)}. "
                f"Give that of the one sequence, input[:, {sequence}] say"
            )
        check_count(_OWNER, "input", len(input), steps, padded)
    data = input[:steps].detach().reshape(steps, -1).to("cpu", torch.float32)
    count = data.size(1)
    # No base, so that no variable of a cell has the same.
    return Track(name, "", "", "input", data, tuple(range(count)), count)


def _as_json(track: Track) -> dict[str, Any]:
    low, high = track.scale()
    whole = track.units == tuple(range(len(track.units)))
    return {
        "name": track.name,
        "base": track.base,
        "ending": track.ending,
        "kind": track.kind,
        "features": track.features,
        "count": len(track.units),
        "units": None if whole else track.units,
        "low": low,
        "high": high,
        "data": b64encode(track.data.contiguous().numpy().astype("<f4").tobytes()).decode(),
    }
