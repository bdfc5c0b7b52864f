"""One column of one series of a stored dataset, as a plot asks for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import RunningApi, running
from tests.api.test_problems import is_problem
from tests.conftest import make_settings

STEPS = 60
SPIKE_AT, GAP_AT = 41, 17
START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def level(server: int, step: int) -> float:
    return 10.0 * server + 0.25 * step


def fleet_with_a_spike_and_a_gap() -> bytes:
    lines = ["timestamp,server,cpu_percent,memory_percent"]
    for server in range(2):
        for step in range(STEPS):
            stamp = datetime.fromtimestamp(START + 300 * step, tz=UTC).isoformat()
            cpu = "" if step == GAP_AT else 999.0 if step == SPIKE_AT else level(server, step)
            lines.append(f"{stamp},web-{server},{cpu},{50 + step % 7}")
    return "\n".join(lines).encode()


@pytest.fixture(scope="module")
def api(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    folder = tmp_path_factory.mktemp("values")
    database = shutil.copyfile(sqlite_template, folder / "foretrain.db")
    with running(make_settings(folder, database_url=f"sqlite:///{database}")) as started:
        yield started.signed_in()


@pytest.fixture(scope="module")
def address(api: RunningApi) -> str:
    answer = api.client.post("/v1/datasets", params={"format": "csv"}, content=fleet_with_a_spike_and_a_gap())
    assert answer.json()["status"] == "ready", answer.text
    return f"/v1/datasets/{answer.json()['id']}/values"


def read(api: RunningApi, address: str, **params: Any) -> Any:
    answer = api.client.get(address, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_named_column_of_the_named_series_comes_with_its_times_and_gap(
    api: RunningApi, address: str
) -> None:
    values = read(api, address, series="web-1", column="cpu_percent")
    assert (values["series"], values["column"], values["step_count"]) == ("web-1", "cpu_percent", STEPS)
    assert values["times"] == [START + 300 * step for step in range(STEPS)]
    expected: list[float | None] = [level(1, step) for step in range(STEPS)]
    expected[GAP_AT], expected[SPIKE_AT] = None, 999.0
    assert values["values"] == expected
    assert values["series_names"] == ["web-0", "web-1"]


def test_without_names_it_is_the_first_series(api: RunningApi, address: str) -> None:
    values = read(api, address)
    assert values["series"] == "web-0"
    assert values == read(api, address, series="web-0", column=values["column"])


def test_a_thinned_series_keeps_its_ends_its_spike_and_its_gap(api: RunningApi, address: str) -> None:
    values = read(api, address, column="cpu_percent", max_points=20)
    assert len(values["times"]) == len(values["values"]) <= 20
    assert values["step_count"] == STEPS
    assert (values["times"][0], values["times"][-1]) == (START, START + 300 * (STEPS - 1))
    assert 999.0 in values["values"]
    assert None in values["values"]
    # Drawn at the right places.
    assert values["values"][values["times"].index(START + 300 * SPIKE_AT)] == 999.0


def test_values_that_are_held_are_a_304(api: RunningApi, address: str) -> None:
    first = api.client.get(address)
    held = api.client.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert (held.status_code, held.content) == (304, b"")
    other = api.client.get(
        address, params={"series": "web-1"}, headers={"If-None-Match": first.headers["etag"]}
    )
    assert other.status_code == 200


def test_another_tenant_sees_no_such_dataset(api: RunningApi, address: str) -> None:
    held = api.client.get(address).headers["etag"]
    stranger = api.client_of("rival")
    is_problem(stranger.get(address), 404, "not_found")
    is_problem(stranger.get(address, headers={"If-None-Match": held}), 404, "not_found")


@pytest.mark.parametrize(
    "params",
    [{"column": "nothing"}, {"column": "server"}, {"max_points": 9}, {"max_points": 20_001}, {"step": 1}],
)
def test_what_cannot_be_drawn_is_refused(api: RunningApi, address: str, params: dict[str, Any]) -> None:
    is_problem(api.client.get(address, params=params), 422, "invalid_request")


def test_a_series_that_is_not_there_is_not_found(api: RunningApi, address: str) -> None:
    is_problem(api.client.get(address, params={"series": "web-9"}), 404, "not_found")
