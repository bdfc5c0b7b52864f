"""What the live workers are, as the API shows it. pydantic only."""

from __future__ import annotations

from pydantic import BaseModel, Field


class GpuKind(BaseModel):
    name: str
    memory_bytes: int
    compute_capability: str = Field(description="CUDA's, such as 8.0; bf16 needs 8.0, fp16 7.0.")


class WorkerKind(BaseModel):
    """Live workers that are alike."""

    worker_count: int
    queue: str = Field(description="Where it takes jobs first; a `gpu` worker takes those of `cpu` too.")
    devices: int = Field(description="The most `training.devices` of a job it can hold; 0: its disk is full.")
    threads: int
    cpu: str
    gpus: list[GpuKind]
    precisions: list[str] = Field(description="Others are replaced, and the job says so in `adjustments`.")


class Capabilities(BaseModel):
    """What can be asked for and got at this moment."""

    precisions: list[str] = Field(description="That some live worker computes in.")
    accelerators: list[str] = Field(description="Values of `training.accelerator` that some live worker has.")
    max_devices: int = Field(description="Of one job; 0 while no worker is alive.")
    max_upload_bytes: int
    workers: list[WorkerKind]
