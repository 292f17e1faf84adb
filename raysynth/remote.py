"""A client of `raysynth serve`: tables from a URL, as pyarrow, pandas or pieces of them.

    client = raysynth.Client("http://127.0.0.1:8100", token)
    table = client.table("customers", 1_000, seed=1, given={"country": "France", "age": (30, 40)})

It waits where the server says so (429 and 503 with Retry-After), and goes on from the row it has
where a connection is cut: the same seed gives the same rows.

Longer than other files: all of a client, which stands below everything else so that importing it
loads neither torch nor Ray.
"""

import http.client
import io
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from email.message import Message
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import pyarrow as pa

from raysynth.errors import ConfigError, RaysynthError

if TYPE_CHECKING:
    import pandas as pd

ARROW = "application/vnd.apache.arrow.stream"
MEDIA = {
    ".arrows": ARROW,
    ".parquet": "application/vnd.apache.parquet",
    ".csv": "text/csv",
    ".ndjson": "application/x-ndjson",
    ".jsonl": "application/x-ndjson",
    ".json": "application/json",
}
PIECE = 2**20
_CUT = (http.client.HTTPException, OSError, pa.ArrowInvalid)


class RemoteError(RaysynthError):
    """A server refused a request, or cannot be reached. `status` is that of HTTP, 0 for none."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


class Client:
    """A server at `url`, asked with `token`.

    `timeout` is in seconds, without a byte; `patience` is how long to wait, in all, where the
    server is busy, and how often a connection may be cut before it is given up is `tries`.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = 120.0,
        patience: float = 60.0,
        tries: int = 5,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError("url: expected http://... or https://...")
        self.url, self.timeout, self.patience = url.rstrip("/"), timeout, patience
        self.tries, self._token = tries, token
        # A redirect would carry the token to wherever it points.
        self._opener = urllib.request.build_opener(_Stays)

    def models(self) -> list[dict[str, Any]]:
        """The models that the token reaches."""
        found: list[dict[str, Any]] = json.load(self._get("/v1/models"))["models"]
        return found

    def model(self, name: str) -> dict[str, Any]:
        """A model's columns, figures and limits."""
        found: dict[str, Any] = json.load(self._get(f"/v1/models/{_quoted(name)}"))
        return found

    def report(self, name: str) -> str:
        """A model's report, an HTML page."""
        return self._get(f"/v1/models/{_quoted(name)}/report").read().decode()

    def batches(
        self,
        name: str,
        rows: int,
        seed: int = 0,
        given: Mapping[str, Any] | None = None,
        columns: Sequence[str] | None = None,
        offset: int = 0,
    ) -> Iterator[pa.RecordBatch]:
        """Rows in pieces, as they come; memory holds one. Raises `RemoteError`."""
        have, cuts, stamp = 0, 0, None
        while have < rows or not have:
            asked = _body(rows - have, seed, given, columns, offset + have)
            try:
                answer = self._post(name, asked, ARROW)
                found = answer.headers.get("x-raysynth-model")
                if stamp not in (None, found):
                    said = f"{name}: the model was replaced while its rows were being read"
                    raise RemoteError(0, "replaced", said)
                stamp = found
                with answer, pa.ipc.open_stream(cast("IO[bytes]", answer)) as stream:
                    for batch in stream:
                        yield batch
                        have += batch.num_rows
                        cuts = 0
            except _CUT as error:
                cuts += 1
                if cuts >= self.tries:
                    raise _cut(error, have) from None

    def table(
        self,
        name: str,
        rows: int,
        seed: int = 0,
        given: Mapping[str, Any] | None = None,
        columns: Sequence[str] | None = None,
        offset: int = 0,
    ) -> pa.Table:
        """Rows `offset` to `offset + rows` of the table that `seed` means. Raises `RemoteError`."""
        return pa.Table.from_batches(self.batches(name, rows, seed, given, columns, offset))

    def frame(
        self,
        name: str,
        rows: int,
        seed: int = 0,
        given: Mapping[str, Any] | None = None,
        columns: Sequence[str] | None = None,
        offset: int = 0,
    ) -> "pd.DataFrame":
        """The same as a pandas DataFrame."""
        found = self.table(name, rows, seed, given, columns, offset).to_pandas()
        return cast("pd.DataFrame", found)

    def save(
        self,
        name: str,
        path: str | Path,
        rows: int,
        seed: int = 0,
        given: Mapping[str, Any] | None = None,
        columns: Sequence[str] | None = None,
        offset: int = 0,
    ) -> Path:
        """Write rows into a file whose ending says the format, as they come, whole or not at all.

        Raises `RemoteError`, `ConfigError` for an ending that is not one of `MEDIA`.
        """
        path = Path(path)
        media = MEDIA.get(path.suffix.lower())
        if media is None:
            raise ConfigError(f"{path}: expected a name that ends in {', '.join(MEDIA)}")
        part = path.with_name(f".{path.name}.part")
        asked = _body(rows, seed, given, columns, offset)
        try:
            with self._post(name, asked, media) as answer, part.open("wb") as file:
                while data := answer.read(PIECE):
                    file.write(data)
            part.replace(path)
        except http.client.HTTPException as error:
            raise _cut(error, 0) from None
        finally:
            part.unlink(missing_ok=True)
        return path

    def submit(
        self,
        name: str,
        to: str,
        rows: int,
        seed: int = 0,
        given: Mapping[str, Any] | None = None,
        columns: Sequence[str] | None = None,
        offset: int = 0,
    ) -> dict[str, Any]:
        """Have the server write rows to a .parquet or .csv file where it may; the job it made.

        Raises `RemoteError`.
        """
        asked = _body(rows, seed, given, columns, offset) | {"to": to}
        path = f"/v1/models/{_quoted(name)}/jobs"
        return _dict(self._answer(self._request(path, asked)))

    def job(self, number: str) -> dict[str, Any]:
        """How far a job is: its `state` is waiting, running, done, failed or cancelled."""
        return _dict(self._get(f"/v1/jobs/{_quoted(number)}"))

    def jobs(self) -> list[dict[str, Any]]:
        """The token's latest jobs."""
        found: list[dict[str, Any]] = json.load(self._get("/v1/jobs"))["jobs"]
        return found

    def cancel(self, number: str) -> dict[str, Any]:
        """Have a job end, and leave nothing."""
        request = self._request(f"/v1/jobs/{_quoted(number)}", method="DELETE")
        return _dict(self._answer(request))

    def wait(self, number: str, seconds: float | None = None) -> dict[str, Any]:
        """The job once it is over, or after `seconds`. Raises `RemoteError` for one that failed."""
        end = None if seconds is None else time.monotonic() + seconds
        pause = 0.2
        while (job := self.job(number))["state"] in ("waiting", "running"):
            if end is not None and time.monotonic() > end:
                return job
            time.sleep(pause)
            pause = min(5.0, 1.5 * pause)
        if job["state"] == "failed":
            raise RemoteError(0, "job", f"the job failed: {job['why']}")
        return job

    def _get(self, path: str) -> http.client.HTTPResponse:
        return self._answer(self._request(path))

    def _post(self, name: str, asked: dict[str, Any], media: str) -> http.client.HTTPResponse:
        return self._answer(self._request(f"/v1/models/{_quoted(name)}/sample", asked, media))

    def _request(
        self,
        path: str,
        asked: dict[str, Any] | None = None,
        media: str = "application/json",
        method: str | None = None,
    ) -> urllib.request.Request:
        headers = {"accept": media}
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token}"
        body = None if asked is None else json.dumps(asked).encode()
        if body is not None:
            headers["content-type"] = "application/json"
        return urllib.request.Request(self.url + path, body, headers, method=method)

    def _answer(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """The answer, waited for as long as the server asks. Raises `RemoteError`."""
        end = time.monotonic() + self.patience
        while True:
            try:
                answer = self._opener.open(request, timeout=self.timeout)
                return cast("http.client.HTTPResponse", answer)
            except urllib.error.HTTPError as error:
                wait = error.headers.get("retry-after", "")
                if not wait.isdecimal() or time.monotonic() + int(wait) > end:
                    raise _refused(error) from None
                error.close()
                time.sleep(max(0.1, int(wait)))
            except urllib.error.URLError as error:
                said = f"{self.url}: cannot be reached ({type(error.reason).__name__})"
                raise RemoteError(0, "unreachable", said) from None


def _dict(answer: http.client.HTTPResponse) -> dict[str, Any]:
    found: dict[str, Any] = json.load(answer)
    return found


class _Stays(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> None:
        """Follow none."""


def _refused(error: urllib.error.HTTPError) -> RemoteError:
    """What a problem document says; something of our own where it is none."""
    try:
        document = json.load(io.BytesIO(error.read()))
        kind, said = str(document["type"]).rpartition("/")[2], str(document["detail"])
    except (ValueError, KeyError, TypeError, OSError, http.client.HTTPException):
        kind, said = "unknown", "the server refused the request without saying why"
    finally:
        error.close()
    return RemoteError(error.code, kind, f"{said} ({error.code})")


def _cut(error: Exception, rows: int) -> RemoteError:
    said = f"the connection was cut after {rows:,} rows ({type(error).__name__}); ask again"
    return RemoteError(0, "cut", said)


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _body(
    rows: int,
    seed: int,
    given: Mapping[str, Any] | None,
    columns: Sequence[str] | None,
    offset: int,
) -> dict[str, Any]:
    """What the server is asked."""
    asked: dict[str, Any] = {"rows": rows, "seed": seed, "offset": offset}
    if given:
        asked["given"] = {name: _value(value) for name, value in given.items()}
    if columns is not None:
        asked["columns"] = list(columns)
    return asked


def _value(value: Any) -> Any:
    """A value as JSON has it: times and decimals as text."""
    if isinstance(value, tuple | list):
        return [_value(one) for one in value]
    if hasattr(value, "item"):  # NumPy's
        value = value.item()
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
