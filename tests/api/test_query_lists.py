"""Query parameters with several values."""

from __future__ import annotations

import pytest

from api.query_lists import comma_separated, parse_labels, parse_statuses
from core.errors import InvalidRequest
from core.jobs.lifecycle import JobStatus


def test_names_are_cut_at_commas_and_trimmed() -> None:
    assert comma_separated(" a, b,,c ") == ["a", "b", "c"]
    assert comma_separated(None) is None


def test_statuses_are_those_there_are() -> None:
    assert parse_statuses("queued,running") == [JobStatus.QUEUED, JobStatus.RUNNING]
    assert parse_statuses(None) == []
    with pytest.raises(InvalidRequest, match="succeeded") as caught:
        parse_statuses("queued,done")
    assert caught.value.errors[0].pointer == "/query/status"


def test_a_label_is_cut_at_its_first_colon() -> None:
    assert parse_labels(["env:prod", "url:http://x"]) == {"env": "prod", "url": "http://x"}


@pytest.mark.parametrize("pairs", [["env"], [":prod"], ["env:a", "env:b"]])
def test_a_label_that_cannot_be_asked_for_is_refused(pairs: list[str]) -> None:
    with pytest.raises(InvalidRequest):
        parse_labels(pairs)
