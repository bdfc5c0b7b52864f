"""Every code a problem can carry, with its status, title and cure. Served at /v1/errors/{code}."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProblemCode:
    status: int
    title: str
    advice: str
    retryable: bool = False


# Refusals of `core.errors`, by their codes. Its other codes are not for customers: they read as `internal`.
SERVICE_CODES = {
    "not_found": ProblemCode(
        404,
        "Not found",
        "Check the id, and that the API key belongs to the tenant that made it.",
    ),
    "artifact_not_found": ProblemCode(
        404,
        "Artifact not found",
        "GET /v1/jobs/{id}/artifacts lists what this job has stored so far; most files appear when it ends.",
    ),
    "conflict": ProblemCode(409, "Conflict", "Read the thing again: its state has changed."),
    "invalid_transition": ProblemCode(
        409, "Not possible in this status", "`allowed` lists the verbs that fit the job's status."
    ),
    "stale_revision": ProblemCode(
        412, "Job has changed meanwhile", "GET the job again and send the `revision` that it has now."
    ),
    "in_use": ProblemCode(409, "In use", "A job needs it. Cancel the job or wait for its end."),
    "secret_shown_once": ProblemCode(
        409,
        "Secret was shown once",
        "The first request with this Idempotency-Key made the key named in `detail`. If its answer was lost, "
        "revoke that key and make another with a new Idempotency-Key.",
    ),
    "dataset_not_ready": ProblemCode(
        409,
        "Dataset is not ready",
        "Poll GET /v1/datasets/{id} until it is `ready`; if it is `rejected`, upload a mended file.",
        retryable=True,
    ),
    "invalid_request": ProblemCode(
        422,
        "Request is invalid",
        "`errors` says what is wrong and where.",
    ),
    "invalid_spec": ProblemCode(
        422,
        "Training spec does not fit the dataset",
        "`errors` points at each field; GET /v1/datasets/{id} shows the columns there are.",
    ),
    "invalid_dataset": ProblemCode(
        422,
        "Dataset is unusable",
        "`errors` names column and row. Mend the file, or say in `mapping` how to read it.",
    ),
    "idempotency_mismatch": ProblemCode(
        422,
        "Idempotency-Key was used for another request",
        "Use a new key for a new request; a repeated request must be the same byte for byte.",
    ),
    "unauthenticated": ProblemCode(
        401,
        "No valid API key",
        "Send `Authorization: Bearer <key>`. `foretrain keys create` makes a key.",
    ),
    "forbidden": ProblemCode(403, "Key may not do this", "Use a key that has the scope named in `detail`."),
    "too_large": ProblemCode(413, "Too large", "Send less: fewer rows, fewer columns, or a compressed file."),
    "unsupported_media_type": ProblemCode(
        415,
        "Media type is not accepted",
        "A dataset is the file itself, in one of the formats that `?format=` takes; the rest is JSON.",
    ),
    "not_supported": ProblemCode(
        422, "Not supported yet", "The field, value or format is planned but not built. Leave it out."
    ),
    "source_not_allowed": ProblemCode(
        422,
        "Source is not allowed",
        "Ask the operator to add it to FORETRAIN_PULL_URLS, and its network to FORETRAIN_PULL_NETWORKS.",
    ),
    "source_failed": ProblemCode(
        502,
        "Source did not answer",
        "Nothing was changed. Check the server, or pull a shorter range or a coarser step.",
        retryable=True,
    ),
    "quota_exceeded": ProblemCode(
        429,
        "Quota is used up",
        "`detail` says which: wait for jobs to end, or delete what is not needed.",
        retryable=True,
    ),
    "storage_unavailable": ProblemCode(
        503,
        "Object storage does not answer",
        "Nothing was changed. Try again after Retry-After.",
        retryable=True,
    ),
}

# Refusals that only HTTP knows.
HTTP_CODES = {
    "invalid_json": ProblemCode(
        400,
        "Body is not acceptable JSON",
        "Send one JSON object in UTF-8, each name once, no NaN.",
    ),
    "incomplete_body": ProblemCode(
        400, "Body ended early", "The transfer broke off. Send the whole body again.", retryable=True
    ),
    "bad_request": ProblemCode(400, "Bad request", "The request breaks HTTP's own rules; `detail` says how."),
    "unknown_path": ProblemCode(404, "No such path", "GET /openapi.json lists every path."),
    "method_not_allowed": ProblemCode(405, "Method is not allowed", "The Allow header lists the methods."),
    "body_timeout": ProblemCode(
        408, "Body came too slowly", "Send it again over a steadier connection.", retryable=True
    ),
    "range_not_satisfiable": ProblemCode(
        416, "Range lies outside the file", "Content-Range gives the file's size; ask for bytes within it."
    ),
    "rate_limited": ProblemCode(
        429,
        "Too many requests",
        "Wait for Retry-After. `RateLimit-Policy` names the limit, `RateLimit` what is left of it.",
        retryable=True,
    ),
    "internal": ProblemCode(
        500,
        "Something broke on our side",
        "It has been logged under `request_id`. Try again; if it stays, report that id.",
        retryable=True,
    ),
    "database_unavailable": ProblemCode(
        503, "Database does not answer", "Nothing was changed. Try again after Retry-After.", retryable=True
    ),
    "not_ready": ProblemCode(503, "Cannot serve now", "`errors` says what is missing.", retryable=True),
    "too_many_waiting": ProblemCode(
        503,
        "Too many wait for news",
        "Ask without `Prefer: wait`, and again after Retry-After.",
        retryable=True,
    ),
    "overloaded": ProblemCode(
        503, "Too many transfers at once", "Try again after Retry-After.", retryable=True
    ),
}

PROBLEM_CODES = SERVICE_CODES | HTTP_CODES
