"""What a trained model has to know of its data, as JSON."""

import math
from dataclasses import asdict, dataclass
from typing import Any, get_args

import openrnn
from openrnn.forecast.features import Encoder, OneHot, Scale
from openrnn.forecast.model import ModelSize
from openrnn.forecast.settings import CELLS
from openrnn.forecast.steps import Step, Unit

FORMAT = 1


@dataclass(frozen=True)
class ModelConfig:
    """All that is needed to feed a model another file and to read its forecast."""

    encoder: Encoder
    size: ModelSize
    window: int
    step: Step
    date: str
    date_format: str
    unit: str


def to_json(config: ModelConfig) -> dict[str, Any]:
    """The config as JSON keeps it."""
    columns: list[dict[str, Any]] = [
        {"name": each.name, "kind": "number", "mean": each.mean, "std": each.std}
        if isinstance(each, Scale)
        else {"name": each.name, "kind": "category", "categories": list(each.categories)}
        for each in config.encoder.columns
    ]
    return {
        "format": FORMAT,
        "openrnn": openrnn.__version__,
        "target": config.encoder.target,
        "unit": config.unit,
        "date": config.date,
        "date_format": config.date_format,
        "step": asdict(config.step),
        "window": config.window,
        "size": asdict(config.size),
        "columns": columns,
        "calendar": list(config.encoder.calendar),
    }


def from_json(content: dict[str, Any]) -> ModelConfig:
    """The config that `to_json` made `content` of; raise `ValueError` for what is not one."""
    try:
        return _checked(
            ModelConfig(
                encoder=_encoder(content),
                size=ModelSize(**content["size"]),
                window=content["window"],
                step=Step(**content["step"]),
                date=content["date"],
                date_format=content["date_format"],
                unit=content["unit"],
            )
        )
    except KeyError as error:
        raise ValueError(f"{error} is missing") from None
    except (TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None


def _checked(config: ModelConfig) -> ModelConfig:
    size, step, encoder = config.size, config.step, config.encoder
    _check(_whole(config.window), "window", config.window)
    for name in ("date", "date_format", "unit"):
        _check(isinstance(getattr(config, name), str), name, getattr(config, name))
    numbers = (size.features, size.hidden, size.layers, size.horizon)
    _check(size.cell in CELLS and all(map(_whole, numbers)), "size", asdict(size))
    _check(step.unit in get_args(Unit) and _whole(step.count), "step", asdict(step))
    _check(set(encoder.calendar) <= {"year", "day"}, "calendar", encoder.calendar)
    targets = [each.name for each in encoder.columns if isinstance(each, Scale)]
    _check(encoder.target in targets, "target", encoder.target)
    if encoder.width != size.features:
        raise ValueError(f"columns of {encoder.width} features for {size.features}")
    return config


def _encoder(content: dict[str, Any]) -> Encoder:
    columns = tuple(map(_column, content["columns"]))
    return Encoder(columns, content["target"], tuple(content["calendar"]))


def _column(content: dict[str, Any]) -> Scale | OneHot:
    name, kind = content["name"], content["kind"]
    _check(isinstance(name, str), "name of a column", name)
    if kind == "number":
        mean, std = float(content["mean"]), float(content["std"])
        _check(math.isfinite(mean), f"mean of '{name}'", mean)
        _check(math.isfinite(std) and std > 0, f"std of '{name}'", std)
        return Scale(name, mean, std)
    _check(kind == "category", f"kind of '{name}'", kind)
    return OneHot(name, tuple(map(str, content["categories"])))


def _check(right: bool, name: str, value: object) -> None:
    if not right:
        raise ValueError(f"its {name} is {value!r}")


def _whole(value: object) -> bool:
    return isinstance(value, int) and value >= 1
