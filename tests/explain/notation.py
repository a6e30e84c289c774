"""Equations, as `openrnn.equations` prints them, read back and computed: from their text alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from openrnn.explain.equations import CellEquations


@dataclass
class Value:
    """A vector for each row of the batch, a bias or a number, or a matrix; turned is ᵀ."""

    tensor: Tensor
    matrix: bool = False
    turned: bool = False


Symbols = dict[str, Value]


def parameters(cell: CellEquations, tensors: Mapping[str, Tensor]) -> Symbols:
    """What the notes say of the parameters: `weight_ih = W_ih = [W_ii; W_if]`."""
    sizes = {t.name: t.shape for line in (*cell.lines, *cell.where) for t in line.terms}
    found: Symbols = {}
    for note in cell.notes:
        match = re.fullmatch(r"([\w.]+)((?:\[[^]]*\])*) +=(.*?)  +\(.*", note)
        if match is None or match[1] not in tensors:
            continue
        tensor = tensors[match[1]]
        if match[2]:
            tensor = eval(f"tensor{match[2]}", {"tensor": tensor})
        if ", from (" in note:
            tensor = torch.cat([torch.block_diag(*heads) for heads in tensor])
        for called in match[3].split(" = "):
            names = called.strip(" []").split("; ")
            rows = [first_number(sizes[n]) if n in sizes else None for n in names]
            known = sum(r for r in rows if r is not None)
            rest = (len(tensor) - known) // max(rows.count(None), 1)
            if len(names) == 1:
                found[names[0]] = Value(tensor, tensor.dim() > 1)
                continue
            parts = tensor.split([rest if r is None else r for r in rows])
            for name, part in zip(names, parts, strict=True):
                found[name] = Value(part, part.dim() > 1)
    return found


def first_number(shape: str) -> int:
    return int(shape.strip("()").split(",")[0])


def solve(lines: Any, symbols: Symbols) -> None:
    """Computes the left side of each line."""
    for line in lines:
        left, right = line.text.split(" = ", 1)
        value = _Parser(right, symbols).whole()
        names = left.strip("[]").split("; ")
        parts = value.tensor.chunk(len(names), -1) if len(names) > 1 else [value.tensor]
        for name, part in zip(names, parts, strict=True):
            symbols[name] = Value(part, value.matrix)


_FUNCTIONS = {
    "σ": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "exp": torch.exp,
    "log": torch.log,
    "log σ": torch.nn.functional.logsigmoid,
    "√": torch.sqrt,
    "softplus": torch.nn.functional.softplus,
    "mean": lambda a: a.mean(-1, keepdim=True),
    "max": torch.maximum,
    "min": torch.minimum,
}
_COMPARED = {
    "=": torch.eq, "≠": torch.ne, "<": torch.lt, "≤": torch.le, ">": torch.gt, "≥": torch.ge,
}  # fmt: skip
_TOKEN = re.compile(
    r"1\[|\d+(?:\.\d+)?(?:e-?\d+)?|Σ_t|log σ\(|(?:LN|norm)(?:_\w+)?'?\(|"
    r"(?:σ|tanh|relu|exp|log|softplus|mean|max|min|√)\(|\[\d+:\d+\]|[][()+\-⊙·/ᵀ²³;,=≠<≤>≥]|\b(?:if|else)\b"
)


class _Parser:
    def __init__(self, text: str, symbols: Symbols) -> None:
        self._symbols, self._at = symbols, 0
        self._tokens = self._split(text)

    def _split(self, text: str) -> list[str]:
        tokens, at = [], 0
        names = sorted(self._symbols, key=len, reverse=True)
        while at < len(text):
            if text[at] == " ":
                at += 1
                continue
            symbol = (
                n for n in names if re.match(re.escape(n) + r"(?![A-Za-z0-9_'^(\u0303])", text[at:])
            )
            match = _TOKEN.match(text, at)
            token = next(symbol, None) or (match and match[0])
            assert token, f"not understood: {text[at:]!r} of {text!r}"
            tokens.append(token)
            at += len(token)
        return tokens

    def _next(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self, *wanted: str) -> str | None:
        if self._next() in wanted:
            self._at += 1
            return self._tokens[self._at - 1]
        return None

    def _expect(self, token: str) -> None:
        assert self._take(token), f"{token} expected at {self._at} of {self._tokens}"

    def whole(self) -> Value:
        value = self._choice()
        assert self._next() is None, f"too much: {self._tokens[self._at :]}"
        return value

    def _choice(self) -> Value:
        value = self._sum()
        if self._take("if"):
            condition = self._condition()
            self._expect("else")
            return Value(torch.where(condition, value.tensor, self._choice().tensor))
        return value

    def _condition(self) -> Tensor:
        left = self._sum().tensor
        sign = self._take(*_COMPARED)
        assert sign is not None
        return _COMPARED[sign](left, self._sum().tensor)

    def _sum(self) -> Value:
        negative = self._take("-")
        total = self._product()
        total = Value(-total.tensor, total.matrix) if negative else total
        while sign := self._take("+", "-"):
            term = self._product().tensor
            total = Value(total.tensor + (term if sign == "+" else -term), total.matrix)
        return total

    def _product(self) -> Value:
        if self._take("Σ_t"):
            inside = self._product()
            return inside if inside.matrix else Value(inside.tensor.sum(0))
        product = self._applied()
        while sign := self._take("⊙", "·", "/"):
            factor = self._applied().tensor
            product = Value(product.tensor * factor if sign != "/" else product.tensor / factor)
        return product

    def _applied(self) -> Value:
        """A matrix and a vector beside each other, a gradient and xᵀ, a number and a vector."""
        left = self._postfix()
        following = self._next()
        if following is None or re.match(r"[])+\-⊙·/;,=≠<≤>≥]|if$|else$", following):
            return left
        right = self._applied()
        if left.matrix:
            return Value(right.tensor @ left.tensor.T)
        if right.turned:
            return Value(left.tensor.T @ right.tensor, matrix=True)
        assert left.tensor.dim() == 0, "a number is what else may stand before a vector"
        return Value(left.tensor * right.tensor)

    def _postfix(self) -> Value:
        value = self._atom()
        while True:
            following = self._next()
            if self._take("ᵀ"):
                turned = value.tensor.T if value.matrix else value.tensor
                value = Value(turned, value.matrix, not value.turned)
            elif sign := self._take("²", "³"):
                value = Value(value.tensor ** {"²": 2, "³": 3}[sign])
            elif following is not None and re.fullmatch(r"\[\d+:\d+\]", following):
                self._at += 1
                start, stop = map(int, following.strip("[]").split(":"))
                value = Value(value.tensor[..., start:stop])
            else:
                return value

    def _atom(self) -> Value:
        token = self._next()
        assert token is not None
        self._at += 1
        if token in self._symbols:
            return self._symbols[token]
        if token == "(":
            value = self._choice()
            self._expect(")")
            return value
        if token == "[":
            parts = [self._sum().tensor]
            while self._take(";"):
                parts.append(self._sum().tensor)
            self._expect("]")
            return Value(torch.cat(parts, -1))
        if token == "1[":
            condition = self._condition()
            self._expect("]")
            return Value(condition.double())
        if token.endswith("("):
            return self._function(token[:-1])
        return Value(torch.tensor(float(token), dtype=torch.float64))

    def _function(self, name: str) -> Value:
        arguments = [self._choice().tensor]
        while self._take(","):
            arguments.append(self._choice().tensor)
        self._expect(")")
        if name.startswith(("LN", "norm")):
            return self._norm(name, arguments[0])
        return Value(_FUNCTIONS[name](*arguments))

    def _norm(self, name: str, a: Tensor) -> Value:
        back, label = name.endswith("'"), name.rstrip("'").partition("_")[2]
        after = f"_{label}" if label else ""
        gain = self._symbols[f"γ{after}"].tensor if name.startswith("LN") else None
        shift = self._symbols.get(f"β{after}", Value(torch.zeros(()))).tensor
        shift = shift.expand(a.size(-1)).to(a) if gain is not None else None

        def run(a: Tensor) -> Tensor:
            return torch.nn.functional.layer_norm(a, a.shape[-1:], gain, shift)

        if not back:
            return Value(run(a))
        self._expect("ᵀ")
        delta = self._applied().tensor
        return Value(torch.autograd.functional.vjp(run, a, delta)[1])
