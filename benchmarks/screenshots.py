"""The README's pictures: `python -m benchmarks.screenshots`.

Starts the service, trains a synthetic fleet three times, and takes the last while it runs.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console

from benchmarks.pages import CHROMIUM, FLAGS
from core.jobs.schemas import JobCreate
from foretrain.client import Client
from foretrain.demo import running_service
from foretrain.sample_data import write_sample
from trainer.spec import TrainingSpec

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "screenshots"
DESK = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 780}
SERVERS = 24
POINTS_SHOWN = 240
_TRAIN_LOSSES = "document.querySelector('.plot')?.chart?.data?.[1]?.length ?? 0"
SHORT = TrainingSpec(
    target_metrics=["cpu_percent", "memory_percent"],
    encoder_length=72,
    horizon=12,
    hidden_size=64,
    epochs=20,
    log_every_n_steps=2,
    max_train_windows=6000,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER)
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running_service(console, folder) as (url, key), Client(url, key) as client:
            dataset_id = _upload(client, folder)
            done = [
                _train(client, dataset_id, name, SHORT.model_copy(update=changes))
                for name, changes in (("narrow-network", {"hidden_size": 16}), ("fleet-nightly", {}))
            ]
            long = SHORT.model_copy(update={"epochs": 60, "early_stopping_patience": 0})
            running = client.submit(JobCreate(dataset_id=dataset_id, name="fleet-weekly", training=long)).id
            _take_all(out, url, key, dataset_id, done, running)
            client.cancel(running)


def _upload(client: Client, folder: Path) -> str:
    table = folder / "fleet.csv"
    write_sample(table, "alibaba2018", 300, fleet=SERVERS)
    return client.await_dataset(client.upload_dataset(table, "csv", name="edge-fleet").id).id


def _train(client: Client, dataset_id: str, name: str, training: TrainingSpec) -> str:
    job = JobCreate(dataset_id=dataset_id, name=name, labels={"env": "prod"}, training=training)
    return client.wait(client.submit(job).id).id


def _take_all(out: Path, url: str, key: str, dataset_id: str, done: list[str], running: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        desk = _signed_in(browser, url, key, viewport=DESK)
        desk.goto(f"{url}/jobs/{running}")
        # Far enough for the curves to be seen.
        while desk.evaluate(_TRAIN_LOSSES) <= POINTS_SHOWN:
            desk.wait_for_timeout(500)
        _take(desk, out / "job.png")
        # Not before: a page behind another is out of sight, and asks nothing.
        dark = _signed_in(browser, url, key, viewport=DESK, color_scheme="dark")
        phone = _signed_in(browser, url, key, viewport=PHONE)
        for page, path, name in (
            (desk, "/jobs", "jobs"),
            (desk, f"/jobs/{done[1]}/result", "result"),
            (dark, f"/jobs/{done[1]}/result", "result-dark"),
            (desk, f"/jobs/new?dataset={dataset_id}", "new-job"),
            (desk, f"/jobs/compare?job={done[0]}&job={done[1]}", "compare"),
            (desk, f"/datasets/{dataset_id}", "dataset"),
            (phone, f"/jobs/{running}", "phone"),
        ):
            page.bring_to_front()
            page.goto(f"{url}{path}")
            page.wait_for_selector("main[aria-busy=false]")
            page.wait_for_timeout(2000)
            _take(page, out / f"{name}.png")
        browser.close()


def _signed_in(browser: Browser, url: str, key: str, **options: Any) -> Page:
    page = browser.new_context(**options).new_page()
    page.goto(f"{url}/login")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/jobs")
    return page


def _take(page: Page, path: Path) -> None:
    page.screenshot(path=path)


if __name__ == "__main__":
    main()
