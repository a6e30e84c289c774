"""The items of a step in several bands, one below the other, where one is too wide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from openrnn.explain.views.flow import Item

Fits = Callable[[Sequence[Item]], bool]


def in_bands(items: list[Item], fits: Fits) -> list[list[Item]]:
    """Cuts a step at values through which alone the rest of it depends on what was computed before.

    A band ends with such a value, and the next one begins with it, and with x and states that it
    needs once more. A band may be too wide still, where there is no such value.

    Args:
        items: of the step, each behind its inputs.
        fits: whether some of them fit into one band.
    """
    bands = []
    while not fits(items):
        cuts = [band for band in (_cut(items, item) for item in items) if band is not None]
        # The longest band that fits, or the shortest of all.
        band, rest = next(
            (cut for cut in reversed(cuts) if fits(cut[0])), cuts[0] if cuts else ([], [])
        )
        if not band:
            break
        bands.append(band)
        items = rest
    return [*bands, items]


def _cut(items: list[Item], at: Item) -> tuple[list[Item], list[Item]] | None:
    """The items up to this one, and the rest, if the rest takes nothing else from before."""
    if at.kind != "function" or not at.name:
        return None
    before = {at}
    for item in reversed(items):
        if item in before:
            before.update(item.inputs)
    band = [item for item in items if item in before]
    rest = [item for item in items if item not in before]
    passed = {i for item in rest for i in item.inputs if i in before}
    again = [i for i in band if i in passed and i.kind in ("input", "state")]  # at hand everywhere
    passed.difference_update(again)
    if passed != {at} or all(item.kind == "next" for item in rest):
        return None
    end = Item("end", [at.name], [at], base=at.base, shape=at.shape, tells=True)
    start = Item("start", [at.name], base=at.base, shape=at.shape, tells=True)
    band = [replace(item, name="") if item is at else item for item in band]
    return _linked([*band, end], {at: band[-1]}), _linked([*again, start, *rest], {at: start})


def _linked(items: list[Item], instead: dict[Item, Item]) -> list[Item]:
    """Copies of the items, linked to one another, with some in the places of others."""
    copies: dict[Item, Item] = {}
    for item in items:
        inputs = [copies.get(i, i) for i in (instead.get(i, i) for i in item.inputs)]
        copies[item] = replace(item, inputs=inputs)
    return list(copies.values())


def chained(items: list[Item]) -> list[Item]:
    """The items, with functions of one value that follow one another in one box."""
    readers: dict[Item, int] = {}
    for item in items:
        for i in item.inputs:
            readers[i] = readers.get(i, 0) + 1
    merged: dict[Item, Item] = {}
    for item in items:
        copy = replace(item, inputs=[merged[i] for i in item.inputs])
        (inner,) = copy.inputs if len(item.inputs) == 1 else (None,)
        source = item.inputs[0] if item.inputs else None
        if (
            inner is not None
            and source is not None
            and item.kind == inner.kind == "function"
            and len(inner.inputs) == 1
            and not inner.name
            and readers[source] == 1
        ):
            copy = replace(copy, lines=[*inner.lines, *item.lines], inputs=inner.inputs)
            del merged[source]
        merged[item] = copy
    return list(merged.values())
