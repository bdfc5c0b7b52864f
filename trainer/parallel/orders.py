"""What the leader tells the other ranks, a JSON line each: first what to prepare, then what to train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict

from trainer.dataset.schema import DatasetFormat, DatasetMapping, DatasetSchema
from trainer.hardware import Hardware
from trainer.parallel.ranks import Ranks
from trainer.spec import TrainingSpec
from trainer.state import Adaptation

if TYPE_CHECKING:
    from trainer.recipe import DatasetFile

READY = b"ready\n"
# Whose a state is has been checked by the leader; what it hands on carries these instead.
IDENTITY = dict.fromkeys(("spec_sha256", "data_sha256", "mapping_sha256"), "of the leader")


class Task(BaseModel):
    """What is to be trained, on what; `memory_limit` in bytes, of one rank; `folder` for files of its own."""

    model_config = ConfigDict(frozen=True)

    ranks: Ranks
    spec: TrainingSpec
    path: Path
    format: DatasetFormat
    mapping: DatasetMapping
    data_schema: DatasetSchema
    hardware: Hardware
    memory_limit: int | None
    folder: Path

    @classmethod
    def of(
        cls,
        spec: TrainingSpec,
        data: DatasetFile,
        hardware: Hardware,
        ranks: Ranks,
        memory_limit: int | None,
        folder: Path,
    ) -> Self:
        return cls(
            ranks=ranks,
            spec=spec,
            path=data.path.absolute(),
            format=data.format,
            mapping=data.mapping,
            data_schema=data.schema,
            hardware=hardware,
            memory_limit=memory_limit,
            folder=folder.absolute(),
        )


class Attempt(BaseModel):
    """One go at it: from which state, with which changes to the spec, and by which file the ranks meet."""

    model_config = ConfigDict(frozen=True)

    adaptation: Adaptation
    state: Path | None
    meeting: Path
    threads: int
