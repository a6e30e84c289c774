"""Keeping Lightning's remarks on hardware, loaders and its products out of the terminal."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Within this block Lightning logs errors only, and warns of nothing."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Loader workers would cost more than they save: windows are cut from memory.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            # --resume finds the directory of checkpoints as it should: not empty.
            warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists.*")
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
