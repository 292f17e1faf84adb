"""What every command of the terminal does: show one display, print one line of JSON, find a run."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console

from raysynth.errors import ConfigError

Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON last on stdout.")]
Seed = Annotated[int, typer.Option(help="Same seed, same rows.", min=0)]
Storage = Annotated[str, typer.Option(help="Folder that runs lie in, or s3://bucket/key.")]


def assignment(text: str) -> tuple[str, Any]:
    """The key and the value, JSON or else text, of a --set. Raises `ConfigError`."""
    key, found, value = text.partition("=")
    if not found:
        raise ConfigError(f"--set: expected KEY=VALUE, got no '=' in '{key}'")
    with contextlib.suppress(ValueError):
        return key, json.loads(value)
    return key, value


def find(run: str, storage: str) -> Any:
    """The place of a run that is named by its path, or by its name in `storage`."""
    from raysynth.storage import Place

    place = Place.of(run)
    if place.bucket or place.exists():
        return place
    inside = Place.of(storage) / run
    return inside if inside.exists() else place


def tell(value: dict[str, Any], as_json: bool) -> None:
    """Print it in one line, where JSON was asked for."""
    if as_json:
        typer.echo(json.dumps(value, default=str))


def lines(stream: TextIO, **facts: str) -> Any:
    """Lines of JSON in place of a display, each with `facts`, where RAYSYNTH_LOGS is json."""
    if os.environ.get("RAYSYNTH_LOGS") != "json":
        return None
    from raysynth.progress import Lines

    facts = {"job": os.environ.get("RAYSYNTH_JOB", ""), **facts}
    return Lines(stream, **{name: fact for name, fact in facts.items() if fact})


@contextlib.contextmanager
def display(log: Path, run: str = "") -> Iterator[Any]:
    """A terminal display of our own; all else written to stdout or stderr goes to `log`.

    That holds for what Ray's processes write, too. `run` is the path or name of a run that it is
    about; see `lines`.
    """
    from raysynth.progress import Terminal
    from raysynth.storage import writable

    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    with writable(log) as sink, os.fdopen(os.dup(2), "w") as stream:
        told = lines(stream, run=run.rstrip("/").rpartition("/")[2])
        terminal = Terminal(Console(file=stream, stderr=True))
        shown: Any = terminal if told is None else contextlib.nullcontext(told)
        for number in (1, 2):
            os.dup2(sink.fileno(), number)
        try:
            with shown as show:
                yield show
        finally:
            if ours := sys.modules.get("raysynth.stages.cluster"):
                ours.disconnect()  # before what Ray says of it could reach the terminal
            sys.stdout.flush()
            sys.stderr.flush()
            for number, old in zip((1, 2), saved, strict=True):
                os.dup2(old, number)
                os.close(old)
            if log.is_file() and not log.stat().st_size:
                log.unlink()
