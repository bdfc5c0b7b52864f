"""What holds of every page: no barrier, no sideways scrolling on a phone, keyboard, light and dark, speed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from foretrain.client import Client
from tests.launching import Service
from tests.pages.conftest import FILLED, Visitor, Watched, fill_in, visit

SERIOUS = {"serious", "critical"}
PHONE = {"width": 390, "height": 844}


def paths(watched: Watched) -> dict[str, str]:
    """All of them, by a name for the picture."""
    job, rival = (path.removeprefix("/jobs/") for path in (watched.job_path, watched.rival_path))
    return {
        "jobs": "/jobs",
        "new_job": "/jobs/new",
        "job": watched.job_path,
        "result": f"{watched.job_path}/result",
        "compare": f"/jobs/compare?job={job}&job={rival}",
        "no_comparison": "/jobs/compare",
        "datasets": "/datasets",
        "dataset": watched.dataset_path,
        "keys": "/keys",
        "webhooks": "/webhooks",
        "no_job": "/jobs/job_" + "0" * 32,
        "no_dataset": "/datasets/ds_" + "0" * 32,
    }


def _wrong_key(visitor: Visitor, _: Watched) -> None:
    page = visitor.page
    page.goto(f"{visitor.url}/login")
    page.get_by_label("API key").fill("ft_nonsense")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("alert").filter(has_text="This key is not valid").wait_for()


def _refused_form(visitor: Visitor, watched: Watched) -> None:
    page = visitor.open(f"/jobs/new?dataset={watched.dataset_path.removeprefix('/datasets/')}")
    fill_in(page, FILLED | {"encoder_length": "5000"}, targets=[])
    page.locator("#field-encoder_length[aria-invalid=true]").wait_for()


def _key_shown_and_revoking_asked(visitor: Visitor, _: Watched) -> None:
    page = visitor.open("/keys")
    page.get_by_label("name").fill("seen")
    page.get_by_role("button", name="Make a key").click()
    page.locator(".secret").wait_for()
    page.get_by_role("button", name="Revoke seen").first.click()


def _webhook_shown_with_deliveries(visitor: Visitor, _: Watched) -> None:
    page = visitor.open("/webhooks")
    page.get_by_label("url").fill("https://hooks.invalid/")
    page.get_by_label("name").fill("seen")
    page.get_by_role("button", name="Add a webhook").click()
    page.locator(".secret").wait_for()
    row = page.get_by_role("row", name=re.compile("^seen")).first
    row.get_by_role("button", name="Test").click()
    page.get_by_role("region", name="Deliveries").wait_for()
    visitor.keep_picture("webhook-deliveries")


def _no_result(visitor: Visitor, watched: Watched) -> None:
    page = visitor.open(f"/jobs/new?like={watched.job_path.removeprefix('/jobs/')}")
    fill_in(page, FILLED | {"name": "never", "epochs": "1000", "early_stopping_patience": "0"}, targets=[])
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url("**/jobs/job_*")
    page.get_by_role("button", name="Cancel").click()
    page.locator("h1 .badge.cancelled").wait_for()
    visitor.open(f"{urlsplit(page.url).path}/result")
    page.get_by_text("No result yet").wait_for()


def _all_unfolded(visitor: Visitor, watched: Watched) -> None:
    page = visitor.open(watched.job_path)
    page.get_by_text("What was asked for, and what it became").click()


@pytest.fixture
def tidy(service: Service) -> Iterator[None]:
    """What a test adds is gone after it, so that no other one depends on it."""
    yield
    with Client(service.url, service.key) as client:
        for webhook in list(client.list_webhooks()):
            client.delete_webhook(webhook.id)
        for key in client.list_api_keys():
            if key.name == "seen" and key.revoked_at is None:
                client.revoke_api_key(key.id)


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize(
    ("reach", "statuses"),
    [
        (_wrong_key, [401]),
        (_refused_form, []),
        (_key_shown_and_revoking_asked, []),
        (_webhook_shown_with_deliveries, []),
        (_no_result, [404]),
        (_all_unfolded, []),
    ],
)
def test_axe_finds_nothing_serious_in_what_a_page_turns_into(
    browser: Browser,
    service: Service,
    watched: Watched,
    reach: Callable[[Visitor, Watched], None],
    statuses: list[int],
) -> None:
    for scheme in ("light", "dark"):
        with visit(browser, service.url, color_scheme=scheme) as visitor:
            visitor.sign_in(service.key)
            reach(visitor, watched)
            assert _serious(visitor) == [], scheme
            visitor.forgive(*statuses)


# By its place in the document: a mark on an element would go with it when the page draws that part anew.
PLACE_OF = """
  const placeOf = (one) => one?.parentElement
    ? `${placeOf(one.parentElement)} ${one.tagName}:${[...one.parentElement.children].indexOf(one)}` : "";
"""
# What Tab must reach: everything that is seen and does something, but for what is switched off.
WHAT_CLICKS = (
    "() => {"
    + PLACE_OF
    + """
  const clickable = "a[href], button, input, select, textarea, summary, [tabindex='0']";
  const found = {};
  for (const one of document.querySelectorAll(clickable)) {
    const folded = one.closest("details:not([open])") && one.tagName !== "SUMMARY";
    if (one.disabled || folded || one.checkVisibility() === false || one.tabIndex < 0) continue;
    found[placeOf(one)] = one.outerHTML.slice(0, 120);
  }
  return found;
}"""
)
FOCUSED = "() => {" + PLACE_OF + "return placeOf(document.activeElement); }"


def test_tab_reaches_everything_that_can_be_clicked(visitor: Visitor, watched: Watched) -> None:
    for name, path in paths(watched).items():
        page = visitor.open(path)
        page.wait_for_load_state("networkidle")
        awaited = page.evaluate(WHAT_CLICKS)
        assert awaited, name
        # A part that is drawn anew may take the focus with it: then Tab goes round a second time.
        for _ in range(2 * len(awaited) + 5):
            page.keyboard.press("Tab")
            awaited.pop(page.evaluate(FOCUSED), None)
            if not awaited:
                break
        assert awaited == {}, name
    visitor.forgive(404)


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
                visitor.forgive(404)
    assert {name: rules for name, rules in found.items() if rules} == {}


def test_axe_finds_nothing_serious_while_the_answers_are_on_their_way(
    visitor: Visitor, watched: Watched
) -> None:
    """A slow service: the frame stands and what fills it has not come; at last all of a job but its log."""
    page = visitor.page
    held: list[str] = []
    found = {}

    def look(path: str, awaited: str) -> None:
        with page.expect_request(awaited):
            page.goto(f"{visitor.url}{path}")
        found[path, awaited] = _serious(visitor)

    page.route("**/v1/**", lambda route: held.append(route.request.url))
    for name, path in paths(watched).items():
        if not name.startswith("no_"):
            look(path, "**/v1/**")
    page.unroute("**/v1/**")
    page.route("**/logs?*", lambda route: held.append(route.request.url))
    look(watched.job_path, "**/logs?*")
    assert len(held) >= len(found)
    assert {place: rules for place, rules in found.items() if rules} == {}


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
        visitor.forgive(404)


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
    stranger.forgive(401)


def test_a_page_asks_neither_for_inline_scripts_nor_to_be_framed(visitor: Visitor) -> None:
    page = visitor.open("/jobs")
    page.evaluate("""() => {
      const script = document.createElement("script");
      script.textContent = "window.harm = true";
      document.head.append(script);
    }""")
    assert page.evaluate("window.harm") is None
    [refused] = visitor.complaints
    assert "Content Security Policy" in refused
    visitor.complaints.clear()
