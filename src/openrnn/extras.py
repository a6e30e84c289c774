"""The optional extras: what some functions need beyond torch."""

from importlib.util import find_spec

from openrnn.errors import MissingExtraError


def require_extra(job: str, packages: tuple[str, ...], install: str = '"openrnn[train]"') -> None:
    """Raise `MissingExtraError` if one of `packages` cannot be found, without importing any.

    `install`: what pip installs to have them.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise MissingExtraError(
            f"{job} needs {', '.join(missing)}, not installed here; run: pip install {install}"
        )
