"""Samples too large for a connection: files written in the background, where the operator allows.

What a server and the process that draws share is a row of `jobs.sqlite`: progress goes in there,
and the wish to cancel. Any server of the same `state` can tell of a job, whichever took it. The
file to write to appears whole when the last row is in, so of a job that failed or was cancelled
nothing has left, and its rows are given back to the token's day.
"""

import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import ConfigDict, Field

from raysynth.errors import StorageError
from raysynth.serving.answers import Wanted
from raysynth.serving.audit import Ledger, Log
from raysynth.serving.files import File
from raysynth.serving.problems import Problem
from raysynth.serving.tokens import Token
from raysynth.storage import TABLES, Place

ACTIVE = ("waiting", "running")
KEPT = 1_000  # jobs told of; the oldest of those that are over are forgotten first
LISTED = 100  # jobs in a list, the latest first
RETRY_S = 30  # seconds after which it is worth asking for a place again
BEGINS_S = 20  # seconds in which what draws has come about, or never will


class Ordered(Wanted):
    """A sample to be written to a place."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"rows": 50_000_000, "seed": 7, "to": "s3://bucket/samples/adult.parquet"}]
        }
    )

    to: Annotated[
        str,
        Field(max_length=1_000, description="A .parquet or .csv file, where the server may write."),
    ]


@dataclass(frozen=True)
class Order:
    """What is to be drawn for job `id`, by the process that draws it.

    `place` is the run's, with `stamp` as its digest; `state` the folder of log, ledger and jobs.
    """

    id: str
    who: str
    model: str
    place: str
    stamp: str
    rows: int
    seed: int
    offset: int
    given: Mapping[str, Any]
    columns: Sequence[str] | None
    to: str
    workers: int
    state: str


@dataclass(frozen=True)
class Job:
    """How far a job is. `state` is one of `ACTIVE`, or done, failed (`why`), cancelled."""

    id: str
    who: str
    model: str
    stamp: str
    seed: int
    offset: int
    asked: int
    to: str
    begun: str
    state: str = "waiting"
    rows: int = 0
    ended: str | None = None
    why: str | None = None
    cancelling: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state not in ACTIVE

    def told(self) -> dict[str, Any]:
        """What its owner is told."""
        return {name: value for name, value in asdict(self).items() if name != "who"}


_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, who TEXT, model TEXT, stamp TEXT, seed INTEGER, offset INTEGER,
    asked INTEGER, "to" TEXT, begun TEXT, state TEXT, rows INTEGER, ended TEXT, why TEXT,
    cancelling INTEGER
)
"""


class Book:
    """The jobs of a `state` folder, and the log and the ledger beside them.

    Every method raises `StorageError` where the file cannot be written.
    """

    def __init__(self, state: str | Path) -> None:
        self.state = state
        self._file = File(Path(state) / "jobs.sqlite", _TABLE)
        self._log, self._ledger = Log(Path(state) / "audit.jsonl"), Ledger(f"{state}/rows.sqlite")

    def add(self, job: Job, at_once: int, who: Token) -> None:
        """Take a job of `who` in, and count its rows.

        Raises a `Problem` where there are too many, or one writes to the same place.
        """
        day, most = datetime.fromisoformat(job.begun), who.rows_per_day
        wait = self._ledger.take(job.who, job.asked, most, day)
        if wait is not None:
            raise Problem("quota", f"the token may have {most:,} rows a day (UTC)", wait)
        try:
            self._add(job, at_once, who.concurrent)
        except BaseException:
            self._ledger.give_back(job.who, job.asked, day)
            raise

    def begun(self, order: Order, client: str) -> None:
        """Write down what is about to be drawn; what is given, by column."""
        self._log.write(
            "begun",
            **{"request": order.id, "who": order.who, "from": client, "model": order.model},
            stamp=order.stamp[:16],
            seed=order.seed,
            offset=order.offset,
            asked=order.rows,
            to=order.to,
            given=sorted(order.given),
            columns=order.columns,
        )

    def _add(self, job: Job, at_once: int, mine: int) -> None:
        with self._file.open() as file:
            active = [one for one in self._jobs(file) if not one.over]
            if any(one.to == job.to for one in active):
                raise Problem("target", "to: another job is writing there; name another place")
            if len(active) >= at_once:
                said = f"{at_once} jobs are being drawn, as many as can be"
                raise Problem("busy", said, retry_after=RETRY_S)
            if sum(one.who == job.who for one in active) >= mine:
                said = f"the token may have {mine} jobs at once; wait for one to end"
                raise Problem("busy", said, retry_after=RETRY_S)
            names = ", ".join(f'"{name}"' for name in asdict(job))
            marks = ", ".join("?" * len(asdict(job)))
            file.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})", [*asdict(job).values()])
            file.execute(
                f"DELETE FROM jobs WHERE state NOT IN {ACTIVE} AND rowid NOT IN "
                "(SELECT rowid FROM jobs ORDER BY rowid DESC LIMIT ?)",
                [KEPT],
            )

    def find(self, number: str) -> Job | None:
        """The job, if there is one."""
        with self._file.open() as file:
            found = self._jobs(file, "WHERE id = ?", number)
        return found[0] if found else None

    def of(self, who: str) -> list[Job]:
        """The latest jobs of `who`."""
        with self._file.open() as file:
            return self._jobs(file, "WHERE who = ? ORDER BY rowid DESC LIMIT ?", who, LISTED)

    def active(self) -> list[Job]:
        """The jobs that are not over."""
        with self._file.open() as file:
            return [one for one in self._jobs(file) if not one.over]

    def at(self, number: str, rows: int) -> bool:
        """`rows` of a job are drawn; whether to go on."""
        with self._file.open() as file:
            file.execute(
                f"UPDATE jobs SET state = 'running', rows = ? WHERE id = ? AND state IN {ACTIVE}",
                [rows, number],
            )
            found = self._jobs(file, "WHERE id = ?", number)
        return bool(found) and not found[0].over and not found[0].cancelling

    def cancel(self, number: str) -> None:
        """Ask for a job to end, if it is not over."""
        with self._file.open() as file:
            file.execute("UPDATE jobs SET cancelling = 1 WHERE id = ?", [number])

    def end(self, number: str, state: str, rows: int = 0, why: str | None = None) -> None:
        """A job is over: write it down, and give back what did not leave. The first to say counts.

        Raises `StorageError`.
        """
        now = _now()
        with self._file.open() as file:
            changed = file.execute(
                "UPDATE jobs SET state = ?, rows = ?, why = ?, ended = ? "
                f"WHERE id = ? AND state IN {ACTIVE}",
                [state, rows, why, now, number],
            )
            if not changed.rowcount:
                return
            (job,) = self._jobs(file, "WHERE id = ?", number)
        if state != "done":
            self._ledger.give_back(job.who, job.asked, datetime.fromisoformat(job.begun))
        facts = {"request": job.id, "who": job.who, "model": job.model}
        self._log.write("ended", **facts, how=state, rows=rows if state == "done" else 0, to=job.to)

    def _jobs(self, file: sqlite3.Connection, where: str = "", *values: Any) -> list[Job]:
        found = [Job(**dict(row)) for row in file.execute(f"SELECT * FROM jobs {where}", values)]
        return [replace(one, cancelling=bool(one.cancelling)) for one in found]


class Runner(Protocol):
    """What starts processes that draw."""

    def start(self, order: Order) -> None:
        """Have it drawn. What draws tells the `Book` how far it is, and of its end."""
        ...

    def alive(self, number: str) -> bool:
        """Whether something draws, or will draw, for that job."""
        ...


@dataclass(frozen=True)
class Desk:
    """Where jobs are taken in, told of and cancelled. `places` are those that may be written to."""

    book: Book
    runner: Runner | None
    places: tuple[str, ...]
    at_once: int
    lost: str = "the process that drew it has ended; ask again"
    _roots: tuple[Place, ...] = field(init=False)

    def __post_init__(self) -> None:
        roots = tuple(Place.of(one) for one in self.places)
        object.__setattr__(self, "_roots", roots)

    def target(self, to: str) -> Place:
        """The place a client means. Raises a `Problem` unless it may be written to."""
        if self.runner is None or not self._roots:
            said = "this server writes to no place; --jobs-to names those it may write to"
            raise Problem("no-jobs", said)
        parts = to.removeprefix("s3://").removeprefix("/").split("/")
        plain = all(part not in ("", ".", "..") and part.isprintable() for part in parts)
        place = None
        with suppress(StorageError):
            place = Place.of(to) if plain and to.startswith(("s3://", "/")) else None
        if place is None or not any(_inside(place, root) for root in self._roots):
            raise Problem("target", "to: is not in a place that this server may write to")
        if place.suffix not in TABLES:
            raise Problem("target", f"to: expected a name that ends in {' or '.join(TABLES)}")
        try:
            there = place.exists()
        except StorageError:
            raise Problem("target", "to: the place cannot be reached") from None
        if there:
            raise Problem("target", "to: something is there already; name another place")
        return place

    def submit(self, order: Order, who: Token, client: str) -> Job:
        """Take an order in, count it, and have it drawn. Raises `Problem`, `StorageError`."""
        self.settle()
        job = Job(
            *(order.id, order.who, order.model, order.stamp[:16], order.seed, order.offset),
            *(order.rows, order.to, _now()),
        )
        self.book.add(job, self.at_once, who)
        assert self.runner is not None  # `target` has seen to it
        try:
            self.book.begun(order, client)
            self.runner.start(order)
        except Exception:
            self.book.end(job.id, "failed", why="nothing could be started to draw it")
            raise
        return job

    def job(self, number: str, who: Token) -> Job:
        """A job of `who`. Raises a `Problem` where there is none."""
        self.settle()
        found = self.book.find(number)
        if found is None or found.who != who.name:
            raise Problem("unknown-job", "there is no such job, or it is another's")
        return found

    def jobs(self, who: Token) -> list[Job]:
        """The jobs of `who`, the latest first."""
        self.settle()
        return self.book.of(who.name)

    def cancel(self, number: str, who: Token) -> Job:
        """Have a job end, if it is not over. Raises a `Problem` where there is none."""
        if self.job(number, who).state == "waiting":
            self.book.end(number, "cancelled")
        self.book.cancel(number)
        return self.job(number, who)

    def settle(self) -> None:
        """Write down the end of jobs whose process went without a word."""
        soon = datetime.now(UTC) - timedelta(seconds=BEGINS_S)
        for job in self.book.active():
            if datetime.fromisoformat(job.begun) > soon:
                continue
            if self.runner is None or not self.runner.alive(job.id):
                self.book.end(job.id, "failed", why=self.lost)


def number() -> str:
    """A new job's id: nobody can guess another's."""
    return secrets.token_hex(16)


def _inside(place: Place, root: Place) -> bool:
    if not root.bucket:  # links are followed first, so that none leads out
        return not place.bucket and Path(place.text).resolve().is_relative_to(
            Path(root.text).resolve()
        )
    return place.text.startswith(f"{root.text.rstrip('/')}/")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
