"""A few hundred of the requests that `make fuzz` makes by the ten thousand; the same each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.campaign import Effort, run
from tests.fuzz.report import requests_made, successes, table
from tests.fuzz.stand import serving


@pytest.mark.slow
def test_no_generated_request_gets_an_undocumented_answer_or_a_server_error(tmp_path: Path) -> None:
    effort = Effort(examples=4, slow_examples=1, sequences=2, phases="examples,fuzzing")
    with serving(tmp_path, copies=3) as stand:
        outcome = run(stand, "acme", effort, seed=1, folder=tmp_path / "acme")
    assert outcome.is_clean, outcome.said[-5000:]
    assert requests_made(outcome.answers) > 200, table(outcome.answers)
    assert sum(map(successes, outcome.answers.values())) > 100, table(outcome.answers)
