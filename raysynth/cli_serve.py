"""The commands `raysynth serve` and `raysynth token`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from raysynth.interrupts import noted
from raysynth.terminal import Json, Storage, display, find, tell

STATE = Path("~/.raysynth")  # of a server: tokens, the audit log, rows counted
POLL_S = 0.2


def serve(
    runs: Annotated[
        str, typer.Argument(metavar="RUNS", help="A folder of runs, or s3://bucket/key; or a run.")
    ] = "runs",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65_535)] = 8100,
    auth: Annotated[
        bool, typer.Option("--auth/--no-auth", help="Ask for tokens; without, on loopback only.")
    ] = True,
    tokens: Annotated[
        Path | None, typer.Option(help="File of tokens.", show_default="STATE/tokens.json")
    ] = None,
    state: Annotated[
        Path, typer.Option(help="Folder of the audit log and of rows counted.")
    ] = STATE,
    replicas: Annotated[int, typer.Option(help="Processes that answer.", min=1)] = 1,
    threads: Annotated[int, typer.Option(help="Cores that one draws on.", min=1)] = 1,
    most_rows: Annotated[int, typer.Option(help="Rows of a request at most.", min=1)] = 10_000_000,
    at_once: Annotated[int, typer.Option(help="Samples that a replica draws at once.", min=1)] = 8,
    models: Annotated[int, typer.Option(help="Runs that a replica keeps open.", min=1)] = 4,
    memory_mib: Annotated[int, typer.Option(help="Memory they may take, MiB.", min=1)] = 4_096,
    allow_failed: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Serve this run though its gate failed. Repeat."),
    ] = None,
    jobs_to: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLACE", help="Folder or s3://bucket/key that jobs may write to. Repeat."
        ),
    ] = None,
    jobs_at_once: Annotated[int, typer.Option(help="Jobs drawn at once.", min=1)] = 2,
    job_rows: Annotated[int, typer.Option(help="Rows of a job at most.", min=1)] = 1_000_000_000,
    job_workers: Annotated[
        int, typer.Option(help="Ray workers that draw a job; 0: one process.", min=0)
    ] = 0,
    certificate: Annotated[Path | None, typer.Option(help="PEM file, for HTTPS.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its key.")] = None,
    storage: Storage = "runs",
) -> None:
    """Serve the runs in RUNS over HTTP: a page, rows in five formats, and a log of what left."""
    place, state = find(runs, storage), state.expanduser().absolute()
    found = (tokens or state / "tokens.json").expanduser().absolute()
    with display(state / "serve.log", runs) as show:
        from raysynth.serving.server import Serving
        from raysynth.stages import cluster
        from raysynth.stages import serve as stage
        from raysynth.storage import Place

        serving = Serving(
            runs=place.text,
            state=str(state),
            tokens=str(found) if auth else None,
            allow_failed=tuple(allow_failed or ()),
            most_rows=most_rows,
            at_once=at_once,
            models=models,
            memory_mib=memory_mib,
            threads=threads,
            jobs_to=tuple(Place.of(one).text for one in jobs_to or ()),
            jobs_at_once=jobs_at_once,
            job_rows=job_rows,
            job_workers=job_workers,
        )
        files = (None if one is None else str(one) for one in (certificate, key))
        listening = stage.Listening(host, port, replicas, *files)
        try:
            with noted() as asked:
                stage.start(serving, listening)
                show.say(f"serving {place} at {listening.url}  (log: {state / 'audit.jsonl'})")
                while not asked:
                    time.sleep(POLL_S)
                show.say("stopping, once what is being answered has ended")
                stage.stop(serving.state if serving.jobs_to else None)
        finally:
            cluster.disconnect()


tokens_app = typer.Typer(no_args_is_help=True, help="Tokens by which a server knows who asks.")
TokenFile = Annotated[Path, typer.Option("--tokens", help="File of tokens.")]


@tokens_app.command("add")
def token_add(
    name: Annotated[str, typer.Argument(help="Whose it is; the audit log says it.")],
    models: Annotated[
        list[str] | None,
        typer.Option(help="A model it is for, or a pattern. Repeat.", show_default="all"),
    ] = None,
    scopes: Annotated[
        list[str] | None,
        typer.Option("--scope", help="read or sample. Repeat.", show_default="both"),
    ] = None,
    rows_per_day: Annotated[
        int | None, typer.Option(help="Rows it may have a day.", min=0, show_default="any")
    ] = None,
    concurrent: Annotated[int, typer.Option(help="Samples it may draw at once.", min=1)] = 4,
    expires: Annotated[
        str | None, typer.Option(help="When it ends, 2030-01-31T00:00Z.", show_default="never")
    ] = None,
    file: TokenFile = STATE / "tokens.json",
    as_json: Json = False,
) -> None:
    """Make a token and print it, once: the file keeps a hash of it."""
    from raysynth.serving.tokens import SCOPES, Token, add

    wanted = Token(
        name, "", tuple(models or ["*"]), tuple(scopes or SCOPES), rows_per_day, concurrent, expires
    )
    secret = add(file.expanduser(), wanted)
    if as_json:
        tell({"name": name, "token": secret}, as_json)
    else:
        typer.echo(secret)


@tokens_app.command("remove")
def token_remove(
    name: Annotated[str, typer.Argument(help="Whose it is.")],
    file: TokenFile = STATE / "tokens.json",
) -> None:
    """Refuse a token from now on."""
    from raysynth.serving.tokens import remove

    remove(file.expanduser(), name)


@tokens_app.command("list")
def token_list(file: TokenFile = STATE / "tokens.json", as_json: Json = False) -> None:
    """Show whose tokens there are and what they are good for."""
    from raysynth.serving.tokens import read

    found = [vars(token) | {"sha256": token.sha256[:8]} for token in read(file.expanduser())]
    if as_json:
        tell({"tokens": found}, as_json)
    for one in [] if as_json else found:
        rows = "any" if one["rows_per_day"] is None else f"{one['rows_per_day']:,}"
        what = f"{', '.join(one['models'])}: {', '.join(one['scopes'])}; {rows} rows a day"
        typer.echo(
            f"{one['name']}  {what}" + (f"; until {one['expires']}" if one["expires"] else "")
        )
