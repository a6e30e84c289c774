"""A trained model on disk: config.json and weights.safetensors, neither of which can hold code."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from openrnn.errors import DataError
from openrnn.files import atomic_directory
from openrnn.forecast.model import Forecaster, ModelSize
from openrnn.forecast.model_config import FORMAT, ModelConfig, from_json, to_json
from openrnn.forecast.model_directory import CONFIG, WEIGHTS, model_directory


@dataclass(frozen=True)
class TrainedModel:
    """A model, and what it has to know of its data."""

    model: Forecaster
    config: ModelConfig


def save_model(directory: Path, trained: TrainedModel) -> None:
    """Write the model directory, in place of an earlier one."""
    with atomic_directory(directory) as temporary:
        text = json.dumps(to_json(trained.config), indent=2, ensure_ascii=False) + "\n"
        (temporary / CONFIG).write_text(text, encoding="utf-8")
        weights = {name: each.contiguous() for name, each in trained.model.state_dict().items()}
        # Not `save_file`, whose file no other user may read.
        (temporary / WEIGHTS).write_bytes(save(weights, metadata={"format": "pt"}))


def load_model(directory: Path) -> TrainedModel:
    """Read a model directory; raise `DataError` unless all in it fits together."""
    directory = model_directory(directory) or directory
    if not directory.is_dir():
        raise DataError(
            f"MODEL: expected the model directory of an openrnn forecast, received '{directory}', "
            "which is no directory; check the path"
        )
    config = _read_config(directory)
    model = _model(directory / WEIGHTS, config.size, config.encoder.target_index)
    return TrainedModel(model, config)


def _read_config(directory: Path) -> ModelConfig:
    path = directory / CONFIG
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from None
    except ValueError as error:
        raise _damaged(path, f"it is not JSON: {error}") from None
    if not isinstance(content, dict) or "format" not in content:
        raise _damaged(path, "it has no format version")
    if content["format"] != FORMAT:
        raise DataError(
            f"MODEL: expected a model of format {FORMAT}, received format {content['format']!r} in "
            f"'{path}'; use the release of openrnn that wrote it "
            f"({content.get('openrnn', 'unknown')}), or train again"
        )
    try:
        return from_json(content)
    except ValueError as error:
        raise _damaged(path, str(error)) from None


def _model(path: Path, size: ModelSize, target_index: int) -> Forecaster:
    try:
        weights = load_file(path)
    except FileNotFoundError:
        raise _damaged(path, "no such file") from None
    except (OSError, SafetensorError, ValueError) as error:
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


def _damaged(path: Path, reason: str) -> DataError:
    reason = " ".join(reason.split())
    return DataError(
        f"MODEL: expected a whole model directory, received a damaged '{path}' ({reason}); "
        "copy it again, or train again"
    )
