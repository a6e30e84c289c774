"""The optional extras: what some functions need beyond torch."""

from importlib.util import find_spec

from openrnn.errors import MissingExtraError


def require_extra(job: str, packages: tuple[str, ...]) -> None:
    """Raise `MissingExtraError` if one of `packages` cannot be found, without importing any."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise MissingExtraError(
            f"{job} needs {', '.join(missing)}, not installed here; "
            f'run: pip install "openrnn[train]"'
        )
