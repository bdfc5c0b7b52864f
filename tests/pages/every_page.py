"""What holds of every page: no barrier, no sideways scrolling on a phone, keyboard, light and dark, speed."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tests.launching import Service
from tests.pages.conftest import Visitor, Watched, visit

SERIOUS = {"serious", "critical"}
PHONE = {"width": 390, "height": 844}


def paths(watched: Watched) -> dict[str, str]:
    """All of them, by a name for the picture."""
    job = watched.job_path.removeprefix("/jobs/")
    return {
        "jobs": "/jobs",
        "new_job": "/jobs/new",
        "job": watched.job_path,
        "result": f"{watched.job_path}/result",
        "compare": f"/jobs/compare?job={job}&job={job}",
        "datasets": "/datasets",
        "dataset": watched.dataset_path,
        "keys": "/keys",
        "webhooks": "/webhooks",
        "no_job": "/jobs/job_" + "0" * 32,
        "no_dataset": "/datasets/ds_" + "0" * 32,
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, service: Service, watched: Watched, scheme: str) -> None:
    with visit(browser, service.url, color_scheme=scheme) as visitor:
        visitor.page.goto(f"{service.url}/login")
        found = {"login": _serious(visitor)}
        visitor.sign_in(service.key)
        for name, path in paths(watched).items():
            visitor.open(path)
            visitor.page.wait_for_load_state("networkidle")
            found[name] = _serious(visitor)
            visitor.keep_picture(f"{name}-{scheme}")
            if name.startswith("no_"):
                visitor.complaints.clear()  # the browser itself reports each answer of 404
    assert {name: rules for name, rules in found.items() if rules} == {}


def _serious(visitor: Visitor) -> list[str]:
    violations = Axe().run(visitor.page).response["violations"]
    return [
        f"{one['id']}: {one['help']} ({one['nodes'][0]['html']})"
        for one in violations
        if one["impact"] in SERIOUS
    ]


def test_a_phone_shows_every_page_without_scrolling_sideways(
    browser: Browser, service: Service, watched: Watched
) -> None:
    with visit(browser, service.url, viewport=PHONE, has_touch=True) as visitor:
        visitor.sign_in(service.key)
        for name, path in paths(watched).items():
            visitor.open(path)
            visitor.page.wait_for_load_state("networkidle")
            width = visitor.page.evaluate("document.documentElement.scrollWidth")
            visitor.keep_picture(f"{name}-phone")
            assert width <= PHONE["width"], name
        visitor.complaints.clear()  # the browser itself reports each answer of 404


def test_the_keyboard_alone_signs_in_and_opens_a_job(
    stranger: Visitor, service: Service, watched: Watched
) -> None:
    page = stranger.page
    page.goto(f"{service.url}/login")
    page.get_by_label("API key").focus()
    page.keyboard.type(service.key)
    page.keyboard.press("Enter")
    page.wait_for_url("**/jobs")
    page.wait_for_selector("main[aria-busy=false] table")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('href')") == watched.job_path:
            break
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{watched.job_path}")


def test_who_asked_for_a_page_before_signing_in_gets_it_then(stranger: Visitor, service: Service) -> None:
    page = stranger.page
    page.goto(f"{service.url}/datasets")
    page.get_by_label("API key").fill(service.key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/datasets")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/login")
    page.goto(f"{service.url}/datasets")
    page.wait_for_url("**/login?next=*")


def test_a_wrong_key_is_told_apart_from_a_broken_service(stranger: Visitor, service: Service) -> None:
    page = stranger.page
    page.goto(f"{service.url}/login")
    page.get_by_label("API key").fill("ft_nonsense")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("alert").filter(has_text="This key is not valid").wait_for()
    stranger.complaints.clear()  # the browser itself reports the answer of 401


def test_a_page_asks_neither_for_inline_scripts_nor_to_be_framed(visitor: Visitor) -> None:
    page = visitor.open("/jobs")
    page.evaluate("""() => {
      const script = document.createElement("script");
      script.textContent = "window.harm = true";
      document.head.append(script);
    }""")
    assert page.evaluate("window.harm") is None
    assert any("Content Security Policy" in one for one in visitor.complaints)
    visitor.complaints.clear()
