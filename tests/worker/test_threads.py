from __future__ import annotations

import structlog

from worker.threads import attempt_thread


def test_two_threads_of_an_attempt_log_under_its_name() -> None:
    seen: list[dict[str, object]] = []
    with structlog.contextvars.bound_contextvars(job_id="job_1", attempt=2):
        threads = [
            attempt_thread(name, lambda: seen.append(structlog.contextvars.get_contextvars()))
            for name in ("one", "two")
        ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == [{"job_id": "job_1", "attempt": 2}] * 2
