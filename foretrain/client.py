"""A small, typed client of the service. Needs an HTTP client and pydantic: no server's packages, no torch."""

from __future__ import annotations

import base64
import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import httpx2

from core.datasets.schemas import DatasetRead
from core.jobs.schemas import ArtifactRead, JobCreate, JobRead, MetricSeries, RetryFrom

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trainer.dataset.schema import DatasetFormat, DatasetMapping

_CHUNK_BYTES = 1 << 16
_PARTIAL_CONTENT = 206


class ServiceProblem(Exception):  # named as in RFC 9457
    """The service said no. `code` is stable, `detail` says what to do, `errors` where it went wrong."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", "unknown"))
        self.detail = str(problem.get("detail") or problem.get("title") or f"HTTP status {status}")
        self.retryable = bool(problem.get("retryable", False))
        self.errors: list[dict[str, Any]] = problem.get("errors") or []
        super().__init__(f"{self.code}: {self.detail}")


class ChecksumMismatch(Exception):  # named for what was found
    """A download is not what the service stored."""


@dataclass(frozen=True)
class Download:
    """A file that was fetched whole, and checked. `resumed_at`: the byte the last request started at."""

    path: Path
    size_bytes: int
    sha256: str
    resumed_at: int


class Client:
    """One service, one key. Calls raise ServiceProblem for a refusal, httpx2.TransportError for no answer."""

    def __init__(self, url: str, api_key: str, *, timeout_seconds: float = 60.0) -> None:
        self._http = httpx2.Client(
            base_url=url, headers={"Authorization": f"Bearer {api_key}"}, timeout=timeout_seconds
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def upload_dataset(
        self,
        path: Path,
        data_format: DatasetFormat,
        *,
        name: str | None = None,
        mapping: DatasetMapping | None = None,
    ) -> DatasetRead:
        """Streams the file up. The dataset may still be inspecting: see `await_dataset`."""
        query = {"format": data_format} | ({} if name is None else {"name": name})
        if mapping is not None:
            query["mapping"] = mapping.model_dump_json(exclude_none=True)
        size = {"Content-Type": "application/octet-stream", "Content-Length": str(path.stat().st_size)}
        answer = self._http.post("/v1/datasets", params=query, content=_chunks(path), headers=size)
        return DatasetRead.model_validate_json(_accepted(answer).content)

    def get_dataset(self, dataset_id: str) -> DatasetRead:
        return DatasetRead.model_validate_json(self._get(f"/v1/datasets/{dataset_id}").content)

    def await_dataset(self, dataset_id: str, *, poll_seconds: float = 0.5) -> DatasetRead:
        """Waits until inspection is over; `status` is then `ready` or `rejected`."""
        while (dataset := self.get_dataset(dataset_id)).status == "inspecting":
            time.sleep(poll_seconds)
        return dataset

    def submit(self, job: JobCreate, *, idempotency_key: str | None = None) -> JobRead:
        """Queues a job. With a key the call can be repeated after a lost answer and makes one job only."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        body = job.model_dump(mode="json", exclude_unset=True)
        return JobRead.model_validate_json(
            _accepted(self._http.post("/v1/jobs", json=body, headers=headers)).content
        )

    def get_job(self, job_id: str) -> JobRead:
        return JobRead.model_validate_json(self._get(f"/v1/jobs/{job_id}").content)

    def cancel(self, job_id: str) -> JobRead:
        """Asks a running job to save and stop; a waiting one is cancelled at once."""
        return self._ask(job_id, "cancel")

    def pause(self, job_id: str) -> JobRead:
        """Asks a running job to save and free its worker; a waiting one is paused at once."""
        return self._ask(job_id, "pause")

    def resume(self, job_id: str) -> JobRead:
        """Queues a paused job, which goes on from its last stored state."""
        return self._ask(job_id, "resume")

    def retry(self, job_id: str, start: RetryFrom = "beginning") -> JobRead:
        """Queues a failed or cancelled job once more."""
        return self._ask(job_id, "retry", {"from": start})

    def _ask(self, job_id: str, verb: str, body: dict[str, str] | None = None) -> JobRead:
        answer = self._http.post(f"/v1/jobs/{job_id}/{verb}", json=body or {})
        return JobRead.model_validate_json(_accepted(answer).content)

    def await_job(
        self, job_id: str, *, on_poll: Callable[[JobRead], None] = lambda _: None, poll_seconds: float = 1.0
    ) -> JobRead:
        """Polls until the job is terminal, showing each answer to `on_poll`."""
        while True:
            job = self.get_job(job_id)
            on_poll(job)
            if job.is_terminal:
                return job
            time.sleep(poll_seconds)

    def read_metrics(
        self, job_id: str, names: list[str] | None = None, from_step: int = 0
    ) -> list[MetricSeries]:
        query: dict[str, str | int] = {"from_step": from_step}
        if names is not None:
            query["names"] = ",".join(names)
        answer = self._get(f"/v1/jobs/{job_id}/metrics", query)
        return [MetricSeries.model_validate(series) for series in answer.json()["items"]]

    def list_artifacts(self, job_id: str) -> list[ArtifactRead]:
        answer = self._get(f"/v1/jobs/{job_id}/artifacts")
        return [ArtifactRead.model_validate(artifact) for artifact in answer.json()["items"]]

    def get_result(self, job_id: str) -> dict[str, Any]:
        """The content of result.json."""
        result: dict[str, Any] = self._get(f"/v1/jobs/{job_id}/result").json()
        return result

    def download(
        self, job_id: str, name: str, path: Path, *, on_bytes: Callable[[int], None] = lambda _: None
    ) -> Download:
        """Fetches an artifact to `path`, going on where an earlier, interrupted call for that path stopped.

        `on_bytes` gets the number of bytes there are so far; what it raises interrupts the download. Raises
        ChecksumMismatch, leaving nothing, unless the bytes have the SHA-256 that the service names.
        """
        url = f"/v1/jobs/{job_id}/artifacts/{name}"
        head = _accepted(self._http.head(url))
        etag, total, sha256 = head.headers["ETag"], int(head.headers["Content-Length"]), _digest(head)
        # The version is in the name: of a newer file no older half is kept.
        partial = path.with_name(f"{path.name}.{sha256[:12]}.part")
        partial.touch()
        start = partial.stat().st_size
        if start < total:
            start = self._fetch(url, etag, partial, start, on_bytes)
        if _file_sha256(partial) != sha256:
            partial.unlink()
            raise ChecksumMismatch(f"{name} did not arrive as it was stored; download it again.")
        partial.replace(path)
        return Download(path, total, sha256, resumed_at=start)

    def _fetch(self, url: str, etag: str, partial: Path, start: int, on_bytes: Callable[[int], None]) -> int:
        """Appends what is missing; the byte it began at, which is 0 when the service sent the whole file."""
        headers = {"Range": f"bytes={start}-", "If-Range": etag} if start else {}
        with self._http.stream("GET", url, headers=headers) as answer:
            if answer.is_error:
                answer.read()
            _accepted(answer)
            begins = start if answer.status_code == _PARTIAL_CONTENT else 0
            with partial.open("ab") as file:
                file.truncate(begins)
                for chunk in answer.iter_bytes(_CHUNK_BYTES):
                    file.write(chunk)
                    on_bytes(file.tell())
        return begins

    def _get(self, path: str, query: dict[str, str | int] | None = None) -> httpx2.Response:
        return _accepted(self._http.get(path, params=query))


def _accepted(answer: httpx2.Response) -> httpx2.Response:
    if answer.is_success:
        return answer
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    raise ServiceProblem(answer.status_code, problem if isinstance(problem, dict) else {})


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _digest(answer: httpx2.Response) -> str:
    """The SHA-256 of a Repr-Digest header, in hex."""
    encoded = answer.headers["Repr-Digest"].removeprefix("sha-256=:").removesuffix(":")
    return base64.b64decode(encoded).hex()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
