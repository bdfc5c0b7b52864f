"""What a file on the command line is, and how it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from foretrain.data_files import format_of, mapping_of
from foretrain.refusals import Refusal
from tests.trainer.dataset.monitoring import as_victoriametrics
from tests.trainer.dataset.samples import as_ndjson, fleet


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("fleet.CSV", "a,b", "csv"),
        ("fleet.json", "{}", "prometheus"),
        ("fleet.lp", "cpu a=1 1", "influx"),
        ("fleet.jsonl", as_ndjson(fleet()), "ndjson"),
        ("fleet.jsonl", as_victoriametrics(fleet()).replace(": ", ":"), "victoriametrics"),
    ],
)
def test_a_format_is_told_by_the_ending_and_an_export_by_its_lines(
    tmp_path: Path, name: str, content: str, found: str
) -> None:
    file = tmp_path / name
    file.write_text(content)
    assert format_of(file) == found
    assert format_of(file, "influx") == "influx"


def test_a_format_that_nobody_knows_is_refused_with_those_there_are(tmp_path: Path) -> None:
    file = tmp_path / "fleet.dat"
    file.write_text("x")
    with pytest.raises(Refusal, match="--format"):
        format_of(file)
    with pytest.raises(Refusal, match="victoriametrics"):
        format_of(file, "excel")


def test_a_mapping_is_json_or_a_file_of_it_and_the_options_count_more(tmp_path: Path) -> None:
    file = tmp_path / "mapping.json"
    file.write_text('{"preset":"telegraf","frequency":"1h"}')
    for given in (str(file), file.read_text()):
        mapping = mapping_of(None, ["host"], "5min", given)
        assert (mapping.preset, mapping.group_columns, mapping.frequency) == ("telegraf", ["host"], "5min")


@pytest.mark.parametrize(
    ("mapping", "word"),
    [("{", "--mapping"), ("nowhere.json", "--mapping"), ('{"preset":"zabbix"}', "--mapping: preset")],
)
def test_a_mapping_that_cannot_be_read_is_refused_by_its_option(mapping: str, word: str) -> None:
    with pytest.raises(Refusal, match=word):
        mapping_of(None, None, None, mapping)


def test_an_option_that_is_wrong_is_named_itself() -> None:
    with pytest.raises(Refusal, match="--frequency"):
        mapping_of(None, None, "5 minutes", '{"preset":"telegraf"}')
