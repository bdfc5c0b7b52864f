"""Calls about datasets."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from core.datasets.schemas import DatasetPull, DatasetRead
from foretrain.client.exchange import PAGE_SIZE, fetch, fetch_as, fetch_each, made_repeatable
from foretrain.client.schemas import DatasetReport
from foretrain.client.wire import Request, Wire
from trainer.dataset.schema import DatasetFormat, DatasetMapping

_CHUNK_BYTES = 1 << 18


async def upload_dataset(
    wire: Wire,
    source: Path | BinaryIO,
    data_format: DatasetFormat,
    *,
    name: str | None = None,
    mapping: DatasetMapping | None = None,
    on_bytes: Callable[[int], None] = lambda _: None,
    idempotency_key: str | None = None,
) -> DatasetRead:
    """Streams a file up; `on_bytes` gets how many bytes have gone. It may still be inspecting afterwards: see
    `await_dataset`. A source that cannot be read twice, such as a pipe, is sent once only.
    """
    query: dict[str, str | int | list[str]] = {"format": data_format}
    if name is not None:
        query["name"] = name
    if mapping is not None:
        query["mapping"] = mapping.model_dump_json(exclude_none=True)
    upload = _Upload(source, on_bytes)
    request = Request(
        "POST",
        "/v1/datasets",
        query,
        {"Content-Type": "application/octet-stream"} | upload.size_header(),
        make_body=upload.pieces,
        is_repeatable=upload.can_be_repeated,
    )
    return await fetch_as(wire, DatasetRead, made_repeatable(request, idempotency_key))


async def pull_dataset(wire: Wire, pull: DatasetPull, *, idempotency_key: str | None = None) -> DatasetRead:
    """Makes the service fetch a range of samples from a Prometheus server that its operator allows."""
    body = pull.model_dump(mode="json", exclude_unset=True)
    request = Request("POST", "/v1/datasets/pull", json=body)
    return await fetch_as(wire, DatasetRead, made_repeatable(request, idempotency_key))


async def get_dataset(wire: Wire, dataset_id: str) -> DatasetRead:
    """Its status, its columns, its range of time, its digest."""
    return await fetch_as(wire, DatasetRead, Request("GET", f"/v1/datasets/{dataset_id}"))


async def await_dataset(wire: Wire, dataset_id: str, *, poll_seconds: float = 0.5) -> DatasetRead:
    """Waits until inspection is over; `status` is then `ready` or `rejected`."""
    while (dataset := await get_dataset(wire, dataset_id)).status == "inspecting":
        await wire.pause(poll_seconds)
    return dataset


def list_datasets(wire: Wire, *, page_size: int = PAGE_SIZE) -> AsyncIterator[DatasetRead]:
    """All of the key's tenant, newest first."""
    return fetch_each(wire, DatasetRead, "/v1/datasets", {"limit": page_size})


async def get_dataset_report(wire: Wire, dataset_id: str) -> DatasetReport:
    """What is odd about the data: gaps, duplicates, constant series and so on."""
    return await fetch_as(wire, DatasetReport, Request("GET", f"/v1/datasets/{dataset_id}/report"))


async def delete_dataset(wire: Wire, dataset_id: str) -> None:
    """Removes it with its bytes. Refused with `in_use` while a job needs it."""
    await fetch(wire, Request("DELETE", f"/v1/datasets/{dataset_id}", is_repeatable=False))


@dataclass(frozen=True)
class _Upload:
    source: Path | BinaryIO
    on_bytes: Callable[[int], None]

    @property
    def can_be_repeated(self) -> bool:
        return isinstance(self.source, Path) or self.source.seekable()

    def size_header(self) -> dict[str, str]:
        """Without it, as for a pipe, the body goes out in HTTP chunks."""
        if isinstance(self.source, Path):
            return {"Content-Length": str(self.source.stat().st_size)}
        if not self.source.seekable():
            return {}
        size = self.source.seek(0, os.SEEK_END)
        self.source.seek(0)
        return {"Content-Length": str(size)}

    def pieces(self) -> Iterator[bytes]:
        if isinstance(self.source, Path):
            with self.source.open("rb") as file:
                yield from self._read(file)
            return
        if self.source.seekable():
            self.source.seek(0)
        yield from self._read(self.source)

    def _read(self, file: BinaryIO) -> Iterator[bytes]:
        sent = 0
        while piece := file.read(_CHUNK_BYTES):
            yield piece
            sent += len(piece)
            self.on_bytes(sent)
