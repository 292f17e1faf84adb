"""Bearer tokens: who may ask for what.

A token is 32 random bytes, shown once when it is made. The file keeps its SHA-256 only: of so many
random bits a slow hash would protect no better. It is readable by its owner alone, or refused. The
file is read again when it changes, so a token works, or no longer does, without a restart.
"""

import hashlib
import hmac
import json
import os
import secrets
import stat
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

from raysynth.errors import ConfigError, StorageError
from raysynth.storage import reason

PREFIX = "rs_"
SCOPES = ("read", "sample")


@dataclass(frozen=True)
class Token:
    """Who a token is of, and what it is good for.

    `models` are names or patterns of them (`adult-*`); `scopes` are of `SCOPES`. None in
    `rows_per_day` is no limit, in `expires` (ISO 8601) no end.
    """

    name: str
    sha256: str
    models: tuple[str, ...] = ("*",)
    scopes: tuple[str, ...] = SCOPES
    rows_per_day: int | None = None
    concurrent: int = 4
    expires: str | None = None

    def reaches(self, model: str) -> bool:
        """Whether it is for the model of that name."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)

    def expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires is not None and now >= datetime.fromisoformat(self.expires)

    @classmethod
    def of(cls, value: dict[str, Any]) -> Self:
        """The token that `asdict` wrote. Raises `TypeError`, `ValueError` for anything else."""
        token = cls(**value)
        token = replace(token, models=tuple(token.models), scopes=tuple(token.scopes))
        if len(bytes.fromhex(token.sha256)) != 32 or token.concurrent < 1:
            raise ValueError("not what was written")
        if token.expires is not None and datetime.fromisoformat(token.expires).tzinfo is None:
            raise ValueError("a time without a zone")
        return token


# Who asks where no tokens are asked for.
ANYONE = Token("anyone", "", concurrent=1_000)


class Tokens:
    """The tokens of a file, as it is now."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._seen: tuple[int, int, int] | None = None
        self._tokens: tuple[Token, ...] = ()

    def find(self, secret: str, now: datetime | None = None) -> Token | None:
        """The token that `secret` is, if it is one and not expired.

        Every token is compared, each in constant time, whichever fits. Raises `StorageError`,
        `ConfigError` where the file cannot be read or trusted.
        """
        digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
        found = None
        for token in self._current():
            if hmac.compare_digest(token.sha256.encode(), digest.encode()):
                found = token
        return None if found is None or found.expired(now or datetime.now(UTC)) else found

    def _current(self) -> tuple[Token, ...]:
        try:
            facts = self.path.stat()
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be read: {reason(error)}") from None
        seen = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
        if seen != self._seen:
            self._tokens, self._seen = read(self.path), seen
        return self._tokens


def read(path: str | Path) -> tuple[Token, ...]:
    """The tokens in a file; none where there is no file.

    Raises `ConfigError` where others than its owner may read or write it, or it is damaged.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {reason(error)}") from None
    if mode & 0o077:
        raise ConfigError(
            f"{path}: others may read or write it (mode {mode:o}); chmod 600 it, and make the "
            "tokens anew if somebody did"
        )
    try:
        return tuple(Token.of(value) for value in json.loads(data)["tokens"])
    except (ValueError, TypeError, KeyError):
        raise ConfigError(
            f"{path}: is not a file of tokens; 'raysynth token add' writes one"
        ) from None


def add(path: str | Path, token: Token) -> str:
    """Put a new token into a file, and give its secret, which is kept nowhere.

    `token.sha256` is replaced. Raises `ConfigError` where the name is taken or the token would be
    good for nothing.
    """
    have = read(path)
    if any(one.name == token.name for one in have):
        raise ConfigError(
            f"{path}: a token called '{token.name}' is there; remove it first, or choose a name"
        )
    unknown = sorted(set(token.scopes) - set(SCOPES))
    if unknown or not token.scopes or not token.models:
        raise ConfigError(f"token: expected models, and scopes of {' and '.join(SCOPES)}")
    secret = PREFIX + secrets.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    try:
        made = Token.of(asdict(replace(token, sha256=digest)))
    except ValueError as error:
        raise ConfigError(f"token: {error}; expires is a time like 2030-01-31T00:00Z") from None
    _write(path, (*have, made))
    return secret


def remove(path: str | Path, name: str) -> None:
    """Take a token out of a file: it is refused from then on. Raises `ConfigError` if unknown."""
    have = read(path)
    left = tuple(token for token in have if token.name != name)
    if len(left) == len(have):
        raise ConfigError(f"{path}: no token is called '{name}'")
    _write(path, left)


def _write(path: str | Path, tokens: Iterable[Token]) -> None:
    """Write the file, whole or not at all, never readable by others."""
    path = Path(path)
    text = json.dumps({"tokens": [asdict(token) for token in tokens]}, indent=1)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {reason(error)}") from None
    finally:
        part.unlink(missing_ok=True)
