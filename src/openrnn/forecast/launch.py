"""The other processes of a training on this machine: started, watched, and ended with this one."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies import ParallelStrategy

from openrnn.errors import ProcessError

# Who waits longer for another process gives up.
PATIENCE = timedelta(minutes=5)
_MINUTES = f"{PATIENCE.total_seconds() / 60:.0f}"
# Seconds from the end of another process in which this one should have noticed it by itself.
_NOTICE = 10.0
# By which Lightning's processes know one another.
_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")


@contextmanager
def processes(trainer: pl.Trainer) -> Iterator[None]:
    """Inside, the processes that `trainer` needs are there, and the loss of one is an error.

    Each makes the same call as this process, and learns from its environment which one it is.
    Lightning's own launcher would do that too; but when a process ends, it kills all the others
    without a word.

    Raises:
        ProcessError: another process has ended, or did not answer for `PATIENCE`.
    """
    before = {name: os.environ.get(name) for name in (*_VARIABLES, "OMP_NUM_THREADS")}
    others = _Others(_start(trainer)) if _is_first_on_machine(trainer) else _Others([])
    try:
        yield
    except RuntimeError as error:
        if (reason := others.lost() or _silence(error)) is None:
            raise
        raise ProcessError(
            f"training: expected {trainer.world_size} processes to the end, but {reason}; "
            "go on from the last epoch with --resume"
        ) from error
    else:
        if reason := others.wait():
            raise ProcessError(
                f"training: expected {trainer.world_size} processes to the end, but {reason}"
            )
    finally:
        others.end()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _is_first_on_machine(trainer: pl.Trainer) -> bool:
    """Whether the others are to be started here, and not by torchrun, SLURM or the like."""
    strategy = trainer.strategy
    return (
        isinstance(strategy, ParallelStrategy)
        and isinstance(strategy.cluster_environment, LightningEnvironment)
        and not strategy.cluster_environment.creates_processes_externally
        and trainer.num_devices > 1
    )


def _start(trainer: pl.Trainer) -> list["subprocess.Popen[bytes]"]:
    strategy = trainer.strategy
    assert isinstance(strategy, ParallelStrategy)
    cluster = strategy.cluster_environment
    assert cluster is not None
    values = (cluster.main_address, cluster.main_port, cluster.node_rank(), 0, trainer.world_size)
    os.environ.update({name: str(value) for name, value in zip(_VARIABLES, values, strict=True)})
    if torch.get_num_threads() == 1:  # else Lightning shares the cores
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    return [
        subprocess.Popen(
            [sys.executable, *sys.orig_argv[1:]],
            env=os.environ | {"LOCAL_RANK": str(rank)},
            start_new_session=True,  # Ctrl-C is for this process, which ends the others
        )
        for rank in range(1, trainer.num_devices)
    ]


class _Others:
    """The processes that this one has started."""

    def __init__(self, started: list["subprocess.Popen[bytes]"]) -> None:
        self._started = started
        self._is_over = threading.Event()
        if started:
            threading.Thread(target=self._watch, daemon=True).start()

    def lost(self, seconds: float = 2.0) -> str | None:
        """Which process has ended, or ends within so many seconds, other than it should."""
        pause = threading.Event()
        for _ in range(int(seconds / 0.1) if self._started else 0):
            for rank, process in enumerate(self._started, start=1):
                if code := process.poll():
                    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                    return f"process {rank} ended with {how}"
            pause.wait(0.1)
        return None

    def wait(self) -> str | None:
        """Waits until all have ended, as they do at the end of a training; tells of one that has
        not, or not as it should.
        """
        self._is_over.set()
        for rank, process in enumerate(self._started, start=1):
            try:
                process.wait(PATIENCE.total_seconds())
            except subprocess.TimeoutExpired:
                return f"process {rank} did not end for {_MINUTES} minutes"
        return self.lost(0.1)

    def end(self) -> None:
        self._is_over.set()
        for process in self._started:
            process.kill()
            process.wait()

    def _watch(self) -> None:
        """Ends this process where it waits for one that has ended, and cannot notice."""
        while not self._is_over.wait(1.0):
            if reason := self.lost(0.1):
                if self._is_over.wait(_NOTICE):
                    return
                print(f"openrnn: training: {reason}, so this process ends too", file=sys.stderr)
                for process in self._started:
                    process.kill()
                os._exit(2)


def _silence(error: RuntimeError) -> str | None:
    """What an error says of another process, if it is one of waiting for others."""
    if isinstance(error, torch.distributed.DistError) or "gloo" in str(error):
        return f"another one ended, or did not answer for {_MINUTES} minutes"
    return None
