"""The text of a layer's two files: a header with the interface, a source with the weights."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import openrnn
from openrnn.backends.cpu.items import indent
from openrnn.export.contents import Array, Contents, Field
from openrnn.export.names import comment
from openrnn.export.scope import copied, each

_IN_A_LINE = 6
_WIDTH = 90


def header(contents: Contents, about: str) -> str:
    """The interface; `about` says what x and y are."""
    name, steps, real = contents.name, contents.steps, contents.language.real
    sizes = {"INPUT": steps.input_size, "OUTPUT": steps.output_size}
    lines = [
        "/*",
        f" * {name}: {comment(steps.title)}, one step after another.",
        f" * Written by OpenRNN {openrnn.__version__}; C99, and nothing but math.h.",
        *_about(about),
        " *",
        f" * Weights {contents.weight_bytes:,} bytes, state {contents.state_bytes:,} bytes.",
        " */",
        f"#ifndef {name.upper()}_H",
        f"#define {name.upper()}_H",
        "",
        *(f"#define {name.upper()}_{which}_SIZE {size}" for which, size in sizes.items()),
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        "/* One sequence: its state, and the memory of a step. */",
        "typedef struct {",
        *(
            f"    {real} {one.name}[{one.size}];" + (f" /* {one.about} */" if one.about else "")
            for one in contents.fields + contents.rest
        ),
        f"}} {name}_state;",
        "",
        "/* Before all else: makes the memory ready for a sequence. */",
        f"void {name}_init({name}_state *state);",
        "",
        "/* Before another sequence: the initial state. */",
        f"void {name}_reset({name}_state *state);",
        "",
        "/* One step: x is read, the state goes on, y is written. Both may be the same array. */",
        f"void {name}_step({name}_state *state, const {real} *x, {real} *y);",
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "",
        "#endif",
    ]
    return "\n".join(lines) + "\n"


def source(contents: Contents) -> str:
    """The weights, and the functions."""
    name, real = contents.name, contents.language.real
    parts = ["#include <math.h>\n" + f'#include "{name}.h"']
    parts += ["\n".join(_array(array, contents)) for array in contents.arrays]
    parts += [text for text in [contents.language.functions().strip("\n")] if text]
    parts += contents.functions
    init = [line for field in contents.rest for line in _begin(field)]
    reset = [line for field in contents.fields for line in _begin(field)]
    parts.append(
        _function(f"void {name}_init({name}_state *state)", [*init, f"{name}_reset(state);"])
    )
    parts.append(_function(f"void {name}_reset({name}_state *state)", reset))
    head = f"void {name}_step({name}_state *state, const {real} *x, {real} *y)"
    parts.append(_function(head, contents.body))
    return "\n\n".join(parts) + "\n"


def _about(text: str) -> Iterator[str]:
    """Lines of a comment, the paragraphs wrapped, and hanging behind a name such as x[0]."""
    for paragraph in ["", *text.splitlines()] if text else []:
        first, space, rest = paragraph.partition("  ")
        hang = " " * (len(first) + 2) if space else ""
        lines = textwrap.wrap(comment(rest if space else first), _WIDTH - len(hang)) or [""]
        for number, line in enumerate(lines):
            yield f" * {first + '  ' if space and not number else hang}{line}".rstrip()


def _function(head: str, body: list[str]) -> str:
    return "\n".join([head, "{", *indent(body, 2), "}"])


def _begin(field: Field) -> Iterator[str]:
    target = f"state->{field.name}"
    if field.begins is not None:
        return copied(target, field.begins, field.size)
    return each(field.size, f"{target}[{{j}}] = 0;")


def _array(array: Array, contents: Contents) -> Iterator[str]:
    numbers = [contents.language.number(value) for value in array.tensor.flatten().tolist()]
    yield f"/* {array.about} */"
    yield f"static const {contents.language.real} {array.name}[{len(numbers)}] = {{"
    for start in range(0, len(numbers), _IN_A_LINE):
        yield f"    {', '.join(numbers[start : start + _IN_A_LINE])},"
    yield "};"
