"""What an HTTP interface answers from: tokens, runs, samplers, limits, the log. Without HTTP."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from raysynth import checkpoint
from raysynth.abreast import pool
from raysynth.errors import ConfigError, RaysynthError, RunError, StorageError
from raysynth.run import Run, open_run
from raysynth.serving.answers import Answer, House, Meters, Wanted, problem_of
from raysynth.serving.audit import Ledger, Log
from raysynth.serving.catalogue import (
    REPORT,
    Catalogue,
    Entry,
    Shelf,
    described,
    figures,
    told,
)
from raysynth.serving.formats import FORMATS, choose
from raysynth.serving.guard import Slots
from raysynth.serving.jobs import Book, Desk, Job, Order, Ordered, Runner, number
from raysynth.serving.problems import Problem
from raysynth.serving.tokens import ANYONE, Token, Tokens
from raysynth.storage import Place

MIB = 2**20
Asked = TypeVar("Asked", bound=Wanted)
KNOWN = 64  # descriptions of models kept


@dataclass(frozen=True)
class Serving:
    """How runs are served. `tokens` None: to anyone, on the loopback only.

    `state` is the folder of the audit log and the ledger. Limits of requests hold for a replica,
    those of rows for all that share `state`. Jobs may write below `jobs_to`, by this process's own
    rights; one is drawn over `job_workers` actors of Ray's, or in one process for 0.
    """

    runs: str
    state: str
    tokens: str | None = None
    allow_failed: tuple[str, ...] = ()
    most_rows: int = 10_000_000
    at_once: int = 8
    line: int = 64
    patience: float = 5.0
    models: int = 4
    memory_mib: int = 4_096
    threads: int = 1
    jobs_to: tuple[str, ...] = ()
    jobs_at_once: int = 2
    job_rows: int = 1_000_000_000
    job_workers: int = 0


class Server:
    """What the routes ask: tokens, runs, samplers, the log."""

    def __init__(self, serving: Serving, meters: Meters, runner: Runner | None = None) -> None:
        self.serving = serving
        self.tokens = None if serving.tokens is None else Tokens(serving.tokens)
        self.catalogue = Catalogue(Place.of(serving.runs))
        self.shelf = Shelf(serving.models, serving.memory_mib * MIB, self._opened)
        self._known: dict[tuple[str, str, bool], dict[str, Any]] = {}
        state = Path(serving.state)
        self.house = House(
            Log(state / "audit.jsonl"),
            Ledger(state / "rows.sqlite"),
            Slots(serving.at_once, serving.line, serving.patience, meters.drawing),
            pool("long", serving.threads),
            pool("quick", serving.threads),
            meters,
        )
        self.desk = Desk(Book(state), runner, serving.jobs_to, serving.jobs_at_once)

    def _opened(self, entry: Entry, run: Run) -> None:
        """Tell the meters of a model that was opened, and how it was judged."""
        told = {one["name"]: one["synthetic"] for one in figures(run)}
        numbers = {name: value for name, value in told.items() if isinstance(value, int | float)}
        self.house.meters.opened(entry.name, entry.verdict, numbers)

    def warm(self) -> None:
        """Open as many runs as are kept open, and draw a row from each, before anybody asks.

        The first rows of a process, and of a run, take a second or more. What cannot be opened is
        told to whoever asks for it.
        """
        with suppress(StorageError):
            for name in self.catalogue.names()[: self.serving.models]:
                with suppress(KeyError, RaysynthError):
                    entry = self.catalogue.entry(name)
                    if not self.refused(entry):
                        self.shelf.get(entry).sample(1)

    def who(self, secret: str | None, scope: str) -> Token:
        """Whose request it is. Raises `Problem` unless the token may `scope`."""
        if self.tokens is None:
            return ANYONE
        try:
            token = None if secret is None else self.tokens.find(secret)
        except (StorageError, ConfigError):
            raise Problem("fault", "the server's file of tokens cannot be read") from None
        if token is None:
            how = "Authorization: Bearer TOKEN; 'raysynth token add' makes one"
            said = "no token came" if secret is None else "the token is unknown or has expired"
            raise Problem("unauthorised", f"{said}; send {how}")
        if scope not in token.scopes:
            raise Problem("forbidden", f"the token has not the scope '{scope}'")
        return token

    def entry(self, name: str, who: Token) -> Entry:
        """The run called `name`. Raises `Problem` where there is none that the token reaches."""
        try:
            if who.reaches(name):
                return self.catalogue.entry(name)
        except KeyError:
            pass
        except RunError as error:
            raise Problem("model", f"{name}: {error}") from None
        except StorageError:
            raise Problem("model", "the place where the models are cannot be read") from None
        raise Problem("unknown-model", "there is no such model, or the token is not for it")

    def seen(self, name: str, who: Token) -> Entry | None:
        """The run called `name` if the token reaches it and it was looked at just now."""
        return self.catalogue.seen(name) if who.reaches(name) else None

    def refused(self, entry: Entry) -> bool:
        """Whether the gate's verdict keeps its rows here."""
        return entry.verdict == "fail" and entry.name not in self.serving.allow_failed

    def listed(self, who: Token) -> list[dict[str, Any]]:
        """The models that a token reaches; one that is damaged says so."""
        found = []
        try:
            names = self.catalogue.names()
        except StorageError:
            raise Problem("model", "the place where the models are cannot be read") from None
        for name in filter(who.reaches, names):
            try:
                entry = self.catalogue.entry(name)
                why = "its privacy gate failed" if self.refused(entry) else ""
                found.append(told(entry, not why, why))
            except KeyError:  # it went between
                continue
            except RaysynthError as error:
                found.append({"name": name, "usable": False, "why": str(error)})
        return found

    def described(self, entry: Entry) -> dict[str, Any]:
        """A model's columns, figures and limits. Raises `Problem`."""
        refused = self.refused(entry)
        limits = {"rows": self.serving.most_rows}
        formats = [form.media for form in FORMATS]
        more = self._described(entry, values=not refused)
        line = told(entry, not refused, "its privacy gate failed" if refused else "")
        return {**line, **more, "limits": limits, "formats": formats}

    def _described(self, entry: Entry, values: bool) -> dict[str, Any]:
        """`catalogue.described`, kept for some: it reads all files of a run to verify them."""
        key = (entry.name, entry.stamp, values)
        more = self._known.get(key)
        if more is None:
            try:
                more = described(open_run(entry.place), values)
            except RaysynthError as error:
                raise problem_of(error, entry) from None
            while len(self._known) >= KNOWN:
                self._known.pop(next(iter(self._known)), None)
            self._known[key] = more
        return more

    def report(self, entry: Entry) -> bytes:
        """A model's report, as it was saved. Raises `Problem`."""
        if REPORT not in entry.manifest.get("files", {}):
            raise Problem("no-report", f"{entry.name} was not judged; 'raysynth evaluate' does it")
        try:
            data = (entry.place / REPORT).read_bytes()
        except RaysynthError as error:
            raise problem_of(error, entry) from None
        if checkpoint.entry(data) != entry.manifest["files"][REPORT]:
            said = f"{entry.name}: {REPORT} is not what was saved; copy the run again"
            raise Problem("model", said)
        return data

    def answer(self, entry: Entry, who: Token, client: str, accept: str | None, body: bytes) -> Any:
        """An answer about to begin. Raises `Problem`."""
        self._pass(entry)
        form = choose(accept)
        if form is None:
            known = ", ".join(form.media for form in FORMATS)
            raise Problem("format", f"Accept names no format there is: {known}")
        wanted = parsed(body, Wanted)
        if wanted.rows > self.serving.most_rows:
            most = self.serving.most_rows
            said = f"rows: a request may ask for {most:,}; ask for more with offset"
            raise Problem("request", said)
        return Answer(self.house, who, client, entry, wanted, form, self.shelf.get)

    def submit(self, entry: Entry, who: Token, client: str, body: bytes) -> Job:
        """A job about to begin. Raises `Problem`, `StorageError`."""
        self._pass(entry)
        wanted = parsed(body, Ordered)
        if wanted.rows > self.serving.job_rows:
            raise Problem("request", f"rows: a job may ask for {self.serving.job_rows:,}")
        to = self.desk.target(wanted.to)
        given = wanted.bounds
        try:
            sampler = self.shelf.get(entry)
            sampler.asked(given)
            sampler.chosen(wanted.columns)
        except RaysynthError as error:
            raise problem_of(error, entry) from None
        order = Order(
            *(number(), who.name, entry.name, entry.place.text, entry.stamp, wanted.rows),
            *(wanted.seed, wanted.offset, given, wanted.columns, to.text),
            *(self.serving.job_workers, self.serving.state),
        )
        return self.desk.submit(order, who, client)

    def _pass(self, entry: Entry) -> None:
        """Raises a `Problem` where the gate's verdict keeps a run's rows here."""
        if self.refused(entry):
            said = f"{entry.name} failed its privacy gate; to serve it all the same takes the "
            raise Problem("gate", f"{said}operator's --allow-failed {entry.name}")


def parsed(body: bytes, kind: type[Asked]) -> Asked:
    """What a body asks for. Raises a `Problem` that names fields and repeats no value."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        told = {(".".join(map(str, one["loc"][:2])) or "body"): one["msg"] for one in found[:5]}
        said = "; ".join(f"{name}: {text}" for name, text in told.items())
        raise Problem("request", said) from None
