"""Loaded by Schemathesis: gives generated requests things that exist, explains refusals, and counts answers.

A schema cannot say which ids there are, what a file looks like inside, or which revision a job is at. Where
a request is valid by the schema, some of these are filled in from what the tenant has.
"""

from __future__ import annotations

import atexit
import json
import os
import random
import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.meta import TestPhase

from api.problem_codes import PROBLEM_CODES
from api.problems import MEDIA_TYPE

ORDERS = json.loads(Path(os.environ["FORETRAIN_FUZZ_ORDERS"]).read_text())
IDS: dict[str, list[str]] = ORDERS["ids"]
HEADERS = {"Authorization": f"Bearer {ORDERS['key']}"}
# The rest of the requests stays as it was generated.
SHARE = 0.85
MOST_WEBHOOKS = 12
# The document's example of a range lies beyond the files there are here.
FAR, NEAR = "bytes=1048576-", "bytes=10-"
_REAL = re.compile(r"(job|ds|wh|dlv|key)_(?!019299aabbcc)[0-9a-f]{32}")
_CREATES = {"submit_job": "job_id", "upload_dataset": "dataset_id", "pull_dataset": "dataset_id"}
_CREATES |= {"create_webhook": "webhook_id", "test_webhook": "delivery_id", "create_api_key": "key_id"}
_DELETES = {"delete_job": "job_id", "delete_dataset": "dataset_id", "delete_webhook": "webhook_id"}
OF_FINISHED = {"download_artifact", "head_artifact", "get_result"}
# Refusals of a whole request, which has no one place that is wrong.
_OF_THE_WHOLE = {"idempotency_mismatch", "source_not_allowed"}

_draw = random.Random(ORDERS["seed"])  # noqa: S311 - a choice of test data
_counts: defaultdict[str, Counter[int]] = defaultdict(Counter)


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]
) -> None:
    """Puts what exists in the place of what was made up, most of the time."""
    del context, kwargs
    operation = _name(case)
    if _is_positive(case, ParameterLocation.PATH):
        _name_things(case, operation)
    if _is_positive(case, ParameterLocation.HEADER) and case.headers.get("Range") == FAR:
        case.headers["Range"] = NEAR
    if operation == "read_dataset_values" and _is_positive(case, ParameterLocation.QUERY):
        _leave_to_the_service(case, "series", "column")
    if operation == "upload_dataset" and _is_positive(case, ParameterLocation.QUERY):
        _say_one_format(case)
    if not _is_positive(case, ParameterLocation.BODY) or _draw.random() > SHARE:
        return
    if operation in {"submit_job", "estimate_job"}:
        case.body = _with(case, dataset_id=_any("ready_dataset_id"), training=_some_training(case))
    elif operation == "change_job":
        case.body = _with(case, revision=_revision(case.path_parameters["job_id"]))
    elif operation == "pull_dataset":
        case.body = _pull()
    elif operation == "create_webhook":
        _make_room()
        case.body = _with(case, url=f"https://hooks.example.org/{_draw.randrange(100)}")


@schemathesis.hook
def after_call(
    context: schemathesis.HookContext, case: schemathesis.Case[Any], response: schemathesis.Response
) -> None:
    """Counts, and remembers what there is now."""
    del context
    operation = _name(case)
    _counts[operation][response.status_code] += 1
    if response.status_code in {201, 202} and operation in _CREATES:
        IDS[_CREATES[operation]].append(response.json()["id"])
    elif response.status_code == 204 and operation in _DELETES:
        _forget(_DELETES[operation], case.path_parameters[_DELETES[operation]])


@schemathesis.check
def explained_refusals(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> bool | None:
    """Each problem has a documented code with its status, and each 422 says where it is wrong."""
    del ctx, case
    if (
        response.status_code < 400
        or not response.content
        or MEDIA_TYPE not in response.headers.get("content-type", [""])[0]
    ):
        return None
    problem = response.json()
    known = PROBLEM_CODES.get(problem["code"])
    assert known is not None, f"the code {problem['code']} is not documented"
    assert known.status == response.status_code == problem["status"], problem
    if response.status_code == 422 and problem["code"] not in _OF_THE_WHOLE:
        places = problem.get("errors") or []
        assert places, f"a 422 without errors: {problem}"
        for place in places:
            assert place["code"], place
            assert any(place.get(name) is not None for name in ("pointer", "column", "row")), problem
    return None


def _name(case: schemathesis.Case[Any]) -> str:
    return str(case.operation.definition.raw.get("operationId"))


def _is_positive(case: schemathesis.Case[Any], location: ParameterLocation) -> bool:
    component = None if case.meta is None else case.meta.components.get(location)
    return component is None or component.mode.is_positive


def _name_things(case: schemathesis.Case[Any], operation: str) -> None:
    for name, value in (case.path_parameters or {}).items():
        is_linked = _is_in_a_sequence(case) and _REAL.fullmatch(str(value)) is not None
        if not is_linked and _draw.random() < SHARE:
            case.path_parameters[name] = _thing(name, operation) or value


def _is_in_a_sequence(case: schemathesis.Case[Any]) -> bool:
    return case.meta is not None and case.meta.phase.name is TestPhase.STATEFUL


def _thing(name: str, operation: str) -> str | None:
    if operation == "delete_webhook":
        return _new_webhook()
    if operation == "test_webhook":
        return _switched_on(_any("webhook_id"))
    if operation == "read_dataset_values":
        return _any("stored_dataset_id")
    if name == "job_id" and (
        operation in OF_FINISHED or (operation != "delete_job" and _draw.random() < 0.3)
    ):
        return _any("finished_job_id")
    return _any(name) if IDS.get(name) else None


def _say_one_format(case: schemathesis.Case[Any]) -> None:
    # That the two ways to name it must agree, and what is a table, no schema can say.
    case.query = {name: value for name, value in case.query.items() if name not in {"format", "mapping"}}
    if case.media_type == "application/octet-stream":
        case.query["format"] = "csv"


def _leave_to_the_service(case: schemathesis.Case[Any], *names: str) -> None:
    if _draw.random() < SHARE:
        case.query = {name: value for name, value in case.query.items() if name not in names}


def _any(name: str) -> str:
    return _draw.choice(IDS[name])


def _forget(name: str, gone: str) -> None:
    IDS[name] = [known for known in IDS[name] if known != gone]


def _with(case: schemathesis.Case[Any], **fields: Any) -> dict[str, Any]:
    return {**(case.body if isinstance(case.body, dict) else {}), **fields}


def _some_training(case: schemathesis.Case[Any]) -> dict[str, Any]:
    training = _with(case).get("training")
    if not isinstance(training, dict) or _draw.random() < 0.5:
        return {}
    return {**dict(list(training.items())[:3]), "target_metrics": ["cpu_percent"]}


def _revision(job_id: str) -> int:
    found = requests.get(f"{ORDERS['url']}/v1/jobs/{job_id}", headers=HEADERS, timeout=10)
    return int(found.json()["revision"]) if found.status_code == 200 else 1


def _table(shift: int) -> bytes:
    rows = ["timestamp,server,cpu_percent,memory_percent"]
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for step in range(60):
        stamp = (start + timedelta(minutes=5 * step)).isoformat()
        rows.append(f"{stamp},web-1,{(step * 7 + shift) % 97}.5,{shift % 89}.{step}")
    return "\n".join(rows).encode()


def _pull() -> dict[str, Any]:
    start = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=_draw.randrange(100_000))
    return {
        "url": ORDERS["prometheus_url"],
        "queries": {"cpu_percent": "rate(node_cpu_seconds_total[5m])"},
        "start": start.isoformat(),
        "end": (start + timedelta(hours=_draw.randrange(5, 30))).isoformat(),
        "step": "5min",
    }


def _new_webhook() -> str:
    asked = {"url": "https://hooks.example.org/short-lived"}
    made = requests.post(f"{ORDERS['url']}/v1/webhooks", json=asked, headers=HEADERS, timeout=10)
    return str(made.json()["id"])


def _switched_on(webhook_id: str) -> str:
    # Changes that were made up have switched most of them off, and one that is off takes no test.
    url = f"{ORDERS['url']}/v1/webhooks/{webhook_id}"
    requests.patch(url, json={"enabled": True}, headers=HEADERS, timeout=10)
    return webhook_id


def _make_room() -> None:
    # Each webhook takes a copy of each event. Those of the start stay: they have deliveries.
    while len(IDS["webhook_id"]) > MOST_WEBHOOKS:
        oldest = IDS["webhook_id"].pop(MOST_WEBHOOKS // 2)
        requests.delete(f"{ORDERS['url']}/v1/webhooks/{oldest}", headers=HEADERS, timeout=10)


# Files of the document's media types are made up as any bytes; some of them are tables.
schemathesis.openapi.media_type(
    "text/csv",
    st.one_of(st.integers(0, 2**40).map(_table), st.binary(max_size=200)),
    aliases=["application/octet-stream"],
)


@atexit.register
def _report() -> None:
    counts = {name: {str(status): times for status, times in by.items()} for name, by in _counts.items()}
    Path(ORDERS["counts_path"]).write_text(json.dumps(counts))
