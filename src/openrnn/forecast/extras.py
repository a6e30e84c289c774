"""What the jobs of the command line need of the extra `train`."""

from openrnn.extras import require_extra

_TRAINING = ("lightning", "matplotlib", "pandas", "safetensors")
_LOADING = ("pandas", "safetensors")


def require_training() -> None:
    """Check what `forecast` needs."""
    require_extra("openrnn forecast", _TRAINING)


def require_loading(job: str) -> None:
    """Check what a job needs that reads a trained model, such as `openrnn predict`."""
    require_extra(job, _LOADING)
