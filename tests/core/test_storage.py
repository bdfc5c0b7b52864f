from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import boto3
import httpx2
import pytest

from core.errors import StorageKeyExists, StorageKeyMissing, StorageUnavailable, TooLarge
from core.storage import (
    ATOMIC_PUT_BYTES,
    PIECE_BYTES,
    ObjectStorage,
    artifact_key,
    create_bucket,
    open_storage,
)
from tests.conftest import S3_KEY_ID, S3_SECRET

MIB = 1024**2


def all_bytes(storage: ObjectStorage, key: str) -> bytes:
    return b"".join(storage.read_range(key, 0, storage.size(key)))


def keys(storage: ObjectStorage) -> list[str]:
    return sorted(storage.list(""))


def test_bytes_come_back_with_their_size_and_sha256(storage: ObjectStorage) -> None:
    stored = storage.put_bytes("a/b.txt", b"hello")

    assert (stored.size_bytes, stored.sha256) == (5, hashlib.sha256(b"hello").hexdigest())
    assert all_bytes(storage, "a/b.txt") == b"hello"


def test_a_file_larger_than_one_put_comes_back_whole(storage: ObjectStorage, tmp_path: Path) -> None:
    data = os.urandom(ATOMIC_PUT_BYTES + 12345)
    (tmp_path / "large").write_bytes(data)

    stored = storage.put_file("large", tmp_path / "large")
    storage.get_to_file("large", tmp_path / "back")

    assert stored.sha256 == hashlib.sha256(data).hexdigest()
    assert (tmp_path / "back").read_bytes() == data


@pytest.mark.parametrize("size_bytes", [3, ATOMIC_PUT_BYTES + 1])
def test_a_taken_key_is_never_overwritten(storage: ObjectStorage, tmp_path: Path, size_bytes: int) -> None:
    storage.put_bytes("key", b"first")
    (tmp_path / "second").write_bytes(bytes(size_bytes))

    with pytest.raises(StorageKeyExists):
        storage.put_file("key", tmp_path / "second")

    assert all_bytes(storage, "key") == b"first"


def test_a_range_is_cut_to_the_byte_across_pieces(storage: ObjectStorage) -> None:
    data = os.urandom(PIECE_BYTES + 3 * MIB)
    storage.put_stream("key", iter([data]), max_bytes=len(data))

    chunks = list(storage.read_range("key", PIECE_BYTES - 5, PIECE_BYTES + MIB + 7))

    assert b"".join(chunks) == data[PIECE_BYTES - 5 : PIECE_BYTES + MIB + 7]
    assert max(map(len, chunks)) <= MIB


def test_a_missing_key_is_known_at_the_call(storage: ObjectStorage, tmp_path: Path) -> None:
    with pytest.raises(StorageKeyMissing):
        storage.read_range("nothing", 0, 10)
    with pytest.raises(StorageKeyMissing):
        storage.get_to_file("nothing", tmp_path / "file")


def test_deleting_what_is_not_there_is_no_error(storage: ObjectStorage) -> None:
    storage.put_bytes("key", b"x")

    storage.delete("key")
    storage.delete("key")

    assert keys(storage) == []


def test_list_goes_by_folders(storage: ObjectStorage) -> None:
    for key in ("jobs/1/a", "jobs/1/b", "jobs/10/c"):
        storage.put_bytes(key, b"x")

    assert sorted(storage.list("jobs/1")) == ["jobs/1/a", "jobs/1/b"]


def test_a_stream_over_the_limit_leaves_nothing(storage: ObjectStorage) -> None:
    with pytest.raises(TooLarge, match="10485760"):
        storage.put_stream("key", (bytes(MIB) for _ in range(11)), max_bytes=10 * MIB)

    assert keys(storage) == []


class SenderGone(Exception):
    pass


def test_a_stream_that_breaks_off_leaves_nothing(storage: ObjectStorage) -> None:
    def chunks() -> Iterator[bytes]:
        yield bytes(PIECE_BYTES + 1)
        raise SenderGone

    with pytest.raises(SenderGone):
        storage.put_stream("key", chunks(), max_bytes=100 * MIB)

    assert keys(storage) == []


def test_an_asynchronous_stream_is_stored_or_leaves_nothing(storage: ObjectStorage) -> None:
    async def chunks(*, breaks: bool) -> AsyncIterator[bytes]:
        for _ in range(9):
            yield bytes(MIB)
        if breaks:
            raise SenderGone

    async def put_both() -> None:
        stored = await storage.put_stream_async("whole", chunks(breaks=False), max_bytes=100 * MIB)
        assert stored.size_bytes == 9 * MIB
        with pytest.raises(SenderGone):
            await storage.put_stream_async("broken", chunks(breaks=True), max_bytes=100 * MIB)
        with pytest.raises(TooLarge):
            await storage.put_stream_async("large", chunks(breaks=False), max_bytes=8 * MIB)

    asyncio.run(put_both())

    assert keys(storage) == ["whole"]


def test_a_broken_upload_leaves_no_parts_in_the_bucket(s3_storage: ObjectStorage, s3_url: str) -> None:
    def chunks() -> Iterator[bytes]:
        yield bytes(PIECE_BYTES + 1)
        raise SenderGone

    with pytest.raises(SenderGone):
        s3_storage.put_stream("key", chunks(), max_bytes=100 * MIB)

    client = boto3.client(
        "s3",
        endpoint_url=parse_qs(urlsplit(s3_url).query)["endpoint"][0],
        region_name="us-east-1",
        aws_access_key_id=S3_KEY_ID,
        aws_secret_access_key=S3_SECRET,
    )
    assert "Uploads" not in client.list_multipart_uploads(Bucket=urlsplit(s3_url).netloc)
    client.close()


def test_keys_lie_below_the_prefix_of_the_url(s3_storage: ObjectStorage, s3_url: str) -> None:
    s3_storage.put_bytes("key", b"x")

    whole_bucket = open_storage(
        s3_url.replace("/some/prefix", ""), access_key_id=S3_KEY_ID, secret_access_key=S3_SECRET
    )
    assert list(whole_bucket.list("some")) == ["some/prefix/key"]


def test_a_presigned_url_downloads_without_credentials(s3_storage: ObjectStorage) -> None:
    s3_storage.put_bytes("key", b"hello")

    url = s3_storage.presign_download("key", expires_seconds=60)

    assert url is not None
    assert httpx2.get(url).content == b"hello"


def test_a_presigned_url_names_the_public_address(s3_url: str) -> None:
    storage = open_storage(
        s3_url,
        public_url="https://objects.example.com",
        access_key_id=S3_KEY_ID,
        secret_access_key=S3_SECRET,
    )

    url = storage.presign_download("key", expires_seconds=60)

    assert url is not None
    assert url.startswith(f"https://objects.example.com/{urlsplit(s3_url).netloc}/some/prefix/key?")


def test_a_folder_offers_paths_instead_of_presigned_urls(folder_storage: ObjectStorage) -> None:
    folder_storage.put_bytes("a/key", b"hello")

    path = folder_storage.local_path("a/key")

    assert folder_storage.presign_download("a/key", expires_seconds=60) is None
    assert path is not None
    assert path.read_bytes() == b"hello"


def test_a_folder_with_spaces_in_its_name_works(tmp_path: Path) -> None:
    folder = tmp_path / "my objects %41"

    open_storage(folder.as_uri()).put_bytes("key", b"hello")

    assert (folder / "key").read_bytes() == b"hello"


def test_a_storage_that_does_not_answer_is_unavailable() -> None:
    storage = open_storage(
        "s3://bucket?endpoint=http://127.0.0.1:1&allow_http=true",
        access_key_id=S3_KEY_ID,
        secret_access_key=S3_SECRET,
    )

    with pytest.raises(StorageUnavailable):
        storage.put_bytes("key", b"x")
    with pytest.raises(StorageUnavailable):
        storage.check()


def test_a_missing_bucket_is_unavailable_not_a_missing_key(s3_server: str) -> None:
    storage = open_storage(
        f"s3://nowhere?endpoint={s3_server}&allow_http=true",
        access_key_id=S3_KEY_ID,
        secret_access_key=S3_SECRET,
    )

    with pytest.raises(StorageUnavailable):
        storage.check()
    with pytest.raises(StorageUnavailable):
        storage.put_bytes("key", b"x")


def test_a_working_storage_passes_its_check(storage: ObjectStorage) -> None:
    storage.check()


def test_a_bucket_is_made_once(s3_server: str) -> None:
    url = f"s3://made-once?endpoint={s3_server}&allow_http=true"

    assert create_bucket(url, access_key_id=S3_KEY_ID, secret_access_key=S3_SECRET)
    assert not create_bucket(url, access_key_id=S3_KEY_ID, secret_access_key=S3_SECRET)


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "/just/a/path", "s3://bucket?endpint=http://x", "file://host/folder", "s3:///x"]
)
def test_a_url_that_means_nothing_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="storage URL"):
        open_storage(url)


def test_an_artifact_key_holds_job_attempt_token_and_step() -> None:
    key = artifact_key("ten_1", "job_1", 2, 5, "model.ckpt", step=40)

    assert key == "tenants/ten_1/jobs/job_1/a2-t5/model-step40.ckpt"


def test_an_artifact_name_that_leaves_its_folder_is_refused() -> None:
    with pytest.raises(ValueError, match="plain file name"):
        artifact_key("ten_1", "job_1", 1, 1, "../other")
