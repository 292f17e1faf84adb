"""How long until our rows are as faithful as the reference's are at its end.

Both sides train on the same rows, in turn, with as many threads, each as its defaults have it. As
they go, the rows of the weights that would be kept are drawn; that costs neither side any time.
`raysynth.probe` says of each how near they are to the same held-out rows: its `fidelity`, of codes
that one codec makes of either side's rows. Seconds count from the table in memory: encoding is
among them, and told beside, and so is what a side itself does to choose its weights (our probes).
A side has **reached** the reference's last value with the first rows that have it; the same is told
of `detection` alone, which is one of the figures in it.

References: ctgan 0.12.1 of `ctgan` and `tvae`; MOSTLY AI's engine of `autoregressive`.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from benchmarks import ours, sides
from benchmarks.figures import score, spread
from benchmarks.measure import MARK_ROWS
from benchmarks.quality import nulled
from raysynth import probe
from raysynth.frames import subsample
from raysynth.layout import Codes
from raysynth.table import TableCodec

REFERENCES: dict[str, tuple[str, Callable[[Path, Callable[[str], None]], sides.Side]]] = {
    "ctgan": ("peer-env", sides.peer),
    "tvae": ("peer-env", sides.peer),
    "autoregressive": ("mostly-env", sides.mostly),
}

_BOTH = "ours", "peer"

Entry = dict[str, Any]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Judge:
    """What tells how near rows are to held-out ones, whoever made them."""

    schema: pa.Schema
    codec: TableCodec
    held: Codes

    @classmethod
    def of(cls, settings: dict[str, Any], test: Path) -> "Judge":
        """A judge by rows of `test`, with the codec of the training table that `settings` name."""
        codec, _, _ = ours.encoded({**settings, "family": "autoregressive", "seed": 0})
        held = subsample(pq.read_table(test), MARK_ROWS, np.random.default_rng(0))
        return cls(held.schema, codec, _codes(codec, held))

    def figures(self, table: pa.Table) -> dict[str, float]:
        """The probe's figures of as many rows as there are held-out ones, nulls told by "?" too."""
        table = nulled(table.select(self.schema.names)).cast(self.schema, safe=False)
        rows = min(table.num_rows, self.held.rows)
        held = self.held.take(slice(0, rows))
        return probe.figures(self.codec, held, _codes(self.codec, table.slice(0, rows)))


def measure(
    families: Sequence[str], base: dict[str, Any], test: Path, repeats: int, env: Path, say: Say
) -> Iterator[dict[str, Any]]:
    """Every mark of every training, judged, and what real rows are judged to be; as they come."""
    judge = Judge.of(base, test)
    real = pq.read_table(base["table"]).slice(0, base["rows"])
    real = subsample(real, MARK_ROWS, np.random.default_rng(1))
    ceiling, found = judge.figures(real), list[Entry]()
    both = {family: _sides(family, env, say) for family in families}
    for seed in range(repeats):
        for family, mine in both.items():
            for side in mine:
                say(f"seed {seed}: {family}, {side.name}")
                found.append(_course(side, judge, {**base, "family": family, "seed": seed}))
                yield {"ceiling": ceiling, "trainings": found}


def _sides(family: str, env: Path, say: Say) -> list[sides.Side]:
    """Ours, and the reference where its environment can be made."""
    if family not in REFERENCES:
        say(f"{family}: there is no reference; its own course is all there is")
        return [sides.ours()]
    name, make = REFERENCES[family]
    try:
        return [sides.ours(), make(env / name, say)]
    except RuntimeError as error:
        say(f"{family}: its reference is left out: {error}")
        return [sides.ours()]


def _course(side: sides.Side, judge: Judge, settings: dict[str, Any]) -> Entry:
    threads = settings["threads"]
    told = {key: value for key, value in settings.items() if key != "threads"}
    with tempfile.TemporaryDirectory() as folder:
        went = side.run("approach", threads, **{**told, "folder": folder})
        marks = [mark | judge.figures(pq.read_table(mark["file"])) for mark in went["marks"]]
    about = {"family": told["family"], "side": side.name, "seed": told["seed"]}
    return {**about, "encode_s": went["encode_s"], "marks": marks}


def reached(
    marks: Sequence[Entry],
    value: float,
    of: Callable[[Entry], float] = lambda mark: float(mark["fidelity"]),
) -> float | None:
    """Seconds until the first mark of at least this fidelity, or else; None where none has it."""
    return next((mark["seconds"] for mark in marks if of(mark) >= value), None)


def _undetected(mark: Entry) -> float:
    return -float(mark["detection"])


def _over(theirs: float | None, ours_s: float | None) -> float | None:
    return None if theirs is None or ours_s is None else theirs / ours_s


def figures(found: dict[str, Any]) -> list[Entry]:
    """A training of ours each: the reference's last fidelity and when each side reached it."""
    theirs = {
        (entry["family"], entry["seed"]): entry
        for entry in found["trainings"]
        if entry["side"] == "peer"
    }
    told = []
    for entry in found["trainings"]:
        key = entry["family"], entry["seed"]
        if entry["side"] != "ours":
            continue
        mine, reference = entry["marks"], theirs.get(key)
        about = {"family": key[0], "seed": key[1], "ours_last": mine[-1]["fidelity"]}
        about |= {"ours_whole_s": mine[-1]["seconds"], "ours_encode_s": entry["encode_s"]}
        if reference is not None:
            peer = reference["marks"]
            value = peer[-1]["fidelity"]
            about |= {"peer_encode_s": reference["encode_s"]}
            ours_s, peer_s = reached(mine, value), reached(peer, value)
            about |= {"peer_last": value, "peer_whole_s": peer[-1]["seconds"]}
            about |= {"ours_s": ours_s, "peer_s": peer_s, "times_sooner": _over(peer_s, ours_s)}
            least = peer[-1]["detection"]
            ours_s, peer_s = (reached(marks, -least, _undetected) for marks in (mine, peer))
            about |= {"ours_last_detection": mine[-1]["detection"], "peer_last_detection": least}
            about |= {"ours_detection_s": ours_s, "peer_detection_s": peer_s}
            about |= {"times_sooner_detection": _over(peer_s, ours_s)}
        told.append(about)
    return told


def to_json(found: dict[str, Any]) -> dict[str, Any]:
    """A JSON value: figures beside every mark."""
    return {"figures": figures(found), **found}


def shown(found: dict[str, Any]) -> list[Any]:
    """What the terminal shows: a line a family, and how near real rows are."""
    told = figures(found)
    seeds = len({one["seed"] for one in told})
    title = f"seconds until the reference's fidelity: median of {seeds} seed(s) (least..most)"
    table = Table(title=title, title_justify="left")
    table.add_column("family")
    for name in (
        "reference's last",
        "its s to there",
        "its s in all",
        "encoding",
        "ours, s to there",
        "times sooner",
        "our last",
        "our s in all",
        "encoding",
    ):
        table.add_column(name, justify="right")
    for family in dict.fromkeys(one["family"] for one in told):
        mine = [one for one in told if one["family"] == family]
        last = [one["peer_last"] for one in mine if "peer_last" in one]
        table.add_row(
            family,
            score(last, 3) if last else "none here",
            _times(mine, "peer_s"),
            _times(mine, "peer_whole_s"),
            _times(mine, "peer_encode_s"),
            _times(mine, "ours_s"),
            _times(mine, "times_sooner", "x"),
            score([one["ours_last"] for one in mine], 3),
            _times(mine, "ours_whole_s"),
            _times(mine, "ours_encode_s"),
        )
    lines = []
    for family in dict.fromkeys(one["family"] for one in told):
        mine = [one for one in told if one["family"] == family and "peer_last" in one]
        if mine:
            last = [score([one[f"{side}_last_detection"] for one in mine], 3) for side in _BOTH]
            lines.append(
                f"{family}, detection (AUC): ours ends at {last[0]}, the reference at {last[1]}, "
                f"which it reached after {_times(mine, 'peer_detection_s')} s and ours after "
                f"{_times(mine, 'ours_detection_s')} s, "
                f"{_times(mine, 'times_sooner_detection', 'x')} sooner"
            )
    return [table, *lines, f"training rows drawn at random have {found['ceiling']['fidelity']:.3f}"]


def _times(entries: Sequence[Entry], name: str, unit: str = "") -> str:
    """The spread over seeds, and in how many it never came."""
    values = [one[name] for one in entries if name in one]
    there = [value for value in values if value is not None]
    if not values:
        return ""
    if not there:
        return "never"
    never = f", never in {len(values) - len(there)}" if len(there) < len(values) else ""
    return spread(there, unit) + never


def _codes(codec: TableCodec, table: pa.Table) -> Codes:
    return codec.encode(table, np.arange(table.num_rows, dtype=np.uint64), 0)
