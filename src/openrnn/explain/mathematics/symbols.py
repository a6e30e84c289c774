"""What values are called on paper: from the names of variables and parameters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from openrnn.explain.mathematics.formula import Symbol
from openrnn.explain.mathematics.letters import GREEK, OVER
from openrnn.step.shape import Shape

# What a module that normalises is called, beside its own name.
_NORMS = ("layer", "norm", "layernorm", "ln", "rms", "rmsnorm")

_KIND = re.compile("(weight|bias)(_|$)")


def of_variable(name: str, time: str = "") -> Symbol:
    """`a_i` is a with i below, `h_tilde` has a tilde; a longer word stays one."""
    tokens = [token for token in name.split("_") if token] or [name]
    head, *below = tokens
    numbered = re.fullmatch(r"([A-Za-z])(\d+)", head)
    if numbered is not None:
        head, below = numbered[1], [numbered[2], *below]
    if len(head) > 2 and head not in GREEK and not all(token in OVER for token in below):
        return Symbol(name.strip("_") or name, time=time)
    for mark in OVER:
        if mark in below:
            below.remove(mark)
            head = f"{head}_{mark}"
    return Symbol(head, tuple(below), time=time)


def of_parameters(shapes: Mapping[str, Shape], norms: set[str]) -> dict[str, Symbol]:
    """A symbol for each parameter, by its dotted name.

    `weight_ih` is W with ih below, `linear.weight` W, or W with linear below where several modules
    have weights. Those of `norms` are γ and β.
    """
    linear = [name for name in shapes if name not in norms and _KIND.match(name.rpartition(".")[2])]
    owners = {name.rpartition(".")[0] for name in linear}
    found: dict[str, Symbol] = {}
    for detail in range(2):  # the second time with all that tells one from another
        clashing = Counter(found.values())
        for name, shape in shapes.items():
            if detail == 0 or clashing[found[name]] > 1:
                alone = len(owners) == 1 and detail == 0
                matrix = len(shape) > 1
                found[name] = _of_parameter(name, matrix, name in norms, alone, detail > 0)
    return found


def _of_parameter(name: str, matrix: bool, norm: bool, alone: bool, full: bool) -> Symbol:
    owner, _, last = name.rpartition(".")
    kind, _, rest = last.partition("_")
    below = tuple(token for token in rest.split("_") if token)
    if kind not in ("weight", "bias"):
        own = of_weight(last, matrix)
        return replace(own, below=(*own.below, owner)) if owner and full else own
    if norm:
        label = owner if full else norm_label(owner)
        letter = "gamma" if kind == "weight" else "beta"
        return Symbol(letter, (*filter(None, [label]), *below))
    letter = "b" if kind == "bias" else "W" if matrix else "w"
    if not owner or alone:
        return Symbol(letter, below)
    module = of_variable(owner.rpartition(".")[2])
    if re.fullmatch("[A-Z]", module.base) and not full:  # a module that is called W_f, or U
        if kind == "weight":
            return Symbol(module.base, (*module.below, *below))
        return Symbol(letter, (*(module.below or (module.base,)), *below))
    return Symbol(letter, (owner if full else owner.rpartition(".")[2], *below))


def of_weight(name: str, matrix: bool) -> Symbol:
    """Of a weight, or a part of one, that the user has a name for: a matrix is capital."""
    for word, letter in (("weight", "W" if matrix else "w"), ("bias", "b")):
        if name.split("_")[0] == word:
            return Symbol(letter, tuple(name.split("_")[1:]))
    own = of_variable(name)
    return replace(own, base=own.base.upper()) if matrix and own.base in ("w", "u") else own


def norm_label(owner: str) -> str:
    """What tells one norm from another: of norm_ih it is ih."""
    tokens = owner.rpartition(".")[2].split("_")
    kept = [re.sub(r"^(?:norm|ln)(?=\d)", "", token) for token in tokens if token not in _NORMS]
    return "_".join(kept)


def of_block(whole: Symbol, gate: str) -> Symbol:
    """The rows of a weight that belong to a gate: of W_ih, from input to hidden, W_ii."""
    *before, last = whole.below or ("",)
    if re.fullmatch("[a-z]h", last):
        last = last[0]
        joined = (last + gate,) if len(gate) <= 2 else (last, gate)
        return replace(whole, below=(*before, *joined))
    return replace(whole, below=(*whole.below, gate))


class Names:
    """Symbols that are taken; another value of the same name gets a prime."""

    def __init__(self) -> None:
        self._taken: set[Symbol] = set()

    def take(self, wanted: Symbol) -> Symbol:
        while wanted in self._taken:
            wanted = replace(wanted, primes=wanted.primes + 1)
        self._taken.add(wanted)
        return wanted
