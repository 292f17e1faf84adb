"""Jobs of a server on Ray: an actor draws each into its file, and outlives who took the order.

`serving.jobs` has what a job is and how far it got; here is who draws.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysynth.errors import RaysynthError, RunError
from raysynth.run import open_run
from raysynth.serving.jobs import Book, Order
from raysynth.serving.problems import without_place
from raysynth.stages.sample import sample
from raysynth.storage import Place

NAMESPACE = "raysynth"
EVERY_S = 1.0  # between two looks at whether to go on
END_S = 20.0  # for jobs to end when their server does

log = logging.getLogger(__name__)


class Actors:
    """`serving.jobs.Runner`, on the cluster at hand."""

    def start(self, order: Order) -> None:
        """An actor for it, which waits until this node, where the book lies, has a core."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        _Drawing.options(  # type: ignore[attr-defined]
            name=_name(order.id),
            namespace=NAMESPACE,
            lifetime="detached",
            scheduling_strategy=here,
        ).remote(order)

    def alive(self, number: str) -> bool:
        """Whether there is an actor for it."""
        try:
            ray.get_actor(_name(number), namespace=NAMESPACE)
        except ValueError:
            return False
        return True


def end_all(state: str) -> None:
    """Cancel all jobs, and give them `END_S` to leave nothing half written."""
    book = Book(state)
    for job in book.active():
        book.cancel(job.id)
    end = time.monotonic() + END_S
    while (left := book.active()) and time.monotonic() < end:
        time.sleep(0.2)
    for job in left:
        book.end(job.id, "failed", why="the server was stopped")


def _name(number: str) -> str:
    return f"raysynth-job-{number}"


@ray.remote(num_cpus=1, max_restarts=0)
class _Drawing:
    """Draws on a thread of its own: a task of the replica's would end with the replica."""

    def __init__(self, order: Order) -> None:
        me = ray.get_runtime_context().current_actor

        def work() -> None:
            try:
                carry_out(order)
            finally:
                me.leave.remote()

        threading.Thread(target=work, name="job", daemon=True).start()

    def leave(self) -> None:
        ray.actor.exit_actor()


def carry_out(order: Order) -> None:
    """Draw an order into its file, and write down how it ended."""
    book = Book(order.state)
    try:
        place = Place.of(order.place)
        if open_run(place).manifest["digest"] != order.stamp:
            raise RunError("the model was replaced; ask again")
        pen = _Pen(book, order.id)
        pen.at(0)
        drawn = sample(
            *(place, order.to, order.rows, order.seed, order.given, order.workers, pen),
            *(order.columns, order.offset),
        )
        book.end(order.id, "done", drawn.rows)
    except _Cancelled:
        book.end(order.id, "cancelled")
    except RaysynthError as error:
        book.end(order.id, "failed", why=without_place(str(error), order.place))
    except Exception as error:  # noqa: BLE001 (whatever it says may hold a value)
        log.error("a job failed: %s", type(error).__name__)
        with suppress(RaysynthError):
            book.end(order.id, "failed", why=f"a fault of the server's ({type(error).__name__})")


class _Cancelled(Exception):  # noqa: N818 (nothing went wrong)
    """A job is to end."""


class _Pen:
    """A `Show` that writes progress into the book, and raises `_Cancelled` where it says so."""

    def __init__(self, book: Book, number: str) -> None:
        self.book, self.number, self._looked = book, number, -EVERY_S

    @contextmanager
    def phase(self, name: str, rows: int | None, unit: str = "rows") -> Iterator["_Pen"]:
        yield self

    def begin(self, rows: int) -> None:
        self.at(rows)

    def at(self, rows: int, note: str = "") -> None:
        if time.monotonic() - self._looked >= EVERY_S:
            self._looked = time.monotonic()
            if not self.book.at(self.number, rows):
                raise _Cancelled

    def say(self, line: str) -> None:
        """Nobody to tell."""
