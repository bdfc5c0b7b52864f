"""Real Chromium on a real `foretrain up`: what a page asks for and what it complains about is watched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from core.jobs.schemas import JobCreate
from foretrain.client import Client
from tests.e2e.conftest import write_tiny_csv
from tests.launching import Launcher, Service
from trainer.spec import TrainingSpec

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
# The browser's own errands would be refused, many at a time, where there is no network.
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
PATIENCE_MS = 60_000
SCREENSHOTS = Path(__file__).parents[2] / "build" / "pages"
# What the form is filled with: a training of some seconds.
FILLED = {
    "encoder_length": "12",
    "horizon": "4",
    "epochs": "3",
    "batch_size": "1",
    "log_every_n_steps": "1",
    "hidden_size": "8",
    "hidden_continuous_size": "4",
    "attention_head_size": "2",
    "max_train_windows": "256",
}


expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Visitor:
    """Somebody at a browser, signed in, and all that went wrong on the way."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._watch)

    def _hear(self, message: ConsoleMessage) -> None:
        # A refusal that the page asked for, to show it in the form, is no fault of the page.
        is_refusal = "responded with a status of 422" in message.text
        if message.type in {"error", "warning"} and not is_refusal:
            self.complaints.append(f"{message.text} ({message.location.get('url')})")

    def forgive(self, *statuses: int) -> None:
        """Drops what the browser by itself says of answers that the test has asked for."""
        expected = tuple(f"status of {status}" for status in statuses)
        self.complaints[:] = [one for one in self.complaints if not any(part in one for part in expected)]

    def _watch(self, request: Request) -> None:
        if urlsplit(request.url).netloc not in {urlsplit(self.url).netloc, ""}:
            self.strangers.append(request.url)

    def sign_in(self, key: str) -> None:
        self.page.goto(f"{self.url}/login")
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url("**/jobs")

    def open(self, path: str) -> Page:
        """The page, once its script has drawn it."""
        self.page.goto(f"{self.url}{path}")
        self.page.wait_for_selector("main[aria-busy=false]")
        return self.page

    def keep_picture(self, name: str) -> None:
        """An artifact of the test."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The whole service, empty."""
    with ExitStack() as stack:
        yield Launcher(stack).start(tmp_path_factory.mktemp("service") / "data")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def visit(browser: Browser, url: str, **context_options: Any) -> Iterator[Visitor]:
    """Somebody not signed in. Fails for any complaint on the console and any request to another host."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | context_options)
    visitor = Visitor(context.new_page(), url)
    yield visitor
    context.close()
    assert visitor.complaints == []
    assert visitor.strangers == []


@pytest.fixture
def stranger(browser: Browser, service: Service) -> Iterator[Visitor]:
    """Not signed in."""
    with visit(browser, service.url) as visitor:
        yield visitor


@pytest.fixture
def visitor(stranger: Visitor, service: Service) -> Visitor:
    """Signed in with the first key."""
    stranger.sign_in(service.key)
    return stranger


@dataclass
class Watched:
    """A job that was submitted through the form, and what its page showed without being loaded again."""

    dataset_path: str
    job_path: str
    shown: list[str]  # the epoch's tile, each time that it changed
    losses: list[int]  # points of the training curve, likewise
    page_loads: int
    rival_path: str  # another job on the same data, to compare with


@pytest.fixture(scope="session")
def watched(browser: Browser, service: Service, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """Upload a file, fill in the form, watch the job to its end: all by clicks."""
    table = write_tiny_csv(tmp_path_factory.mktemp("data") / "tiny.csv")
    with visit(browser, service.url) as visitor:
        visitor.sign_in(service.key)
        page = visitor.open("/datasets")
        page.get_by_label("file").set_input_files(table)
        page.get_by_role("button", name="Upload").click()
        page.wait_for_url("**/datasets/ds_*")
        dataset_path = urlsplit(page.url).path
        page.get_by_role("link", name="Train on it").click()
        page.wait_for_url("**/jobs/new?*")
        fill_in(page, FILLED | {"name": "tiny"}, targets=["cpu_percent", "memory_percent"])
        page.get_by_role("button", name="Start training").click()
        page.wait_for_url("**/jobs/job_*")
        loads: list[str] = []
        page.on("load", lambda _: loads.append(page.url))
        shown, losses = _watch(page)
        job_path = urlsplit(page.url).path
    rival_path = _train_like(service, job_path, {"epochs": 2, "hidden_size": 16})
    return Watched(dataset_path, job_path, shown, losses, len(loads), rival_path)


def _train_like(service: Service, job_path: str, changes: dict[str, int]) -> str:
    """A job with that one's data and training, but for the changes, once it has succeeded."""
    with Client(service.url, service.key) as client:
        first = client.get_job(job_path.removeprefix("/jobs/"))
        training = TrainingSpec.model_validate(first.model_dump()["spec"] | changes)
        rival = client.submit(JobCreate(dataset_id=first.dataset_id, name="rival", training=training))
        assert client.wait(rival.id).status == "succeeded"
        return f"/jobs/{rival.id}"


def fill_in(page: Page, fields: dict[str, str], targets: list[str]) -> None:
    """The form for a new job."""
    page.wait_for_selector("#new-job")
    page.evaluate("document.querySelectorAll('#new-job details').forEach((one) => { one.open = true; })")
    for name, value in fields.items():
        page.locator(f"#field-{name}, #{name}").first.fill(value)
    for target in targets:
        page.get_by_role("checkbox", name=target, exact=True).check()


def _watch(page: Page) -> tuple[list[str], list[int]]:
    """What changes while one looks on, until the job has ended."""
    shown: list[str] = []
    losses: list[int] = []
    page.wait_for_selector("main[aria-busy=false] .tile")
    while True:
        epoch = page.locator(".tile .value").first.inner_text()
        if not shown or shown[-1] != epoch:
            shown.append(epoch)
        points = page.evaluate(_TRAIN_LOSS_POINTS)
        if not losses or losses[-1] != points:
            losses.append(points)
        status = page.locator("h1 .badge").inner_text()
        if status in {"succeeded", "failed", "cancelled"}:
            return shown, losses
        page.wait_for_timeout(200)


_TRAIN_LOSS_POINTS = """() => {
  const chart = document.querySelector(".plot")?.chart;
  return chart?.data?.[1]?.filter((one) => one !== null).length ?? 0;
}"""
