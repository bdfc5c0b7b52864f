"""What is managed by clicks: keys, webhooks, datasets, and a job that is paused, resumed and tried again."""

from __future__ import annotations

import re
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.launching import Service
from tests.pages.conftest import FILLED, Visitor, Watched, fill_in
from tests.processes import eventually


def test_a_key_is_made_shown_once_and_revoked(visitor: Visitor, service: Service) -> None:
    page = visitor.open("/keys")
    page.get_by_label("name").fill("grafana")
    page.get_by_label("valid for days").fill("30")
    page.get_by_role("button", name="Make a key").click()
    secret = page.locator(".secret code").inner_text()
    assert _status(service, secret, "/v1/jobs") == 200
    assert _status(service, secret, "/v1/api_keys") == 403
    row = page.get_by_role("row", name=re.compile("^grafana"))
    assert "jobs:read" in row.inner_text()

    page.reload()
    page.wait_for_selector("main[aria-busy=false]")
    assert secret not in page.content()
    row.get_by_role("button", name="Revoke grafana").click()
    page.get_by_role("button", name="Really revoke it?").click()
    row.get_by_text("revoked").wait_for()
    assert _status(service, secret, "/v1/jobs") == 401


def _status(service: Service, key: str, path: str) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.get(f"{service.url}{path}", headers=headers, timeout=30.0).status_code


def test_a_webhook_is_added_tried_switched_off_and_deleted(visitor: Visitor) -> None:
    page = visitor.open("/webhooks")
    page.get_by_text("No webhooks yet").wait_for()
    # A name that no resolver knows: what becomes of the delivery is seen without a network.
    page.get_by_label("url").fill("https://hooks.invalid/foretrain")
    page.get_by_label("name").fill("pager")
    page.get_by_role("button", name="Add a webhook").click()
    assert page.locator(".secret code").inner_text().startswith("whsec_")
    row = page.get_by_role("row", name=re.compile("^pager"))
    row.get_by_role("button", name="Test").click()
    page.get_by_text("A test event is on its way.").wait_for()

    def is_shown() -> bool:
        row.get_by_role("button", name="Deliveries").click()
        page.wait_for_timeout(300)
        return "unreachable" in page.get_by_role("region", name="Deliveries").inner_text()

    assert eventually(is_shown, 30.0)
    visitor.keep_picture("webhooks")
    row.get_by_role("button", name="Switch off").click()
    row.get_by_role("button", name="Switch on").wait_for()
    row.get_by_role("button", name="Delete pager").click()
    page.get_by_role("button", name="Really delete it?").click()
    page.get_by_text("No webhooks yet").wait_for()


def test_a_webhook_into_the_machine_itself_is_refused_in_words(visitor: Visitor) -> None:
    page = visitor.open("/webhooks")
    page.get_by_label("url").fill("http://127.0.0.1:9/")
    page.get_by_role("button", name="Add a webhook").click()
    refusal = page.get_by_role("alert")
    refusal.wait_for()
    assert "/url" in refusal.inner_text()


@pytest.mark.usefixtures("watched")  # its dataset stays
def test_a_dataset_is_deleted_after_a_second_click_and_is_gone(visitor: Visitor, tmp_path: Path) -> None:
    table = tmp_path / "short.csv"
    rows = [f"2026-01-01T{hour:02}:00:00Z,web-0,{hour}" for hour in range(24)]
    table.write_text("\n".join(["timestamp,server,cpu_percent", *rows]))
    page = visitor.open("/datasets")
    page.get_by_label("file").set_input_files(table)
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url("**/datasets/ds_*")
    page.get_by_role("button", name=re.compile("^Delete")).click()
    page.get_by_role("button", name="Really delete it?").click()
    page.wait_for_url("**/datasets")
    page.get_by_role("link", name="tiny", exact=True).wait_for()
    expect(page.get_by_role("link", name="short", exact=True)).to_have_count(0)


def test_a_running_job_is_paused_resumed_cancelled_and_tried_again(
    visitor: Visitor, watched: Watched
) -> None:
    page = visitor.open(f"/jobs/new?like={watched.job_path.removeprefix('/jobs/')}")
    fill_in(page, FILLED | {"name": "on-and-off", "epochs": "1000", "early_stopping_patience": "0"}, [])
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url("**/jobs/job_*")
    _await_steps(page)
    page.get_by_role("button", name="Pause").click()
    page.locator("h1 .badge.paused").wait_for()
    page.get_by_role("button", name="Resume").click()
    page.locator("h1 .badge.running").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.locator("h1 .badge.cancelled").wait_for()
    page.get_by_role("button", name="Retry from the checkpoint").click()
    page.locator("h1 .badge.running").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.locator("h1 .badge.cancelled").wait_for()
    attempts = page.get_by_role("region", name="Attempts").get_by_role("row")
    expect(attempts).to_have_count(4)
    expect(page.get_by_role("region", name="Events")).to_contain_text("paused")
    visitor.keep_picture("attempts")


def _await_steps(page: Page) -> None:
    page.locator("h1 .badge.running").wait_for()
    # Not `wait_for_function`: it evaluates text, which the pages' own policy forbids.
    page.locator(".tile .value").filter(has_text=re.compile(r"^[1-9]\d* of")).first.wait_for()
