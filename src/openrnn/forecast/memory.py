"""Models that are too large for the machine."""

from collections.abc import Iterator
from contextlib import contextmanager

from openrnn.errors import ArgumentError
from openrnn.forecast.settings import Settings


@contextmanager
def enough_memory(settings: Settings) -> Iterator[None]:
    """Say that there is not enough memory in the words of the command line."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch has no class of its own on a CPU
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        raise ArgumentError(
            f"--hidden {settings.hidden} --layers {settings.layers} --batch-size "
            f"{settings.batch_size}: expected a model and batches that fit into the memory, "
            "received too large ones; give smaller numbers"
        ) from error
