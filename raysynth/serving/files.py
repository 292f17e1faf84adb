"""Files of SQLite that several servers of a machine share."""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from raysynth.errors import StorageError

_MAKING = threading.Lock()


class File:
    """A file that holds `tables` (CREATE statements), for every thread and process that opens it.

    Private to its user (0600), and as durable as a restart of the server needs.
    """

    def __init__(self, path: str | Path, *tables: str) -> None:
        self.path, self.tables = Path(path), tables
        self._local = threading.local()

    @contextlib.contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """A transaction that nobody else's can come between. Raises `StorageError`."""
        try:
            file = getattr(self._local, "file", None)
            if file is None:
                file = self._local.file = self._made()
            file.execute("BEGIN IMMEDIATE")
            try:
                yield file
            except BaseException:
                file.execute("ROLLBACK")
                raise
            file.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            self._local.file = None
            why = getattr(error, "sqlite_errorname", type(error).__name__)
            raise StorageError(f"{self.path}: cannot be written: {why}") from None

    def _made(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Only where there is none: a process that closes a file loses all locks that it has on it,
        # those of its other connections among them (sqlite.org/howtocorrupt.html, 2.2).
        with _MAKING, contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        file = sqlite3.connect(self.path, timeout=10, isolation_level=None)
        file.row_factory = sqlite3.Row
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = NORMAL")
        for table in self.tables:
            file.execute(table)
        return file
