"""One step as a data flow: states from the left, x from below, the next states to the right."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from matplotlib.figure import Figure

from openrnn.explain.blocks import blocks
from openrnn.explain.parts import Lane
from openrnn.explain.views import Request
from openrnn.explain.views.bands import chained, in_bands
from openrnn.explain.views.canvas import MARGIN, WIDTH, Canvas
from openrnn.explain.views.dataflow import LOOSE, TIGHT, Band, Fit
from openrnn.explain.views.flow import Item, read_flow
from openrnn.explain.views.header import Words, header, shorten
from openrnn.explain.views.words import places

_APART = 26  # from one band to the next


def draw(request: Request) -> Figure:
    """The figure of this view."""
    canvas = Canvas(request.colors)
    groups = _groups(request)
    signs: set[str] = set()
    y = 0.0
    for lanes in groups:
        if not request.network.is_cell:
            first, *others = [lane.place for lane in lanes]
            text = f"{first}: {lanes[0].title}" if first else lanes[0].title
            text += f"; of the same form {places(others)}" if others else ""
            wide = WIDTH - 2 * MARGIN
            canvas.text(-wide / 2, y, shorten(text, wide, 12, True), 12, bold=True, align="left")
            y += 24
        bands = _bands(request, lanes[0])
        for band in bands:
            y = band.draw(canvas, y, fill=len(bands) > 1) + _APART
            signs |= {line for item in band.nodes for line in item.lines}
        y += _APART
    header(canvas, request.network.title, ": one step", _legend(request, signs))
    return canvas.finish()


def _groups(request: Request) -> list[list[Lane]]:
    """The cells, those that compute the same together: they may read an x of another size."""
    groups: dict[Hashable, list[Lane]] = {}
    for lane in request.network.lanes:
        groups.setdefault(lane.form, []).append(lane)
    return list(groups.values())


def _bands(request: Request, lane: Lane) -> list[Band]:
    found = blocks(lane.graph, lane.gates)
    gates = [b for one in found.values() for b in one if b.name and b.name not in lane.states]
    names = dict.fromkeys(block.name for block in gates)
    paints = {name: request.colors.gate(number) for number, name in enumerate(names)}
    several = [block for one in found.values() if len(one) > 1 for block in one if block in gates]
    functions = {block.function: block.name for block in several if block.function is not None}
    whole = read_flow(lane.graph, functions)
    bands: list[Band] = []
    for items, fit in ((whole, LOOSE), (chained(whole), TIGHT)):

        def band(items: Sequence[Item], fit: Fit = fit) -> Band:
            return Band(request, items, paints, fit)

        bands = [band(part) for part in in_bands(items, lambda part: band(part).fits())]
        if all(one.fits() for one in bands):
            break
    return bands


def _legend(request: Request, signs: set[str]) -> Iterator[Words]:
    colors = request.colors
    yield Words("the states before", colors.state)
    yield Words("the states after", colors.result)
    yield Words("products with weights", colors.weight)
    if "⊙" in signs:
        yield Words("+ and ⊙: element by element")
    if "σ" in signs:
        yield Words("σ: logistic function")
