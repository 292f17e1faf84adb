"""What can go wrong through no fault of raysynth, drawn as a tree.

    RaysynthError (a ValueError: the user's to mend; exit code 2)
    ├── TableError     a table cannot be read or used
    ├── ConfigError    a setting is unknown, out of range, or contradicts another
    ├── GivenError     `given` names a column or value the run does not know
    ├── RunError       a run folder is absent, taken, torn, altered, or of another format
    │   └── SearchError    every trial of a search failed (exit code 1)
    └── StorageError   a place cannot be read or written, or is full
        └── AbsentError    there is nothing at a place

    Stopped (no error: the user stopped a training, which can be resumed; exit code 130)

Every message says what was expected, what came, and what to do. None holds a cell value: column
names, kinds, counts and paths are all a message may carry.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class RaysynthError(ValueError):
    """Base of every error the user can mend."""


class TableError(RaysynthError):
    """A table cannot be read or used."""


class ConfigError(RaysynthError):
    """A setting is unknown, out of range, or contradicts another."""


class GivenError(RaysynthError):
    """`given` names a column or value the run does not know."""


class RunError(RaysynthError):
    """A run folder is absent, taken, torn, altered, or of another format."""


class SearchError(RunError):
    """Every trial of a search failed."""


class StorageError(RaysynthError):
    """A place cannot be read or written, or is full."""


class AbsentError(StorageError):
    """There is nothing at a place."""


ABSENT = "there is nothing here any more; put it back and repeat the command"


class Stopped(Exception):  # noqa: N818 (nothing went wrong)
    """The user stopped a training, which left a checkpoint of `epoch` to resume from."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"stopped after epoch {epoch}; repeat the command to resume")
        self.epoch = epoch


def nearest(name: str, names: Iterable[str]) -> str:
    """Say which of `names` the user may have meant: a phrase to end a message with."""
    names = list(names)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    shown = ", ".join(f"'{known}'" for known in names[:12])
    return f"known: {shown}{', ...' if len(names) > 12 else ''}"
