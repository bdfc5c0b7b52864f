"""Examples in the OpenAPI document; a test validates each against its own schema."""

from __future__ import annotations

from typing import Any

from api.problem_codes import PROBLEM_CODES

JOB_ID = "job_019299aabbcc7ddd8eeeffff00002222"
DATASET_ID = "ds_019299aabbcc7ddd8eeeffff00001111"
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
CREATED_AT = "2026-11-22T12:00:00Z"

JOB_REQUEST: dict[str, Any] = {
    "dataset_id": DATASET_ID,
    "name": "fleet-nightly",
    "labels": {"env": "prod"},
    "training": {
        "target_metrics": ["cpu_percent", "memory_percent"],
        "epochs": 20,
        "precision": "bf16-mixed",
        "accumulate_grad_batches": 4,
    },
    "limits": {"max_runtime_seconds": 3600},
}

_COLUMN = {"missing_count": 0, "minimum": 0.4, "maximum": 99.1, "mean": 38.2}
DATASET: dict[str, Any] = {
    "id": DATASET_ID,
    "name": "fleet, one day",
    "status": "ready",
    "format": "csv",
    "mapping": {},
    "sha256": SHA256,
    "size_bytes": 3_145_728,
    "schema": {
        "format": "csv",
        "time_column": "timestamp",
        "group_columns": ["server"],
        "frequency_seconds": 300.0,
        "columns": [
            {"name": "server", "type": "text", "missing_count": 0},
            {"name": "timestamp", "type": "time", "missing_count": 0},
            {"name": "cpu_percent", "type": "numeric", "unit": "%"} | _COLUMN,
            {"name": "memory_percent", "type": "numeric", "unit": "%"} | _COLUMN,
        ],
        "row_count": 57_600,
        "series_count": 200,
        "series_lengths": {"min": 288, "median": 288, "max": 288},
        "starts_at": "2026-11-21T00:00:00Z",
        "ends_at": "2026-11-21T23:55:00Z",
        "findings": [],
    },
    "problem": None,
    "created_at": CREATED_AT,
    "inspected_at": "2026-11-22T12:00:02Z",
    "links": {"self": f"/v1/datasets/{DATASET_ID}"},
}
DATASET_REPORT: dict[str, Any] = {
    "dataset_id": DATASET_ID,
    "row_count": 57_600,
    "series_count": 200,
    "findings": [
        {
            "code": "gaps",
            "detail": "Rows are missing between neighbours.",
            "series_count": 3,
            "row_count": 17,
            "examples": [{"series": "web-7", "row": 412, "missing_steps": 5}],
        }
    ],
}

_SPEC: dict[str, Any] = JOB_REQUEST["training"]
JOB: dict[str, Any] = {
    "id": JOB_ID,
    "name": "fleet-nightly",
    "labels": {"env": "prod"},
    "priority": 0,
    "dataset_id": DATASET_ID,
    "status": "running",
    "is_terminal": False,
    "phase": "training",
    "status_reason": None,
    "stop_reason": None,
    "fault": None,
    "attempt": 1,
    "failures": 0,
    "preemptions": 0,
    "revision": 2,
    "cancel_requested_at": None,
    "pause_requested_at": None,
    "heartbeat_at": "2026-11-22T12:03:20Z",
    "stalled": False,
    "progress": {
        "fraction": 0.35,
        "epoch": 7,
        "epochs": 20,
        "step": 2450,
        "total_steps": 7000,
        "windows_per_second": 2980.5,
        "eta_at": "2026-11-22T12:09:30Z",
        "updated_at": "2026-11-22T12:03:20Z",
    },
    "queue": None,
    "spec": _SPEC,
    "resolved_spec": None,
    "plan": None,
    "adjustments": [
        {
            "field": "known_covariates",
            "requested": None,
            "effective": ["hour_of_day", "minute_of_hour"],
            "reason": "the calendar features that fit a step of 300 s",
        }
    ],
    "warnings": [],
    "limits": {"max_runtime_seconds": 3600, "max_pending_seconds": None, "max_attempts": 3},
    "seed": 42,
    "best_checkpoint": None,
    "summary": None,
    "usage": {"running_seconds": 200.0},
    "created_at": CREATED_AT,
    "started_at": "2026-11-22T12:00:05Z",
    "finished_at": None,
    "links": {"self": f"/v1/jobs/{JOB_ID}"},
}
QUEUED_JOB: dict[str, Any] = JOB | {
    "status": "queued",
    "phase": None,
    "revision": 4,
    "heartbeat_at": None,
    "progress": None,
    "queue": {"position": 3, "reason": "Waits for 2 jobs ahead."},
}
PAUSED_JOB: dict[str, Any] = JOB | {
    "status": "paused",
    "phase": None,
    "revision": 4,
    "pause_requested_at": "2026-11-22T12:03:21Z",
    "heartbeat_at": None,
}
CANCELLED_JOB: dict[str, Any] = JOB | {
    "status": "cancelled",
    "is_terminal": True,
    "phase": None,
    "stop_reason": "cancelled",
    "revision": 4,
    "cancel_requested_at": "2026-11-22T12:03:21Z",
    "heartbeat_at": None,
    "finished_at": "2026-11-22T12:03:24Z",
}
CAPABILITIES: dict[str, Any] = {
    "precisions": ["16-mixed", "32-true", "bf16-mixed"],
    "accelerators": ["cpu", "cuda"],
    "max_devices": 2,
    "max_upload_bytes": 2_147_483_648,
    "workers": [
        {
            "worker_count": 3,
            "queue": "gpu",
            "devices": 2,
            "threads": 16,
            "cpu": "AMD EPYC 9354",
            "gpus": [
                {"name": "NVIDIA H100 80GB HBM3", "memory_bytes": 85_520_809_984, "compute_capability": "9.0"}
            ],
            "precisions": ["32-true", "16-mixed", "bf16-mixed"],
        }
    ],
}
QUEUES: dict[str, Any] = {
    "queues": [
        {
            "name": "gpu",
            "queued": 12,
            "running": 3,
            "oldest_seconds": 96.4,
            "workers": 3,
            "idle_workers": 0,
        },
        {"name": "cpu", "queued": 0, "running": 0, "oldest_seconds": None, "workers": 3, "idle_workers": 0},
    ]
}
RESOLVED: dict[str, Any] = {"resolved_spec": _SPEC, "adjustments": JOB["adjustments"], "warnings": []}
ESTIMATE: dict[str, Any] = RESOLVED | {
    "train_windows": {"low": 24_600, "high": 24_600},
    "validation_windows": {"low": 6_800, "high": 6_800},
    "test_windows": {"low": 1_200, "high": 1_200},
    "steps": {"low": 3_860, "high": 3_860},
    "parameters": {"low": 118_542, "high": 118_542},
    "memory_bytes": {"low": 412_000_000, "high": 412_000_000},
    "duration_seconds": {"low": 310, "high": 540},
    "speed": {
        "windows_per_second_low": 915.0,
        "windows_per_second_high": 1_594.0,
        "job_count": 7,
        "alike": True,
    },
    "queue_name": "gpu",
    "queue": {"position": 3, "reason": "Waits for 2 jobs ahead."},
}
ATTEMPT: dict[str, Any] = {
    "attempt": 1,
    "worker_name": "gpu-1",
    "started_at": "2026-11-22T12:00:05Z",
    "ended_at": None,
    "outcome": None,
    "message": None,
}
EVENT: dict[str, Any] = {
    "id": "evt_019299aabbcc7ddd8eeeffff00003333",
    "seq": 2,
    "type": "job.status_changed",
    "created_at": "2026-11-22T12:00:05Z",
    "job_id": JOB_ID,
    "data": {"from": "queued", "to": "running", "attempt": 1},
}
LOG_CHUNK: dict[str, Any] = {
    "attempt": 1,
    "seq": 1,
    "created_at": "2026-11-22T12:00:09Z",
    "text": "reading 57600 rows of 200 series\n",
}
METRIC_SERIES: dict[str, Any] = {
    "name": "val_loss",
    "points": [{"step": 350, "epoch": 0, "value": 4.71, "attempt": 1, "created_at": "2026-11-22T12:00:40Z"}],
}
ARTIFACT: dict[str, Any] = {
    "id": "art_019299aabbcc7ddd8eeeffff00004444",
    "name": "model.ckpt",
    "media_type": "application/octet-stream",
    "size_bytes": 1_482_311,
    "sha256": SHA256,
    "attempt": 1,
    "step": 2450,
    "complete": False,
    "created_at": "2026-11-22T12:03:01Z",
    "links": {"self": f"/v1/jobs/{JOB_ID}/artifacts/model.ckpt"},
}


WEBHOOK_ID = "wh_019299aabbcc7ddd8eeeffff00006666"
DELIVERY_ID = "dlv_019299aabbcc7ddd8eeeffff00007777"
WEBHOOK_REQUEST: dict[str, Any] = {
    "url": "https://hooks.example.org/foretrain?team=edge",
    "event_types": ["job.succeeded", "job.failed", "job.cancelled"],
    "name": "on-call",
}
WEBHOOK: dict[str, Any] = WEBHOOK_REQUEST | {
    "id": WEBHOOK_ID,
    "enabled": True,
    "disabled_at": None,
    "disabled_reason": None,
    "failing_since": None,
    "attempted_at": None,
    "previous_secret_expires_at": None,
    "created_at": CREATED_AT,
    "links": {"self": f"/v1/webhooks/{WEBHOOK_ID}", "deliveries": f"/v1/webhooks/{WEBHOOK_ID}/deliveries"},
}
NEW_WEBHOOK: dict[str, Any] = WEBHOOK | {"secret": "whsec_bm90IGEgc2VjcmV0LCBhbiBleGFtcGxlIG9mIG9uZQ=="}
DELIVERY: dict[str, Any] = {
    "id": DELIVERY_ID,
    "webhook_id": WEBHOOK_ID,
    "event_id": EVENT["id"],
    "event_type": "job.succeeded",
    "job_id": JOB_ID,
    "status": "pending",
    "attempts": [
        {
            "started_at": "2026-11-22T12:04:00Z",
            "duration_seconds": 0.184,
            "outcome": "http_error",
            "response_status": 503,
            "response_excerpt": "down for maintenance",
        }
    ],
    "next_attempt_at": "2026-11-22T12:04:05Z",
    "created_at": "2026-11-22T12:03:59Z",
    "finished_at": None,
    "links": {"self": f"/v1/deliveries/{DELIVERY_ID}", "webhook": f"/v1/webhooks/{WEBHOOK_ID}"},
}
API_KEY: dict[str, Any] = {
    "id": "key_019299aabbcc7ddd8eeeffff00008888",
    "name": "grafana",
    "tenant": "acme",
    "prefix": "ft_3kTq9ZbX",
    "scopes": ["jobs:read", "datasets:read"],
    "created_at": CREATED_AT,
    "expires_at": "2027-11-22T00:00:00Z",
    "last_used_at": None,
    "revoked_at": None,
    "links": {"self": "/v1/api_keys/key_019299aabbcc7ddd8eeeffff00008888"},
}
AUDIT_EVENT: dict[str, Any] = {
    "id": "aud_019299aabbcc7ddd8eeeffff00009999",
    "created_at": CREATED_AT,
    "key_id": API_KEY["id"],
    "action": "submit_job",
    "object_id": JOB_ID,
    "outcome": "done",
    "address": "203.0.113.7",
    "request_id": "req_019299aabbcc7ddd8eeeffff00005555",
}
RESULT: dict[str, Any] = {"scored_on": "test", "targets": {"cpu_percent": {"verdict": "better"}}}
ERROR: dict[str, Any] = {
    "code": "in_use",
    "kind": "problem",
    "status": 409,
    "title": PROBLEM_CODES["in_use"].title,
    "advice": PROBLEM_CODES["in_use"].advice,
    "retryable": False,
    "fault": None,
    "also": [],
}

SERIES_VALUES: dict[str, Any] = {
    "series": "web-1",
    "column": "cpu_percent",
    "step_count": 3,
    "times": [1767225600.0, 1767225900.0, 1767226200.0],
    "values": [23.5, None, 31.25],
    "series_names": ["web-1", "web-2"],
}


DATASET_PULL = {
    "url": "http://prometheus:9090",
    "queries": {"load_average": "node_load1"},
    "start": "2026-01-01T00:00:00Z",
    "end": "2026-01-08T00:00:00Z",
    "step": "5min",
}


def _page(item: dict[str, Any]) -> dict[str, Any]:
    return {"items": [item], "next_cursor": None}


EXAMPLES: dict[str, dict[str, Any]] = {
    "cancelled_job": CANCELLED_JOB,
    "paused_job": PAUSED_JOB,
    "queued_job": QUEUED_JOB,
    "capabilities": CAPABILITIES,
    "queues": QUEUES,
    "api_key": API_KEY,
    "api_key_created": API_KEY | {"secret": "ft_3kTq9ZbX_" + "x" * 38},
    "api_key_request": {"name": "grafana", "scopes": ["jobs:read", "datasets:read"]},
    "api_keys": _page(API_KEY),
    "artifacts": _page(ARTIFACT),
    "attempts": _page(ATTEMPT),
    "audit_events": _page(AUDIT_EVENT),
    "dataset": DATASET,
    "dataset_pull": DATASET_PULL,
    "dataset_report": DATASET_REPORT,
    "datasets": _page(DATASET),
    "error": ERROR,
    "estimate": ESTIMATE,
    "events": _page(EVENT),
    "job": JOB,
    "job_change": {"revision": 2, "labels": {"env": "prod", "team": "edge"}, "priority": 10},
    "job_request": JOB_REQUEST,
    "job_retry": {"from": "checkpoint"},
    "jobs": _page(JOB),
    "liveness": {"status": "alive"},
    "log": _page(LOG_CHUNK),
    "metrics": _page(METRIC_SERIES),
    "nothing": {},
    "readiness": {"status": "ready", "database": "ok", "storage": "ok", "broker": "ok"},
    "resolved": RESOLVED,
    "result": RESULT,
    "deliveries": _page(DELIVERY),
    "delivery": DELIVERY,
    "new_webhook": NEW_WEBHOOK,
    "secret_rotation": {"overlap_seconds": 86_400},
    "webhook": WEBHOOK,
    "webhook_change": {"enabled": False},
    "webhook_request": WEBHOOK_REQUEST,
    "webhooks": _page(WEBHOOK),
    "series_values": SERIES_VALUES,
    "spec_schema": {"title": "TrainingSpec", "type": "object"},
}
