"""What the comparison of /metrics with the tables finds, and what it lets pass."""

from __future__ import annotations

from collections import Counter

import httpx2
import pytest

from tests.chaos.scraper import (
    ENDS,
    EXPIRED,
    JOBS,
    Held,
    Scraped,
    Scraper,
    Series,
    _fallen,
    _out_of_bounds,
    _unequal,
)

SUCCEEDED = (ENDS, "succeeded", "")


def held(ended: int, made: int, expired: tuple[int, int] = (0, 0)) -> Held:
    waiting: Counter[Series] = Counter({("queued", "cpu"): made - ended})
    return Held(0.0, Counter({SUCCEEDED: ended}), expired, made, waiting)


def scraped(ended: int, unfinished: int, expired: int = 0) -> Scraped:
    return Scraped(Counter({SUCCEEDED: ended}), expired, Counter({("queued", "cpu"): unfinished}))


BEFORE, AFTER = held(2, 5, (1, 1)), held(4, 8, (2, 3))


@pytest.mark.parametrize(
    ("seen", "wrong"),
    [
        (scraped(2, 3, 1), []),
        (scraped(3, 3, 2), []),
        (scraped(4, 4, 3), []),
        (scraped(1, 3, 1), [ENDS]),
        (scraped(5, 3, 1), [ENDS]),
        (scraped(3, 3, 0), [EXPIRED]),
        (scraped(3, 3, 4), [EXPIRED]),
        (scraped(3, 0, 1), [JOBS]),
        (scraped(3, 7, 1), [JOBS]),
    ],
)
def test_a_scrape_lies_between_what_the_tables_held_before_and_after(seen: Scraped, wrong: list[str]) -> None:
    assert [one.split(":")[0].split()[0] for one in _out_of_bounds(BEFORE, seen, AFTER)] == wrong


def test_a_count_that_falls_is_seen_though_the_tables_allow_it() -> None:
    assert list(_out_of_bounds(BEFORE, scraped(3, 3, 1), AFTER)) == []

    assert len(list(_fallen(scraped(4, 4, 2), scraped(3, 3, 1)))) == 2
    assert list(_fallen(scraped(3, 3, 1), scraped(3, 9, 1))) == []


def test_in_the_end_every_count_is_equal() -> None:
    assert list(_unequal(held(2, 5), scraped(2, 3))) == []
    assert len(list(_unequal(held(2, 5), scraped(3, 2)))) == 2
    assert list(_unequal(held(2, 5), None)) == ["nothing but database_up is exported"]


def test_a_scraper_that_breaks_down_does_not_pass_for_one_that_found_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.chaos.scraper.PERIOD_SECONDS", 0.001)

    def break_down(_: Scraper) -> Held:
        raise ArithmeticError

    monkeypatch.setattr(Scraper, "_read_tables", break_down)
    with Scraper("host=nowhere", "http://127.0.0.1:9") as scraper, pytest.raises(ArithmeticError):
        scraper.settle()


def test_trouble_in_the_end_is_waited_out_and_then_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PERIOD_SECONDS", "KEPT_SECONDS", "MOST_WAITED_SECONDS"):
        monkeypatch.setattr(f"tests.chaos.scraper.{name}", 0.01)
    tries = []

    def refuse(_: Scraper) -> Held:
        tries.append(1)
        raise httpx2.ConnectError("refused")

    monkeypatch.setattr(Scraper, "_read_tables", refuse)
    with Scraper("host=nowhere", "http://127.0.0.1:9") as scraper:
        scraper.settle()

    assert len(tries) > 1
    assert len(scraper.differences) == 1
    assert "refused" in scraper.differences[0]
