"""What a long job says while it works: phases with rows, rows a second and time left."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class Show(Protocol):
    """Where progress goes. Never given a cell value."""

    @contextmanager
    def phase(self, name: str, rows: int | None, unit: str = "rows") -> Iterator["Phase"]:
        """Open a phase of `rows` in all, or of a number not yet known, counted in `unit`."""
        ...

    def say(self, line: str) -> None:
        """One line for the user."""
        ...


class Phase(Protocol):
    """A phase in progress."""

    def begin(self, rows: int) -> None:
        """The work itself starts now, `rows` being done already: rates count from here."""
        ...

    def at(self, rows: int, note: str = "") -> None:
        """`rows` are done; `note` says what else is worth seeing."""
        ...


class Silent:
    """Shows nothing."""

    @contextmanager
    def phase(self, name: str, rows: int | None, unit: str = "rows") -> Iterator["Silent"]:
        """A phase nobody sees."""
        yield self

    def begin(self, rows: int) -> None:
        """Nothing."""

    def at(self, rows: int, note: str = "") -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """Nothing."""


EVERY_S = 10.0  # between two lines of a phase


class Lines:
    """Lines of JSON for a collector of logs: each has a time, a message, and what `facts` say."""

    def __init__(self, stream: TextIO, **facts: str) -> None:
        self.console = Console(file=stream, stderr=True, quiet=True)  # tables are for people
        self._stream, self._facts = stream, facts

    def write(self, message: str, **facts: Any) -> None:
        """A line."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        told = {"time": now, "level": "info", "message": message} | self._facts | facts
        print(json.dumps(told), file=self._stream, flush=True)

    @contextmanager
    def phase(self, name: str, rows: int | None, unit: str = "rows") -> Iterator["_Telling"]:
        """A phase that tells how far it is, now and then, and when it is over."""
        phase = _Telling(self, name, rows, unit)
        yield phase
        phase.tell(over=True)

    def say(self, line: str) -> None:
        """One line for the user."""
        self.write(line)


class _Telling:
    def __init__(self, lines: Lines, name: str, total: int | None, unit: str) -> None:
        self._lines, self._name, self._total, self._unit = lines, name, total, unit
        self._done, self._note = 0, ""
        self._begun = self._told = time.monotonic()

    def begin(self, rows: int) -> None:
        """Start the clock, and count from `rows`."""
        self._begun, self._done = time.monotonic(), rows

    def at(self, rows: int, note: str = "") -> None:
        """Tell how far it is, unless that was told a moment ago."""
        self._done, self._note = rows, note
        if time.monotonic() - self._told >= EVERY_S:
            self.tell()

    def tell(self, over: bool = False) -> None:
        """A line."""
        self._told = time.monotonic()
        seconds = round(self._told - self._begun, 3)
        of = "" if over or self._total is None else f" of {self._total:,}"
        said = f"{self._name}: {self._done:,}{of} {self._unit} in {seconds:.1f} s"
        counts = {self._unit: self._done, "of": self._total, "seconds": seconds, "over": over}
        self._lines.write(said, stage=self._name, **counts, note=self._note)


class Terminal:
    """One live display on standard error; a line a phase where that is no terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>4.0f}%"),
            _Rate(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            # What others print is not ours to draw: it goes where they sent it.
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.console.is_terminal:
            self.progress.stop()

    @contextmanager
    def phase(self, name: str, rows: int | None, unit: str = "rows") -> Iterator["_Bar"]:
        """A bar of its own; a closing line where there is no terminal."""
        bar = _Bar(
            self.progress, self.progress.add_task(name, total=rows, note="", base=0, unit=unit)
        )
        yield bar
        task = bar.task
        if rows is None:
            self.progress.update(task.id, total=task.completed)
        self.progress.stop_task(task.id)
        if not self.console.is_terminal:
            seconds = task.elapsed or 0.0
            note = f" · {task.fields['note']}" if task.fields["note"] else ""
            self.say(f"{name}: {task.completed:,.0f} {unit} in {seconds:.1f} s{note}")

    def say(self, line: str) -> None:
        """One line above the bars."""
        # A line stays a line, however long its paths: others search and cut what is said.
        self.progress.console.print(line, highlight=False, markup=False, soft_wrap=True)


class _Bar:
    def __init__(self, progress: Progress, number: object) -> None:
        self.progress = progress
        self.task: Task = next(task for task in progress.tasks if task.id == number)

    def begin(self, rows: int) -> None:
        """Start the clock, and count from `rows`."""
        self.progress.reset(self.task.id, completed=rows, base=rows, note="")

    def at(self, rows: int, note: str = "") -> None:
        """Move the bar."""
        self.progress.update(self.task.id, completed=rows, note=note)


class _Rate(ProgressColumn):
    """Rows a second."""

    def render(self, task: Task) -> Text:
        """The rate since the phase began, or nothing before there is one."""
        done, seconds = task.completed - task.fields["base"], task.finished_time or task.elapsed
        told = f"{done / seconds:>11,.0f} rows/s" if done and seconds else " " * 18
        return Text(told if task.fields["unit"] == "rows" else " " * 18)
