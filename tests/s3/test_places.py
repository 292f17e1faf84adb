"""Places on this machine and in a bucket keep the same promises."""

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from raysynth import s3
from raysynth.client import client
from raysynth.errors import ConfigError, StorageError
from raysynth.storage import Place, whole, write, write_bytes
from tests.s3.line import Line, interruption

TABLE = pa.table({"a": pa.array(range(100)), "b": [f"v{i % 7}" for i in range(100)]})


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A folder to keep things in, wherever it is."""
    if request.param == "local":
        return Place.of(tmp_path)
    bucket: Place = request.getfixturevalue("bucket")
    return bucket


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is away is not waited for."""
    monkeypatch.setenv("RAYSYNTH_RETRY_S", "0")


def _there(place: Place) -> list[str]:
    return [found.path.removeprefix(f"{place.path}/") for _, found in place.files()]


def test_what_is_written_is_read_again(place: Place) -> None:
    write_bytes(place / "new" / "small", b"old")
    write_bytes(place / "new" / "small", b"bytes")
    assert (place / "new" / "small").read_bytes() == b"bytes"
    with (place / "new" / "small").open() as file:
        file.seek(2)
        assert file.read() == b"tes"


def test_what_there_is_is_told(place: Place) -> None:
    write_bytes(place / "new" / "small", b"bytes")
    info = (place / "new" / "small").info()
    assert (info.type, info.size) == (fs.FileType.File, 5)
    assert info.mtime is not None
    assert (place / "new").info().type is fs.FileType.Directory
    assert place.exists()
    for absent in ("ne", "new2", "new/smal"):
        assert (place / absent).info().type is fs.FileType.NotFound
        assert not (place / absent).exists()


def test_every_file_is_listed_at_any_depth_by_name(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = sorted(f"{folder}/{number:02}" for folder in ("a", "a/b", "c") for number in range(5))
    for name in names:
        write_bytes(place / name, name.encode())
    page = s3._page  # in pages of four, as a thousand objects come in pages
    monkeypatch.setattr(s3, "_page", lambda *at, **more: page(*at, **{**more, "MaxKeys": 4}))
    assert _there(place) == names
    assert [file.text for file, _ in place.files()] == [f"{place.text}/{name}" for name in names]
    assert [file.read_bytes().decode() for file, _ in place.files()] == names
    assert [info.size for _, info in place.files()] == [len(name) for name in names]
    assert _there(place / "a" / "b") == [f"{number:02}" for number in range(5)]


def test_a_folder_goes_with_all_that_is_in_it_and_nothing_else(place: Place) -> None:
    for name in ("a/1", "a/b/2", "ab", "c"):
        write_bytes(place / name, b"")
    (place / "a").remove()
    assert _there(place) == ["ab", "c"]
    (place / "c").remove()
    (place / "never").remove()
    assert _there(place) == ["ab"]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_table_is_written_piece_by_piece_and_read_again(place: Place, suffix: str) -> None:
    at = place / "new" / f"t{suffix}"
    assert write((TABLE.slice(start, 30) for start in range(0, 100, 30)), at) == 100
    back = at.read(pq.read_table if suffix == ".parquet" else pa.csv.read_csv)
    assert back.equals(TABLE)


@pytest.mark.parametrize("large", [False, True])
def test_what_fails_half_way_leaves_what_was_there(
    place: Place, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(s3, "PART", 2**16)  # no less, lest parts go out before it fails
    write([TABLE], place / "t.parquet")

    def failing() -> Iterator[pa.Table]:
        for seed in range(4):
            yield pa.table({"x": np.random.default_rng(seed).uniform(size=10_000)})
        raise RuntimeError("half way")

    for name in ("t.parquet", "other.parquet"):
        with pytest.raises(RuntimeError, match="half way"):
            write(failing(), place / name)
    assert _there(place) == ["t.parquet"]
    assert (place / "t.parquet").read(pq.read_table).equals(TABLE)
    if place.bucket:
        begun = client().list_multipart_uploads(Bucket=place.bucket)
        assert not begun.get("Uploads"), "parts of an upload that is over"


def test_a_large_file_appears_whole(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PART", 5 * 2**20)  # the least that a part may have
    data = np.random.default_rng(0).bytes(12 * 2**20)
    with whole(place / "large") as file:
        for start in range(0, len(data), 999_999):
            file.write(data[start : start + 999_999])
        assert not (place / "large").exists()
    assert (place / "large").read_bytes() == data


def test_what_is_gone_is_told(place: Place) -> None:
    write([TABLE], place / "t.parquet")
    ((listed, _),) = place.files()
    listed.remove()
    for look in (listed.open, listed.read_bytes, lambda: listed.read(pq.read_table)):
        with pytest.raises(StorageError, match=r"t\.parquet: cannot be read: "):
            look()


def test_what_a_file_holds_is_for_its_reader_to_tell(place: Place) -> None:
    write_bytes(place / "noise", b"noise" * 100)
    with pytest.raises(pa.ArrowInvalid):
        (place / "noise").read(pq.read_table)


def test_a_place_travels_as_text(place: Place) -> None:
    write_bytes(place / "f", b"x")
    assert (place / "f").filesystem is not None
    packed = pickle.dumps(place / "f")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert os.environ.get(name, "no key at all").encode() not in packed
    assert len(packed) < 200 + 2 * len(place.text)
    assert pickle.loads(packed).read_bytes() == b"x"


ACTS = {
    "info": lambda place: (place / "t").info(),
    "files": lambda place: place.files(),
    "open": lambda place: (place / "t").open(),
    "read": lambda place: (place / "t").read_bytes(),
    "write": lambda place: write_bytes(place / "t", b""),
}


@pytest.fixture(params=ACTS)
def act(request: pytest.FixtureRequest, bucket: Place) -> str:
    write_bytes(bucket / "t", b"x")
    return str(request.param)


def _refused(act: str, place: Place, *said: str) -> None:
    secret = os.environ.get("AWS_SECRET_ACCESS_KEY", "none at all")
    with pytest.raises(StorageError) as error:
        ACTS[act](place)
    message = str(error.value)
    assert message.startswith(f"{place}")
    assert "cannot be" in message
    assert secret not in message
    assert error.value.__suppress_context__
    for part in said:
        assert part in message


def test_a_bucket_that_is_not_there_is_named(act: str) -> None:
    _refused(act, Place.of("s3://no-such-bucket"), "no bucket is called 'no-such-bucket'", "check")


def test_a_key_that_may_not_is_told(
    act: str, store: object, bucket: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in store.environment("stranger").items():
        monkeypatch.setenv(name, text)
    _refused(act, bucket, "access denied; use credentials that may")


def test_a_wrong_secret_is_told(act: str, bucket: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret-918273645")
    _refused(act, bucket, "access denied: the secret does not fit the key")


def test_no_credentials_are_told(
    act: str, bucket: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    _refused(act, Place.of(f"s3://{bucket.bucket}"), "no credentials; set AWS_ACCESS_KEY_ID")


@pytest.mark.usefixtures("soon")
def test_a_server_that_is_not_there_is_told(
    act: str, bucket: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://me:918273645@127.0.0.1:9")
    with pytest.raises(StorageError) as error:
        ACTS[act](bucket)
    assert "http://127.0.0.1:9 cannot be reached; check AWS_ENDPOINT_URL" in str(error.value)
    assert "918273645" not in str(error.value)


def test_a_profile_gives_the_credentials(
    bucket: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {
        "aws_access_key_id": "AWS_ACCESS_KEY_ID",
        "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    }
    lines = [f"{name} = {os.environ[variable]}" for name, variable in words.items()]
    (tmp_path / "credentials").write_text("\n".join(["[mine]", *lines, ""]))
    for variable in words.values():
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    write([TABLE], bucket / "t.parquet")
    assert (bucket / "t.parquet").read(pq.read_table).equals(TABLE)


def test_patience_is_a_number_of_seconds(bucket: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("soon", "-1", "inf", "nan"):
        monkeypatch.setenv("RAYSYNTH_RETRY_S", text)
        with pytest.raises(ConfigError, match="RAYSYNTH_RETRY_S: expected a number of seconds"):
            (bucket / "t").read_bytes()


@pytest.mark.parametrize(
    "text", ["s3://key:918273645@bucket/k", "s3://", "s3:///k", "gs://bucket/918273645"]
)
def test_what_is_no_place_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(StorageError, match=r"expected .*s3://bucket/key") as error:
        Place.of(text)
    assert "918273645" not in str(error.value)


@pytest.mark.parametrize("request_", ["PUT", "POST"])
def test_a_large_upload_goes_on_where_the_store_went_away(
    bucket: Place, store: object, monkeypatch: pytest.MonkeyPatch, request_: str
) -> None:
    """Stopped in the middle of the second part, or of completing the upload."""
    monkeypatch.setattr(s3, "PART", 5 * 2**20)
    monkeypatch.setenv("RAYSYNTH_RETRY_S", "200")
    line = Line(int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]))
    turn = 2  # the first POST begins the upload
    watch = interruption(line, store, f"{request_} /{bucket.bucket}/large?", turn)
    line.watches = [watch]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{line.port}")
    data = np.random.default_rng(0).bytes(12 * 2**20)
    write_bytes(bucket / "large", data)
    assert watch.seen
    assert line.refused >= 3
    assert (bucket / "large").read_bytes() == data
    line.close()
