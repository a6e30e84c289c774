"""Whether this process is the one that talks and writes, when Lightning runs several."""

import os

# Set by Lightning's own launcher, torchrun, SLURM and Lightning on several machines.
_RANKS = ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "SLURM_PROCID")


def is_first_process() -> bool:
    """True but in the processes that were started to share the work of the first one."""
    return all(os.environ.get(name, "0") in ("", "0") for name in _RANKS)
