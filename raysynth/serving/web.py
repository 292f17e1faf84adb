"""The HTTP interface: a FastAPI application over a place of runs, without Ray.

`stages.serve` runs it in replicas of Ray Serve; any ASGI server can. Everything but the page, the
description of the interface and the checks of health asks for a token.
"""

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from raysynth.errors import StorageError
from raysynth.serving.answers import Meters, Wanted
from raysynth.serving.flow import App, Stream
from raysynth.serving.formats import FORMATS
from raysynth.serving.guard import Guard
from raysynth.serving.jobs import Ordered, Runner
from raysynth.serving.problems import KINDS, MEDIA, Problem
from raysynth.serving.server import Server, Serving
from raysynth.serving.tokens import ANYONE, Token

_BEARER = HTTPBearer(auto_error=False, description="A token of 'raysynth token add'.")
_PROBLEM = {"content": {MEDIA: {"schema": {"type": "object"}}}}


def _refusals(*kinds: str) -> dict[int | str, dict[str, Any]]:
    return {KINDS[kind].status: {"description": KINDS[kind].title, **_PROBLEM} for kind in kinds}


def build(
    serving: Serving,
    meters: Meters | None = None,
    runner: Runner | None = None,
    warm: bool = False,
) -> App:
    """The application. `runner` starts what draws jobs; without, there are none.

    With `warm` it has opened runs and drawn from them, as many as it keeps open.
    """
    server = Server(serving, meters or Meters(), runner)
    if warm:
        server.warm()
    app = FastAPI(
        title="raysynth",
        version=version("raysynth"),
        description="Synthetic rows of trained generators.",
        docs_url=None,  # their pages would fetch scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # a redirect would go where the Host header says
    )
    _health(app, server)
    _reads(app, server)
    _sample(app, server)
    _jobs(app, server)
    _problems(app, server)
    return Guard(app, loopback_only=serving.tokens is None)


def _health(app: FastAPI, server: Server) -> None:
    html, policy = page()

    @app.get("/", include_in_schema=False)
    def root() -> HTMLResponse:
        return HTMLResponse(html, headers={"content-security-policy": policy})

    @app.get("/healthz", tags=["health"])
    def healthz() -> dict[str, str]:
        """Whether the server is alive."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"], responses=_refusals("model"))
    def readyz() -> dict[str, str]:
        """Whether it can answer: its runs can be listed."""
        server.listed(ANYONE)
        return {"status": "ready"}


def _asks(server: Server, scope: str) -> Callable[..., Awaitable[Token]]:
    """A dependency: whose request it is."""

    async def who(  # not in a thread: a look at a file, and a hash
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
    ) -> Token:
        token = server.who(None if bearer is None else bearer.credentials, scope)
        request.state.who = token.name
        return token

    return who


def _reads(app: FastAPI, server: Server) -> None:
    who = _asks(server, "read")
    refusals = _refusals("unauthorised", "forbidden", "unknown-model", "model")

    @app.get("/v1/models", tags=["models"], responses=_refusals("unauthorised", "forbidden"))
    def models(token: Annotated[Token, Depends(who)]) -> dict[str, Any]:
        """The models that the token reaches."""
        return {"models": server.listed(token)}

    @app.get("/v1/models/{name}", tags=["models"], responses=refusals)
    def model(name: str, token: Annotated[Token, Depends(who)]) -> JSONResponse:
        """A model's columns, figures, versions, the gate's verdict and the limits."""
        return JSONResponse(server.described(server.entry(name, token)))

    @app.get(
        "/v1/models/{name}/report",
        tags=["models"],
        responses=refusals | {200: {"content": {"text/html": {}}}},
        response_class=HTMLResponse,
    )
    def report(name: str, token: Annotated[Token, Depends(who)]) -> Response:
        """A model's report, one page that opens without a network."""
        entry = server.entry(name, token)
        content = server.report(entry)
        server.house.log.write("report", who=token.name, model=entry.name, bytes=len(content))
        policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
        return HTMLResponse(content, headers={"content-security-policy": policy})


def _sample(app: FastAPI, server: Server) -> None:
    who = _asks(server, "sample")
    content: dict[str, Any] = {form.media: {} for form in FORMATS}
    kinds = ["unauthorised", "forbidden", "unknown-model", "format", "slow", "large", "type"]
    kinds += ["request", "busy", "model"]

    @app.post(
        "/v1/models/{name}/sample",
        tags=["models"],
        openapi_extra={"requestBody": _body(Wanted)},
        responses=_refusals(*kinds) | {200: {"description": "Rows", "content": content}},
        response_class=Response,
    )
    async def sample(name: str, request: Request, token: Annotated[Token, Depends(who)]) -> Any:
        """Draw rows, in the format that Accept asks for, from the first chunk on.

        The same request gives the same bytes.
        """
        entry = server.seen(name, token)
        if entry is None:
            entry = await run_in_threadpool(server.entry, name, token)
        body, accept = await _json(request), request.headers.get("accept")
        answer = server.answer(entry, token, _client(request), accept, body)
        return Stream(answer.begin)


def _jobs(app: FastAPI, server: Server) -> None:
    who = _asks(server, "sample")
    mine = _refusals("unauthorised", "forbidden", "unknown-job", "model")
    kinds = ["unauthorised", "forbidden", "unknown-model", "slow", "large", "type", "request"]
    kinds += ["busy", "model"]

    @app.post(
        "/v1/models/{name}/jobs",
        tags=["jobs"],
        openapi_extra={"requestBody": _body(Ordered)},
        responses=_refusals(*kinds),
        status_code=202,
    )
    async def submit(name: str, request: Request, token: Annotated[Token, Depends(who)]) -> Any:
        """Have rows written to a place, for samples too large for a connection."""
        entry = await run_in_threadpool(server.entry, name, token)
        body, client = await _json(request), _client(request)
        job = await run_in_threadpool(server.submit, entry, token, client, body)
        return JSONResponse(job.told(), 202, {"location": f"/v1/jobs/{job.id}"})

    @app.get("/v1/jobs", tags=["jobs"], responses=_refusals("unauthorised", "forbidden", "model"))
    def jobs(token: Annotated[Token, Depends(who)]) -> dict[str, Any]:
        """The token's latest jobs."""
        return {"jobs": [job.told() for job in server.desk.jobs(token)]}

    @app.get("/v1/jobs/{number}", tags=["jobs"], responses=mine)
    def job(number: str, token: Annotated[Token, Depends(who)]) -> dict[str, Any]:
        """How far a job is."""
        return server.desk.job(number, token).told()

    @app.delete("/v1/jobs/{number}", tags=["jobs"], responses=mine, status_code=202)
    def cancel(number: str, token: Annotated[Token, Depends(who)]) -> dict[str, Any]:
        """Have a job end, and leave nothing."""
        return server.desk.cancel(number, token).told()


def _body(kind: type[Wanted]) -> dict[str, Any]:
    schema = kind.model_json_schema()
    return {"required": True, "content": {"application/json": {"schema": schema}}}


async def _json(request: Request) -> bytes:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        # A page of another origin may send other types without being asked whether it may.
        raise Problem("type", "a request's body is JSON, with Content-Type: application/json")
    return await request.body()


def _client(request: Request) -> str:
    return request.client.host if request.client else ""


def _problems(app: FastAPI, server: Server) -> None:
    def answered(problem: Problem) -> Response:
        return Response(problem.body, problem.status, problem.headers)

    @app.exception_handler(Problem)
    async def ours(request: Request, problem: Problem) -> Response:
        facts = {
            "who": getattr(request.state, "who", None),
            "from": _client(request),
            "model": request.path_params.get("name", "")[:100],
            "why": problem.kind,
        }
        server.house.meters.refused(problem.kind)
        with suppress(StorageError):  # nothing leaves
            server.house.log.refused(datetime.now(UTC), facts["who"] is not None, **facts)
        return answered(problem)

    @app.exception_handler(StorageError)
    async def full(request: Request, error: StorageError) -> Response:
        said = "the server's own files cannot be written; nothing was begun"
        return answered(Problem("log", said, retry_after=10))

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        return answered(Problem("fault", f"what failed is in the server's log ({_name(error)})"))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return answered(Problem("request", "the path or the query is not as expected"))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            return answered(Problem("method", "see /openapi.json for what there is"))
        if error.status_code == 404:
            return answered(Problem("unknown-path", "see /openapi.json for what there is"))
        return answered(Problem("request", "the request is not as expected"))


def _name(error: Exception) -> str:
    return type(error).__name__


def page() -> tuple[str, str]:
    """The page and the policy by which a browser runs its own script and fetches from here only."""
    html = (files("raysynth.serving") / "page.html").read_text("utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    return html, (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
