"""What the comparison of /metrics with the tables finds, and what it lets pass."""

from __future__ import annotations

from collections import Counter

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
from tests.foretrain.client.scripted_service import Says, problem, scripted
from tests.processes import eventually
from tests.servers import free_port

SUCCEEDED = (ENDS, "succeeded", "")
NOTHING_YET = Says(body=f"{EXPIRED} 0.0\n".encode())


@pytest.fixture
def dsn(postgres_url: str) -> str:
    """Of a database without a job."""
    return postgres_url.replace("+psycopg", "")


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


@pytest.mark.slow
def test_a_count_that_falls_from_scrape_to_scrape_is_a_difference(dsn: str) -> None:
    three = Says(body=f"{EXPIRED} 3.0\n".encode())
    with scripted(three, NOTHING_YET) as service, Scraper(dsn, service.url) as scraper:
        scraper.settle()

    assert [one.split(":")[0] for one in scraper.differences] == [EXPIRED]


@pytest.mark.slow
def test_a_scraper_that_dies_does_not_pass_for_one_that_found_nothing(dsn: str) -> None:
    with scripted(Says(body=f"{EXPIRED} some\n".encode())) as service, Scraper(dsn, service.url) as scraper:
        [difference] = eventually(lambda: scraper.differences)

    assert "the scraper itself died" in difference


@pytest.mark.slow
def test_who_does_not_answer_at_first_is_asked_again_in_the_end(dsn: str) -> None:
    with scripted(problem(503, "starting"), NOTHING_YET) as service, Scraper(dsn, service.url) as scraper:
        scraper.settle()

    assert scraper.differences == []
    assert scraper.compared == 1


def test_who_never_answers_is_a_difference_in_the_end() -> None:
    nobody = free_port()
    dsn = f"host=127.0.0.1 port={nobody} user=postgres dbname=postgres"
    with Scraper(dsn, f"http://127.0.0.1:{nobody}") as scraper:
        scraper.settle(within_seconds=0.0)

    [difference] = scraper.differences
    assert "no answer" in difference
    assert scraper.compared == 0
