"""Where a trained model lies."""

from pathlib import Path

CONFIG, WEIGHTS = "config.json", "weights.safetensors"


def model_directory(path: Path) -> Path | None:
    """The directory of the model: `path` itself, or the one in a run's output; None of neither."""
    for directory in (path, path / "model"):
        if (directory / CONFIG).is_file():
            return directory
    return None
