"""How an explanation is shown: on a terminal, as plain text, and in a notebook."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Sequence
from html import escape

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from openrnn.explain.explanation import Explanation
from openrnn.explain.section import Code, Rows, Section
from openrnn.explain.sections import sections

_WIDTH = 80
_WIDEST = 100  # of a terminal: longer lines are hard to read
_INDENT = 2
_NO_BREAK = "[:,\N{NO-BREAK SPACE}"  # in v1[:, 0:20]


def show(explanation: Explanation) -> None:
    """Prints it, in colours on a terminal. A notebook shows by itself what a call returns."""
    console = Console(highlight=False)
    if console.is_jupyter:
        return
    text = str(explanation)
    shown = in_encoding(text, console)
    if console.is_terminal and shown == text:
        width = min(console.width, _WIDEST)
        console.print(_renderable(sections(explanation), width), width=width)
    else:
        print(shown)


def in_encoding(text: str, console: Console) -> str:
    """The text with ? for each sign that the console's encoding, ASCII say, does not have."""
    return text.encode(console.encoding, "replace").decode(console.encoding)


def as_text(parts: Sequence[Section]) -> str:
    """Plain text in 80 columns."""
    with io.StringIO() as file:
        console = Console(file=file, width=_WIDTH, color_system=None, force_jupyter=False)
        console.print(_renderable(parts, _WIDTH))
        lines = file.getvalue().splitlines()
    return "\n".join(line.rstrip() for line in lines)


def _renderable(parts: Sequence[Section], width: int) -> RenderableType:
    shown: list[RenderableType] = []
    for number, section in enumerate(parts):
        if number:
            shown.append(Text())
        shown.append(Text(section.title, style="bold cyan" if number else "bold"))
        inside = [_part(part, width - _INDENT) for part in section.parts]
        shown += [Padding(part, (0, 0, 0, _INDENT), expand=False) for part in inside]
    return Group(*shown)


def _part(part: str | Rows | Code, width: int) -> RenderableType:
    if isinstance(part, str):
        return Text(part)
    if isinstance(part, Code):
        return Text("\n".join(_wrapped(part.lines, width)))
    table = Table(
        box=None,
        show_header=part.header is not None,
        header_style="dim",
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    columns = max(map(len, part.rows), default=0)
    for index in range(columns):
        left = index < part.left
        name = part.header[index] if part.header else ""
        table.add_column(
            Text(name),
            justify="left" if left else "right",
            overflow="fold",
            no_wrap=not left,
        )
    for row in part.rows:
        table.add_row(*map(Text, row))
    return table


def _wrapped(lines: Iterable[str], width: int) -> list[str]:
    """The lines, each of those too long in several, with what follows a little to the right."""
    found = []
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        whole = line.replace("[:, ", _NO_BREAK)
        broken = textwrap.wrap(whole, width, subsequent_indent=indent, break_on_hyphens=False)
        found += [part.replace(_NO_BREAK, "[:, ") for part in broken] or [""]
    return found


# --- a notebook ----------------------------------------------------------------------------------

_CELL = "text-align: {}; vertical-align: top; padding: 0.1em 1.2em 0.1em 0"


def as_html(parts: Sequence[Section]) -> str:
    """Titles, tables and lines of code, in the page's own letters and colours."""
    inside = "".join(_section_html(part, number == 0) for number, part in enumerate(parts))
    return f"<div>{inside}</div>"


def _section_html(section: Section, first: bool) -> str:
    level = "h3" if first else "h4"
    inside = "".join(map(_part_html, section.parts))
    return f"<{level}>{escape(section.title)}</{level}>{inside}"


def _part_html(part: str | Rows | Code) -> str:
    if isinstance(part, str):
        return f'<p style="margin: 0.3em 0">{escape(part)}</p>'
    if isinstance(part, Code):
        return f"<pre>{escape(chr(10).join(part.lines))}</pre>"
    header = "" if part.header is None else _row_html(part.header, "th", part.left)
    rows = "".join(_row_html(row, "td", part.left) for row in part.rows)
    return f"<table>{header}{rows}</table>"


def _row_html(row: Sequence[str], tag: str, left: int) -> str:
    cells = "".join(
        f'<{tag} style="{_CELL.format("left" if index < left else "right")}">'
        f"{escape(text).replace(chr(10), '<br/>')}</{tag}>"
        for index, text in enumerate(row)
    )
    return f"<tr>{cells}</tr>"
