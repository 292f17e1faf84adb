"""Objects in a bucket: found, listed, read, written whole or not at all, deleted."""

import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore import exceptions as boto

from raysynth.client import client, code_of, filesystem, patiently, status_of, told

PART = 64 * 2**20  # bytes of a part; 10,000 of them, the most there may be, are 640 GB


@dataclass(frozen=True)
class Found:
    """An object: its key, size in bytes and when it was written; a folder has neither."""

    key: str
    size: int | None
    time: datetime | None


def find(bucket: str, key: str) -> Found | None:
    """The object, or the folder where keys begin with `key` and a slash; None where there is none.

    Raises `StorageError`, also where there is no such bucket.
    """
    with told(bucket, key, "read"):
        if key:
            try:
                facts = patiently(lambda: client().head_object(Bucket=bucket, Key=key))
                return Found(key, facts["ContentLength"], facts["LastModified"])
            except boto.ClientError as error:
                if status_of(error) != 404:
                    raise
        prefix = f"{key}/" if key else ""
        page = _page(bucket, prefix, MaxKeys=1)
        return Found(key, None, None) if page.get("Contents") or not key else None


def listed(bucket: str, prefix: str) -> list[Found]:
    """Every object whose key begins with `prefix`: all of them, or a `StorageError`."""
    found: list[Found] = []
    with told(bucket, prefix, "listed"):
        more: dict[str, str] = {}
        while True:
            page = _page(bucket, prefix, **more)
            found += [
                Found(entry["Key"], entry["Size"], entry["LastModified"])
                for entry in page.get("Contents", [])
                if not entry["Key"].endswith("/")  # what some tools leave for an empty folder
            ]
            if not page["IsTruncated"]:
                return found
            more = {"ContinuationToken": page["NextContinuationToken"]}


def get(bucket: str, key: str) -> bytes:
    """All of an object. Raises `StorageError`, also where there is none."""

    def whole() -> bytes:
        data: bytes = client().get_object(Bucket=bucket, Key=key)["Body"].read()
        return data

    with told(bucket, key, "read"):
        return patiently(whole)


def put(bucket: str, key: str, data: bytes) -> None:
    """Write a small object; it is there whole or not at all. Raises `StorageError`."""
    with told(bucket, key, "written"):
        patiently(lambda: client().put_object(Bucket=bucket, Key=key, Body=data))


def delete(bucket: str, keys: Iterable[str]) -> None:
    """Delete objects; those that are not there count as deleted. Raises `StorageError`."""

    def one(key: str) -> None:
        with told(bucket, key, "deleted"):
            patiently(lambda: client().delete_object(Bucket=bucket, Key=key))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, keys))


class Reader(io.RawIOBase):
    """An object open for reading anywhere in it; a read starts again where the server goes away.

    pyarrow's own file gives up within seconds. Raises `StorageError`.
    """

    def __init__(self, bucket: str, key: str) -> None:
        self.bucket, self.key = bucket, key
        self._at = 0
        with told(bucket, key, "read"):
            self._file = patiently(lambda: filesystem(bucket).open_input_file(f"{bucket}/{key}"))
            self._size: int = self._file.size()

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The place of the next byte to be read."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = start + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes, all of them or `size`."""
        left = max(0, self._size - self._at)
        count = left if size is None or size < 0 else min(size, left)
        if count == 0:
            return b""
        with told(self.bucket, self.key, "read"):
            data: bytes = patiently(lambda: self._file.read_at(count, self._at))
        self._at += len(data)
        return data


class Upload(io.RawIOBase):
    """An object being written, in parts of `PART` bytes: it is there when `finish` returns.

    Memory holds one part. `abort` leaves nothing. Each raises `StorageError`, as writing does.
    """

    def __init__(self, bucket: str, key: str) -> None:
        self.bucket, self.key = bucket, key
        self._waiting = bytearray()
        self._upload: str | None = None
        self._parts: list[dict[str, Any]] = []
        self._size = 0

    def writable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Bytes written so far."""
        return self._size

    def write(self, data: Any) -> int:
        """Take bytes, and send what makes a part."""
        count = memoryview(data).nbytes
        self._waiting += data
        self._size += count
        while len(self._waiting) >= PART:
            self._send(bytes(self._waiting[:PART]))
            del self._waiting[:PART]
        return count

    def finish(self) -> None:
        """Make the object appear."""
        if self._upload is None:
            put(self.bucket, self.key, bytes(self._waiting))
            return
        if self._waiting:
            self._send(bytes(self._waiting))
        with told(self.bucket, self.key, "written"):
            try:
                patiently(self._complete)
            except boto.ClientError as error:
                # A try whose answer was lost may have done it.
                there = find(self.bucket, self.key) if code_of(error) == "NoSuchUpload" else None
                if there is None or there.size != self._size:
                    raise

    def abort(self) -> None:
        """Leave nothing."""
        if self._upload is not None:
            with suppress(boto.BotoCoreError, boto.ClientError):
                client().abort_multipart_upload(
                    Bucket=self.bucket, Key=self.key, UploadId=self._upload
                )

    def _send(self, data: bytes) -> None:
        place: dict[str, Any] = {"Bucket": self.bucket, "Key": self.key}
        number = len(self._parts) + 1
        with told(self.bucket, self.key, "written"):
            if self._upload is None:
                begun = patiently(lambda: client().create_multipart_upload(**place))
                self._upload = begun["UploadId"]
            place |= {"UploadId": self._upload, "PartNumber": number}
            sent = patiently(lambda: client().upload_part(**place, Body=data))
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"]})

    def _complete(self) -> None:
        client().complete_multipart_upload(
            Bucket=self.bucket,
            Key=self.key,
            UploadId=self._upload,
            MultipartUpload={"Parts": self._parts},
        )


def _page(bucket: str, prefix: str, **options: Any) -> dict[str, Any]:
    page: dict[str, Any] = patiently(
        lambda: client().list_objects_v2(Bucket=bucket, Prefix=prefix, **options)
    )
    return page
