"""Datasets: what a row becomes, what counts as the same case, and one sentence for each kind of bad input."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import tracemalloc
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.datasets import Row, open_dataset, rows
from feedbackloop.errors import DatasetError, PromptError
from feedbackloop.identity import fingerprint
from feedbackloop.models import Case


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def refusal(path: Path, **options) -> str:
    """The sentence with which a file is refused, after its place."""
    with pytest.raises(DatasetError) as caught:
        open_dataset(path, **options).check()
    return str(caught.value).removeprefix(str(path))


# --- what a row becomes ---


def test_columns_become_variables_and_known_keys_their_fields(tmp_path):
    row = {
        "id": 7, "question": "Why?", "n": 3, "expected": {"a": 1}, "segment": "billing", "metadata": {"priority": 8},
        "messages": [{"role": "user", "content": "hi"}], "context": ["one", {"text": "two", "url": "u"}],
    }  # fmt: skip
    [case] = open_dataset(write(tmp_path / "a.jsonl", json.dumps(row)))
    assert case.external_id == "7"
    assert case.inputs == {"question": "Why?", "n": 3}
    assert case.expected == {"a": 1}
    assert (case.segment, case.metadata) == ("billing", {"priority": 8})
    assert case.messages == [{"role": "user", "content": "hi"}]
    assert case.context == ["one", {"text": "two", "url": "u"}]


def test_csv_holds_known_keys_as_json_cells_or_text(tmp_path):
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["id", "input", "expected", "segment", "metadata", "messages", "context"])
    writer.writerow(["a", "one", "", "", '{"priority": 2}', '[{"role": "user", "content": "x"}]', '["d1", "d2"]'])
    writer.writerow(["b", "two", "yes", "s", "", "", "[1] says so"])
    first, second = open_dataset(write(tmp_path / "a.csv", text.getvalue()))
    assert (first.expected, first.segment, first.metadata) == (None, None, {"priority": 2})
    assert (first.messages, first.context) == ([{"role": "user", "content": "x"}], ["d1", "d2"])
    assert (second.expected, second.messages, second.context) == ("yes", [], ["[1] says so"])


def test_an_explicit_inputs_mapping_holds_all_variables(tmp_path):
    [case] = open_dataset(write(tmp_path / "a.jsonl", '{"inputs": {"id": 1, "x": 2}, "id": "z"}'))
    assert (case.external_id, case.inputs) == ("z", {"id": 1, "x": 2})
    path = write(tmp_path / "b.jsonl", '{"inputs": {"x": 2}, "segmnt": "s"}')
    assert refusal(path).startswith(":1: unknown key 'segmnt' beside 'inputs'; move it into 'inputs', or use one of id")


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", '"hello"\n'), ("a.json", '["hello"]'), ("a.yaml", "- hello\n")]
)
def test_a_text_alone_is_the_variable_input(tmp_path, name, content):
    [case] = open_dataset(write(tmp_path / name, content))
    assert case.inputs == {"input": "hello"}


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a.yaml"])
@pytest.mark.parametrize("key", [None, "cases", "data"])
def test_json_and_yaml_hold_a_list_or_a_mapping_with_one(tmp_path, name, key):
    items = [{"input": "a, [b]"}, {"input": "c"}]
    content = items if key is None else {"name": "x", "note": {"cases": "none"}, key: items}
    path = write(tmp_path / name, json.dumps(content, indent=2))
    assert [case.inputs["input"] for case in open_dataset(path)] == ["a, [b]", "c"]
    first, second = rows(path)
    lines = json.dumps(content, indent=2).splitlines()
    openings = [number for number, line in enumerate(lines, 1) if line.strip() == "{" and number > 1]
    assert [first.line, second.line] == openings


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.csv.gz", "a.tsv", "a.tsv.gz", "a.ndjson", "a.json", "a.yml"]
)
def test_the_same_rows_are_the_same_dataset_in_every_format(tmp_path, name):
    texts = ["one", 'two, with "quotes"', "three\nlines"]
    if "sv" in name:
        text = io.StringIO()
        csv.writer(text, delimiter="\t" if "tsv" in name else ",").writerows([["input"], *([t] for t in texts)])
        content = text.getvalue()
    elif "l" in name.removeprefix("a.").removesuffix(".gz")[-1:] or "ndjson" in name:
        content = "\n".join(json.dumps({"input": t}) for t in texts) if "json" in name else json.dumps(texts)
    else:
        content = json.dumps(texts)
    checked = open_dataset(write(tmp_path / name, content)).check()
    assert checked.cases == 3
    assert checked.fingerprint == fingerprint(case.id for case in open_dataset(texts))


def test_json_values_stay_what_they_are_and_nan_becomes_none(tmp_path):
    [case] = open_dataset(
        write(tmp_path / "a.jsonl", '{"a": true, "b": 1, "c": 1.5, "d": null, "e": NaN, "f": [Infinity, "x"]}')
    )
    assert case.inputs == {"a": True, "b": 1, "c": 1.5, "d": None, "e": None, "f": [None, "x"]}


def test_parquet_values_become_what_json_knows(tmp_path):
    path = tmp_path / "odd [name]*.parquet"
    duckdb.sql("SET TimeZone='Asia/Kolkata'")
    duckdb.sql(
        "SELECT 'x' AS input, TIMESTAMPTZ '2024-01-01 00:00:00+02' AS \"at \"\"it\", TIMESTAMP '2024-01-01 10:00:00' AS n, "
        "DATE '2024-01-02' AS d, 1.50::DECIMAL(5,2) AS x, 2::DECIMAL(5,0) AS y, {'a': 1, 'b': [1, 2]} AS s, 'nan'::DOUBLE AS f, "
        "MAP {'k': 1} AS m, TRUE AS t, '00000000-0000-0000-0000-000000000001'::UUID AS u"
    ).write_parquet(str(path))
    [case] = open_dataset(path)
    assert case.inputs == {
        "input": "x", 'at "it': "2023-12-31T22:00:00.000000+00:00", "n": "2024-01-01T10:00:00", "d": "2024-01-02", "x": 1.5,
        "y": 2, "s": {"a": 1, "b": [1, 2]}, "f": None, "m": {"k": 1}, "t": True, "u": "00000000-0000-0000-0000-000000000001",
    }  # fmt: skip
    json.dumps(case.inputs)


def test_a_data_frame_gives_python_values(tmp_path):
    frame = pd.DataFrame(
        {
            "id": [1.0, float("nan")],
            "input": ["a", "b"],
            "n": np.array([1, 2]),
            "at": pd.to_datetime(["2024-01-01", None]),
            "v": [np.array([1, 2]), np.float32(0.5)],
            "w": [pd.NA, Decimal("NaN")],
            "z": [datetime(2024, 1, 1, tzinfo=UTC), np.datetime64("2024-01-01")],
        }
    )
    first, second = open_dataset(frame)
    assert (first.external_id, second.external_id) == ("1", None)
    assert first.inputs == {
        "input": "a", "n": 1, "at": "2024-01-01T00:00:00", "v": [1, 2], "w": None, "z": "2024-01-01T00:00:00+00:00",
    }  # fmt: skip
    assert second.inputs == {"input": "b", "n": 2, "at": None, "v": 0.5, "w": None, "z": "2024-01-01T00:00:00"}
    assert all(type(case.inputs["n"]) is int for case in (first, second))


def test_rows_in_memory_may_be_mappings_texts_and_cases_and_are_gone_through_again():
    case = Case.model_validate({"inputs": {"input": "c"}})
    dataset = open_dataset(item for item in ({"input": "a"}, "b", case))
    assert [found.inputs["input"] for found in dataset] == ["a", "b", "c"]
    assert [found.inputs["input"] for found in dataset] == ["a", "b", "c"]
    assert list(dataset)[2] is case
    assert (dataset.name, dataset.source) == ("records", None)


def test_a_dataset_knows_its_name_and_where_it_came_from(tmp_path, monkeypatch):
    write(tmp_path / "a.csv", "input\nx\n")
    monkeypatch.chdir(tmp_path)
    dataset = open_dataset("a.csv")
    assert (dataset.name, dataset.source) == ("a.csv", str(tmp_path / "a.csv"))
    assert open_dataset(dataset) is dataset


def test_unstorable_characters_are_replaced_and_counted(tmp_path):
    [case] = open_dataset(write(tmp_path / "a.jsonl", r'{"input": "a\u0000b\ud800", "metadata": {"x": 1}}'))
    assert case.inputs == {"input": "a\u2400b\ufffd"}
    assert case.metadata == {"x": 1, "repaired": 2}


def test_another_column_may_be_the_id(tmp_path):
    path = write(tmp_path / "a.csv", "prompt_id,prompt\n5,why\n")
    [case] = open_dataset(open_dataset(path), id_column="prompt_id")
    assert (case.external_id, case.inputs) == ("5", {"prompt": "why"})
    assert (
        refusal(path, id_column="nr") == ":2: there is no column 'nr' to take the id from; there is prompt_id, prompt"
    )


# --- the same case ---


def test_a_repeated_row_is_one_case_and_is_told_by_line(tmp_path):
    rows_ = ['{"input": "a", "expected": "1"}', '{"input": "b"}', "", '{"input": "a"}']
    dataset = open_dataset(write(tmp_path / "a.jsonl", "\n".join(rows_)))
    checked = dataset.check()
    assert (checked.cases, checked.repeated, checked.repeated_count) == (2, [(4, 1)], 1)
    assert checked.repeats_told == "1 repeated row counts once (line 4 repeats line 1)"
    assert [case.expected for case in dataset] == ["1", None]
    assert checked.fingerprint == fingerprint(case.id for case in dataset)


def test_a_repeated_row_that_expects_something_else_is_refused_with_both_lines(tmp_path):
    path = write(tmp_path / "d.csv", "id,input,expected,segment\n1,Refund?,yes,de\n2,Refund?,no,us\n3,Ship?,ok,us\n")
    assert refusal(path) == (
        ":3: this asks the same as line 2, but expects 'no' instead of 'yes'; tell them apart by an input, or drop one"
    )
    with pytest.raises(DatasetError, match=r'^row 2: this asks .* expects \'\["b"\]\' instead of \'1\''):
        open_dataset([{"input": "a", "expected": 1}, {"input": "a", "expected": ["b"]}]).check()


@pytest.mark.parametrize(
    ("again", "said"),
    [
        ("2,Refund?,yes,us", "line 3 (id '2') repeats line 2 (id '1'): its segment 'us' is not used"),
        ("2,Refund?,,de", "line 3 (id '2') repeats line 2 (id '1'): its id is not used"),
        (",Refund?,yes,de", "line 3 repeats line 2"),
        ("1,Refund?,yes,", "line 3 repeats line 2"),
        ("2,Refund?,,us\n4,Refund?,,de", "its segment 'us' is not used, and so with 1 more"),
    ],
)
def test_what_a_repeated_row_says_of_its_own_is_named(tmp_path, again, said):
    path = write(tmp_path / "d.csv", f"id,input,expected,segment\n1,Refund?,yes,de\n{again}\n")
    checked = open_dataset(path).check()
    assert checked.repeats_told.endswith(f"{said})")
    assert checked.repeats_told.startswith("1 repeated row counts once (" if "4" not in again else "2 repeated rows ")


def test_an_expected_answer_that_only_a_repeated_row_has_is_named():
    rows_ = [{"input": "a"}, {"input": "a", "expected": "x" * 99, "metadata": {"n": 1}}]
    assert open_dataset(rows_).check().repeats_told == (
        "1 repeated row counts once (line 2 repeats line 1: its expected answer '" + "x" * 60 + "...' and metadata "
        "'{\"n\": 1}' are not used)"
    )


def test_repeated_rows_are_all_counted_but_only_twenty_listed():
    checked = open_dataset(["a"] * 31).check()
    assert (checked.cases, len(checked.repeated), checked.repeated_count) == (1, 20, 30)


def test_an_id_that_stands_for_two_cases_is_refused_with_both_lines(tmp_path):
    path = write(tmp_path / "a.csv", 'id,input\n1,"a\nb"\n2,x\n1,y\n')
    assert refusal(path).startswith(
        ":5: the id '1' stands at line 2 already, with different content (in 'input'); give each case an id"
    )
    assert open_dataset(write(path, "id,input\n1,a\n1,a\n")).check().repeated == [(3, 2)]


def test_a_check_reports_priorities_and_segments(tmp_path):
    lines = [
        {"input": str(n), "segment": "s" if n else None, "metadata": {"priority": n} if n else {}} for n in range(3)
    ]
    checked = open_dataset(lines).check()
    assert checked.priorities == {None, 1, 2}
    assert checked.segments == {"s": 2}


@pytest.mark.parametrize("priority", [0, 11, "3", 2.5, True])
def test_a_priority_out_of_range_is_refused(priority):
    with pytest.raises(DatasetError, match=r"^row 1: metadata\.priority is .*; it must be a whole number from 1 to 10"):
        open_dataset([{"input": "x", "metadata": {"priority": priority}}]).check()


def test_what_a_visitor_raises_is_told_with_file_and_line(tmp_path):
    path = write(tmp_path / "a.jsonl", '"a"\n"b"\n')
    seen = []

    def visit(case):
        seen.append(case.inputs["input"])
        if len(seen) == 2:
            raise PromptError("no variable 'topic'")

    with pytest.raises(DatasetError) as caught:
        open_dataset(path).check(visit)
    assert str(caught.value) == f"{path}:2: no variable 'topic'"
    assert (caught.value.file, caught.value.line, seen) == (str(path), 2, ["a", "b"])


# --- bad input: one sentence with its place ---


def test_broken_json_is_told_with_line_and_column(tmp_path):
    good = '{"input": "x"}\n'
    path = write(tmp_path / "a.jsonl", good * 712 + '{"input": "y" "z"}\n' + good)
    assert (
        refusal(path) == ":713:15: this is not valid JSON: Expecting ',' delimiter; each line must be one JSON object"
    )
    path = write(tmp_path / "b.json", '[\n  {"input": "x"},\n  {"input" "y"}\n]')
    assert refusal(path) == ":3:12: this is not valid JSON: Expecting ':' delimiter"
    path = write(tmp_path / "c.json", "[" * 200_000)
    assert refusal(path).startswith(": this JSON cannot be read: ")


@pytest.mark.parametrize(
    ("line", "what"), [("[1]", "a list"), ("3", "a number"), ("null", "null"), ("true", "a boolean")]
)
def test_a_jsonl_line_that_is_no_row_is_refused(tmp_path, line, what):
    path = write(tmp_path / "a.jsonl", f'"x"\n{line}\n')
    assert refusal(path) == f":2: this is {what}, not a row: give an object with a key for each variable, or a text"


def test_a_row_without_anything_to_ask_is_refused(tmp_path):
    path = write(tmp_path / "a.jsonl", '"x"\n{"id": 1, "expected": "y"}\n')
    assert refusal(path) == ":2: there is nothing to ask: the row has neither a variable nor messages"
    path = write(tmp_path / "b.jsonl", '{"messages": [{"role": "user", "content": "x"}]}')
    assert open_dataset(path).check().cases == 1


@pytest.mark.parametrize(
    ("row", "start"),
    [
        ({"metadata": "team a"}, "'metadata' must be a mapping"),
        ({"messages": "hello"}, "'messages' must be a list of messages like"),
        ({"messages": [{"content": "x"}]}, "'messages' must be a list of messages like"),
        ({"context": 3}, "'context' must be a text or a list of documents"),
        ({"context": [{"body": "x"}]}, "'context' must be a text or a list of documents"),
        ({"segment": ["a"]}, "'segment' must be a text"),
        ({"id": [1]}, "'id' must be a text or a number"),
    ],
)
def test_a_known_key_of_the_wrong_kind_is_refused(tmp_path, row, start):
    path = write(tmp_path / "a.jsonl", "\n" + json.dumps({"input": "x", **row}))
    assert refusal(path).startswith(f":2: {start}")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.yaml"])
def test_a_byte_that_is_not_utf8_is_told_with_its_place_and_likely_encoding(tmp_path, name):
    path = write(tmp_path / name, b"input\nab\xe9c\n")
    if name == "a.jsonl":
        path = write(tmp_path / name, b'"abcd"\n"b\xe9c\n')
    expected = "byte 0xe9 at offset 8 is not UTF-8 (in Latin-1 or Windows-1252 it is 'é'); save the file as UTF-8"
    assert refusal(path).startswith(
        f":2:3: {expected}" if name != "a.jsonl" else ":2:3: byte 0xe9 at offset 9 is not UTF-8"
    )


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.jsonl"])
def test_utf16_is_named(tmp_path, name, encoding):
    path = write(tmp_path / name, '["input"]\n'.encode(encoding))
    assert refusal(path) == ":1: this looks like UTF-16; save the file as UTF-8"


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", "input\nx\n"), ("a.jsonl", '"x"'), ("a.json", '["x"]'), ("a.yml", "- x")]
)
def test_a_utf8_mark_at_the_beginning_is_accepted(tmp_path, name, content):
    [case] = open_dataset(write(tmp_path / name, b"\xef\xbb\xbf" + content.encode()))
    assert case.inputs == {"input": "x"}


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.yaml"])
def test_an_empty_file_is_called_empty(tmp_path, name):
    assert refusal(write(tmp_path / name, "")) == ": the file is empty"
    assert refusal(write(tmp_path / name, "\n\n")) == ": there are no rows in it"


def test_no_rows_are_refused(tmp_path):
    assert refusal(write(tmp_path / "a.csv", "input,id\n")) == ": there is a header, but no row below it"
    assert refusal(write(tmp_path / "a.json", "[]")) == ": there are no rows in it"
    assert refusal(write(tmp_path / "a.json.gz", "")) == ": there are no rows in it"
    with pytest.raises(DatasetError, match=r"^records: there are no rows in it"):
        open_dataset([]).check()


def test_a_file_that_is_not_there_is_told_with_near_names(tmp_path):
    write(tmp_path / "support.jsonl", '"x"')
    assert refusal(tmp_path / "suport.jsonl") == ": there is no such file; did you mean 'support.jsonl'?"
    assert refusal(tmp_path / "zzz.csv") == f": there is no such file in '{tmp_path}'"
    assert refusal(tmp_path / "no" / "a.csv") == f": there is no such file, nor the folder '{tmp_path / 'no'}'"


def test_a_folder_is_refused_with_the_files_in_it(tmp_path):
    write(tmp_path / "support.jsonl", '"x"')
    write(tmp_path / "notes.txt", "x")
    assert refusal(tmp_path) == ": this is a folder; name a file in it: support.jsonl"


def test_an_unknown_ending_lists_the_known_ones(tmp_path):
    expected = (
        ": files ending in '.xlsx' cannot be read; known are .csv, .csv.gz, .json, .json.gz, .jsonl, .jsonl.gz, "
        ".ndjson, .ndjson.gz, .parquet, .tsv, .tsv.gz, .yaml, .yml"
    )
    assert refusal(write(tmp_path / "a.xlsx", "x")) == expected


@pytest.mark.parametrize(("row", "cells"), [("1,x,y", 3), ("1", 1)])
def test_a_csv_row_with_more_or_fewer_cells_is_told_with_its_line(tmp_path, row, cells):
    path = write(tmp_path / "a.csv", f'id,input\n0,"two\nlines"\n{row}\n')
    assert refusal(path).startswith(
        f":4: this row has {cells} cells, the header has 2; put cells that hold a delimiter"
    )


def test_a_quote_that_is_never_closed_is_told_where_its_row_begins(tmp_path):
    path = write(tmp_path / "a.csv", 'id,input\n1,x\n2,"open\n3,y\n4,z\n')
    assert refusal(path).startswith(":3: a double quote that opens in this row is never closed; close it")


def test_text_after_a_closing_quote_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", 'id,input\n1,"a" b\n')
    assert refusal(path) == ":2: text follows a closing double quote; double the quotes inside a cell"


def test_a_header_must_name_each_column_once(tmp_path):
    assert (
        refusal(write(tmp_path / "a.csv", "id,input,input\n1,2,3\n"))
        == ":1: two columns are called 'input'; rename one"
    )
    assert (
        refusal(write(tmp_path / "a.csv", ",input\n1,2\n"))
        == ":1: column 1 has no name in the header; give it one or delete it"
    )
    with pytest.raises(DatasetError, match="two columns are called 'a'"):
        open_dataset(pd.DataFrame([[1, 2]], columns=["a", "a"]))


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", ",")])
def test_another_delimiter_is_noticed(tmp_path, name, mark):
    path = write(tmp_path / name, f"id{mark}input\n1{mark}x\n")
    assert refusal(path).startswith(f":1: the header's cells are separated by {mark!r} here; save the file with ")


def test_lines_that_end_with_cr_alone_are_refused(tmp_path):
    assert refusal(write(tmp_path / "a.csv", "id,input\r1,x\r")).startswith(":1: lines end with CR alone")


def test_line_numbers_are_physical_though_cells_hold_newlines(tmp_path):
    path = write(tmp_path / "a.csv", 'id,input\r\n1,"a\r\nb\n\nc"\r\n\r\n2,x\r\n')
    assert list(rows(path)) == [Row(2, {"id": "1", "input": "a\r\nb\n\nc"}), Row(7, {"id": "2", "input": "x"})]


def test_a_very_big_cell_is_read(tmp_path):
    [case] = open_dataset(write(tmp_path / "a.csv", f"input\n{'x' * 1_000_000}\n"))
    assert len(case.inputs["input"]) == 1_000_000


def test_a_compressed_file_that_is_cut_off_is_told_with_the_line_reached(tmp_path):
    lines = "".join(f'"{number} {hash(str(number))}"\n' for number in range(5000))
    whole = gzip.compress(lines.encode())
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    message = refusal(path)
    assert message.endswith(": the compressed file is cut off or damaged here; make or download it again")
    assert int(message.split(":")[1]) > 1
    path.write_bytes(whole[:2000] + b"\0" * 200 + whole[2200:])
    assert "cut off or damaged" in refusal(path) or "not valid JSON" in refusal(path) or "not UTF-8" in refusal(path)
    path.write_bytes(lines.encode())
    assert refusal(path) == ":1: this is not a gzip file, though its name ends in .gz; rename it or compress it"


def test_a_corrupt_parquet_file_is_refused(tmp_path):
    path = write(tmp_path / "a.parquet", b"PAR1 nothing of the kind")
    assert refusal(path).startswith(": this parquet file cannot be read: ")
    assert "\n" not in refusal(path)


def test_bytes_are_refused_with_the_column(tmp_path):
    path = tmp_path / "a.parquet"
    duckdb.sql("SELECT 'x' AS input, 'y'::BLOB AS image").write_parquet(str(path))
    assert refusal(path) == ": row 1: 'image' holds bytes; only text, numbers, dates, lists and mappings can be used"
    with pytest.raises(DatasetError, match=r"^row 2: 'image' holds bytes"):
        open_dataset(["x", {"image": b"y"}]).check()


def test_broken_yaml_is_told_with_line_and_column(tmp_path):
    path = write(tmp_path / "a.yaml", "- input: x\n- input: 'y\n")
    assert refusal(path) == ":3:1: this is not valid YAML: found unexpected end of stream"
    assert refusal(write(path, "- input: 2024-13-45\n")).startswith(":1: this YAML cannot be read: ")
    assert refusal(write(path, "- !!python/object:os.system x\n")).startswith(
        ":1:3: this is not valid YAML: could not determine"
    )
    assert refusal(write(path, "- input: a\x07b\n")).startswith(": this YAML cannot be read: ")


@pytest.mark.parametrize(
    ("name", "content"), [("a.json", '{"rows": []}'), ("a.json", "3"), ("a.yaml", "rows: []"), ("a.yaml", "3")]
)
def test_a_json_or_yaml_file_without_a_list_is_refused(tmp_path, name, content):
    path = write(tmp_path / name, content)
    assert refusal(path) == ": expected a list of rows, or a mapping with that list under 'cases' or 'data'"


# --- properties, size, real files ---

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_csv_round_trip(tmp_path_factory, pairs, end):
    text = io.StringIO()
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([["a", "b"], *pairs])
    path = write(tmp_path_factory.mktemp("csv") / "a.csv", text.getvalue())
    assert [(item.case.inputs["a"], item.case.inputs["b"]) for item in open_dataset(path).numbered()] == pairs


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@given(
    st.lists(
        st.dictionaries(texts.map(lambda name: f"v_{name}"), values, min_size=1, max_size=4), min_size=1, max_size=5
    )
)
def test_jsonl_and_json_round_trip(tmp_path_factory, items):
    folder = tmp_path_factory.mktemp("json")
    lines = write(folder / "a.jsonl", "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items))
    assert [item.case.inputs for item in open_dataset(lines).numbered()] == items
    whole = write(folder / "a.json", json.dumps({"x": 1, "data": items}, indent=1))
    assert [item.case.inputs for item in open_dataset(whole).numbered()] == items


def test_memory_stays_bounded_while_a_big_file_is_read(tmp_path):
    path = tmp_path / "a.jsonl"
    filler = "x" * 10_000
    with path.open("w") as stream:
        for number in range(2_000):
            stream.write(json.dumps({"input": f"{number} {filler}"}) + "\n")
    tracemalloc.start()
    assert open_dataset(path).check().cases == 2_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert path.stat().st_size > 20_000_000
    assert peak < 3_000_000


def test_gsm8k_is_read_with_its_quoted_newlines(shared):
    dataset = open_dataset(shared / "gsm8k_two_models.csv.gz")
    assert dataset.check().cases == 1_319
    with gzip.open(shared / "gsm8k_two_models.csv.gz", "rt", newline="") as stream:
        assert [item.case.inputs for item in dataset.numbered()] == list(csv.DictReader(stream))


def test_the_prompts_pack_is_read_whole(shared):
    checked = open_dataset(shared / "prompts.jsonl", id_column="prompt_id").check()
    assert checked.cases + checked.repeated_count == 805


def test_pandalm_keeps_its_booleans(shared):
    answers = open_dataset(shared / "pairwise_human_pandalm_even.jsonl.gz", id_column="idx")
    found = {case.external_id: case.inputs for case in answers}
    assert len(found) == 500
    assert all(
        any(isinstance(found[n][side], bool) for side in ("response1", "response2")) for n in ("158", "162", "164")
    )


def test_not_a_number_is_never_kept():
    [case] = open_dataset([{"input": math.nan, "deep": {"x": [math.inf]}}])
    assert case.inputs == {"input": None, "deep": {"x": [None]}}
