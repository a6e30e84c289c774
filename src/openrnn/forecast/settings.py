"""What a forecast run was asked to do."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openrnn.errors import ArgumentError

CELLS = ("lstm", "gru", "rnn")

# These say what is printed, or how long to train, not what is trained: a run may be resumed with
# other values of them. The data file is compared by its content.
_FREE_ON_RESUME = frozenset({"data", "unit", "epochs"})


@dataclass(frozen=True)
class Settings:
    """Every choice that the result of `openrnn forecast` depends on.

    Cell, sizes, learning rate, batch size and calendar have the defaults that the validation part
    of examples/data/seattle-weather.csv spoke for; its test part had no say.
    """

    data: Path
    target: str
    window: int = 12
    horizon: int = 1
    date: str | None = None
    date_format: str | None = None
    unit: str = ""
    fill: bool = False
    ignore: tuple[str, ...] = ()
    test: float = 0.25
    validation: float = 0.15
    cell: str = "lstm"
    hidden: int = 64
    layers: int = 1
    epochs: int = 100
    patience: int = 15
    batch_size: int = 32
    learning_rate: float = 1e-3
    seed: int = 0
    calendar: bool = True

    def __post_init__(self) -> None:
        for name, least in {
            "window": 1,
            "horizon": 1,
            "hidden": 1,
            "layers": 1,
            "epochs": 1,
            "patience": 1,
            "batch_size": 1,
            "seed": 0,
        }.items():
            _check_whole(name, getattr(self, name), least)
        if self.seed >= 2**32:
            raise ArgumentError(
                f"--seed: expected a whole number below 2**32, received {self.seed}; "
                "give for example --seed 0"
            )
        if self.cell not in CELLS:
            raise ArgumentError(
                f"--cell: expected one of {', '.join(CELLS)}, received '{self.cell}'; "
                "give for example --cell lstm"
            )
        for name in ("test", "validation"):
            fraction = getattr(self, name)
            if not 0 < fraction < 1:
                raise ArgumentError(
                    f"--{name}: expected a fraction of the rows between 0 and 1, "
                    f"received {fraction:g}; give for example --{name} 0.25"
                )
        if self.test + self.validation >= 1:
            raise ArgumentError(
                f"--test and --validation: expected fractions whose sum is below 1, received "
                f"{self.test:g} + {self.validation:g}; leave rows for training, "
                "for example --test 0.25 --validation 0.15"
            )
        if not 0 < self.learning_rate <= 1:
            raise ArgumentError(
                f"--learning-rate: expected a number above 0 and up to 1, received "
                f"{self.learning_rate:g}; give for example --learning-rate 0.001"
            )

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON keeps them."""
        return asdict(self) | {"data": str(self.data.resolve()), "ignore": list(self.ignore)}


def differences(earlier: dict[str, Any], now: dict[str, Any], *, resuming: bool) -> list[str]:
    """Name what differs between two `as_json` settings, as options: `--hidden 64 (now 32)`.

    When resuming, what may change between the two runs is left out.
    """
    free = _FREE_ON_RESUME if resuming else frozenset({"unit"})
    return [
        f"{option_name(name)} {_shown(earlier.get(name))} (now {_shown(value)})"
        for name, value in now.items()
        if name not in free and earlier.get(name) != value
    ]


def option_name(field: str) -> str:
    """The command line's name of a setting: `--batch-size` of `batch_size`."""
    return "DATA" if field == "data" else "--" + field.replace("_", "-")


def _shown(value: object) -> str:
    if value is None or value in ("", []):
        return "not given"
    if isinstance(value, bool):
        return "given" if value else "not given"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _check_whole(name: str, value: int, least: int) -> None:
    if value < least:
        option = option_name(name)
        example = getattr(Settings, name)
        raise ArgumentError(
            f"{option}: expected a whole number of {least} or more, received {value}; "
            f"give for example {option} {example}"
        )
