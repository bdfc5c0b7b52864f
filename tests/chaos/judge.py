"""Counts what became of every promise. Imports nothing of ours: plain SQL, HTTP, S3 and digests.

What it knows of the service is its tables' and its API's names; what it knows of the scripted training is the
chain of digests, which it computes anew.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property

import boto3
import httpx2
import psycopg

ENDS = {"job.succeeded", "job.failed", "job.cancelled"}
EXAMPLES = 3


@dataclass
class Promise:
    """A job that was answered with 201; `ends` are the ways it may come out.

    `steps`: how many a successful one has made, 0 where that depends on what happens to it. `seed` None: not
    a scripted training, its content is not looked into. `key`: of its owner, where that is another tenant.
    """

    job_id: str
    seed: int | None
    steps: int
    ends: set[str] = field(default_factory=lambda: {"succeeded"})
    key: str | None = None


@dataclass(frozen=True)
class Place:
    """Where to look. `dsn` is libpq's; objects lie in `bucket` below `prefix`."""

    dsn: str
    api_url: str
    key: str
    s3_endpoint: str
    s3_key_id: str
    s3_secret: str
    bucket: str
    prefix: str


@dataclass
class Verdict:
    """Every list is empty where all promises were kept; each entry says what is wrong where."""

    promises: int
    ends: Counter[str]
    artifacts: int = 0
    downloads: int = 0
    metric_rows: int = 0
    orphan_objects: int = 0
    lost: list[str] = field(default_factory=list)
    committed_twice: list[str] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    unasked: list[str] = field(default_factory=list)

    def charges(self) -> dict[str, list[str]]:
        return {
            "jobs lost": self.lost,
            "jobs committed twice": self.committed_twice,
            "partial artifacts listed": self.partial,
            "writes of a run that had lost its job": self.stale,
            "jobs nobody was promised": self.unasked,
        }

    def is_clean(self) -> bool:
        return not any(self.charges().values())

    def lines(self) -> Iterator[str]:
        ends = ", ".join(f"{count} {end}" for end, count in sorted(self.ends.items()))
        yield f"{self.promises} jobs accepted: {ends}"
        yield (
            f"{self.artifacts} artifact rows checked against the storage, {self.downloads} downloads against "
            f"their sha256, {self.metric_rows} metrics against their chain; {self.orphan_objects} objects "
            "that no row names"
        )
        for charge, cases in self.charges().items():
            yield f"{charge}: {len(cases)}"
            yield from (f"    {case}" for case in cases[:EXAMPLES])


class Judge:
    """One look at everything, taken when nothing changes any more."""

    def __init__(
        self, place: Place, promises: Mapping[str, Promise], damaged: AbstractSet[str] = frozenset()
    ) -> None:
        """`damaged` are the storage keys that were spoilt on purpose."""
        self._place = place
        self._promises = promises
        self._damaged = damaged
        with psycopg.connect(place.dsn) as connection:
            query = connection.execute
            jobs = query("SELECT id, status, reason_code FROM jobs").fetchall()
            events = query("SELECT job_id, type FROM job_events ORDER BY job_id, seq").fetchall()
            attempts = query("SELECT job_id, attempt, token, outcome FROM job_attempts").fetchall()
            self._artifacts = query(
                "SELECT job_id, attempt, name, storage_key, size_bytes, sha256, complete FROM artifacts"
            ).fetchall()
            self._metrics = query("SELECT job_id, attempt, name, step, value FROM job_metrics").fetchall()
        self._ends = {
            job_id: f"{status} {code}" if status == "failed" else status for job_id, status, code in jobs
        }
        self._events: dict[str, list[str]] = defaultdict(list)
        for job_id, kind in events:
            self._events[job_id].append(kind)
        self._tokens = {(job_id, attempt): token for job_id, attempt, token, _ in attempts}
        self._outcomes = {(job_id, attempt): outcome for job_id, attempt, _, outcome in attempts}
        self._verdict = Verdict(
            len(promises), Counter(self._ends[one] for one in promises if one in self._ends)
        )

    def rule(self) -> Verdict:
        for promise in self._promises.values():
            self._judge_end(promise)
            self._judge_commit(promise.job_id)
        for job_id in self._ends.keys() - self._promises.keys():
            self._verdict.unasked.append(job_id)
        self._judge_artifacts()
        self._judge_metrics()
        with httpx2.Client(base_url=self._place.api_url, timeout=60.0) as client:
            for promise in self._promises.values():
                client.headers["Authorization"] = f"Bearer {promise.key or self._place.key}"
                self._judge_downloads(client, promise.job_id)
        return self._verdict

    def _judge_end(self, promise: Promise) -> None:
        end = self._ends.get(promise.job_id, "not there")
        if end not in promise.ends:
            events = " ".join(kind.removeprefix("job.") for kind in self._events[promise.job_id][-12:])
            self._verdict.lost.append(f"{promise.job_id} is {end}: … {events}")

    def _judge_commit(self, job_id: str) -> None:
        events = self._events[job_id]
        ends = [kind for kind in events if kind in ENDS]
        if len(ends) > 1:
            self._verdict.committed_twice.append(f"{job_id}: {' '.join(ends)}")
        elif ends and events[-1] not in ENDS:
            self._verdict.committed_twice.append(f"{job_id}: {events[-1]} after {ends[0]}")
        wins = [key for key, outcome in self._outcomes.items() if key[0] == job_id and outcome == "succeeded"]
        manifests = [
            row for row in self._artifacts if row[0] == job_id and row[2] == "result.json" and row[6]
        ]
        if len(wins) > 1 or len(manifests) > 1:
            self._verdict.committed_twice.append(
                f"{job_id}: {len(wins)} runs succeeded, {len(manifests)} results are complete"
            )

    def _judge_artifacts(self) -> None:
        named = set()
        for job_id, attempt, name, key, size_bytes, sha256, _ in self._artifacts:
            self._verdict.artifacts += 1
            named.add(key)
            if key in self._damaged:
                continue
            where = f"{job_id} attempt {attempt} {name}"
            content = self._objects.get(key)
            if content is None:
                self._verdict.partial.append(f"{where}: no object")
            elif (len(content), hashlib.sha256(content).hexdigest()) != (size_bytes, sha256):
                self._verdict.partial.append(f"{where}: {len(content)} bytes, {size_bytes} listed")
            elif self._is_scripted(job_id):
                self._judge_content(where, job_id, attempt, content)
        self._verdict.orphan_objects = len(
            [key for key in self._objects if key not in named and "/jobs/" in key]
        )

    def _judge_content(self, where: str, job_id: str, attempt: int, content: bytes) -> None:
        facts = json.loads(content.split(b"\n", 1)[0])
        token = self._tokens[job_id, attempt]
        if facts["token"] != token:
            self._verdict.stale.append(
                f"{where}: written by the run with token {facts['token']}, not {token}"
            )
        chain = self._chain(self._promises[job_id], facts["step"])
        if facts["state"] != chain[facts["step"]].hex():
            self._verdict.stale.append(f"{where}: its state is not that of step {facts['step']}")

    def _judge_metrics(self) -> None:
        steps: dict[str, set[int]] = defaultdict(set)
        for job_id, attempt, name, step, value in self._metrics:
            if not self._is_scripted(job_id):
                continue
            self._verdict.metric_rows += 1
            where = f"{job_id} attempt {attempt} step {step}"
            if name == "token" and value != self._tokens[job_id, attempt]:
                self._verdict.stale.append(f"{where}: reported by the run with token {value:.0f}")
            if name == "chain":
                steps[job_id].add(step)
                state = self._chain(self._promises[job_id], step)[step]
                if value != int.from_bytes(state[:6], "big"):
                    self._verdict.stale.append(f"{where}: not what that step computes")
        for promise in self._promises.values():
            if self._ends.get(promise.job_id) == "succeeded" and promise.steps and promise.seed is not None:
                missing = set(range(1, promise.steps + 1)) - steps[promise.job_id]
                if missing:
                    self._verdict.lost.append(f"{promise.job_id}: no metrics of steps {sorted(missing)}")

    def _judge_downloads(self, client: httpx2.Client, job_id: str) -> None:
        job = client.get(f"/v1/jobs/{job_id}")
        if job.status_code != 200:
            self._verdict.lost.append(f"{job_id}: GET answers {job.status_code}")
            return
        told = job.json()
        if told["status"] != self._ends[job_id].split()[0]:
            self._verdict.lost.append(
                f"{job_id}: {told['status']} over HTTP, {self._ends[job_id]} in its row"
            )
        for item in client.get(f"/v1/jobs/{job_id}/artifacts").json()["items"]:
            if self._is_damaged(job_id, item["attempt"], item["name"]):
                continue
            self._verdict.downloads += 1
            body = _download(client, f"/v1/jobs/{job_id}/artifacts/{item['name']}")
            if (len(body), hashlib.sha256(body).hexdigest()) != (item["size_bytes"], item["sha256"]):
                self._verdict.partial.append(f"{job_id} {item['name']}: its download is not what is listed")

    def _is_damaged(self, job_id: str, attempt: int, name: str) -> bool:
        return any(
            row[3] in self._damaged and (row[0], row[1], row[2]) == (job_id, attempt, name)
            for row in self._artifacts
        )

    def _is_scripted(self, job_id: str) -> bool:
        return job_id in self._promises and self._promises[job_id].seed is not None

    def _chain(self, promise: Promise, step: int) -> list[bytes]:
        """States up to this step."""
        chain = self._chains.setdefault(
            promise.job_id, [hashlib.sha256(f"seed {promise.seed}".encode()).digest()]
        )
        while len(chain) <= step:
            chain.append(hashlib.sha256(chain[-1] + len(chain).to_bytes(8, "big")).digest())
        return chain

    @cached_property
    def _chains(self) -> dict[str, list[bytes]]:
        return {}

    @cached_property
    def _objects(self) -> dict[str, bytes]:
        """Everything in the bucket, by key without the prefix."""
        place = self._place
        with closing(
            boto3.client(
                "s3",
                endpoint_url=place.s3_endpoint,
                region_name="us-east-1",
                aws_access_key_id=place.s3_key_id,
                aws_secret_access_key=place.s3_secret,
            )
        ) as s3:
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=place.bucket, Prefix=place.prefix)
            keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
            return {
                key.removeprefix(f"{place.prefix}/"): s3.get_object(Bucket=place.bucket, Key=key)[
                    "Body"
                ].read()
                for key in keys
            }


def _download(client: httpx2.Client, path: str) -> bytes:
    """What comes, which is nothing where the answer breaks off."""
    try:
        return client.get(path).content
    except httpx2.HTTPError:
        return b""
