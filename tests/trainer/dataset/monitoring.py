"""The rows of a dataset as monitoring systems export them, by their documented formats."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.trainer.dataset.samples import Rows

    Key = tuple[tuple[str, str], ...]

TIME = "timestamp"


def as_series(rows: Rows) -> dict[Key, list[tuple[float, float]]]:
    """Labels, the metric among them as __name__, to pairs of epoch seconds and a number."""
    found = defaultdict(list)
    for row in rows:
        seconds = datetime.fromisoformat(row[TIME]).timestamp()
        labels = {name: value for name, value in row.items() if isinstance(value, str) and name != TIME}
        for name, value in row.items():
            if isinstance(value, float):
                found[tuple(sorted({"__name__": name, **labels}.items()))].append((seconds, value))
    return found


def matrix(series: dict[Key, list[tuple[float, float]]]) -> list[dict[str, Any]]:
    return [
        {"metric": dict(key), "values": [[seconds, str(value)] for seconds, value in samples]}
        for key, samples in series.items()
    ]


def as_prometheus(rows: Rows) -> str:
    """The whole answer of the query API."""
    return answer(matrix(as_series(rows)))


def answer(result: Any, kind: str = "matrix") -> str:
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": result}})


def as_victoriametrics(rows: Rows) -> str:
    lines = [
        {
            "metric": dict(key),
            "values": [value for _, value in samples],
            "timestamps": [round(seconds * 1000) for seconds, _ in samples],
        }
        for key, samples in as_series(rows).items()
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


def as_influx(rows: Rows, *, per_second: int = 10**9) -> str:
    """A metric such as cpu_percent is the field percent of the measurement cpu, as Telegraf names them."""
    lines = []
    for row in rows:
        stamp = round(datetime.fromisoformat(row[TIME]).timestamp()) * per_second
        tags = "".join(
            f",{name}={escaped(value)}"
            for name, value in row.items()
            if isinstance(value, str) and name != TIME
        )
        for name, value in row.items():
            if isinstance(value, float):
                measurement, _, field = name.partition("_")
                lines.append(f"{measurement}{tags} {field}={value} {stamp}\n")
    return "".join(lines)


def escaped(text: str) -> str:
    return text.replace(",", r"\,").replace("=", r"\=").replace(" ", r"\ ")
