"""What training changes in the process, and is put back when it ends."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def process_state_kept(*, one_thread: bool) -> Iterator[None]:
    """Put back what Lightning leaves changed, and compute in one thread if that is quicker.

    It is where steps are small: to wake the other threads takes longer than the step.
    """
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    handler = signal.getsignal(signal.SIGINT)
    threads = torch.get_num_threads()
    if one_thread:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        # After Ctrl-C Lightning ignores the signal, to end in peace.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, handler)
