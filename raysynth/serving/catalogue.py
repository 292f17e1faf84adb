"""Runs in a place, by name, and the few of them that are open: what a server answers from.

New runs appear, and replaced ones are opened anew, without a restart: the place is looked at again
when `FRESH` seconds have passed. Names come from clients, so a name is looked up among those that
are there and is never made into a path of its own.
"""

import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysynth.errors import AbsentError, RaysynthError, RunError
from raysynth.gate import LEVELS, Level
from raysynth.run import MANIFEST, Run, open_run
from raysynth.sampler import Sampler
from raysynth.storage import Place

FRESH = 2.0  # seconds for which what was seen in a place is taken to be there still
SHOWN = 200  # values of a category listed
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
REPORT, FIGURES = "report.html", "report.json"


class ReplacedError(RunError):
    """A run is not the one that was found under its name."""


@dataclass(frozen=True)
class Entry:
    """A run as its manifest has it, unverified."""

    name: str
    place: Place
    manifest: Mapping[str, Any]

    @property
    def stamp(self) -> str:
        """What changes when the run does."""
        return str(self.manifest.get("digest"))

    @property
    def verdict(self) -> Level | None:
        """What the gate said of it; None where it was never asked.

        What cannot be read of it counts as "fail".
        """
        gate = self.manifest.get("gate")
        said = gate.get("verdict") if isinstance(gate, Mapping) else gate
        known: Level = next((level for level in LEVELS if level == said), "fail")
        return None if gate is None else known


class Catalogue:
    """The runs in `place`, or the one run that it is."""

    def __init__(self, place: Place, fresh: float = FRESH) -> None:
        self.place, self.fresh = place, fresh
        self._lock = threading.Lock()
        self._names: tuple[str, ...] = ()
        self._listed = -fresh
        self._single = False  # whether the place is a run itself
        self._seen: dict[str, tuple[float, Entry]] = {}

    def names(self) -> tuple[str, ...]:
        """Names of the runs that are there. Raises `StorageError`."""
        with self._lock:
            if time.monotonic() - self._listed >= self.fresh:
                self._names = tuple(sorted(self._list()))
                self._listed = time.monotonic()
            return self._names

    def entry(self, name: str) -> Entry:
        """The run called `name`. Raises `KeyError` where there is none, `RunError` if damaged."""
        if not NAME.fullmatch(name) or name not in self.names():
            raise KeyError(name)
        entry = self.seen(name)
        if entry is None:
            entry = Entry(name, self._at(name), self._manifest(name))
            with self._lock:
                self._seen[name] = time.monotonic(), entry
        return entry

    def seen(self, name: str) -> Entry | None:
        """The run called `name` if it was looked at within `fresh` seconds: nothing is read."""
        with self._lock:
            since, entry = self._seen.get(name, (0.0, None))
        return entry if entry and time.monotonic() - since < self.fresh else None

    def _at(self, name: str) -> Place:
        return self.place if self._single else self.place / name

    def _manifest(self, name: str) -> Mapping[str, Any]:
        try:
            found = json.loads((self._at(name) / MANIFEST).read_bytes())
        except AbsentError:
            raise KeyError(name) from None
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise RunError(f"{MANIFEST} is damaged or altered; copy the run again")
        return found

    def _list(self) -> list[str]:
        self._single = (self.place / MANIFEST).exists()
        if self._single:
            return [self.place.name]
        if self.place.bucket:
            files = [place.text for place, _ in self.place.files()]
            parts = [path.removeprefix(f"{self.place.text}/").split("/") for path in files]
            found = [path[0] for path in parts if len(path) == 2 and path[1] == MANIFEST]
        else:
            found = _folders(Path(self.place.text))
        return [name for name in found if NAME.fullmatch(name)]


def _folders(root: Path) -> list[str]:
    """Names of the folders that have a manifest; links that lead out of `root` are none."""
    if not root.is_dir():
        return []
    inside = root.resolve()
    return [
        folder.name
        for folder in root.iterdir()
        if (folder / MANIFEST).is_file() and folder.resolve().parent == inside
    ]


class Shelf:
    """Samplers that are open, at most `most` of them and about `room` bytes; the oldest goes first.

    Two who want the same run wait for one opening of it; one that is slow, or damaged, keeps nobody
    from another.
    """

    def __init__(
        self, most: int, room: int, opened: Callable[[Entry, Run], None] | None = None
    ) -> None:
        self.most, self.room = most, room
        self._opened = opened or (lambda entry, run: None)
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[str, str], Future[Sampler]] = OrderedDict()

    def get(self, entry: Entry) -> Sampler:
        """The run's sampler, opened if it is not. Raises `RunError`, `StorageError`."""
        key = entry.name, entry.stamp
        with self._lock:
            future = self._open.get(key)
            mine = future is None
            if future is None:
                future = self._open[key] = Future()
            self._open.move_to_end(key)
        if mine:
            self._make(entry, key, future)
        return future.result()

    def __len__(self) -> int:
        return len(self._open)

    def _make(self, entry: Entry, key: tuple[str, str], future: "Future[Sampler]") -> None:
        try:
            run = open_run(entry.place)
            if run.manifest["digest"] != entry.stamp:  # its verdict may be another as well
                raise ReplacedError(f"{entry.place}: it was replaced a moment ago; ask again")
            sampler = Sampler.open(run)
        except BaseException as error:  # noqa: BLE001 (told to all who wait for it)
            with self._lock:
                self._open.pop(key, None)
            future.set_exception(error)
            return
        future.set_result(sampler)
        self._opened(entry, run)
        with self._lock:
            self._evict(key)

    def _evict(self, newest: tuple[str, str]) -> None:
        """Close what there is no room for, and what was replaced; never the newest."""
        done = [key for key, one in self._open.items() if one.done() and key != newest]
        for key in [key for key in done if key[0] == newest[0]]:
            del self._open[key]
        sizes = {
            key: size_of(one.result())
            for key, one in self._open.items()
            if one.done() and not one.exception()
        }
        for key in done:
            if len(sizes) <= self.most and sum(sizes.values()) <= self.room:
                break
            if sizes.pop(key, None) is not None and key in self._open:
                del self._open[key]


def size_of(sampler: Sampler) -> int:
    """Bytes of memory that a sampler's tensors and kept values take, about."""
    tensors = [*sampler.model.parameters(), *sampler.model.buffers()]
    # Kept values are Python objects: some 60 bytes each, and as text at least one in the JSON.
    kept = sum(len(codec.shares) for codec in sampler.table.codecs)
    return sum(one.numel() * one.element_size() for one in tensors) + 100 * kept


def told(entry: Entry, usable: bool = True, why: str = "") -> dict[str, Any]:
    """A run in one line of a list."""
    facts = entry.manifest
    return {
        "name": entry.name,
        "family": facts.get("family"),
        "rows": facts.get("rows"),
        "epochs": facts.get("epochs"),
        "raysynth": facts.get("raysynth"),
        "format": facts.get("format"),
        "gate": entry.verdict,
        "report": REPORT in facts.get("files", {}),
        "usable": usable,
        **({"why": why} if why else {}),
    }


def described(run: Run, values: bool = True) -> dict[str, Any]:
    """A verified run's columns and figures. `values` lists categories that enough rows share."""
    known = giveable(run)
    return {
        "columns": [
            {
                "name": column.name,
                "kind": column.kind,
                "type": str(column.type),
                "given": column.name in known,
                **({"values": _values(run, column.name)} if values else {}),
            }
            for column in run.table.schema.columns
        ],
        "figures": figures(run),
        "kept": run.kept,
        "least": run.config.least,
        "reasons": list((run.gate or {}).get("reasons", ())),
        "untried": list((run.gate or {}).get("untried", ())),
    }


def giveable(run: Run) -> set[str]:
    """Columns of which values may be given: those learned from, and what relations write."""
    learned = {column.name for column in run.table.layout.columns}
    return learned | {name for one in run.table.relations for name in one.written}


def figures(run: Run) -> list[dict[str, Any]]:
    """The figures of its report; none where it was not judged."""
    if FIGURES not in run.manifest["files"]:
        return []
    try:
        found = json.loads((run.place / FIGURES).read_bytes())["figures"]
        keys = ("name", "synthetic", "ceiling", "floor", "better", "unit")
        return [{key: one.get(key) for key in keys} for one in found]
    except (RaysynthError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _values(run: Run, name: str) -> list[Any] | None:
    """The values of a category of few; None for a column of other kinds, or of many.

    They are the codec's, which keeps none that fewer than `least` rows share.
    """
    column = run.table.schema[name]
    if column.kind == "boolean":
        return [False, True]
    if column.kind != "category" or name not in run.table.reduced.names:
        return None
    kept = getattr(run.table.codecs[run.table.reduced.names.index(name)], "values", None)
    if kept is None or len(kept) > SHOWN:
        return None
    return list(kept) if all(isinstance(one, str | int) for one in kept) else None
