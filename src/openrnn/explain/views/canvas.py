"""A picture under construction: shapes, lines and text, in pixels, y downwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon, Rectangle
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.textpath import TextToPath

from openrnn.explain.views.colors import Colors, Paint

WIDTH = 850  # pixels of a picture in a README
MARGIN = 16
_DPI = 96  # pixels of an inch on a page
_POINT = 72 / _DPI
_HEAD = 7  # length of an arrow's head

Point = tuple[float, float]
Align = Literal["left", "center", "right"]

# Text stays text. Where a page has not this font it takes its own, which is hardly ever wider.
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.monospace": ["DejaVu Sans Mono"],
    "svg.fonttype": "none",
    "svg.hashsalt": "openrnn",
    "path.simplify": False,
}


@contextmanager
def style() -> Iterator[None]:
    """What pictures are made in: whatever matplotlib was told, they are the same."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, bold: bool = False, mono: bool = False) -> float:
    """The pixels that one line of text takes; LaTeX stands between $ and $."""
    family, weight = "monospace" if mono else "sans-serif", "bold" if bold else "normal"
    font = FontProperties(family=family, size=size, weight=weight)
    width: float = TextToPath().get_text_width_height_descent(text, font, "$" in text)[0]
    return width


class Canvas:
    """Collects what is drawn, and knows how far it reaches."""

    def __init__(self, colors: Colors) -> None:
        self.colors = colors
        self._artists: list[Artist] = []
        self.left = self.top = float("inf")
        self.right = self.bottom = float("-inf")

    # --- shapes ----------------------------------------------------------------------------------

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        paint: Paint,
        *,
        radius: float = 4,
        dashed: bool = False,
        filled: bool = True,
        line: float = 1.2,
    ) -> None:
        """A rectangle around (x, y), with round corners."""
        left, top = x - width / 2, y - height / 2
        radius = min(radius, width / 2, height / 2)
        look: dict[str, Any] = {
            "facecolor": paint.fill if filled else "none",
            "edgecolor": paint.edge,
            "linewidth": line * _POINT,
            "linestyle": (0, (4, 3)) if dashed else "solid",
        }
        patch: Artist
        if radius < 1:
            patch = Rectangle((left, top), width, height, **look)
        else:
            round_ = f"round,pad=0,rounding_size={radius}"
            patch = FancyBboxPatch((left, top), width, height, boxstyle=round_, **look)
        self._add(patch, (left, top), (left + width, top + height), 2)

    def circle(self, x: float, y: float, radius: float, paint: Paint) -> None:
        patch = Circle((x, y), radius, fc=paint.fill, ec=paint.edge, lw=1.2 * _POINT)
        self._add(patch, (x - radius, y - radius), (x + radius, y + radius), 2)

    # --- lines -----------------------------------------------------------------------------------

    def path(
        self,
        points: Sequence[Point],
        color: str,
        *,
        curved: bool = False,
        arrow: bool = True,
        width: float = 1.3,
        dashed: bool = False,
    ) -> None:
        """A line through points, straight, or in curves that are level at each point."""
        points = list(points)
        if arrow:
            end, before = points[-1], points[-2]
            if curved:  # it comes in level, from the left
                before = (end[0] - 1, end[1])
            points[-1] = self._head(before, end, color)
            if curved and points[-2][0] > points[-1][0]:
                points[-2] = points[-1]
        vertices, codes = [points[0]], [Path.MOVETO]
        for (x0, y0), (x1, y1) in pairwise(points):
            if curved and y0 != y1:
                middle = (x0 + x1) / 2
                vertices += [(middle, y0), (middle, y1), (x1, y1)]
                codes += [Path.CURVE4] * 3
            else:
                vertices.append((x1, y1))
                codes.append(Path.LINETO)
        look: dict[str, Any] = {"linestyle": (0, (4, 3)) if dashed else "solid"}
        patch = PathPatch(
            Path(vertices, codes), fc="none", ec=color, lw=width * _POINT, capstyle="butt", **look
        )
        xs, ys = zip(*points, strict=True)
        self._add(patch, (min(xs), min(ys)), (max(xs), max(ys)), 1)

    def _head(self, before: Point, end: Point, color: str) -> Point:
        """An arrow's head at the end; where its line ends."""
        dx, dy = end[0] - before[0], end[1] - before[1]
        length = max((dx * dx + dy * dy) ** 0.5, 1e-9)
        dx, dy = dx / length, dy / length
        foot = (end[0] - _HEAD * dx, end[1] - _HEAD * dy)
        side = (-dy * _HEAD * 0.4, dx * _HEAD * 0.4)
        corners = [
            end,
            (foot[0] + side[0], foot[1] + side[1]),
            (foot[0] - side[0], foot[1] - side[1]),
        ]
        self._add(Polygon(corners, closed=True, fc=color, ec="none"), end, foot, 1)
        return (end[0] - (_HEAD - 1) * dx, end[1] - (_HEAD - 1) * dy)

    def dot(self, x: float, y: float, color: str, radius: float = 2.2) -> None:
        """Where a line parts."""
        self._add(Circle((x, y), radius, fc=color, ec="none"), (x, y), (x, y), 1)

    # --- text ------------------------------------------------------------------------------------

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float = 11,
        *,
        color: str | None = None,
        bold: bool = False,
        mono: bool = False,
        align: Align = "center",
        line: bool = False,
    ) -> float:
        """One line of text around the height y, or, as part of a `line`, upon it.

        LaTeX stands between $ and $. Returns its width.
        """
        width = text_width(text, size, bold, mono)
        text = text.replace(" ", "\u00a0") if mono else text  # a page takes several for one
        above, below = (1.0, 0.5) if line else (0.6, 0.6)
        self._add(
            Text(
                x,
                y,
                text,
                color=color or self.colors.text,
                fontsize=size * _POINT,
                fontweight="bold" if bold else "normal",
                family="monospace" if mono else "sans-serif",
                ha=align,
                va="baseline" if line else "center_baseline",
                parse_math="$" in text,
            ),
            (x - width * {"left": 0, "center": 0.5, "right": 1}[align], y - size * above),
            (x + width * {"left": 1, "center": 0.5, "right": 0}[align], y + size * below),
            3,
        )
        return width

    @property
    def page_left(self) -> float:
        """Where the page begins, without its margin: as wide as a README, or wider if need be."""
        return min(self.left, -self.right, MARGIN - WIDTH / 2)

    # --- the whole -------------------------------------------------------------------------------

    def _add(self, artist: Artist, one: Point, other: Point, order: int) -> None:
        artist.set_zorder(order)
        artist.set_clip_on(False)
        self._artists.append(artist)
        self.left = min(self.left, one[0], other[0])
        self.right = max(self.right, one[0], other[0])
        self.top = min(self.top, one[1], other[1])
        self.bottom = max(self.bottom, one[1], other[1])

    def finish(self) -> Figure:
        """All that was drawn, with a margin; x = 0 is the middle of the page."""
        left, top = self.page_left - MARGIN, self.top - MARGIN
        width, height = -2 * left, self.bottom - top + MARGIN
        # Figure and not pyplot: no window system, and no state that outlives this call.
        figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor=self.colors.page)
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(left, left + width)
        axes.set_ylim(top + height, top)
        axes.set_axis_off()
        for artist in self._artists:
            axes.add_artist(artist)
        return figure
