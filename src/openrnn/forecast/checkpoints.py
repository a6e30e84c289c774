"""Lightning's checkpoints of a run: the best epoch, and the last to resume from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from openrnn.errors import DataError


@dataclass(frozen=True)
class Checkpoints:
    """Where the two checkpoints of a run are."""

    directory: Path

    @property
    def best(self) -> Path:
        """That of the epoch with the lowest validation loss."""
        return self.directory / "best.ckpt"

    @property
    def last(self) -> Path:
        """That of the last epoch that was trained to its end."""
        return self.directory / "last.ckpt"

    def exist(self) -> bool:
        """Whether there is something to resume from."""
        return self.last.is_file() and self.best.is_file()


@dataclass(frozen=True)
class Progress:
    """How far a checkpoint is: epochs trained, and whether early stopping has ended it."""

    epochs: int
    stopped: bool
    best_loss: float

    def finished(self, epochs: int) -> bool:
        """Whether nothing is left to train of `epochs`."""
        return self.stopped or self.epochs >= epochs


class BestCheckpoint(ModelCheckpoint):
    """Keep the epoch with the lowest validation loss."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        super().__init__(
            checkpoints.directory,
            filename=checkpoints.best.stem,
            monitor="val_loss",
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state, also when the directory has been moved since.

        Lightning forgets the best loss then, and would let the next epoch replace a better one.
        """
        assert self.dirpath is not None
        best = str(Path(self.dirpath) / f"{self.filename}.ckpt")
        score = state_dict["best_model_score"]
        moved = {
            "dirpath": self.dirpath,
            "best_model_path": best,
            "kth_best_model_path": best,
            "best_k_models": {best: score},
        }
        super().load_state_dict(state_dict | moved)


class LastCheckpoint(ModelCheckpoint):
    """Keep the last epoch. It comes after `BestCheckpoint`, whose state it saves."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        super().__init__(
            checkpoints.directory,
            filename=checkpoints.last.stem,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )


def read_progress(checkpoints: Checkpoints) -> Progress:
    """How far the run in `checkpoints` is; raise `DataError` if they cannot be read."""
    state = _load(checkpoints.last)
    try:
        callbacks = state["callbacks"]
        stopping = next(each for key, each in callbacks.items() if key.startswith("EarlyStopping"))
        return Progress(
            epochs=int(state["epoch"]) + 1,
            stopped=stopping["wait_count"] >= stopping["patience"],
            best_loss=float(stopping["best_score"]),
        )
    except (KeyError, TypeError, ValueError, StopIteration):
        raise _damaged(checkpoints.last, "what is missing in it") from None


def best_weights(checkpoints: Checkpoints) -> dict[str, Tensor]:
    """The weights of the best epoch, named as in `Forecaster`."""
    state: dict[str, Tensor] = _load(checkpoints.best)["state_dict"]
    return {name.removeprefix("model."): tensor for name, tensor in state.items()}


def best_epoch(checkpoints: Checkpoints) -> int:
    """Which epoch was the best, counted from one."""
    return int(_load(checkpoints.best)["epoch"]) + 1


def _load(path: Path) -> dict[str, Any]:
    try:
        # Weights only: no code is run that a checkpoint of someone else's may hold.
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state
    except Exception as error:  # noqa: BLE001  (torch raises what its unpickler or zip file does)
        raise _damaged(path, type(error).__name__) from None


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(
        f"--resume: expected a checkpoint of this command, received '{path}', which cannot be "
        f"read ({reason}); start again with --overwrite"
    )
