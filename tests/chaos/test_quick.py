"""A few faults against real processes; `make chaos` injects hundreds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.chaos import programme
from tests.chaos.paces import TENFOLD
from tests.chaos.scraper import Scraper
from tests.chaos.stage import Stage, raised

pytestmark = pytest.mark.slow

SEED = 1
# What is done to a job's rows, and what the judge must say of it.
HARM = (
    ("UPDATE jobs SET status = 'failed', reason_code = 'internal' WHERE id = %s", "jobs lost"),
    ("DELETE FROM job_metrics WHERE job_id = %s AND step = 3", "jobs lost"),
    (
        """INSERT INTO job_events (job_id, seq, id, type, data, created_at)
           SELECT job_id, seq + 1, id || 'x', type, data, created_at FROM job_events
           WHERE job_id = %s AND type = 'job.succeeded'""",
        "jobs committed twice",
    ),
    ("UPDATE artifacts SET size_bytes = size_bytes + 1 WHERE job_id = %s", "partial artifacts listed"),
    ("UPDATE artifacts SET sha256 = repeat('0', 64) WHERE job_id = %s", "partial artifacts listed"),
    (
        "UPDATE job_attempts SET token = token + 1 WHERE job_id = %s",
        "writes of a run that had lost its job",
    ),
    (
        "UPDATE job_metrics SET value = value + 1 WHERE job_id = %s AND name = 'chain'",
        "writes of a run that had lost its job",
    ),
)
# An end that nobody counted.
UNCOUNTED = """
    INSERT INTO job_events (job_id, seq, id, type, data, created_at)
    SELECT job_id, seq + 1, id || 'y', 'job.cancelled', data, created_at FROM job_events
    WHERE job_id = %s AND type = 'job.succeeded'
"""


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """A deployment with two workers."""
    with raised(TENFOLD, SEED) as made:
        made.diary.says = False
        made.start(workers=2)
        yield made


def test_every_promise_is_kept_through_quick_faults(stage: Stage) -> None:
    faults = [replace(programme.BY_KIND[kind], times=1) for kind in programme.QUICK]

    with Scraper(stage.dsn, stage.api_url) as scraper:
        programme.storm(stage, faults, SEED)
        verdict = programme.rule(stage)
        scraper.settle()

    assert stage.diary.injected.total() == len(programme.QUICK)
    assert stage.diary.complaints == []
    assert not any(verdict.charges().values()), verdict.charges()
    # What was not looked at cannot be found wrong.
    assert verdict.promises >= 6
    assert verdict.downloads >= verdict.promises
    assert verdict.metric_rows > verdict.promises
    assert scraper.differences == []
    assert scraper.compared >= 6


def test_metrics_that_differ_from_the_tables_are_seen(stage: Stage) -> None:
    accepted = stage.submit(stage.draw_plan(steps=4, saving_seconds=0.0))
    assert stage.await_all(120.0)
    with Scraper(stage.dsn, stage.api_url) as scraper:
        scraper.settle()
        assert scraper.differences == []
        stage.sql(UNCOUNTED, accepted.job_id)
        try:
            scraper.settle()
        finally:
            # The judge's tests look at the same jobs.
            stage.sql("DELETE FROM job_events WHERE job_id = %s AND id LIKE '%%y'", accepted.job_id)
    assert any("cancelled" in difference for difference in scraper.differences)


def test_the_judge_sees_each_kind_of_harm(stage: Stage) -> None:
    """Each is done to a job that had come out well, so that the judge is known to look."""
    plan = stage.draw_plan(steps=4, saving_seconds=0.0)
    victims = {stage.submit(plan).job_id: done for done in HARM}
    assert stage.await_all(120.0)
    for job_id, (harm, _) in victims.items():
        stage.sql(harm, job_id)

    charges = programme.rule(stage).charges()

    for job_id, (harm, charge) in victims.items():
        assert any(job_id in case for case in charges[charge]), harm
