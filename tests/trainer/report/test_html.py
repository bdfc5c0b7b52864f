from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.trainer.report.samples import (
    data_report,
    examples,
    interpretation,
    lr_find,
    report_inputs,
    scores,
)
from trainer.report.html import write_report
from trainer.report.inputs import MetricPoint
from trainer.report.theme import COLORS

pytestmark = pytest.mark.slow  # figures are drawn for each page

# Most of what takes long to draw, for pages that are looked at for something else.
UNDRAWN: dict[str, Any] = {"metrics": [], "examples": []}
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Tags that were left open, attribute values, and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words += data


def written(folder: Path, **more: Any) -> str:
    path = folder / "report.html"
    write_report(path, report_inputs(**more))
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of a usual run."""
    return written(tmp_path_factory.mktemp("report"))


def svgs(page: str) -> list[str]:
    return re.findall(r"<svg.*?</svg>", page, re.DOTALL)


def test_the_page_names_no_address_and_loads_nothing(page: str) -> None:
    assert "://" not in page
    assert not re.search(r"<(script|link|img|iframe|object|embed)\b|@import|url\((?!#)", page)
    assert "default-src 'none'" in page
    references = [value for name, value in Page(page).attributes if name in {"href", "src", "xlink:href"}]
    assert references
    assert all(value.startswith("#") for value in references)


def test_every_tag_is_closed_and_every_figure_is_valid_xml_with_a_description(page: str) -> None:
    assert Page(page).open == []
    figures = svgs(page)
    assert len(figures) == 8
    for figure in figures:
        root = ET.fromstring(figure)  # noqa: S314 - our own page
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-label"]
        assert "viewBox" in root.attrib


def test_ids_are_unique_in_the_page_and_all_references_resolve(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    referred = set(re.findall(r'href="#([^"]+)"', page)) | set(re.findall(r"url\(#([^)]+)\)", page))
    assert referred <= set(ids)


def test_figures_take_their_colours_from_the_theme(page: str) -> None:
    assert "prefers-color-scheme: dark" in page
    for light, dark in COLORS.values():
        assert light in page.split("<body>", maxsplit=1)[0]
        assert dark in page.split("<body>", maxsplit=1)[0]
    drawn = set(re.findall(r"#[0-9a-f]{6}\b", "".join(svgs(page))))
    assert drawn == set()


def test_scores_verdict_adjustments_and_findings_can_be_read(page: str) -> None:
    words = " ".join(Page(page).words.split())
    assert "Better than last value" in words
    assert "model, before calibration" in words
    assert "no bf16 on this CPU" in words
    assert "7 steps are missing." in words
    assert "2 series are too short" in words
    assert "web-2" in words
    assert "torch: 2.13.0" in words


def test_names_are_text_and_never_markup_or_mathematics(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> $\\frac{"
    inputs: dict[str, Any] = {
        "examples": examples("cpu_percent", [evil]),
        "findings": [{"code": evil, "detail": evil, "series_count": 1, "row_count": 1, "examples": []}],
        "warnings": [evil],
        "result": {"scores": scores(evil), "interpretation": interpretation(evil)},
        "data_report": data_report(evil),
        "metrics": [MetricPoint(1, 1, f"val_loss/{evil}", 0.5)],
        "adjustments": [{"field": evil, "requested": evil, "effective": evil, "reason": evil}],
    }
    page = written(tmp_path, title=evil, **inputs)
    assert "<script" not in page
    assert Page(page).open == []
    assert Page(page).words.count("alert(1)") >= 20


def test_a_run_without_test_tail_season_or_extras_still_has_a_report(tmp_path: Path) -> None:
    result = {"scores": scores(calibration="none")}
    target = result["scores"]["targets"]["cpu_percent"]
    target.update(verdict=None, verdict_reason="there is no test tail")
    target["rivals"]["seasonal_naive"] = None
    target["model"] = target["model_raw"] = target["model"] | {"q_risk": None, "mae": None}
    page = written(
        tmp_path,
        result=result,
        metrics=[],
        examples=[],
        adjustments=[],
        warnings=[],
        findings=[],
    )
    words = " ".join(Page(page).words.split())
    assert "No verdict: there is no test tail." in words
    assert "seasonal-naive" not in words
    assert len(svgs(page)) == 2


def test_an_inconclusive_verdict_gives_its_reason(tmp_path: Path) -> None:
    result = {"scores": scores()}
    verdict = result["scores"]["targets"]["cpu_percent"]["verdict"]
    verdict.update(
        verdict="inconclusive", interval=None, q_risk_difference=None, reason="only 3 blocks of windows"
    )
    words = " ".join(Page(written(tmp_path, result=result, **UNDRAWN)).words.split())
    assert "Inconclusive compared with last value" in words
    assert "only 3 blocks of windows." in words


@pytest.mark.parametrize("steps", [1, 2])
def test_a_horizon_of_one_step_can_be_drawn(tmp_path: Path, steps: int) -> None:
    shown = examples("cpu_percent", ["a"])[0]
    short = type(shown)(
        **{**vars(shown), "times": shown.times[:steps], "actual": None, "quantiles": shown.quantiles[:steps]}
    )
    assert "96 % interval" in Page(written(tmp_path, examples=[short], metrics=[])).words


def test_each_target_shows_its_own_dependence_and_all_show_what_they_share(tmp_path: Path) -> None:
    result = {"scores": scores(), "interpretation": interpretation("cpu_percent", "memory_percent")}
    page = written(tmp_path, result=result, **UNDRAWN)
    words = " ".join(Page(page).words.split())
    for name in ("cpu_percent", "memory_percent"):
        assert f'aria-label="{name}: rise of the loss' in page
        assert f"{name}: by input" in words
    assert "hour_of_day (known ahead)+2.0 %" in words
    assert "48 to 2+1.0 %" in words
    assert "All targets share one variable selection and one attention" in words
    assert "position in the window" in words


def test_a_target_whose_dependence_could_not_be_measured_says_so(tmp_path: Path) -> None:
    found = interpretation("cpu_percent")
    found["targets"]["cpu_percent"] = {"loss": None, "importance": {"encoder": {}}, "history": []}
    result = {"scores": scores(), "interpretation": found}
    words = Page(written(tmp_path, result=result, **UNDRAWN)).words
    assert "Too little was observed to measure it." in words


@pytest.mark.parametrize(("suggestion", "said"), [(1.25e-3, "suggested: 0.00125"), (None, "no descent")])
def test_the_learning_rate_finders_curve_is_shown_with_what_it_suggests(
    tmp_path: Path, suggestion: float | None, said: str
) -> None:
    found = lr_find() | {"suggestion": suggestion, "learning_rate": 0.03}
    page = written(tmp_path, lr_find=found, **UNDRAWN)
    assert said in Page(page).words
    assert "The run took 0.03." in Page(page).words
    assert "Loss against learning rate, as the learning-rate finder saw it" in page


def test_the_data_report_lists_the_worst_series_and_how_many_there_are(tmp_path: Path) -> None:
    worst = data_report(*(f"server-{place}" for place in range(150)))
    page = written(tmp_path, data_report=worst, **UNDRAWN)
    words = " ".join(Page(page).words.split())
    assert "1,200 series with 345,600 steps; something was done to 150 of them" in words
    assert "the worst 100 of 150" in words
    assert "server-99288" in words
    assert "server-100" not in words
    assert "cpu_percent: 21 / 14" in words


def test_losses_are_drawn_for_each_target_and_steps_left_out_are_told(tmp_path: Path) -> None:
    names = ("train_loss", "val_loss", "val_loss/cpu", "val_loss/net.in")
    metrics = [MetricPoint(step, 1, name, 1.0 / step) for name in names for step in (1, 2)]
    page = written(tmp_path, metrics=metrics, result={"scores": scores(), "bad_steps": 3}, examples=[])
    words = " ".join(Page(page).words.split())
    assert "validation loss: cpu" in words
    assert "validation loss: net.in" in words
    assert "3 optimizer steps were left out" in words


def test_what_looks_like_our_own_markup_in_a_name_stays_as_it_is(tmp_path: Path) -> None:
    name = 'id="a" url(#b) #2563eb \u65e5\u672c \x07'
    page = written(tmp_path, examples=examples("cpu_percent", [name]))
    assert name.replace("\x07", " ") in Page(page).words
    for figure in svgs(page):
        ET.fromstring(figure)  # noqa: S314 - our own page


def test_the_page_can_be_read_aloud_and_printed(page: str) -> None:
    assert page.count("<caption>") == page.count("<table")
    assert not re.search(r"<th>", page)
    assert "@media print" in page
    assert "screen and (prefers-color-scheme: dark)" in page


def test_the_same_run_gives_the_same_bytes(tmp_path: Path, page: str) -> None:
    assert written(tmp_path) == page


def test_pyplot_is_never_loaded() -> None:
    program = "import sys, trainer.report.html; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
