"""How long a page takes to open: `python -m benchmarks.pages`.

A list of a thousand jobs, a job with a metric of 100,000 points, and one with twenty such metrics, in
Debian's Chromium on the API as it is deployed, on SQLite; from the navigation's start until the table or the
curves are drawn. Printed as a table.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright
from sqlalchemy import insert, literal, select
from sqlalchemy.orm import Session

from benchmarks.load_rows import Populated, add_jobs, open_populated
from benchmarks.load_servers import Server, run_api
from core.jobs.lifecycle import JobStatus
from core.tables import JobMetric

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
JOBS = 1000
POINTS = 100_000
AT_ONCE = 10_000
# What the page draws, which is all it asks for, and others that a run might have.
METRICS = ["train_loss", "val_loss", "learning_rate", "windows_per_second", "grad_norm"]
METRICS += [f"other_{number}" for number in range(15)]
# Looks at each frame whether the page shows what it is for, and keeps the moment that it does.
CLOCK = """
const look = () => {
  const wanted = location.pathname === "/jobs" ? "tbody tr:nth-child(20)" : ".plot .uplot canvas";
  if (document.querySelector(wanted)) window.drawnAt = performance.now();
  else requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""

# Not wait_for_function, which evaluates a string in the page: its policy forbids that.
DRAWN_AT = """() => new Promise((tell) => {
  const look = () => (window.drawnAt === undefined ? setTimeout(look, 20) : tell(window.drawnAt));
  look();
})"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    with (
        tempfile.TemporaryDirectory() as name,
        _populated(Path(name)) as place,
        run_api(place.url, Path(name)) as server,
        _signed_in(server, place.key) as page,
    ):
        print("| page | median ms | slowest ms | server's processor ms |")
        print("|---|---|---|---|")
        paths = {f"{JOBS:,} jobs": "/jobs", f"{POINTS:,} points": f"/jobs/{place.running.job_id}"}
        paths[f"{len(METRICS)} x {POINTS:,} points"] = f"/jobs/{place.templates[JobStatus.SUCCEEDED]}"
        for title, path in paths.items():
            print(_row(title, server, page, path, rounds))


@contextmanager
def _populated(folder: Path) -> Iterator[Populated]:
    with open_populated(f"sqlite:///{folder / 'pages.db'}", folder) as place:
        add_jobs(place, JobStatus.SUCCEEDED, 1, JOBS)
        rows = [
            {
                "job_id": place.running.job_id,
                "name": "train_loss",
                "step": step,
                "attempt": place.running.attempt,
                "epoch": 1,
                "value": 1.0 / (1 + step / 1000) + (step % 97) / 1000,
            }
            for step in range(1, POINTS + 1)
        ]
        with place.db.sessions.begin() as session:
            for start in range(0, POINTS, AT_ONCE):
                session.execute(insert(JobMetric), rows[start : start + AT_ONCE])
            _copy_metrics(session, place.running.job_id, place.templates[JobStatus.SUCCEEDED])
        yield place


def _copy_metrics(session: Session, source: str, target: str) -> None:
    others = (JobMetric.step, JobMetric.attempt, JobMetric.epoch, JobMetric.value, JobMetric.created_at)
    columns = ["job_id", "name", *(column.key for column in others)]
    for name in METRICS:
        rows = select(literal(target), literal(name), *others).where(JobMetric.job_id == source)
        session.execute(insert(JobMetric).from_select(columns, rows))


@contextmanager
def _signed_in(server: Server, key: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.port}/login")
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/jobs")
        page.add_init_script(CLOCK)
        yield page
        browser.close()


def _row(title: str, server: Server, page: Page, path: str, rounds: int) -> str:
    spent = server.processor_seconds()
    times = [_open(server, page, path) for _ in range(rounds)]
    processor = (server.processor_seconds() - spent) / rounds * 1000
    return f"| {title} | {statistics.median(times):.0f} | {max(times):.0f} | {processor:.0f} |"


def _open(server: Server, page: Page, path: str) -> float:
    """Milliseconds until it is drawn."""
    page.goto(f"http://127.0.0.1:{server.port}{path}")
    drawn_at = float(page.evaluate(DRAWN_AT))
    page.goto("about:blank")
    return drawn_at


if __name__ == "__main__":
    main()
