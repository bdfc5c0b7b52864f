"""Every row of the service, a module per subject."""

from core.tables.access import ApiKey, IdempotencyKey, Tenant
from core.tables.audit import AuditEvent
from core.tables.base import Json, Table
from core.tables.datasets import Dataset, Upload
from core.tables.jobs import Job, JobAttempt, JobEvent, JobLabel
from core.tables.monitoring import Tally, TallyEntry
from core.tables.records import Artifact, JobLogChunk, JobMetric
from core.tables.webhooks import Webhook, WebhookDelivery
from core.tables.workers import Worker

__all__ = [
    "ApiKey",
    "Artifact",
    "AuditEvent",
    "Dataset",
    "IdempotencyKey",
    "Job",
    "JobAttempt",
    "JobEvent",
    "JobLabel",
    "JobLogChunk",
    "JobMetric",
    "Json",
    "Table",
    "Tally",
    "TallyEntry",
    "Tenant",
    "Upload",
    "Webhook",
    "WebhookDelivery",
    "Worker",
]
