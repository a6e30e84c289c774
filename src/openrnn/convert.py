"""`openrnn.convert` and `openrnn.to_torch`: the layers of a model there and back, in place."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from openrnn.binding import parametrized
from openrnn.cells import Cell, GRUCell, LSTMCell, RNNCell
from openrnn.conversion import Conversion, Left, Replaced
from openrnn.errors import ArgumentTypeError
from openrnn.layers.dropin import DropIn, Options
from openrnn.layers.gru import GRU
from openrnn.layers.int8layer import is_quantized
from openrnn.layers.layer import Layer
from openrnn.layers.lstm import LSTM
from openrnn.layers.rnn import RNN

Kind = type[nn.Module]
# A module, its class without parametrizations, the class that it would become -> why it stays.
Refuse = Callable[[nn.Module, Kind, Kind | None], str | None]

_OURS: dict[Kind, Kind] = {
    nn.RNN: RNN,
    nn.LSTM: LSTM,
    nn.GRU: GRU,
    nn.RNNCell: RNNCell,
    nn.LSTMCell: LSTMCell,
    nn.GRUCell: GRUCell,
}
_TORCHS = {ours: theirs for theirs, ours in _OURS.items()}
_NAMES = {kind.__name__ for kind in _OURS}


def convert(model: nn.Module) -> Conversion:
    """Makes every RNN, LSTM, GRU and cell of torch.nn in a model one of OpenRNN, in place.

    Each module stays the object that it is, and changes its class. So the model may be such a layer
    itself, what refers to a module from elsewhere still does, and hooks, train or eval mode and
    parametrizations stay. Its parameters are the same objects too: an optimizer that was built
    before goes on with them, and `requires_grad`, device, dtype and `state_dict` are as before.

    Left as they are: subclasses, whose own methods would be lost; quantized and scripted modules;
    a module whose `forward` was set on the object; one whose parameters are not those of its sizes.
    If anything is raised, nothing has been changed.

    Args:
        model: any module.

    Returns:
        A `Conversion`, to be printed: what was replaced, what was left, and why.

    Raises:
        ArgumentTypeError: not a module.
        ArgumentError: a module of torch.nn that cannot run, with an unknown nonlinearity.

    Examples:
        >>> model = torch.nn.ModuleDict({"rnn": torch.nn.LSTM(30, 20)})
        >>> convert(model)
        ModuleDict: 1 replaced, 0 left
          rnn  torch.nn.LSTM -> openrnn.LSTM
    """
    return _exchange("convert", model, _OURS, _why_not_ours)


def to_torch(model: nn.Module) -> Conversion:
    """Makes every layer and cell of OpenRNN in a model that of torch.nn, in place.

    The way back of `convert`, which tells what stays the same. Left as they are: layers and cells
    that torch.nn has not; those with an option that it has not, `zoneout` say, or a backend that
    was asked for; subclasses; a module whose `forward` was set on the object.

    Args:
        model: any module.

    Returns:
        A `Conversion`, to be printed: what was replaced, what was left, and why.

    Raises:
        ArgumentTypeError: not a module.

    Examples:
        >>> from openrnn import GRU, LSTM
        >>> to_torch(torch.nn.Sequential(GRU(30, 20), LSTM(20, 10, zoneout=0.1)))
        Sequential: 1 replaced, 1 left
          0  openrnn.GRU -> torch.nn.GRU
          1  LSTM left: torch.nn.LSTM has no zoneout=0.1
    """
    return _exchange("to_torch", model, _TORCHS, _why_not_torchs)


def _exchange(
    asked: str, model: nn.Module, kinds: Mapping[Kind, Kind], refuse: Refuse
) -> Conversion:
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(
            f"{asked}: expected a model, a torch.nn.Module, got {type(model).__name__}"
        )
    places: dict[nn.Module, list[str]] = {}  # a module at two places is one
    for place, module in model.named_modules(remove_duplicate=False):
        places.setdefault(module, []).append(place)
    changes: list[_Change] = []
    replaced: list[Replaced] = []
    left: list[Left] = []
    for module, names in places.items():
        kind = parametrize.type_before_parametrizations(module)
        new = kinds.get(kind)
        if reason := refuse(module, kind, new):
            left.append(Left(tuple(names), _name(module, kind), reason))
        elif new is not None:
            changes.append(_Change(module, kind, new))
            replaced.append(Replaced(tuple(names), _title(kind), _title(new)))
    for change in changes:  # nothing is raised from here on
        change.make()
    return Conversion(model, tuple(replaced), tuple(left))


class _Change:
    """A module that is to be of another class."""

    def __init__(self, module: nn.Module, old: Kind, new: Kind) -> None:
        self._module = module
        before, after = _like(module, old).__dict__, _like(module, new).__dict__
        self._lost = [name for name in before if name not in after]
        self._gained = {name: value for name, value in after.items() if name not in before}
        self._kind = new
        self._computed = parametrized(module)
        if self._computed:  # torch reads these from a class made for the module
            given = vars(type(module))
            names = ("__module__", "__getstate__", "__deepcopy__", *self._computed)
            own = {name: given[name] for name in names if name in given}
            metaclass: Any = type(new)
            self._kind = metaclass(f"Parametrized{new.__name__}", (new,), own)

    def make(self) -> None:
        module: Any = self._module
        for name in self._lost:
            module.__dict__.pop(name, None)
        module.__dict__.update(self._gained)
        module.__class__ = self._kind
        if isinstance(module, nn.RNNBase):
            # torch's list of weights; one that is computed would hold the graph of an old call.
            names: list[str] = module._flat_weights_names
            for place, name in enumerate(names):
                if name in self._computed:
                    module._flat_weights[place] = None
            module.flatten_parameters()


def _like(module: Any, kind: Kind) -> nn.Module:
    """A module of this class with the same sizes, without numbers."""
    ours: Any = _OURS.get(kind, kind)
    taken = [
        name
        for name, parameter in inspect.signature(ours).parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        # Dropout is read at each call, and warns of a single layer again.
        and name not in ("device", "dtype", "dropout")
    ]
    return kind(**{name: getattr(module, name) for name in taken}, device="meta")


def _name(module: nn.Module, kind: Kind) -> str:
    return (
        str(module.original_name) if isinstance(module, torch.jit.ScriptModule) else kind.__name__
    )


def _title(kind: Kind) -> str:
    return f"{'torch.nn' if kind in _OURS else 'openrnn'}.{kind.__name__}"


def _why_not_ours(module: nn.Module, kind: Kind, new: Kind | None) -> str | None:
    if isinstance(module, torch.jit.ScriptModule) and module.original_name in _NAMES:
        return "it is TorchScript; convert the model before torch.jit.script"
    if (
        kind.__module__.startswith(("torch.ao.nn.", "torch.nn.quantized"))
        and kind.__name__ in _NAMES
    ):
        return "it is quantized, and its weights are no parameters"
    if new is not None:
        return _why_changed(module, kind)
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)) and not isinstance(module, (DropIn, Cell)):
        return _why_subclass(kind, (*_OURS, nn.RNNBase, nn.RNNCellBase))
    return None


def _why_not_torchs(module: nn.Module, kind: Kind, new: Kind | None) -> str | None:
    if not isinstance(module, (Layer, Cell)):
        return None
    if is_quantized(module):
        return "its weights are int8"
    if new is None:
        if isinstance(module, tuple(_TORCHS)):
            return _why_subclass(kind, tuple(_TORCHS))
        return f"torch.nn has no such {'cell' if isinstance(module, Cell) else 'layer'}"
    plain = _like(module, kind)
    options = [
        f"{name}={value!r}"
        for name in ("layer_norm", *Options.__annotations__)
        if (value := getattr(module, name, None)) != getattr(plain, name, None)
    ]
    if options:
        return f"{_title(new)} has no {' and no '.join(options)}"
    return _why_changed(module, kind)


def _why_subclass(kind: Kind, bases: tuple[Kind, ...]) -> str:
    base = next(base for base in kind.__mro__ if base in bases)
    package = "openrnn" if base in _TORCHS else "torch.nn"
    return f"it is of a subclass of {package}.{base.__name__}, whose own methods would be lost"


def _why_changed(module: nn.Module, kind: Kind) -> str | None:
    """What was done to the object that another class would not know of."""
    if "forward" in module.__dict__:
        return "its forward was set on the object, and would be lost or run still"
    computed = parametrized(module)
    for name, expected in _like(module, kind).named_parameters():
        found = module._parameters.get(name, module.__dict__.get(name))
        if name not in computed and (found is None or found.shape != expected.shape):
            got = "is not there" if found is None else f"is of shape {tuple(found.shape)}"
            return f"its {name} {got}, where its sizes ask for {tuple(expected.shape)}"
    return None
