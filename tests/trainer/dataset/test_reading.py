from __future__ import annotations

import gzip
import io
import pickle
from decimal import Decimal
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.trainer.dataset.samples import as_csv, as_ndjson, fleet
from trainer.dataset.errors import DatasetError
from trainer.dataset.inspection import inspect
from trainer.dataset.limits import ReadLimits
from trainer.dataset.reading import ignored_columns, read_table
from trainer.dataset.schema import DatasetFormat, DatasetMapping

if TYPE_CHECKING:
    from tests.trainer.dataset.conftest import Describe, Refuse, Write

MANY = 60_000


def as_parquet(columns: dict[str, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, **options)
    return buffer.getvalue()


def columns_of(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def read(write: Write, content: Any, kind: Any = "csv", **options: Any) -> pa.Table:
    mapping = DatasetMapping(**options.pop("mapping", {}))
    return read_table(write(content), kind, mapping, **options)


def test_the_four_formats_of_one_dataset_describe_the_same(describe: Describe) -> None:
    rows = fleet()
    contents: dict[Any, bytes | str] = {
        "csv": as_csv(rows),
        "csv.gz": gzip.compress(as_csv(rows).encode()),
        "ndjson": as_ndjson(rows),
        "parquet": as_parquet(columns_of(rows)),
    }
    described = [
        describe(content, kind).model_copy(update={"format": "csv"}) for kind, content in contents.items()
    ]
    assert described[0].row_count == 60
    assert all(schema == described[0] for schema in described)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", get_args(DatasetFormat))
def test_a_pickle_is_refused_whatever_it_claims_to_be(refuse: Refuse, kind: Any, protocol: int) -> None:
    content = pickle.dumps({"cpu_percent": [1.0]}, protocol)
    problem = refuse(gzip.compress(content) if kind == "csv.gz" else content, kind)
    assert problem.code == "unsupported_format"
    assert "pickle" in problem.detail


def test_a_file_of_another_format_is_told_which_one_it_is(refuse: Refuse) -> None:
    parquet = as_parquet(columns_of(fleet()))
    assert "Parquet" in refuse(parquet, "csv").detail
    assert "csv.gz" in refuse(gzip.compress(b"a,b\n1,2\n"), "csv").detail
    assert "ndjson" in refuse('{"timestamp": 1}\n', "csv").detail
    assert "one JSON object a line" in refuse('[{"timestamp": 1}]', "ndjson").detail
    assert refuse("timestamp,cpu\n1,2\n", "parquet").code == "unsupported_format"
    assert refuse("timestamp,cpu\n1,2\n", "csv.gz").code == "unsupported_format"
    assert refuse(b"timestamp,cpu\n1,\x00\n", "csv").code == "unsupported_format"


@pytest.mark.parametrize("kind", get_args(DatasetFormat))
def test_an_empty_file_is_named_so(refuse: Refuse, kind: Any) -> None:
    assert refuse(b"", kind).code == "empty_file"


def test_files_without_rows_are_empty_too(refuse: Refuse) -> None:
    assert refuse("timestamp,cpu_percent\n").code == "empty_file"
    assert refuse(gzip.compress(b""), "csv.gz").code == "empty_file"
    assert refuse("\n\n", "ndjson").code == "empty_file"
    nothing = {"timestamp": pa.array([], pa.int64()), "cpu_percent": pa.array([], pa.float64())}
    assert refuse(as_parquet(nothing), "parquet").code == "empty_file"


def test_a_truncated_parquet_file_is_named_so(refuse: Refuse) -> None:
    whole = as_parquet(columns_of(fleet()))
    problem = refuse(whole[:-100], "parquet")
    assert problem.code == "unreadable_file"
    assert "truncated" in problem.detail


def test_a_parquet_file_with_damaged_pages_is_unreadable_and_leaks_no_path(refuse: Refuse) -> None:
    whole = bytearray(as_parquet(columns_of(fleet()), compression="snappy"))
    whole[4:400] = b"\xff" * 396
    problem = refuse(bytes(whole), "parquet")
    assert problem.code == "unreadable_file"
    assert "/" not in problem.detail


@pytest.mark.slow
def test_no_damage_to_a_parquet_file_escapes_as_anything_but_a_problem(write: Write) -> None:
    whole = as_parquet(columns_of(fleet(3, 20)))
    rng = np.random.default_rng(0)
    outcomes = set()
    for place in rng.integers(0, len(whole), 300):
        damaged = bytearray(whole)
        damaged[place] = rng.integers(256)
        try:
            inspect(write(bytes(damaged)), "parquet", DatasetMapping())
            outcomes.add("read")
        except DatasetError as error:
            outcomes.add(error.problem.code)
    assert "unreadable_file" in outcomes


def test_a_cut_off_gzip_file_is_unreadable(refuse: Refuse) -> None:
    whole = gzip.compress(as_csv(fleet(4, 4000)).encode())
    assert refuse(whole[: len(whole) // 2], "csv.gz").code == "unreadable_file"


def test_a_gzip_bomb_stops_at_the_limit(refuse: Refuse) -> None:
    bomb = gzip.compress(b"timestamp,cpu_percent\n" + b"\n" * 2_000_000)
    assert refuse(bomb, "csv.gz", ReadLimits(max_text_bytes=1_000_000)).code == "too_many_rows"


def test_a_giant_line_stops_at_the_limit(refuse: Refuse) -> None:
    limits = ReadLimits(max_line_bytes=100_000)
    body = b"timestamp,cpu_percent\n" + b"1" * 1_000_000
    assert "longer than" in refuse(body, "csv", limits).detail
    assert "longer than" in refuse(gzip.compress(body), "csv.gz", limits).detail
    assert "longer than" in refuse(b"1" * 1_000_000, "csv", limits).detail
    assert "longer than" in refuse(b'{"a": "' + b"1" * 1_000_000, "ndjson", limits).detail


@pytest.mark.parametrize("kind", ["csv", "parquet", "ndjson"])
def test_more_rows_or_columns_than_the_limits_are_refused(refuse: Refuse, kind: Any) -> None:
    rows = fleet(1, 50)
    content = {"csv": as_csv(rows), "ndjson": as_ndjson(rows), "parquet": as_parquet(columns_of(rows))}[kind]
    assert refuse(content, kind, ReadLimits(max_rows=49)).code == "too_many_rows"
    assert refuse(content, kind, ReadLimits(max_cells=149)).code == "too_many_rows"
    assert refuse(content, kind, ReadLimits(max_columns=2)).code == "too_many_columns"


def test_a_parquet_bomb_is_refused_by_its_footer(refuse: Refuse) -> None:
    bomb = as_parquet({"timestamp": np.zeros(3_000_000, np.int64), "cpu_percent": np.zeros(3_000_000)})
    assert len(bomb) < 30_000
    assert refuse(bomb, "parquet", ReadLimits(max_rows=1_000_000)).code == "too_many_rows"


def test_a_row_with_too_many_cells_is_named(refuse: Refuse) -> None:
    problem = refuse("timestamp,cpu_percent\n2026-01-01,1\n2026-01-02,2,3\n")
    assert (problem.code, problem.row) == ("unreadable_file", 2)


def test_bytes_that_are_not_utf8_are_unreadable(refuse: Refuse) -> None:
    assert "UTF-8" in refuse("timestamp,server\n1,café\n".encode("latin-1")).detail
    assert "UTF-8" in refuse("zeit,größe\n1,2\n".encode("latin-1")).detail
    line = refuse('{"server": "a"}\n{"server": "café"}\n'.encode("latin-1"), "ndjson")
    assert ("UTF-8" in line.detail, line.row) == (True, 2)
    assert "UTF-16" in refuse("timestamp,cpu\n1,2\n".encode("utf-16")).detail


def test_a_csv_without_a_header_is_told_so(refuse: Refuse) -> None:
    assert "column names" in refuse("2026-01-01T00:00:00Z,a,1.5\n2026-01-01T00:05:00Z,a,2.5\n").detail


def test_a_broken_json_line_is_named(refuse: Refuse) -> None:
    problem = refuse('{"timestamp": 1, "cpu": 2}\n{"timestamp": 2,\n', "ndjson")
    assert (problem.code, problem.row) == ("unreadable_file", 2)
    assert refuse('{"a": 1}\n[1]\n', "ndjson").row == 2
    assert refuse('{"a": 1, "a": 2}\n', "ndjson").code == "duplicate_column"


def test_duplicate_names_are_refused_before_and_after_renaming(refuse: Refuse) -> None:
    problem = refuse("timestamp,cpu,cpu\n1,2,3\n")
    assert (problem.code, problem.column) == ("duplicate_column", "cpu")
    renamed = refuse("timestamp,cpu,mem\n1,2,3\n", columns={"mem": {"name": "cpu"}})
    assert renamed.code == "duplicate_column"


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_an_unknown_column_in_the_mapping_lists_those_there_are(refuse: Refuse, kind: Any) -> None:
    content = as_csv(fleet()) if kind == "csv" else as_ndjson(fleet())
    problem = refuse(content, kind, columns={"cpu": {"name": "cpu_percent"}})
    assert (problem.code, problem.column) == ("unknown_column", "cpu")
    assert "timestamp, server, cpu_percent" in problem.detail


def test_columns_are_renamed_and_only_the_wanted_ones_read(write: Write) -> None:
    mapping = {"columns": {"cpu_percent": {"name": "cpu", "unit": "percent"}}}
    for kind, content in (("csv", as_csv(fleet())), ("ndjson", as_ndjson(fleet()))):
        table = read(write, content, kind, mapping=mapping, columns=["cpu", "timestamp"])
        assert table.column_names == ["timestamp", "cpu"]
    with pytest.raises(DatasetError, match="cpu_percent"):
        read(write, fleet(), columns=["memory_percent"])


def test_integers_widen_to_floats_and_numbers_to_text_in_later_batches(write: Write) -> None:
    values = [*range(MANY), "1.5", "007"]
    lines = "".join(
        f"{place},{value},{value if place < MANY + 1 else 2}\n" for place, value in enumerate(values)
    )
    table = read(write, "n,text,float\n" + lines, limits=ReadLimits(max_line_bytes=50_000))
    assert [str(field.type) for field in table.schema] == [
        "int64",
        "dictionary<values=string, indices=int32, ordered=0>",
        "double",
    ]
    assert table["text"].to_pylist() == [str(value) for value in values]
    assert table["float"][MANY].as_py() == 1.5


def test_a_json_column_of_numbers_and_words_becomes_text(write: Write) -> None:
    table = read(write, '{"a": 1, "b": NaN}\n{"a": "x", "b": 2}\n{"b": null, "c": true}\n', "ndjson")
    assert table["a"].to_pylist() == ["1", "x", None]
    assert np.isnan(table["b"][0].as_py())
    assert table["c"].to_pylist() == [None, None, True]


def test_ids_keep_leading_zeros_and_large_integers_all_digits(write: Write) -> None:
    table = read(write, "id,big\n007,9007199254740993\n010,9007199254740992\n")
    assert table["id"].to_pylist() == ["007", "010"]
    assert table["big"].to_pylist() == [9007199254740993, 9007199254740992]


def test_the_usual_spellings_of_no_value_are_missing(write: Write) -> None:
    cells = ["", "NaN", "null", "None", "NA", " n/a ", "-", " 1.5 "]
    table = read(write, "row,cpu\n" + "".join(f"{place},{cell}\n" for place, cell in enumerate(cells)))
    assert table["cpu"].null_count == 7
    assert table["cpu"][7].as_py() == 1.5


def test_decimal_commas_are_numbers_between_semicolons(write: Write) -> None:
    table = read(write, "time;cpu;mem\n2026-01-01;12,5;-0,25\n2026-01-02;7;1,0\n")
    assert table["cpu"].to_pylist() == [12.5, 7.0]
    assert table["mem"].to_pylist() == [-0.25, 1.0]


def test_semicolons_quotes_and_a_byte_order_mark_are_understood(write: Write) -> None:
    text = '\ufefftime;"server; name";cpu\n2026-01-01;"a; ""b""\nc";1.5\n'
    table = read(write, text)
    assert table.column_names == ["time", "server; name", "cpu"]
    assert table["server; name"].to_pylist() == ['a; "b"\nc']


def test_parquet_types_become_numbers_text_and_flags(write: Write) -> None:
    content = as_parquet(
        {
            "decimal": [Decimal("1.50"), None],
            "half": np.array([0.5, 1.5], np.float16),
            "unsigned": pa.array([1, 2**64 - 1], pa.uint64()),
            "small": pa.array([1, 2], pa.int8()),
            "large": pa.array(["a", "b"], pa.large_string()),
            "bytes": pa.array([b"a", b"b"]),
            "coded": pa.array(["x", "x"]).dictionary_encode(),
            "flag": [True, None],
            "nothing": pa.nulls(2),
            "labels": [{"host": "h1", "rack": 1}, {"host": "h2", "rack": 2}],
            "list": [[1], [2]],
        }
    )
    table = read(write, content, "parquet")
    kinds = {field.name: str(field.type).split("<")[0] for field in table.schema}
    assert kinds == {
        "decimal": "double",
        "half": "double",
        "unsigned": "double",
        "small": "int64",
        "large": "dictionary",
        "bytes": "dictionary",
        "coded": "dictionary",
        "flag": "bool",
        "nothing": "double",
        "labels.host": "dictionary",
        "labels.rack": "int64",
    }
    assert table["decimal"].to_pylist() == [1.5, None]
    assert table["labels.host"].to_pylist() == ["h1", "h2"]
    assert ignored_columns(table) == ["list"]


def test_nested_json_objects_become_columns_and_lists_are_reported(write: Write, describe: Describe) -> None:
    rows = [row | {"labels": {"rack": "r1"}, "samples": [1, 2]} for row in fleet()]
    assert "labels.rack" in read(write, as_ndjson(rows), "ndjson").column_names
    codes = [finding.code for finding in describe(as_ndjson(rows), "ndjson").findings]
    assert "ignored_columns" in codes
