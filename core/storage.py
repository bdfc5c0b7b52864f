"""Object storage over obstore: a folder or an S3 bucket, one interface. obstore's errors stop here."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx2
import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, S3Store

from core.errors import StorageKeyExists, StorageKeyMissing, StorageUnavailable, TooLarge
from core.monitoring.counters import storage_operations

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

READ_CHUNK_BYTES = 1024**2
# One request carries this much, so that no transfer meets the client's time limit, however large the object.
PIECE_BYTES = 8 * READ_CHUNK_BYTES
# Up to here an upload is one atomic put-if-absent; above, parts, for which no storage knows that condition.
ATOMIC_PUT_BYTES = 16 * READ_CHUNK_BYTES
PARTS_AT_ONCE = 4
CLIENT: ClientConfig = {"connect_timeout": "3s", "timeout": "60s"}
RETRIES: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}
S3_PARAMETERS = {"endpoint", "region", "allow_http"}
SIGNED_FOR = timedelta(minutes=1)
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True)
class StoredObject:
    """What was stored: its size and the sha256 (hex) of its bytes, taken on the way."""

    size_bytes: int
    sha256: str


class _Counted:
    """Counts and hashes what passes, and refuses more than `max_bytes`."""

    def __init__(self, max_bytes: int | None) -> None:
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._hash = hashlib.sha256()

    def take(self, chunk: bytes) -> bytes:
        self._size_bytes += len(chunk)
        if self._max_bytes is not None and self._size_bytes > self._max_bytes:
            raise TooLarge(f"The file is larger than the {self._max_bytes} bytes that are accepted.")
        self._hash.update(chunk)
        return chunk

    def each(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            yield self.take(chunk)

    async def each_async(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """In pieces of READ_CHUNK_BYTES or a little more: each step into the vendor's code and back costs."""
        gathered, size_bytes = [], 0
        async for chunk in chunks:
            gathered.append(chunk)
            size_bytes += len(chunk)
            if size_bytes >= READ_CHUNK_BYTES:
                yield self.take(b"".join(gathered))
                gathered, size_bytes = [], 0
        if gathered:
            yield self.take(b"".join(gathered))

    def result(self) -> StoredObject:
        return StoredObject(self._size_bytes, self._hash.hexdigest())


class ObjectStorage:
    """Keys are immutable: every put fails with StorageKeyExists where the key is taken.

    Every method raises StorageUnavailable when the storage does not answer, and blocks (but for
    `put_stream_async`): call it outside of database transactions and event loops.
    """

    def __init__(
        self, store: S3Store | LocalStore, *, folder: Path | None = None, public_store: S3Store | None = None
    ) -> None:
        self._store = store
        self._folder = folder
        self._public_store = public_store

    def put_file(self, key: str, path: Path) -> StoredObject:
        """Uploads the file at `path`."""
        if path.stat().st_size <= ATOMIC_PUT_BYTES:
            return self.put_bytes(key, path.read_bytes())
        with path.open("rb") as file:
            return self._put_parts(key, iter(lambda: file.read(READ_CHUNK_BYTES), b""), _Counted(None))

    def put_bytes(self, key: str, data: bytes) -> StoredObject:
        counted = _Counted(None)
        with self._vendor_call("put"):
            obstore.put(self._store, key, counted.take(data), mode="create", use_multipart=False)
        self._make_durable(key)
        return counted.result()

    def put_stream(self, key: str, chunks: Iterator[bytes], max_bytes: int) -> StoredObject:
        """Uploads chunk by chunk. Raises TooLarge beyond `max_bytes`, leaving nothing.

        The key must be the caller's own: of two that write it at the same time, the later one wins.
        """
        return self._put_parts(key, chunks, _Counted(max_bytes))

    def _put_parts(self, key: str, chunks: Iterator[bytes], counted: _Counted) -> StoredObject:
        self._refuse_taken(key)
        with self._vendor_call("put"):
            obstore.put(
                self._store,
                key,
                counted.each(chunks),
                use_multipart=True,
                chunk_size=PIECE_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )
        self._make_durable(key)
        return counted.result()

    async def put_stream_async(self, key: str, chunks: AsyncIterator[bytes], max_bytes: int) -> StoredObject:
        """`put_stream` in an event loop. What `chunks` raises comes through unchanged."""
        counted = _Counted(max_bytes)
        with self._vendor_call("put"):
            await obstore.put_async(
                self._store,
                key,
                counted.each_async(chunks),
                use_multipart=True,
                chunk_size=PIECE_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )
        await asyncio.to_thread(self._make_durable, key)
        return counted.result()

    def get_to_file(self, key: str, path: Path) -> None:
        """Downloads to `path`, which is overwritten. Raises StorageKeyMissing. Verifies nothing."""
        size_bytes = self.size(key)
        with path.open("wb") as file:
            for chunk in self._pieces(key, 0, size_bytes):
                file.write(chunk)

    def read_range(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """Bytes start to end (exclusive) in chunks of 1 MiB. Raises StorageKeyMissing at the call itself."""
        return self._pieces(key, start, min(end, self.size(key)))

    def _pieces(self, key: str, start: int, end: int) -> Iterator[bytes]:
        for piece_start in range(start, end, PIECE_BYTES):
            with self._vendor_call("get"):
                piece = obstore.get_range(
                    self._store, key, start=piece_start, end=min(piece_start + PIECE_BYTES, end)
                )
            view = memoryview(piece)
            for chunk_start in range(0, len(view), READ_CHUNK_BYTES):
                yield bytes(view[chunk_start : chunk_start + READ_CHUNK_BYTES])

    def size(self, key: str) -> int:
        """Bytes under the key. Raises StorageKeyMissing."""
        with self._vendor_call("head"):
            return obstore.head(self._store, key)["size"]

    def delete(self, key: str) -> None:
        """Removes the object; nothing happens where there is none."""
        try:
            with self._vendor_call("delete"):
                obstore.delete(self._store, key)
        except StorageKeyMissing:
            return

    def list(self, folder: str) -> Iterator[str]:
        """Keys below a folder, or all with "", in no order."""
        with self._vendor_call("list"):
            for batch in obstore.list(self._store, folder):
                yield from (entry["path"] for entry in batch)

    def list_older(self, folder: str, before: datetime) -> Iterator[str]:
        """Keys below a folder that were stored before that instant, by the storage's clock, in no order."""
        with self._vendor_call("list"):
            for batch in obstore.list(self._store, folder):
                yield from (entry["path"] for entry in batch if entry["last_modified"] < before)

    def remove_broken_off(self, before: datetime) -> None:
        """Removes what writes that broke off before that instant left in a folder, which no list shows.

        In a bucket that is the parts of unfinished uploads, which a rule of the bucket removes.
        """
        if self._folder is None:
            return
        for path in self._folder.rglob("*#*"):
            if path.stat().st_mtime < before.timestamp():
                path.unlink(missing_ok=True)

    def local_path(self, key: str) -> Path | None:
        """Where the bytes lie, for a folder; None for S3. Only to read."""
        return None if self._folder is None else self._folder / key

    def presign_download(self, key: str, expires_seconds: int) -> str | None:
        """A URL that needs no credentials, on the public address; None where the storage cannot make one."""
        if self._public_store is None:
            return None
        with self._vendor_call("sign"):
            return obstore.sign(self._public_store, "GET", key, timedelta(seconds=expires_seconds))

    def check(self) -> None:
        """Raises StorageUnavailable unless the storage answers now; for readiness."""
        if self._folder is not None and not os.access(self._folder, os.R_OK | os.W_OK | os.X_OK):
            raise StorageUnavailable("The storage folder is missing or not writable.")
        try:
            next(self.list("readiness"), None)
        except StorageKeyMissing as error:
            raise StorageUnavailable("The storage bucket does not exist.") from error

    def _refuse_taken(self, key: str) -> None:
        try:
            self.size(key)
        except StorageKeyMissing:
            return
        raise StorageKeyExists("An object with this key exists already.")

    def _make_durable(self, key: str) -> None:
        # A folder's writes lie in the page cache until synced; the row that names them is committed durably.
        path = self.local_path(key)
        if path is None or self._folder is None:
            return
        _sync(path)
        for folder in path.parents:
            _sync(folder)
            if folder == self._folder:
                return

    @contextmanager
    def _vendor_call(self, operation: str) -> Iterator[None]:
        """Speaks of the vendor's errors in our words, and counts how the call ended."""
        outcome = "unavailable"
        try:
            yield
            outcome = "ok"
        except FileNotFoundError as error:
            if operation == "put":
                raise StorageUnavailable("The storage bucket does not exist.") from error
            outcome = "missing"
            raise StorageKeyMissing("There is no object with this key.") from error
        except AlreadyExistsError as error:
            outcome = "exists"
            raise StorageKeyExists("An object with this key exists already.") from error
        except BaseError as error:
            raise StorageUnavailable("The object storage does not answer as it should.") from error
        except BaseException:
            outcome = "abandoned"  # by the one who brought the bytes, or took them
            raise
        finally:
            storage_operations.labels(operation, outcome).inc()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_storage(
    url: str,
    *,
    public_url: str | None = None,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
) -> ObjectStorage:
    """`file:///folder` (made if missing) or `s3://bucket/prefix?endpoint=…&region=…&allow_http=true`.

    Credentials not given come from AWS_ACCESS_KEY_ID and its kin. Nothing is contacted yet. ValueError for
    any other URL.
    """
    folder = _folder_of(url)
    if folder is not None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return ObjectStorage(LocalStore(folder, automatic_cleanup=True), folder=folder)
    config = _s3_config(url, access_key_id, secret_access_key)
    prefix = unquote(urlsplit(url).path).strip("/") or None
    store = _s3_store(config, prefix)
    public = (
        store if public_url is None else _s3_store({**config, "endpoint": public_url.rstrip("/")}, prefix)
    )
    return ObjectStorage(store, public_store=public)


def create_bucket(
    url: str, *, access_key_id: str | None = None, secret_access_key: str | None = None
) -> bool:
    """Makes the bucket of an S3 URL or the folder of a file URL; False where it was there already."""
    folder = _folder_of(url)
    if folder is not None:
        existed = folder.is_dir()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return not existed
    store = _s3_store(_s3_config(url, access_key_id, secret_access_key), None)
    try:
        # obstore has no call for buckets, but signs the two requests.
        if httpx2.head(obstore.sign(store, "HEAD", "", SIGNED_FOR)).is_success:
            return False
        httpx2.put(obstore.sign(store, "PUT", "", SIGNED_FOR)).raise_for_status()
    except (httpx2.HTTPError, BaseError) as error:
        raise StorageUnavailable("The bucket could not be made.") from error
    return True


def _folder_of(url: str) -> Path | None:
    parts = urlsplit(url)
    if parts.scheme != "file":
        return None
    if parts.netloc not in {"", "localhost"} or parts.query:
        raise ValueError("a file storage URL reads file:///absolute/folder")
    return Path(unquote(parts.path))


def _s3_config(url: str, access_key_id: str | None, secret_access_key: str | None) -> S3Config:
    parts = urlsplit(url)
    parameters = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    unknown = sorted(set(parameters) - S3_PARAMETERS)
    if parts.scheme != "s3" or not parts.netloc or unknown:
        raise ValueError(
            "a storage URL reads file:///absolute/folder or s3://bucket/prefix with the parameters "
            f"{', '.join(sorted(S3_PARAMETERS))}" + (f"; unknown: {', '.join(unknown)}" if unknown else "")
        )
    config: S3Config = {"bucket": parts.netloc, "region": parameters.get("region", "us-east-1")}
    if "endpoint" in parameters:
        config["endpoint"] = parameters["endpoint"].rstrip("/")
    if access_key_id is not None and secret_access_key is not None:
        config["access_key_id"] = access_key_id
        config["secret_access_key"] = secret_access_key
    if parameters.get("allow_http") == "true":
        config["allow_http"] = True  # type: ignore[typeddict-unknown-key]  # popped in _s3_store
    return config


def _s3_store(config: S3Config, prefix: str | None) -> S3Store:
    settings = dict(config)
    client: ClientConfig = {**CLIENT, "allow_http": bool(settings.pop("allow_http", False))}
    return S3Store(prefix=prefix, config=settings, client_options=client, retry_config=RETRIES)  # type: ignore[arg-type]


def tenant_folder(tenant_id: str) -> str:
    """What every key of a tenant starts with."""
    return f"tenants/{tenant_id}/"


def owner_of(key: str) -> str | None:
    """The id of the job or dataset that a key was made for; None for a key that is none of ours."""
    parts = key.split("/")
    return parts[3] if len(parts) > 4 and parts[2] in {"jobs", "datasets"} else None


def dataset_key(tenant_id: str, dataset_id: str, data_format: str) -> str:
    """Where a dataset's bytes lie."""
    return f"{tenant_folder(tenant_id)}datasets/{dataset_id}/data.{data_format}"


def artifact_key(
    tenant_id: str, job_id: str, attempt: int, token: int, name: str, step: int | None = None
) -> str:
    """Where an artifact's bytes lie. Give `step` for a checkpoint, whose name stays while its bytes change.

    Raises ValueError for a name that is not a plain file name.
    """
    if not _FILE_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no plain file name")
    stem, dot, ending = name.partition(".")
    version = "" if step is None else f"-step{step}"
    return f"{tenant_folder(tenant_id)}jobs/{job_id}/a{attempt}-t{token}/{stem}{version}{dot}{ending}"
