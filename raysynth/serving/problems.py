"""What a client is told when a request cannot be answered: problem documents of RFC 9457.

`type` is one of the words below after `about:raysynth/`, `title` says it in words and does not
change, `detail` says what was wrong this time. None holds a cell value, a path of the server or a
stack.
"""

import json
import re
from typing import Any, NamedTuple

MEDIA = "application/problem+json"
FULL = "x-raysynth-full"  # a header: whoever asks now is refused as well


class _Kind(NamedTuple):
    status: int
    title: str


KINDS = {
    "unauthorised": _Kind(401, "A token is needed"),
    "forbidden": _Kind(403, "The token does not allow this"),
    "gate": _Kind(403, "The model did not pass its privacy gate"),
    "unknown-model": _Kind(404, "There is no such model"),
    "unknown-job": _Kind(404, "There is no such job"),
    "no-jobs": _Kind(404, "The server writes to no place"),
    "unknown-path": _Kind(404, "There is nothing at this path"),
    "no-report": _Kind(404, "The model has no report"),
    "method": _Kind(405, "The method is not one that the path knows"),
    "format": _Kind(406, "No format asked for is one there is"),
    "slow": _Kind(408, "The request did not arrive in time"),
    "large": _Kind(413, "The request's body is too large"),
    "type": _Kind(415, "The body is not of the type that is expected"),
    "request": _Kind(422, "The request cannot be answered as it is"),
    "target": _Kind(422, "The place to write to cannot be used"),
    "busy": _Kind(429, "Too many requests at once"),
    "quota": _Kind(429, "The token's rows of a day are used up"),
    "host": _Kind(421, "The request is for another host"),
    "fault": _Kind(500, "A fault of the server's own"),
    "ended": _Kind(503, "The server is being restarted"),
    "model": _Kind(503, "The model cannot be used"),
    "log": _Kind(503, "The audit log cannot be written"),
}


class Problem(Exception):  # noqa: N818 (the name RFC 9457 gives it)
    """A request that is answered with a problem document."""

    def __init__(
        self, kind: str, detail: str, retry_after: int | None = None, full: bool = False
    ) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.retry_after, self.full = kind, detail, retry_after, full

    @property
    def status(self) -> int:
        """The HTTP status."""
        return KINDS[self.kind].status

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with it."""
        headers = {"content-type": MEDIA, "cache-control": "no-store"}
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        if self.full:
            headers[FULL] = "1"
        if self.kind == "unauthorised":
            headers["www-authenticate"] = 'Bearer realm="raysynth"'
        return headers

    def document(self) -> dict[str, Any]:
        """The document."""
        told: dict[str, Any] = {
            "type": f"about:raysynth/{self.kind}",
            "title": KINDS[self.kind].title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.retry_after is not None:
            told["retry_after"] = self.retry_after
        return told

    @property
    def body(self) -> bytes:
        """The document as it is sent."""
        return json.dumps(self.document()).encode()


def without_place(message: str, place: str) -> str:
    """What an error says of a run, without where the server keeps it."""
    rest = message.removeprefix(f"{place}: ")
    return re.sub(r"(?:s3:/)?/\S*/", "", rest)
