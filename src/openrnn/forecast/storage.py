"""A trained model on disk: config.json and weights.safetensors, neither of which can hold code."""

import json
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

import openrnn
from openrnn.errors import DataError
from openrnn.forecast.features import Encoder, OneHot, Scale
from openrnn.forecast.files import atomic_directory
from openrnn.forecast.model import Forecaster, ModelSize
from openrnn.forecast.settings import CELLS
from openrnn.forecast.steps import Step

FORMAT = 1
_CONFIG, _WEIGHTS = "config.json", "weights.safetensors"


@dataclass(frozen=True)
class TrainedModel:
    """A model with all that is needed to feed it another file and to read its forecast."""

    model: Forecaster
    encoder: Encoder
    size: ModelSize
    window: int
    step: Step
    date: str
    date_format: str
    unit: str


def save_model(directory: Path, trained: TrainedModel) -> None:
    """Write the model directory, in place of an earlier one."""
    with atomic_directory(directory) as temporary:
        text = json.dumps(_to_json(trained), indent=2, ensure_ascii=False) + "\n"
        (temporary / _CONFIG).write_text(text, encoding="utf-8")
        weights = {name: each.contiguous() for name, each in trained.model.state_dict().items()}
        # Not `save_file`, whose file no other user may read.
        (temporary / _WEIGHTS).write_bytes(save(weights, metadata={"format": "pt"}))


def load_model(directory: Path) -> TrainedModel:
    """Read a model directory; raise `DataError` unless all in it fits together."""
    if not (directory / _CONFIG).is_file() and (directory / "model" / _CONFIG).is_file():
        directory = directory / "model"  # the output directory of a run was meant
    if not directory.is_dir():
        raise DataError(
            f"MODEL: expected the model directory of an openrnn forecast, received '{directory}', "
            "which is no directory; check the path"
        )
    config = _read_config(directory)
    try:
        encoder, size, step = _encoder(config), _size(config), _step(config)
        window, date, date_format = config["window"], config["date"], config["date_format"]
        texts = (date, date_format, config["unit"])
        if not (isinstance(window, int) and window >= 1 and all(isinstance(t, str) for t in texts)):
            raise ValueError("a window, date, date_format or unit that is none")
        if encoder.width != size.features:
            raise ValueError(f"columns of {encoder.width} features for {size.features}")
        if config["target"] not in [
            each.name for each in encoder.columns if isinstance(each, Scale)
        ]:
            raise ValueError(f"a target {config['target']!r} that is no column of numbers")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(directory / _CONFIG, f"{_reason(error)}") from None
    model = _model(directory / _WEIGHTS, size, encoder.target_index)
    return TrainedModel(model, encoder, size, window, step, date, date_format, config["unit"])


def _to_json(trained: TrainedModel) -> dict[str, Any]:
    columns: list[dict[str, Any]] = [
        {"name": each.name, "kind": "number", "mean": each.mean, "std": each.std}
        if isinstance(each, Scale)
        else {"name": each.name, "kind": "category", "categories": list(each.categories)}
        for each in trained.encoder.columns
    ]
    return {
        "format": FORMAT,
        "openrnn": openrnn.__version__,
        "target": trained.encoder.target,
        "unit": trained.unit,
        "date": trained.date,
        "date_format": trained.date_format,
        "step": asdict(trained.step),
        "window": trained.window,
        "size": asdict(trained.size),
        "columns": columns,
        "calendar": list(trained.encoder.calendar),
    }


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / _CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from None
    except ValueError as error:
        raise _damaged(path, f"it is not JSON: {error}") from None
    if not isinstance(config, dict) or "format" not in config:
        raise _damaged(path, "it has no format version")
    if config["format"] != FORMAT:
        raise DataError(
            f"MODEL: expected a model of format {FORMAT}, received format {config['format']!r} in "
            f"'{path}'; use the release of openrnn that wrote it "
            f"({config.get('openrnn', 'unknown')}), or train again"
        )
    return config


def _encoder(config: dict[str, Any]) -> Encoder:
    columns: list[Scale | OneHot] = []
    for each in config["columns"]:
        if each["kind"] == "number":
            scale = Scale(each["name"], float(each["mean"]), float(each["std"]))
            if not scale.std > 0:
                raise ValueError(f"a std of {scale.std}")
            columns.append(scale)
        elif each["kind"] == "category":
            columns.append(OneHot(each["name"], tuple(map(str, each["categories"]))))
        else:
            raise ValueError(f"a column of kind {each['kind']!r}")
    calendar = tuple(config["calendar"])
    if not set(calendar) <= {"year", "day"}:
        raise ValueError(f"a calendar of {calendar}")
    return Encoder(tuple(columns), config["target"], calendar)


def _size(config: dict[str, Any]) -> ModelSize:
    size = ModelSize(**config["size"])
    numbers = (size.features, size.hidden, size.layers, size.horizon)
    if size.cell not in CELLS or not all(isinstance(n, int) and n >= 1 for n in numbers):
        raise ValueError(f"a size of {config['size']}")
    return size


def _step(config: dict[str, Any]) -> Step:
    step = Step(**config["step"])
    if step.unit not in ("microsecond", "business day", "month", "month end") or step.count < 1:
        raise ValueError(f"a step of {config['step']}")
    return step


def _model(path: Path, size: ModelSize, target_index: int) -> Forecaster:
    try:
        weights = load_file(path)
    except FileNotFoundError:
        raise _damaged(path, "no such file") from None
    except (OSError, SafetensorError, struct.error, ValueError) as error:
        raise _damaged(path, str(error)) from None
    with torch.device("meta"):  # shapes only: a damaged config must not ask for all the memory
        expected = _shapes(Forecaster(size, target_index).state_dict())
    received = _shapes(weights)
    for name in sorted(expected.keys() | received.keys()):
        if expected.get(name) != received.get(name):
            raise _damaged(
                path,
                f"weight '{name}' is {received.get(name, 'not there')}, where config.json asks "
                f"for {expected.get(name, 'none')}",
            )
        if name in weights and not weights[name].isfinite().all():
            raise _damaged(path, f"weight '{name}' is not finite")
    model = Forecaster(size, target_index)
    model.load_state_dict(weights)
    return model.eval()


def _shapes(weights: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _damaged(path: Path, reason: str) -> DataError:
    reason = " ".join(reason.split())
    return DataError(
        f"MODEL: expected a whole model directory, received a damaged '{path}' ({reason}); "
        "copy it again, or train again"
    )
