"""The frames of the pages and their files; what the scripts make of them is for tests/pages."""

from __future__ import annotations

import re

import pytest

from api.pages import assets
from api.pages.assets import load_assets
from api.pages.routes import FRAMES
from tests.api.conftest import RunningApi
from tests.api.test_session import sign_in

PATHS = [path.format(job_id="job_" + "0" * 32, dataset_id="ds_" + "0" * 32) for path in FRAMES]


def test_without_a_session_each_page_leads_to_the_login_and_from_there_back(api: RunningApi) -> None:
    stranger = api.client_with(None)
    for path in PATHS:
        answer = stranger.get(f"{path}?status=running", follow_redirects=False)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login?next=")
        assert answer.headers["location"].endswith("%3Fstatus%3Drunning")


def test_each_page_names_files_that_are_there_and_nothing_inline(api: RunningApi) -> None:
    browser, _ = sign_in(api)
    for path in [*PATHS, "/login"]:
        page = browser.get(path)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        policy = page.headers["content-security-policy"]
        assert "default-src 'self'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"<script>|<style|\son\w+=|style=", page.text)
        for name in re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text):
            file = browser.get(name)
            assert file.status_code == 200, name
            assert "immutable" in file.headers["cache-control"]


def test_what_scripts_import_is_there_under_the_same_digest() -> None:
    files = load_assets().files
    for name, file in files.items():
        for wanted in re.findall(r'from "\./([^"]+)"', file.content.decode()) if name.endswith(".js") else ():
            assert wanted in files, f"{name} imports {wanted}"


def test_our_scripts_make_no_markup_of_text_and_evaluate_nothing() -> None:
    for file in assets.OWN.glob("*.js"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
        )


def test_a_file_comes_compressed_to_who_takes_that(api: RunningApi) -> None:
    path = load_assets().path("style.css")
    compressed = api.client.get(path, headers={"Accept-Encoding": "gzip"})
    plain = api.client.get(path, headers={"Accept-Encoding": "identity"})
    assert compressed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert compressed.content == plain.content
    assert int(compressed.headers["content-length"]) < len(plain.content) / 2


def test_files_of_another_release_and_other_names_are_not_found(api: RunningApi) -> None:
    digest = load_assets().digest
    for path in (
        "/static/0000/style.css",
        f"/static/{digest}/..%2Froutes.py",
        f"/static/{digest}/nothing.js",
    ):
        assert api.client.get(path).status_code == 404


def test_a_plot_library_that_is_not_the_one_we_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(assets.PLOT_FILES, "uPlot.js", ("vendor/uplot.iife.min.js", "0" * 64))
    with pytest.raises(RuntimeError, match=r"another uPlot\.js"):
        load_assets.__wrapped__()
