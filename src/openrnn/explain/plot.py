"""Heat maps of a recording, in matplotlib."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from openrnn.explain.selection import Track, read_labels, select
from openrnn.explain.views.colors import Colors

if TYPE_CHECKING:
    from openrnn.explain.recording import Recording

_MOST = 32  # heat maps that are drawn unasked
_COLUMNS = 4
_DPI = 120
_SMALL = 8  # points, of the text at the axes
_LINE = 0.15  # inches from one line of such text to the next, and twice a letter's width
_LONGEST = 20  # letters of a label


def draw(
    recording: Recording,
    names: str | Iterable[str] | None,
    sequence: int,
    units: Iterable[int] | slice | None,
    labels: Iterable[Any] | None,
    colors: Colors,
) -> Figure:
    """See `Recording.plot`."""
    tracks = select("Recording.plot", recording, names, sequence, units)
    steps = len(tracks[0].data)
    words = read_labels("Recording.plot", labels, steps, len(recording.input))
    title = recording.title
    if recording.input.dim() == 3:
        title += f", sequence {sequence} of a batch of {recording.input.size(1)}"
    if names is None:
        tracks = tuple(track for track in tracks if track.kind != "sum")
        if len(tracks) > _MOST:
            title += f"; the states alone, as there are {len(tracks)} values: say which by names"
            tracks = tuple(track for track in tracks if track.kind == "state")
    bands = _bands(tracks)
    heights = [max(_height(track) for track in row if track) for band in bands for row in band]
    columns = max(len(row) for band in bands for row in band)
    width = min(max(0.25 * steps, 7), 11) if columns == 1 else 1 + 3.5 * columns
    below = _LINE + (_LINE / 2 * min(max(map(len, words)), _LONGEST) if words else 0)
    size = (width, sum(heights) + 0.36 * len(heights) + below * len(bands) + 0.5)
    across = (width - 0.9 * columns - 0.2) / columns
    # Figure and not pyplot: no window system, and no state that outlives this call.
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained", facecolor=colors.page)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10, wrap=True, color=colors.text)
    grid = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    places = zip(grid, heights, strict=True)
    for band in bands:
        lowest: dict[int, Axes] = {}
        for row, (places_of_row, height) in zip(band, places, strict=False):
            for column, axes in enumerate(places_of_row):
                track = row[column] if column < len(row) else None
                if track is None:
                    axes.set_axis_off()
                    continue
                _draw(figure, axes, track, across, height, colors)
                axes.tick_params(bottom=False, labelbottom=False)
                lowest[column] = axes
        for axes in lowest.values():
            axes.tick_params(bottom=True, labelbottom=True)
            _label(axes, words, steps, across, colors)
    return figure


def _bands(tracks: tuple[Track, ...]) -> list[list[tuple[Track | None, ...]]]:
    """A column for each cell, with a few cells side by side; the rows of each such band."""
    of_cells: dict[str, list[Track]] = {}
    for track in tracks:
        of_cells.setdefault(track.ending, []).append(track)
    cells = list(of_cells.values())
    beside = [cells[start : start + _COLUMNS] for start in range(0, len(cells), _COLUMNS)]
    return [list(zip_longest(*band)) for band in beside]


def _height(track: Track) -> float:
    """In inches, so that a few units can have their numbers."""
    count = len(track.units)
    return min(max(0.07 * count, min(1.1 * _LINE * count, 1), 0.4), 2.2)


def _draw(
    figure: Figure, axes: Axes, track: Track, width: float, height: float, colors: Colors
) -> None:
    """A heat map of about so many inches."""
    low, high = track.scale()
    # Masked are NaN and infinities, which show as grey.
    data = np.ma.masked_invalid(track.data.T.numpy())
    fits = len(track.data) <= width * _DPI and len(track.units) <= height * _DPI
    image = axes.imshow(
        data,
        aspect="auto",
        vmin=low,
        vmax=high,
        cmap="RdBu_r" if low < 0 else "Greens",
        interpolation="nearest" if fits else "antialiased",
        interpolation_stage="data",  # of many values in a pixel the mean, not that of the colours
    )
    axes.set_facecolor("#9ca3af")
    shape = ", ".join(map(str, (len(track.data), track.features)))
    axes.set_title(f"{track.name}  ({shape})", loc="left", fontsize=9, pad=5, color=colors.text)
    lines = max(int(height / (1.5 * _LINE)), 1)
    if height >= _LINE * len(track.units):
        axes.set_yticks(range(len(track.units)))
    else:
        axes.yaxis.set_major_locator(_round_numbers(lines))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda at, _: _unit(track, at)))
    axes.tick_params(labelsize=_SMALL, length=2, color=colors.text, labelcolor=colors.text)
    for spine in axes.spines.values():
        spine.set_edgecolor(colors.text)
    bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=height / 0.12)
    bar.set_ticks([low, 0, high] if low < 0 and lines > 2 else [low, high])
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    bar.ax.tick_params(labelsize=_SMALL - 1, length=2, color=colors.text, labelcolor=colors.text)
    bar.outline.set_visible(False)


def _round_numbers(most: int) -> MaxNLocator:
    return MaxNLocator(max(most, 1), integer=True, steps=[1, 2, 5, 10])


def _unit(track: Track, at: float) -> str:
    whole = at == int(at) and 0 <= at < len(track.units)
    return str(track.units[int(at)]) if whole else ""


def _label(axes: Axes, words: list[str] | None, steps: int, width: float, colors: Colors) -> None:
    """The steps along the axis, or words, upright where they would meet, some left out if many."""
    if words is None:
        axes.xaxis.set_major_locator(_round_numbers(int(width / 0.5)))
        axes.set_xlabel("step", fontsize=_SMALL, color=colors.text)
        return
    shown = [word if len(word) <= _LONGEST else word[: _LONGEST - 1] + "…" for word in words]
    lying = (max(map(len, shown)) + 1) * _LINE / 2 <= width / steps
    apart = max(int(np.ceil(steps * _LINE / width)), 1)
    places = range(0, steps, apart)
    axes.set_xticks(places, shown[::apart], rotation=0 if lying else 90)
    for label in axes.get_xticklabels():
        label.set_parse_math(False)  # a word may have dollars
