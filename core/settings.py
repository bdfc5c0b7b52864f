"""All that can be set, from FORETRAIN_* variables or secret files. Built at the edges, then passed on."""

from __future__ import annotations

import os
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

GIBIBYTE = 1024**3


class Settings(BaseSettings):
    """With nothing set, one machine: SQLite, a socket broker and a folder, all under `data_dir`."""

    model_config = SettingsConfigDict(env_prefix="FORETRAIN_", extra="ignore", frozen=True)

    data_dir: Path = Path("~/.local/share/foretrain")
    database_url: str = Field("", repr=False, description="Default: SQLite in data_dir.")
    broker_url: str = Field("", repr=False, description="Default: a Unix socket in data_dir.")
    storage_url: str = Field(
        "", description="file:///folder or s3://bucket/prefix?endpoint=…&region=…&allow_http=true"
    )
    storage_public_url: str | None = Field(
        None, description="The storage's address as customers reach it; presigned URLs are signed for it."
    )
    storage_access_key_id: SecretStr | None = None
    storage_secret_access_key: SecretStr | None = None

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    cors_origins: list[str] = Field(default_factory=list)
    session_secret: SecretStr | None = Field(
        None,
        min_length=16,
        description="Signs the cookie of who signs in on the pages; the same for all API processes. Default: "
        "one of its own for each process, so that a restart signs everybody out.",
    )
    session_hours: float = Field(12, gt=0, description="After that one signs in anew.")
    max_upload_bytes: int = Field(2 * GIBIBYTE, ge=1)
    upload_expiry_seconds: float = Field(
        24 * 3600, gt=0, description="Uploads not finished by then are removed."
    )
    body_idle_seconds: float = Field(20, gt=0, description="A body that brings nothing for so long is cut.")
    max_streams: int = Field(128, ge=1, description="Uploads and downloads at once.")
    max_waiting: int = Field(1000, ge=0, le=20_000, description="Held answers and event streams at once.")
    max_wait_seconds: int = Field(60, ge=1, description="The most that `Prefer: wait` is granted.")
    event_stream_seconds: float = Field(
        900, gt=0, description="An event stream ends then; its client goes on where it was."
    )
    watch_seconds: float = Field(
        0.5, gt=0, description="Between two looks at the jobs that somebody waits for."
    )
    idempotency_hours: float = Field(48, ge=24)

    trusted_proxies: list[IPv4Network | IPv6Network] = Field(
        default_factory=list,
        description="Networks of proxies whose X-Forwarded-For is believed. Default: nobody's.",
    )
    requests_per_minute: int | None = Field(
        6000, ge=1, description="Of one key. Default: 6000; null is no limit."
    )
    failures_per_minute: int | None = Field(
        60, ge=1, description="Bad keys from one address, before it has to wait for the next minute."
    )
    max_queued_jobs: int = Field(10_000, ge=1, description="Of one tenant; the next is refused.")
    max_running_jobs: int | None = Field(
        None, ge=1, description="Of one tenant; further ones wait. Default: whatever the workers hold."
    )
    max_dataset_bytes: int = Field(1024 * GIBIBYTE, ge=1, description="Of all datasets of one tenant.")
    max_api_keys: int = Field(100, ge=1, description="Usable ones of one tenant.")
    audit_retention_days: float = Field(365, gt=0, description="How long the audit record is kept.")

    job_retention_days: float | None = Field(
        None, gt=0, description="Jobs that ended longer ago are deleted with their files. Default: never."
    )
    dataset_retention_days: float | None = Field(
        None, gt=0, description="Datasets that no job has needed for so long are deleted. Default: never."
    )
    metrics_token: SecretStr | None = Field(
        None,
        min_length=16,
        description="Opens /metrics. Without one, it is for programs on the same machine.",
    )
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="Serves /metrics of this process, to whoever reaches it."
    )

    heartbeat_seconds: float = Field(5, gt=0)
    lease_seconds: float = Field(30, gt=0)
    sweep_seconds: float = Field(4, gt=0)
    stop_grace_seconds: float = Field(30, gt=0)
    progress_timeout_seconds: float = Field(
        1800, gt=0, description="A trainer that reports nothing for so long is killed and tried again."
    )
    trainer_threads: int | None = Field(None, ge=1, description="Default: the cores.")
    least_free_bytes: int = Field(
        GIBIBYTE // 4, ge=0, description="With less free on its disk a worker takes no job."
    )
    cpu_devices: int = Field(
        1, ge=1, le=8, description="The most processes of one training, on a worker without a GPU."
    )
    trainer_memory_limit_bytes: int | None = Field(
        None, ge=GIBIBYTE // 8, description="Default: the container's or machine's less the worker's share."
    )

    inspection_wait_seconds: float = Field(30, gt=0, description="How long an upload's answer waits for it.")
    inspection_timeout_seconds: float = Field(600, gt=0, description="Wall clock of the inspecting child.")
    inspection_memory_bytes: int = Field(
        8 * GIBIBYTE, ge=GIBIBYTE // 8, description="Address space of the child."
    )

    inspections_at_once: int = Field(2, ge=1, description="In one process; each may take that much memory.")

    pull_urls: list[str] = Field(
        default_factory=list,
        repr=False,
        description="Servers that datasets may be pulled from, http://prometheus:9090 for one; a login may "
        "stand in the address: https://user:password@host/path.",
    )
    pull_networks: list[IPv4Network | IPv6Network] = Field(
        default_factory=list,
        description="Private networks that these servers' names may stand for, such as 10.0.0.0/8.",
    )
    pull_timeout_seconds: float = Field(300, gt=0, description="Wall clock of one pull.")

    webhook_networks: list[IPv4Network | IPv6Network] = Field(
        default_factory=list,
        description="Private networks that webhooks may go to. Default: public addresses alone.",
    )
    webhook_timeout_seconds: float = Field(10, gt=0, description="Wall clock of one attempt to deliver.")
    webhook_disable_days: float = Field(
        5, gt=0, description="A webhook that has delivered nothing for so long is disabled."
    )
    webhook_delivery_days: float = Field(30, gt=0, description="How long the log of deliveries is kept.")
    max_webhooks: int = Field(20, ge=1, description="Of one tenant.")

    log_format: Literal["json", "console"] = "console"

    @model_validator(mode="before")
    @classmethod
    def _place_defaults_in_the_data_dir(cls, values: dict[str, object]) -> dict[str, object]:
        folder = (
            Path(str(values.get("data_dir") or cls.model_fields["data_dir"].default)).expanduser().absolute()
        )
        values["data_dir"] = folder
        values["database_url"] = values.get("database_url") or f"sqlite:///{folder / 'foretrain.db'}"
        values["broker_url"] = values.get("broker_url") or f"redis+socket://{folder / 'run' / 'broker.sock'}"
        values["storage_url"] = values.get("storage_url") or (folder / "objects").as_uri()
        return values

    @model_validator(mode="after")
    def _a_lease_outlives_missed_heartbeats(self) -> Self:
        if self.lease_seconds < 2 * self.heartbeat_seconds:
            raise ValueError("lease_seconds must be at least twice heartbeat_seconds")
        return self


def load_settings() -> Settings:
    """From the environment, and from files in FORETRAIN_SECRETS_DIR that are named like the variables."""
    return Settings(_secrets_dir=os.environ.get("FORETRAIN_SECRETS_DIR"))
