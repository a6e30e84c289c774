"""The colours of a picture, on a light and on a dark page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paint:
    """What fills a shape, and what is drawn around it, which is also the colour of its lines."""

    fill: str
    edge: str


@dataclass(frozen=True)
class Colors:
    """One colour for each kind of thing, the same in all views.

    `gates` are given out in order; the first ones are easily told apart, also by the colour-blind.
    """

    page: str
    text: str
    quiet: str
    line: str
    plain: Paint
    input: Paint
    state: Paint
    result: Paint
    weight: Paint
    gates: tuple[Paint, ...]

    def gate(self, number: int) -> Paint:
        return self.gates[number % len(self.gates)]


LIGHT = Colors(
    page="#ffffff",
    text="#1f2328",
    quiet="#59636e",
    line="#818b98",
    plain=Paint("#f6f8fa", "#818b98"),
    input=Paint("#ddf4ff", "#0969da"),
    state=Paint("#fff1cc", "#9a6700"),
    result=Paint("#dafbe1", "#1a7f37"),
    weight=Paint("#f1eafe", "#8250df"),
    gates=(
        Paint("#cfe8fc", "#1f77b4"),
        Paint("#ffe0c2", "#d9730d"),
        Paint("#d5f0d2", "#2f8f3a"),
        Paint("#fbd5dd", "#c2385a"),
        Paint("#e6dbf7", "#7b52b9"),
        Paint("#f7efb5", "#94800a"),
        Paint("#cdeeea", "#128277"),
        Paint("#e8dcd3", "#80604d"),
    ),
)

DARK = Colors(
    page="#0d1117",
    text="#e6edf3",
    quiet="#9198a1",
    line="#7d8590",
    plain=Paint("#1c2128", "#7d8590"),
    input=Paint("#0c2d4d", "#58a6ff"),
    state=Paint("#3a2a05", "#d9a520"),
    result=Paint("#0b3219", "#3fb950"),
    weight=Paint("#2a1d45", "#a371f7"),
    gates=(
        Paint("#0f3350", "#5cb3f0"),
        Paint("#4a2a0a", "#f0943f"),
        Paint("#133a18", "#5cc566"),
        Paint("#4a1524", "#f2708f"),
        Paint("#2f2050", "#b08cf0"),
        Paint("#3b3408", "#d6c13c"),
        Paint("#0c3a36", "#43c4b5"),
        Paint("#3a2a20", "#c7a28c"),
    ),
)
