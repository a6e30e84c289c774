"""Formulas: trees of symbols, with the arithmetic of paper, and their value in numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from openrnn.explain.mathematics.words import WORDS
from openrnn.step.shape import Shape, batch_dim, broadcast, features


@dataclass(frozen=True)
class Symbol:
    """A letter, or a word, with what stands around it.

    `mark` is δ for a gradient, Δ for one added up over time; `above` says of a gradient from where.
    """

    base: str
    below: tuple[str, ...] = ()
    primes: int = 0
    time: str = ""  # "t" or "t-1"
    mark: str = ""
    above: str = ""


@dataclass(frozen=True)
class Formula:
    """An operation on formulas, in the words of a graph, or one of those that paper has:

    "symbol" and "number"; "total", "minus", "times" (element by element), "over", "power" of two
    or more; "apply" a matrix to a vector, "turned" (ᵀ), "outer" and "over time", which add up
    over all steps.
    """

    op: str
    inputs: tuple[Formula, ...] = ()
    shape: Shape = ()
    data: Any = None  # a symbol's, a number, or the attributes of an operation

    def symbols(self) -> Iterator[Formula]:
        """Those in it, from left to right."""
        if self.op == "symbol":
            yield self
        for formula in self.inputs:
            yield from formula.symbols()

    def walk(self) -> Iterator[Formula]:
        """The formula and all inside it."""
        yield self
        for formula in self.inputs:
            yield from formula.walk()

    def value(self, given: Mapping[Symbol, Tensor]) -> Tensor:
        """Its numbers, for those of its symbols: vectors as rows, one for each row of the batch."""
        if self.op == "symbol":
            return given[self.data]
        if self.op == "number":
            like = next(iter(given.values()))
            return torch.tensor(self.data, dtype=like.dtype)
        inputs = [formula.value(given) for formula in self.inputs]
        run = _ARITHMETIC.get(self.op)
        if run is not None:
            return run(*inputs)
        attributes = dict(self.data or ())
        if self.op in ("reshape", "expand"):
            return _viewed(inputs[0], self.shape)
        meaning = WORDS[self.op].run
        assert meaning is not None
        return meaning(*inputs, **attributes)


def _viewed(value: Tensor, shape: Shape) -> Tensor:
    """In another shape: B is what the numbers leave."""
    place, known = batch_dim(shape), [d if isinstance(d, int) else -1 for d in shape]
    if place is not None and value.dim() == len(shape) and value.shape[place] != 1:
        known[place] = value.shape[place]
    few = value.numel() < torch.Size([abs(d) for d in known]).numel()
    return value.expand(known) if few else value.reshape(known)


def _total(*terms: Tensor) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _times(*factors: Tensor) -> Tensor:
    product = factors[0]
    for factor in factors[1:]:
        product = product * factor
    return product


_ARITHMETIC: dict[str, Callable[..., Tensor]] = {
    "total": _total,
    "minus": torch.neg,
    "times": _times,
    "over": torch.div,
    "power": torch.pow,
    "apply": lambda matrix, vector: vector.expand(*vector.shape[:-1], matrix.shape[1]) @ matrix.T,
    "turned": lambda matrix: matrix.T,
    "outer": lambda left, right: left.T @ right,
    "over time": lambda vector: vector.sum(0),
    "indicator": lambda condition: condition.to(torch.float64),
}


# --- the arithmetic: each gives the form that a reader would write --------------------------------


def number(value: float) -> Formula:
    return minus(number(-value)) if value < 0 else Formula("number", data=value)


def symbol(of: Symbol, shape: Shape) -> Formula:
    return Formula("symbol", shape=shape, data=of)


def minus(formula: Formula) -> Formula:
    if formula.op == "minus":
        return formula.inputs[0]
    return Formula("minus", (formula,), formula.shape)


def total(*terms: Formula) -> Formula:
    """The sum, without sums inside it and without zeros; equal terms are counted."""
    flat: list[Formula] = []
    for term in terms:
        negative = term.op == "minus" and term.inputs[0].op == "total"
        inner = term.inputs[0] if negative else term
        parts = inner.inputs if inner.op == "total" else (inner,)
        flat += [minus(part) if negative else part for part in parts]
    plain = [term for term in flat if _unsigned(term).op == "number"]
    if len(plain) > 1 or plain == [number(0)]:  # one number in the place of the first
        at = flat.index(plain[0])
        rest = sum(-t.inputs[0].data if t.op == "minus" else t.data for t in plain)
        flat = [term for term in flat if term not in plain]
        flat[at:at] = [number(rest)] if rest else []
    counted: dict[Formula, int] = {}
    for term in flat:
        counted[term] = counted.get(term, 0) + 1
    flat = [t if n == 1 else times(number(n), t) for t, n in counted.items()]
    if len(flat) < 2:
        return flat[0] if flat else number(0)
    return Formula("total", tuple(flat), _shape(flat))


def times(*factors: Formula) -> Formula:
    """The product, element by element: the number first, products with a weight last."""
    below = [factor.inputs[1] for factor in map(_unsigned, factors) if factor.op == "over"]
    if below:
        above = [_numerator(factor) for factor in factors]
        return over(times(*above), times(*below))
    flat: list[Formula] = []
    coefficient = 1.0
    for factor in factors:
        if factor.op == "minus":
            coefficient, factor = -coefficient, factor.inputs[0]
        for part in factor.inputs if factor.op == "times" else (factor,):
            if part.op == "number":
                coefficient *= part.data
            else:
                flat.append(part)
    flat = _with_powers(flat)
    flat.sort(key=lambda part: any(f.op == "apply" for f in (part, *part.inputs)))
    size = abs(coefficient)
    if coefficient == 0:
        return number(0)
    if size != 1 or not flat:
        flat.insert(0, number(size))
    product = flat[0] if len(flat) == 1 else Formula("times", tuple(flat), _shape(flat))
    return minus(product) if coefficient < 0 else product


def _unsigned(formula: Formula) -> Formula:
    return formula.inputs[0] if formula.op == "minus" else formula


def _numerator(formula: Formula) -> Formula:
    if formula.op == "minus":
        return minus(_numerator(formula.inputs[0]))
    return formula.inputs[0] if formula.op == "over" else formula


def _with_powers(factors: list[Formula]) -> list[Formula]:
    exponents: dict[Formula, float] = {}
    for factor in factors:
        base, exponent = factor, 1.0
        if factor.op == "power" and factor.inputs[1].op == "number":
            base, exponent = factor.inputs[0], factor.inputs[1].data
        exponents[base] = 1 if base.op == "indicator" else exponents.get(base, 0) + exponent
    return [power(base, number(n)) for base, n in exponents.items()]


def power(base: Formula, exponent: Formula) -> Formula:
    if exponent == number(1):
        return base
    return Formula("power", (base, exponent), _shape([base, exponent]))


def over(numerator: Formula, denominator: Formula) -> Formula:
    if numerator.op == "minus":
        return minus(over(numerator.inputs[0], denominator))
    if numerator.op == "sum" and denominator.op == "number":
        count = features(numerator.inputs[0].shape) / features(numerator.shape)
        if count == denominator.data:
            return Formula("mean", numerator.inputs, numerator.shape, numerator.data)
    return Formula("over", (numerator, denominator), _shape([numerator, denominator]))


def apply(matrix: Formula, vector: Formula) -> Formula:
    """W x, or with the sign before it."""
    if vector.op == "minus":
        return minus(apply(matrix, vector.inputs[0]))
    if vector == number(0):
        return vector
    return Formula("apply", (matrix, vector), (*vector.shape[:1], *matrix.shape[:1]))


def turned(matrix: Formula) -> Formula:
    if matrix.op == "turned":
        return matrix.inputs[0]
    return Formula("turned", (matrix,), matrix.shape[::-1])


def outer(left: Formula, right: Formula) -> Formula:
    """Σ_t left rightᵀ, over all steps and rows."""
    if left.op == "minus":
        return minus(outer(left.inputs[0], right))
    if number(0) in (left, right):
        return number(0)
    return Formula("outer", (left, right), (left.shape[-1], right.shape[-1]))


def over_time(vector: Formula) -> Formula:
    """Σ_t, over all steps and rows."""
    if vector.op == "minus":
        return minus(over_time(vector.inputs[0]))
    if vector == number(0):
        return vector
    return Formula("over time", (vector,), vector.shape[1:])


def call(op: str, inputs: tuple[Formula, ...], shape: Shape, **attributes: Any) -> Formula:
    """Any other operation of a graph."""
    return Formula(op, inputs, shape, tuple(sorted(attributes.items())))


def with_common_factors(formula: Formula) -> Formula:
    """a ⊙ b - a ⊙ c as a ⊙ (b - c), in sums and products."""
    if formula.op == "minus":
        return minus(with_common_factors(formula.inputs[0]))
    if formula.op == "times":
        return times(*map(with_common_factors, formula.inputs))
    if formula.op != "total":
        return formula
    terms = list(map(with_common_factors, formula.inputs))
    first = next((term for term in terms if term.op != "minus"), terms[0])
    terms.insert(0, terms.pop(terms.index(first)))  # no sum begins with a sign
    signs = [term.op == "minus" for term in terms]
    bare = list(map(_unsigned, terms))
    factors = [list(term.inputs) if term.op == "times" else [term] for term in bare]
    common = [f for f in factors[0] if all(f in others for others in factors[1:])]
    if not common:
        return total(*terms)
    rests = [times(*(f for f in own if f not in common)) for own in factors]
    pairs = zip(rests, signs, strict=True)
    return times(*common, total(*(minus(rest) if negative else rest for rest, negative in pairs)))


def _shape(formulas: list[Formula]) -> Shape:
    return broadcast([formula.shape for formula in formulas])
