"""What the symbols of a system of equations mean: parameters, norms, random numbers, gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from openrnn.explain.mathematics.formula import Formula, Symbol
from openrnn.explain.mathematics.letters import symbol_text
from openrnn.explain.mathematics.system import Equation, System
from openrnn.step.shape import Shape, features, show_shape


def notes(system: System, backward: bool) -> tuple[str, ...]:
    """A line for each thing that the equations do not say."""
    equations = (*system.equations, *system.where)
    formulas = [f for e in equations for side in (*e.left, e.right) for f in side.walk()]
    used = {replace(f.data, mark="", above="") for f in formulas if f.op == "symbol"}
    found = [*_parameters(system, used), *_random(system, used)]
    found += _norms(f for f in formulas if f.op in ("norm", "norm_back"))
    if any(f.op == "indicator" for f in formulas):
        found.append("1[…] is 1 where that holds, else 0")
    return (*found, *(_gradients(equations) if backward else ()))


# --- parameters ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """Some rows of a parameter, or of `owner`, a part of it in its own right."""

    symbol: Symbol
    owner: str
    shape: Shape  # of the owner
    rows: tuple[int, int]
    numbers: Shape  # of the parameter itself, where the owner is a matrix made of it
    matrix: bool


def _parameters(system: System, used: set[Symbol]) -> Iterator[str]:
    """Each parameter by its own name, as what the equations call it, or its rows."""
    parts: dict[str, list[_Part]] = {}
    for symbol, origin in system.reader.origins.items():
        part = _part(symbol, origin)
        if part is not None:
            parts.setdefault(part.owner, []).append(part)
    rows = []
    for owner, found in parts.items():
        found = [p for p in found if p.matrix] or found
        if used.isdisjoint(part.symbol for part in found):
            continue
        whole = [p for p in found if p.rows == (0, p.shape[0])]
        pieces = sorted((p for p in found if p not in whole), key=lambda p: p.rows)
        ends = [0, *(p.rows[1] for p in pieces)]
        names = [symbol_text(p.symbol) for p in whole if p.symbol in used]
        if [p.rows[0] for p in pieces] == ends[:-1] and ends[-1] == found[0].shape[0]:
            names.append(f"[{'; '.join(symbol_text(p.symbol) for p in pieces)}]")
            pieces = []
        if names and names != [owner]:
            rows.append((owner, " = ".join(names), _size(found[0])))
        for p in pieces:
            start, stop = p.rows
            if p.symbol in used:
                size = f"({', '.join(map(str, (stop - start, *p.shape[1:])))})"
                rows.append((f"{owner}[{start}:{stop}]", symbol_text(p.symbol), size))
    name, middle = (max((len(row[n]) for row in rows), default=0) for n in (0, 1))
    for row in rows:
        yield f"{row[0]:<{name}} = {row[1]:<{min(middle, 40)}}  {row[2]}"


def _part(symbol: Symbol, origin: Formula) -> _Part | None:
    """Where in a parameter it is; None of what is no parameter."""
    if origin.op == "symbol":
        shape = origin.shape
        if origin.data.base.startswith("random.") or not shape:
            return None
        return _Part(symbol, origin.data.base, shape, (0, _int(shape[0])), shape, False)
    inner = _part(symbol, origin.inputs[0])
    if inner is None or not origin.shape:
        return None
    rows = (0, _int(origin.shape[0]))
    if origin.op == "matrix":
        return replace(inner, shape=origin.shape, rows=rows, matrix=True)
    if origin.op == "slice":
        where = dict(origin.data)
        start, stop = where["start"], where["stop"]
        if where["dim"] == 0:
            first = inner.rows[0]
            return replace(inner, rows=(first + start, first + stop))
        owner = f"{inner.owner}[{':, ' * where['dim']}{start}:{stop}]"
        return replace(inner, owner=owner, shape=origin.shape, rows=rows)
    owner, (start, stop) = inner.owner, inner.rows
    if origin.op == "reshape" and stop == start + 1:
        owner = f"{owner}[{start}]"
    elif (start, stop) != (0, inner.shape[0]):
        owner = f"{owner}[{start}:{stop}]"
    if origin.op == "expand" and features(origin.shape) != features(origin.inputs[0].shape):
        owner = f"{owner}, repeated,"
    return replace(inner, owner=owner, shape=origin.shape, rows=rows)


def _int(size: object) -> int:
    assert isinstance(size, int)
    return size


def _size(part: _Part) -> str:
    if not part.matrix:
        return show_shape(part.shape)
    zeros = ", 0 between heads" if features(part.shape) > features(part.numbers) else ""
    return f"{show_shape(part.shape)}, from {show_shape(part.numbers)}{zeros}"


# --- the rest ------------------------------------------------------------------------------------


def _random(system: System, used: set[Symbol]) -> Iterator[str]:
    found: dict[str, list[str]] = {}
    for symbol, (node, scale) in system.reader.drawn.items():
        kind = node["distribution"]
        if kind == "uniform":
            how = "uniform from 0 to 1"
        elif kind == "normal":
            how = "normal, of mean 0 and deviation 1"
        else:
            one = "1" if scale == 1 else f"1 / {1 / scale:.9g}"
            how = f"{one} with probability {node['p']:.9g}, else 0"
        if symbol in used:
            found.setdefault(how, []).append(symbol_text(symbol))
    for how, names in found.items():
        yield f"{', '.join(names)}: {how}, drawn for each step, row and unit"


def _norms(formulas: Iterable[Formula]) -> list[str]:
    """What the names of norms, and of their derivatives, stand for."""
    found: dict[str, int] = {}  # with the order
    for f in formulas:
        attributes = dict(f.data)
        centre, parts = attributes["centre"], attributes["parts"]
        spread = f"√({'var(a)' if centre else 'mean(a²)'} + {attributes['eps']:.9g})"
        short, name = ("norm", "LN") if centre else ("rms", "RMS")
        plain = f"(a - mean(a)) / {spread}" if centre else f"a / {spread}"
        if parts:
            scaled = f"γ ⊙ {plain}" if "weight" in parts else plain
            found[f"{name}(a) = {scaled}{' + β' if 'bias' in parts else ''}"] = 0
        if not parts or f.op == "norm_back":
            found[f"{short}(a) = {plain}"] = 1
        if f.op == "norm_back":
            d, meaning = ("d", ", with d = γ ⊙ δ") if "weight" in parts else ("δ", "")
            less = f"{d} - mean({d})" if centre else d
            less = f"({less} - {short}(a) ⊙ mean({d} ⊙ {short}(a)))"
            found[f"{name if parts else short}'(a)ᵀ δ = {less} / {spread}{meaning}"] = 2
    return sorted(found, key=found.__getitem__)


def _gradients(equations: Iterable[Equation]) -> Iterator[str]:
    symbols = [s.data for e in equations for s in (*e.left, *e.right.symbols())]
    out = dict.fromkeys(symbol_text(s) for s in symbols if s.above == "out")
    after = dict.fromkeys(symbol_text(s) for s in symbols if s.above == "next" and s.time == "t")
    if out:
        yield f"{', '.join(out)}: from the loss at step t"
    if after:
        yield f"{', '.join(after)}: what step t + 1 hands back, 0 at the last step"
    yield "Σ_t: the sum over all steps t, and all rows of the batch"
