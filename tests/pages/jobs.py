"""What people do on the pages: submit, watch, read the result, cancel, compare, download."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from playwright.sync_api import expect

from tests.pages.conftest import FILLED, Visitor, Watched, fill_in


def test_a_job_moves_on_its_page_without_reloading(watched: Watched) -> None:
    assert watched.page_loads == 0
    assert watched.shown[-1] == "3 of 3"
    assert len(watched.shown) >= 3
    assert len(watched.losses) >= 3
    assert watched.losses == sorted(watched.losses)


def test_the_ended_job_shows_its_events_files_and_what_became_of_the_spec(
    visitor: Visitor, watched: Watched
) -> None:
    page = visitor.open(watched.job_path)
    page.get_by_text("model.ckpt", exact=True).first.wait_for()
    page.get_by_text("succeeded completed").wait_for()
    expect(page.locator(".uplot canvas")).to_have_count(5)
    page.get_by_text("What was asked for, and what it became").click()
    assert page.get_by_role("row", name=re.compile("^encoder_length 12 12")).is_visible()
    visitor.keep_picture("job")


def test_the_result_stands_beside_the_naive_forecasts_with_a_plot_of_any_server(
    visitor: Visitor, watched: Watched
) -> None:
    page = visitor.open(watched.job_path)
    page.get_by_role("link", name="See the result").click()
    page.wait_for_selector(".uplot canvas")
    scores = page.get_by_role("region", name="Scores of cpu_percent")
    for row in ("This model", "Last value", "Seasonal naive"):
        assert re.search(r"\d", scores.get_by_role("row", name=row).inner_text())
    assert page.get_by_label("Server").locator("option").all_inner_texts() == ["web-0", "web-1", "web-2"]
    page.get_by_label("Server").select_option("web-2")
    page.get_by_label("Target").select_option("memory_percent")
    page.get_by_role("img", name=re.compile("memory_percent of web-2: 12 steps of history")).wait_for()
    for title in ("Coverage of the intervals", "Which inputs matter", "Attention over the history"):
        assert page.get_by_role("heading", name=title).is_visible()
    visitor.keep_picture("result")


def test_a_checkpoint_is_downloaded_whole_by_a_click(
    visitor: Visitor, watched: Watched, tmp_path: Path
) -> None:
    page = visitor.open(f"{watched.job_path}/result")
    with page.expect_download() as started:
        page.get_by_role("link", name="Download model.ckpt").click()
    started.value.save_as(tmp_path / "model.ckpt")
    listed = page.evaluate(f"fetch('/v1{watched.job_path}/artifacts').then((answer) => answer.json())")
    expected = next(one["sha256"] for one in listed["items"] if one["name"] == "model.ckpt")
    assert hashlib.sha256((tmp_path / "model.ckpt").read_bytes()).hexdigest() == expected


def test_a_running_job_is_cancelled_by_a_click_and_compared_with_another(
    visitor: Visitor, watched: Watched
) -> None:
    page = visitor.open(f"/jobs/new?like={watched.job_path.removeprefix('/jobs/')}")
    fill_in(page, FILLED | {"name": "endless", "epochs": "1000", "early_stopping_patience": "0"}, targets=[])
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url("**/jobs/job_*")
    page.get_by_role("button", name="Cancel").click()
    page.locator("h1 .badge.cancelled").wait_for()
    page.get_by_role("button", name="Retry", exact=True).wait_for()

    page = visitor.open("/jobs")
    for name in ("tiny", "endless"):
        page.get_by_role("checkbox", name=f"Compare {name}").check()
    page.get_by_role("button", name="Compare 2").click()
    page.get_by_role("row", name=re.compile("^epochs 3 1000|^epochs 1000 3")).wait_for()
    assert page.get_by_role("row", name=re.compile("^Status.*succeeded")).is_visible()
    visitor.keep_picture("compare")


def test_the_list_is_filtered_by_status_in_the_address_too(visitor: Visitor, watched: Watched) -> None:
    page = visitor.open("/jobs")
    page.get_by_role("button", name="succeeded").click()
    page.wait_for_url("**/jobs?status=succeeded")
    page.get_by_role("link", name="tiny").wait_for()
    page.get_by_role("link", name="endless").wait_for(state="detached")
    page.reload()
    page.get_by_role("link", name="tiny").wait_for()
    assert page.get_by_role("button", name="succeeded").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="failed").click()
    page.get_by_role("button", name="succeeded").click()
    page.get_by_text("No job fits the filter").wait_for()
    assert watched.job_path not in page.content()


def test_the_form_says_at_once_what_the_service_would_refuse_and_where(
    visitor: Visitor, watched: Watched
) -> None:
    page = visitor.open(f"/jobs/new?dataset={watched.dataset_path.removeprefix('/datasets/')}")
    fill_in(page, FILLED | {"encoder_length": "5000"}, targets=[])
    # The untouched form is too long for these data as well: it is the limit that is waited for.
    page.locator("#field-encoder_length-wrong").get_by_text("2048").wait_for()
    assert page.locator("#field-encoder_length[aria-invalid=true]").count() == 1
    page.locator("#field-encoder_length").fill("12")
    page.get_by_text("Effective batch", exact=True).wait_for()
    assert page.locator("[aria-invalid=true]").count() == 0


def test_a_series_of_a_dataset_is_drawn_with_the_values_of_the_file(
    visitor: Visitor, watched: Watched
) -> None:
    page = visitor.open(watched.dataset_path)
    page.wait_for_selector(".uplot canvas")
    page.get_by_label("Series", exact=True).fill("web-1")
    page.get_by_label("Column", exact=True).select_option("memory_percent")
    page.get_by_role("img", name="memory_percent of web-1 over time").wait_for()
    values = page.evaluate("document.querySelector('.plot').chart.data[1]")
    assert len(values) == 120
    assert values[0] == 66.0
    visitor.keep_picture("dataset")
