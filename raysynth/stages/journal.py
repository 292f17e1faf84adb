"""Optuna's journal at a place, on this machine or in a bucket: a line of JSON a step.

One process writes it, and holds all of it in memory. It is written whole, when `keep` is called:
once a trial is suggested and once it is over, so that a search that was killed never finds half a
line, and an object store is asked for two small objects a trial.
"""

import json
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from raysynth.errors import AbsentError, RunError
from raysynth.storage import Place, write_bytes


class Journal(BaseJournalBackend):
    """The steps of a study. Raises `RunError` where the file is none of ours, `StorageError`."""

    def __init__(self, place: Place) -> None:
        self.place = place
        try:
            lines = place.read_bytes().splitlines()
        except AbsentError:
            lines = []
        try:
            self._logs: list[dict[str, Any]] = [json.loads(line) for line in lines]
        except ValueError:
            raise RunError(
                f"{place}: is damaged; choose another --name, or delete the folder to search anew"
            ) from None

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        """The steps from one on."""
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Take more steps."""
        self._logs += json.loads(json.dumps(logs))

    def keep(self) -> None:
        """Write all steps down."""
        text = "".join(f"{json.dumps(step, separators=(',', ':'))}\n" for step in self._logs)
        write_bytes(self.place, text.encode())
