"""Files that came through the browser, and what their columns stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

import feedbackloop as fl
from feedbackloop.errors import DatasetError
from feedbackloop.importers import AnswerMapping
from feedbackloop.pages.starting import files, roles
from feedbackloop.pages.starting.roles import Role


@pytest.fixture
def store(tmp_path: Path) -> fl.Store:
    (tmp_path / "here").mkdir()
    return fl.Store(tmp_path / "here" / "loop.duckdb")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("rows.csv", "rows.csv"),
        ("../../etc/passwd.csv", "passwd.csv"),
        ("..\\..\\boot.csv", "boot.csv"),
        ("/abs/olute.csv", "olute.csv"),
        ("my rows (1).csv", "my_rows_1.csv"),
        ("Größe.csv", "Größe.csv"),
        ("...csv", "file.csv"),
        ("a\x00b\n.csv", "a_b.csv"),
        ("-rf.csv", "rf.csv"),
        ("x" * 300 + ".csv", "x" * 60 + ".csv"),
        ("evil.py.csv", "evil.py.csv"),
        ("DATA.CSV", "DATA.csv"),
    ],
)
def test_an_upload_gets_a_name_that_is_only_a_name(store, given, kept) -> None:
    file = files.save(given, b"a,b\n1,2\n", store)
    assert file.parent == store.path.parent / "uploads"
    digest, _, name = file.name.partition("-")
    assert (len(digest), name) == (10, kept)
    assert files.save(given, b"a,b\n1,2\n", store) == file
    assert files.save(given, b"a,b\n1,3\n", store) != file
    assert files.uploaded(file.name, store) == file


@pytest.mark.parametrize("name", ["run.py", "rows", "rows.csv.gz", ".csv", "x.duckdb", "page.html"])
def test_other_kinds_are_refused(store, name) -> None:
    with pytest.raises(DatasetError, match="files of this kind are not read"):
        files.save(name, b"x", store)
    assert not (store.path.parent / "uploads").exists()


def test_only_what_lies_among_the_uploads_can_be_named(store) -> None:
    (store.path.parent / "secret.csv").write_text("a\n1\n")
    files.save("rows.csv", b"a\n1\n", store)
    for name in ("../secret.csv", "secret.csv", "/etc/passwd", "", "."):
        assert files.uploaded(name, store) is None


def test_yaml_that_would_grow_when_read_is_refused(store) -> None:
    bomb = "a: &a [x, x]\nb: &b [*a, *a]\ncases: [*b, *b]\n"
    with pytest.raises(DatasetError, match=r"bomb\.yaml:2: aliases are not read"):
        files.save("bomb.yaml", bomb.encode(), store)
    assert files.save("fine.yaml", b"- input: 'AT&T * 2'\n", store).exists()
    # Whoever reads it says what is wrong with it.
    assert files.save("broken.yaml", b"- &a {\n*", store).exists()


def test_what_can_be_chosen_is_uploads_what_ran_and_what_lies_here(store, tmp_path) -> None:
    here = tmp_path / "work"
    (here / "data").mkdir(parents=True)
    (here / ".hidden").mkdir()
    for name in ("rows.jsonl", "data/cases.csv", ".hidden/x.csv", "notes.txt", "package.json"):
        (here / name).write_text("{}")
    used = tmp_path / "elsewhere.parquet"
    used.write_bytes(b"")
    kept = files.save("rows.csv", b"a\n1\n", store)
    assert set(files.at_hand(store, here, [used, tmp_path / "gone.csv"])) == {
        kept,
        used,
        here / "rows.jsonl",
        here / "data" / "cases.csv",
    }


# Columns


WIDE = ["id", "prompt", "model_a", "model_b", "reference", "latency_ms", "winner"]
WIDE_ROWS = [
    {"id": 1, "prompt": "One?", "model_a": "1", "model_b": "uno", "reference": "1", "latency_ms": 3, "winner": 1}
]


def test_columns_are_guessed_as_the_importer_does() -> None:
    found = roles.guess(WIDE, WIDE_ROWS)
    assert found.sure
    assert not found.long
    assert found.roles == {
        "id": Role.ID,
        "prompt": Role.QUESTION,
        "model_a": Role.ANSWER,
        "model_b": Role.ANSWER,
        "reference": Role.QUESTION,
        "latency_ms": Role.NOTHING,
        "winner": Role.NOTHING,
    }
    long = roles.guess(["case_id", "prompt", "model", "output", "latency_ms"], [{"model": "a", "output": "x"}])
    assert long.long
    assert long.roles["model"] is Role.VARIANT
    assert long.roles["latency_ms"] is Role.FIGURE
    unsure = roles.guess(["foo", "expected"], [{"foo": "x", "expected": "y"}])
    assert (unsure.sure, unsure.roles) == (False, {"foo": Role.QUESTION, "expected": Role.EXPECTED})


def test_roles_make_a_mapping_or_say_what_to_choose() -> None:
    q, a, v = Role.QUESTION, Role.ANSWER, Role.VARIANT
    assert roles.mapping_of({"p": q, "x": a, "y": a}, long=False) == AnswerMapping(answers=("x", "y"))
    assert roles.mapping_of({"p": q, "w": v, "x": a}, long=True) == AnswerMapping(variant="w", output="x")
    for given, long, sentence in (
        ({"p": q}, False, "at least one column that holds answers"),
        ({"x": a}, False, "at least one column for the question"),
        ({"p": q, "x": a}, True, "whose answer it is"),
        ({"p": q, "w": v, "x": a, "y": a}, True, "whose answer it is"),
        ({"p": q, "x": a, "i": Role.ID, "j": Role.ID}, False, "i and j are both the row's id"),
        ({"p": q, "x": a, "id": q, "j": Role.ID}, False, "the column 'id' would stand for the row's id too"),
    ):
        with pytest.raises(DatasetError, match=sentence):
            roles.mapping_of(given, long=long)


def test_a_file_is_copied_only_where_columns_are_renamed_or_left_out(store) -> None:
    file = files.save("a.csv", b"id,prompt,x,reference,mood\n1,One?,uno,1,sunny\n", store)
    same = {"id": Role.ID, "prompt": Role.QUESTION, "x": Role.ANSWER}
    assert roles.arranged(file, same, store) == file
    chosen = {**same, "reference": Role.EXPECTED, "mood": Role.NOTHING}
    made = roles.arranged(file, chosen, store)
    assert made.name.endswith("-a.jsonl")
    assert made.read_text() == '{"id": "1", "prompt": "One?", "x": "uno", "expected": "1"}\n'
    assert roles.arranged(file, chosen, store) == made
    assert roles.arranged(file, {**chosen, "reference": Role.SEGMENT}, store) != made
