"""A sample on its way to a client: drawn piece by piece, counted, logged.

Requests are not drawn together, though a network would take the rows of several for less: what a
product of matrices gives for a row may differ, in its last bits, with the rows beside it, and the
same request is to give the same bytes. Four chunks of 125 rows of ctgan would take its network some
two thirds of the time at once.
"""

import asyncio
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from raysynth.errors import GivenError, RaysynthError, RunError, StorageError, TableError
from raysynth.gate import Level
from raysynth.sampler import Sampler
from raysynth.serving.audit import Ledger, Log
from raysynth.serving.catalogue import Entry, ReplacedError
from raysynth.serving.formats import Chunk, Writer, encode
from raysynth.serving.guard import Slots
from raysynth.serving.problems import Problem, without_place
from raysynth.serving.tokens import Token

Cell = str | bool | int | float | None
SMALL = 1_000  # rows of an answer that is made at once
FARTHEST = 2**40  # rows into a sample


class Wanted(BaseModel):
    """What is asked of a model."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {"rows": 1_000, "seed": 7},
                {"rows": 100, "given": {"sex": "Female", "age": [30, 40]}, "columns": ["age"]},
                {"rows": 1_000_000, "seed": 7, "offset": 1_000_000},
            ]
        },
    )

    rows: Annotated[int, Field(ge=1, description="How many rows.")]
    seed: Annotated[int, Field(ge=0, lt=2**63, description="Same seed, same rows.")] = 0
    offset: Annotated[
        int,
        Field(ge=0, le=FARTHEST, description="The first row, of the table that the seed means."),
    ] = 0
    given: Annotated[
        dict[str, Cell | list[Cell]],
        Field(
            description="What every row holds: by column a value, or [low, high] of which one may "
            'be null; as text also "30..40".'
        ),
    ] = {}
    columns: Annotated[
        list[str] | None, Field(min_length=1, description="Which columns, in this order.")
    ] = None

    @property
    def bounds(self) -> dict[str, Any]:
        """`given` as the sampler takes it."""
        return {name: _pair(value) for name, value in self.given.items()}


@dataclass(frozen=True)
class Counted:
    """What an answer came to, for metrics."""

    model: str
    form: str
    how: str
    rows: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Meters:
    """Who is told what happens.

    An answer that ended; a request refused, with the problem's kind; a model opened, with the
    gate's verdict and its report's figures; how many draw and wait.
    """

    answered: Callable[[Counted], None] = lambda counted: None
    refused: Callable[[str], None] = lambda kind: None
    opened: Callable[[str, Level | None, Mapping[str, float]], None] = (
        lambda name, verdict, figures: None
    )
    drawing: Callable[[int, int], None] = lambda drawing, waiting: None


@dataclass(frozen=True)
class House:
    """What all answers share."""

    log: Log
    ledger: Ledger
    slots: Slots
    pool: Executor  # for what is long
    quick: Executor  # for what is short, so that it need not wait for what is long
    meters: Meters


def _now() -> float:
    return time.monotonic()


@dataclass
class Answer:
    """One client's rows; see `flow.Answering`."""

    house: House
    who: Token
    client: str
    entry: Entry
    wanted: Wanted
    form: type[Writer]
    opened: Callable[[Entry], Sampler]

    number: str = field(default_factory=lambda: secrets.token_hex(8))
    rows: int = 0
    bytes: int = 0
    over: bool = False
    taken: int = 0  # rows counted against the token's day, which is that of `day`
    day: datetime = field(default_factory=lambda: datetime.now(UTC))
    begun: float = field(default_factory=_now)
    _chunks: Iterator[Chunk] | None = None
    _coming: "asyncio.Future[Chunk | None] | None" = None
    _stop: threading.Event = field(default_factory=threading.Event)

    async def begin(self) -> "Answer":
        """Wait for a slot. Raises `Problem`."""
        await self.house.slots.enter(self.who.name, self.who.concurrent)
        return self

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the answer."""
        wanted, name = self.wanted, self.entry.name
        file = f"{name}-{wanted.seed}.{self.form.suffix}"
        return {
            "content-type": self.form.media,
            "content-disposition": f'attachment; filename="{file}"',
            "vary": "accept, authorization",
            "x-raysynth-model": f"{name}/{self.entry.stamp[:16]}",
            "x-raysynth-rows": f"{wanted.offset}-{wanted.offset + wanted.rows - 1}",
            "x-raysynth-seed": str(wanted.seed),
            "x-raysynth-request": self.number,
        }

    async def next(self) -> Chunk | None:
        """The next chunk; the one after it is made meanwhile. Raises `Problem`."""
        if self._coming is None:
            self._coming = self._ask()
        chunk = await self._coming
        self._coming = self._ask() if chunk is not None and not self.over else None
        return chunk

    @property
    def _small(self) -> bool:
        return self.wanted.rows <= SMALL

    def _ask(self) -> "asyncio.Future[Chunk | None]":
        pool = self.house.quick if self._small else self.house.pool
        return asyncio.get_running_loop().run_in_executor(pool, self._make)

    def _make(self) -> Chunk | None:
        if self._stop.is_set():
            return None
        if self._chunks is None:
            self._chunks = self._start()
        try:
            if self._small:
                whole, self.over = list(self._chunks), True
                return Chunk(b"".join(one.data for one in whole), sum(one.rows for one in whole))
            return next(self._chunks, None)
        except RaysynthError as error:
            raise problem_of(error, self.entry) from None

    def _start(self) -> Iterator[Chunk]:
        """Check what is asked, count it, write it down. Raises `Problem`, `StorageError`."""
        wanted = self.wanted
        given = wanted.bounds
        try:
            sampler = self.opened(self.entry)
            sampler.asked(given)
            names = sampler.chosen(wanted.columns)
        except RaysynthError as error:
            raise problem_of(error, self.entry) from None
        schema = sampler.table.schema.arrow
        schema = pa.schema([schema.field(name) for name in names])
        self.day = datetime.now(UTC)
        most = self.who.rows_per_day
        wait = self.house.ledger.take(self.who.name, wanted.rows, most, self.day)
        if wait is not None:
            said = f"the token may have {most:,} rows a day (UTC)"
            raise Problem("quota", said, retry_after=wait)
        self.taken = wanted.rows
        self.house.log.write("begun", **self.facts, given=sorted(given), columns=wanted.columns)
        drawn = sampler.stream(wanted.rows, wanted.seed, given, wanted.offset)
        return encode((one.table.select(names) for one in drawn), schema, self.form)

    @property
    def facts(self) -> dict[str, Any]:
        """Who asked for what, for the log."""
        wanted = self.wanted
        return {
            "request": self.number,
            "who": self.who.name,
            "from": self.client,
            "model": self.entry.name,
            "stamp": self.entry.stamp[:16],
            "seed": wanted.seed,
            "offset": wanted.offset,
            "asked": wanted.rows,
            "format": self.form.suffix,
        }

    def sent(self, chunk: Chunk) -> None:
        """Count a chunk."""
        self.rows += chunk.rows
        self.bytes += len(chunk.data)

    def end(self, how: str) -> None:
        """Stop the drawing, give back what was not sent, and write down what was."""
        self._stop.set()
        house, seconds = self.house, time.monotonic() - self.begun
        house.slots.leave(self.who.name)
        if not self.taken:
            return  # nothing was begun
        told = Counted(self.entry.name, self.form.suffix, how, self.rows, self.bytes, seconds)
        house.meters.answered(told)
        try:
            house.log.write(
                "ended",
                **{key: self.facts[key] for key in ("request", "who", "model")},
                how=how,
                rows=self.rows,
                bytes=self.bytes,
                seconds=round(seconds, 3),
            )
        finally:
            if left := self.taken - self.rows:
                house.ledger.give_back(self.who.name, left, self.day)


def problem_of(error: RaysynthError, entry: Entry) -> Problem:
    """The problem that an error is to a client."""
    said = without_place(str(error), str(entry.place))
    if isinstance(error, GivenError):
        return Problem("request", said)
    if isinstance(error, TableError):
        return Problem("request", f"columns: {said.removeprefix('columns: ')}")
    if isinstance(error, ReplacedError):
        return Problem("model", f"{entry.name}: {said}", retry_after=1)
    if isinstance(error, RunError | StorageError):
        return Problem("model", f"{entry.name}: {said}")
    return Problem("fault", said)


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
