"""The `train` extra: what the command line's jobs need beyond torch."""

from importlib.util import find_spec

from openrnn.errors import MissingExtraError

_TRAINING = ("lightning", "matplotlib", "pandas", "safetensors")
_PREDICTING = ("pandas", "safetensors")


def require_extra(job: str, packages: tuple[str, ...]) -> None:
    """Raise `MissingExtraError` if one of `packages` cannot be found, without importing any."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise MissingExtraError(
            f"{job} needs {', '.join(missing)}, not installed here; "
            f'run: pip install "openrnn[train]"'
        )


def require_training() -> None:
    """Check what `forecast` needs."""
    require_extra("openrnn forecast", _TRAINING)


def require_predicting() -> None:
    """Check what `predict` needs."""
    require_extra("openrnn predict", _PREDICTING)
