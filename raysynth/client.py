"""The client of buckets: how it is reached, its patience, and what its errors mean.

Small objects, listings and uploads go through boto3 (`client`); tables are read through pyarrow
(`filesystem`), which reads many stretches of an object at a time. Both find endpoint, region and
credentials the way boto3 does (environment, profile, role), in the process that needs them: none
of it is ever pickled, written or said. `AWS_ENDPOINT_URL_S3` and `AWS_ENDPOINT_URL`, the first
before the second, name a server that is not Amazon's; it is spoken to with the bucket in the path.

A server that is away, busy or failing is asked again with longer and longer pauses for
`RAYSYNTH_RETRY_S` seconds in all (60 where that is not set), so stopping and starting it within
that time costs nothing.
"""

import functools
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import boto3
from botocore import exceptions as boto
from botocore.config import Config
from pyarrow import fs

from raysynth.errors import ABSENT, AbsentError, ConfigError, StorageError

PATIENCE_S, TIDYING_S = 60.0, 10.0
_given_up: dict[str | None, float] = {}  # when, by endpoint

T = TypeVar("T")

_AWAY = re.compile(
    r"curlCode|NETWORK_CONNECTION|HTTP status (429|5\d\d)|SLOW_DOWN|THROTTLING|REQUEST_TIMEOUT"
    r"|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|Unexpected end of stream"
)
_BUSY = {"SlowDown", "Throttling", "ThrottlingException", "RequestTimeout", "InternalError"}
_NO_KEYS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.NoAuthTokenError,
    boto.SSOTokenLoadError,
    boto.UnauthorizedSSOTokenError,
    boto.TokenRetrievalError,
)
_LOST = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    boto.ResponseStreamingError,
)
_DENIED = "access denied; use credentials that may do this, or have it allowed to these"
_MEANINGS = {
    "NoSuchKey": ABSENT,
    "NoSuchUpload": "the upload was ended from outside; repeat the command",
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "403": _DENIED,
    "SignatureDoesNotMatch": (
        "access denied: the secret does not fit the key; check AWS_SECRET_ACCESS_KEY and the key"
    ),
    "InvalidAccessKeyId": "access denied: no such key; check AWS_ACCESS_KEY_ID and the endpoint",
    "InvalidToken": "access denied: the session token is not valid; check AWS_SESSION_TOKEN",
    "RequestTimeTooSkewed": "access denied: this machine's clock is wrong; set it",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set AWS_REGION",
    "PermanentRedirect": "the bucket is in another region; set AWS_REGION",
    "IllegalLocationConstraintException": "the bucket is in another region; set AWS_REGION",
    "301": "the bucket is in another region; set AWS_REGION",
    "QuotaExceeded": "the store is full; free some space and repeat the command",
    "507": "the store is full; free some space and repeat the command",
}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}


def endpoint() -> str | None:
    """The server that is not Amazon's, where there is one."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def patience_s() -> float:
    """How long to ask a server that is away, in seconds. Raises `ConfigError`."""
    text = os.environ.get("RAYSYNTH_RETRY_S", str(PATIENCE_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ConfigError("RAYSYNTH_RETRY_S: expected a number of seconds, 0 or more")
    return seconds


def patiently(operation: Callable[[], T]) -> T:
    """What `operation` gives, asked again while the server is away, up to `patience_s`.

    It must come to the same if it is done twice. Raises what the last try raised. Where the server
    was given up just before, it is asked once: who tidies up after a failure need not wait again.
    """
    begun, pause = time.monotonic(), 0.2
    before = _given_up.get(endpoint(), begun - TIDYING_S)
    until = begun + patience_s() * (begun - before >= TIDYING_S)
    while True:
        try:
            return operation()
        except (boto.BotoCoreError, boto.ClientError, OSError) as error:
            if not _away(error):
                raise
            if time.monotonic() + pause > until:
                _given_up[endpoint()] = time.monotonic()
                raise
        time.sleep(pause * random.uniform(0.7, 1.0))
        pause = min(2 * pause, 5.0)


def filesystem(bucket: str) -> fs.S3FileSystem:
    """The filesystem of pyarrow that `bucket` is in. Raises `StorageError`."""
    with told(bucket, "", "read"):
        keys = _session(_environment()).get_credentials()
        if keys is None:
            raise boto.NoCredentialsError
        # A role's credentials are renewed before they expire; a filesystem keeps those it got.
        return _filesystem(_environment(), bucket, *keys.get_frozen_credentials()[:3])


@contextmanager
def told(bucket: str, key: str, doing: str) -> Iterator[None]:
    """Turn what goes wrong in a bucket into a `StorageError` that says what to do."""
    try:
        yield
    except (boto.BotoCoreError, boto.ClientError, OSError) as error:
        try:
            said = meaning(_cause(error, bucket, key), bucket)
        except (boto.BotoCoreError, boto.ClientError) as other:
            said = meaning(other, bucket)
        place = f"s3://{bucket}/{key}".rstrip("/")
        kind = AbsentError if said == ABSENT else StorageError
        raise kind(f"{place}: cannot be {doing}: {said}") from None


def meaning(error: Exception, bucket: str) -> str:
    """What an error of the client means for the user, and what to do."""
    if isinstance(error, _NO_KEYS):
        return (
            "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or "
            "give this machine a role"
        )
    if isinstance(error, boto.SSLError):
        return f"the certificate of {_server()} is not trusted; set AWS_CA_BUNDLE to its authority"
    if isinstance(error, boto.ClientError):
        code, status = code_of(error), status_of(error)
        if code in ("NoSuchBucket", "InvalidBucketName"):
            return f"no bucket is called '{bucket}'; check its name, the endpoint and the region"
        if code in _EXPIRED:
            return "the credentials have expired; renew them and repeat the command"
        if code in _MEANINGS or str(status) in _MEANINGS:
            return _MEANINGS.get(code) or _MEANINGS[str(status)]
        if status >= 500 or code in _BUSY:
            return f"{_server()} does not serve it now ({status}); repeat the command later"
        return f"{_server()} refuses it ({status}, {re.sub('[^A-Za-z0-9]', '', code)[:40]})"
    if _away(error):
        return (
            f"{_server()} cannot be reached; check AWS_ENDPOINT_URL and the network, and repeat "
            "the command: nothing done is lost"
        )
    return type(error).__name__


def _away(error: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, boto.ClientError):
        return status_of(error) in (429, 500, 502, 503, 504) or code_of(error) in _BUSY
    if isinstance(error, boto.SSLError):
        return False
    if isinstance(error, boto.BotoCoreError):
        return isinstance(error, _LOST)
    return _AWAY.search(str(error)) is not None


def _cause(error: Exception, bucket: str, key: str) -> Exception:
    """The error with its cause: the answer to a HEAD, and pyarrow's errors, do not name it."""
    plain = isinstance(error, OSError) and not isinstance(error, boto.BotoCoreError)
    headless = isinstance(error, boto.ClientError) and code_of(error).isdigit()
    if not plain and (not headless or _away(error)):
        return error
    try:
        client().list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
        if plain and key:
            client().get_object(Bucket=bucket, Key=key)["Body"].close()
    except (boto.BotoCoreError, boto.ClientError) as cause:
        error = cause
    return error


def code_of(error: boto.ClientError) -> str:
    """The word a server has for what is wrong; a number where it gave none."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: boto.ClientError) -> int:
    """The number of the answer, as HTTP has it."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _server() -> str:
    """The server, without the credentials that an address might hold."""
    parts = urlsplit(endpoint() or "")
    if not parts.hostname:
        return "Amazon S3"
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


_Environment = tuple[tuple[str, str], ...]
_lock = threading.Lock()


def _environment() -> _Environment:
    """What decides which client it is."""
    named = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return tuple(sorted(named.items()))


def client() -> Any:
    """The client of boto3 for what the environment says now."""
    with _lock:  # boto3 makes clients on one thread at a time; they serve any number
        return _client_of(_environment())


@functools.lru_cache(maxsize=2)
def _session(environment: _Environment) -> Any:
    return boto3.Session()


@functools.lru_cache(maxsize=2)
def _client_of(environment: _Environment) -> Any:
    own = endpoint()
    options: dict[str, Any] = {}
    if own is not None:
        options["s3"] = {"addressing_style": "path"}
        # Other servers do not all know the checksums that Amazon's have known since 2025.
        for option in ("request_checksum_calculation", "response_checksum_validation"):
            options[option] = os.environ.get(f"AWS_{option.upper()}", "when_required").lower()
    session = _session(environment)
    config = Config(
        connect_timeout=5,
        read_timeout=30,
        retries={"mode": "standard", "total_max_attempts": 2},
        max_pool_connections=16,
        **options,
    )
    region = session.region_name or "us-east-1"
    return session.client("s3", endpoint_url=own, region_name=region, config=config)


@functools.lru_cache(maxsize=4)
def _filesystem(
    environment: _Environment, bucket: str, key: str, secret: str, token: str | None
) -> fs.S3FileSystem:
    own, options = endpoint(), {}
    region = _session(environment).region_name
    if own is not None:
        parts = urlsplit(own)
        options = {"scheme": parts.scheme, "endpoint_override": f"{parts.netloc}{parts.path}"}
    elif region is None:
        region = fs.resolve_s3_region(bucket)
    if bundle := os.environ.get("AWS_CA_BUNDLE"):
        options["tls_ca_file_path"] = bundle
    return fs.S3FileSystem(
        access_key=key,
        secret_key=secret,
        session_token=token,
        region=region or "us-east-1",
        connect_timeout=5,
        request_timeout=30,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=2),
        **options,
    )
