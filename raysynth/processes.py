"""Processes of this machine."""

import os


def lives(pid: int) -> bool:
    """Whether there is a process of this number, whoever's it is; of 0 there is none."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0
