"""What left the house: an append-only log, and the rows a token has had today.

The log has a JSON line when an answer begins and one when it ends, so that a killed server leaves a
begun one. It says who asked, of which model, with which seed, for which rows, columns and given
COLUMNS; never a value. Each line is one write to a file opened for appending, so that several
servers can share it (POSIX, write(2): O_APPEND). What cannot be written down is not answered.
"""

import json
import os
import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from raysynth.errors import StorageError
from raysynth.serving.files import File
from raysynth.storage import reason

STRANGERS = 60  # refusals of a minute that are written down of those without a token


class Log:
    """A file of JSON lines that is only ever appended to."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._minute = self._strangers = self._untold = 0

    def refused(self, now: datetime, known: bool, **facts: Any) -> None:
        """Add a line for a request that was refused. Raises `StorageError`.

        Of those who are not `known` it writes down `STRANGERS` a minute, and with the next line how
        many more there were: else whoever reaches the server could fill the disk.
        """
        with self._lock:
            if (minute := int(now.timestamp()) // 60) != self._minute:
                self._minute, self._strangers = minute, 0
            if not known and self._strangers >= STRANGERS:
                self._untold += 1
                return
            self._strangers += not known
            untold, self._untold = self._untold, 0
        self.write("refused", **facts, **({"untold": untold} if untold else {}))

    def write(self, event: str, **facts: Any) -> None:
        """Add a line. Raises `StorageError`, and then nothing may leave."""
        told = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event}
        line = json.dumps(told | facts, ensure_ascii=True).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                if os.write(file, line) != len(line):
                    raise StorageError(f"{self.path}: a line was cut; is the disk full?")
            finally:
                os.close(file)
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be written: {reason(error)}") from None


class Ledger:
    """Rows that tokens have had, by day (UTC), in a file that outlives a restart.

    SQLite, since several servers of a machine share it; rows are taken before they are drawn, and
    what was not sent is given back.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = File(
            path,
            "CREATE TABLE IF NOT EXISTS had (who TEXT, day TEXT, rows INTEGER NOT NULL, "
            "PRIMARY KEY (who, day))",
        )

    def take(self, who: str, rows: int, limit: int | None, now: datetime) -> int | None:
        """Count `rows` more for `who` on the day of `now`; None if that is within `limit`.

        Else nothing is counted, and it gives the seconds until the next day.
        """
        with self._file.open() as file:
            had = self._had(file, who, _day(now))
            if limit is not None and had + rows > limit:
                tomorrow = now.replace(hour=0, minute=0, second=0, microsecond=0)
                return int((tomorrow + timedelta(days=1) - now).total_seconds()) + 1
            self._count(file, who, _day(now), rows)
        return None

    def give_back(self, who: str, rows: int, taken: datetime) -> None:
        """Count `rows` fewer for `who` on the day they were `taken`, which may be over."""
        with self._file.open() as file:
            self._count(file, who, _day(taken), -rows)

    def had(self, who: str, now: datetime) -> int:
        """Rows that `who` has had on the day of `now`."""
        with self._file.open() as file:
            return self._had(file, who, _day(now))

    def _had(self, file: sqlite3.Connection, who: str, day: str) -> int:
        found = file.execute("SELECT rows FROM had WHERE who = ? AND day = ?", (who, day))
        return int((found.fetchone() or (0,))[0])

    def _count(self, file: sqlite3.Connection, who: str, day: str, rows: int) -> None:
        file.execute(
            "INSERT INTO had VALUES (?, ?, ?) "
            "ON CONFLICT (who, day) DO UPDATE SET rows = rows + excluded.rows",
            (who, day, rows),
        )


def _day(now: datetime) -> str:
    return now.date().isoformat()
