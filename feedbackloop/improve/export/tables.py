"""Tables and views of the store as files for spreadsheets, notebooks and other tools.

DuckDB writes them itself, so a million rows take seconds and little memory. JSON Lines and Parquet hold everything exactly as
it is stored; CSV too, but for one thing: a text that a spreadsheet would run as a formula gets an apostrophe in front.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from feedbackloop import queries
from feedbackloop.errors import SettingsError, UnknownName
from feedbackloop.improve.export.sinks import beside, refuse_misplaced, refuse_orphaned
from feedbackloop.improve.export.spreadsheet import FORMULA, NEGATIVE
from feedbackloop.models import TABLES
from feedbackloop.queries.records import asked_tasks, known_task
from feedbackloop.registry import near
from feedbackloop.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

EXPORTS = ("answers", "votes", *TABLES)
"""What can be exported: the two views that people work with, and every table."""

_CSV = "FORMAT csv, HEADER true"
_JSONL = "FORMAT json"
_FORMATS = {
    ".csv": _CSV,
    ".csv.gz": f"{_CSV}, COMPRESSION gzip",
    ".jsonl": _JSONL,
    ".jsonl.gz": f"{_JSONL}, COMPRESSION gzip",
    ".parquet": "FORMAT parquet, COMPRESSION zstd",
}

_REQUESTS = "SELECT id FROM requests WHERE run_id = $run"
_RESPONSES = f"SELECT id FROM responses WHERE request_id IN ({_REQUESTS})"
_OF_RUN = {
    "answers": "run_id = $run",
    "votes": "run_id = $run",
    "tasks": "name IN (SELECT task FROM runs WHERE id = $run)",
    "cases": "id IN (SELECT case_id FROM requests WHERE run_id = $run)",
    "variants": "id IN (SELECT unnest(variants) FROM runs WHERE id = $run)",
    "runs": "id = $run",
    "run_events": "run_id = $run",
    "requests": "run_id = $run",
    "responses": f"request_id IN ({_REQUESTS})",
    "ratings": f"response_id IN ({_RESPONSES})",
    "comparisons": f"response_a IN ({_RESPONSES})",
}
"""Which rows of a table belong to a run; other tables know no runs."""

_TASK_REQUESTS = "SELECT id FROM requests WHERE task = $task"
_TASK_RESPONSES = f"SELECT id FROM responses WHERE request_id IN ({_TASK_REQUESTS})"
_OF_TASK = {
    "tasks": "name = $task",
    "cases": "id IN (SELECT case_id FROM requests WHERE task = $task UNION SELECT case_id FROM comparisons WHERE task = $task)",
    "variants": """id IN (SELECT unnest(variants) FROM runs WHERE task = $task
                          UNION SELECT variant_id FROM requests WHERE task = $task)""",
    "run_events": "run_id IN (SELECT id FROM runs WHERE task = $task)",
    "responses": f"request_id IN ({_TASK_REQUESTS})",
    "assignments": "queue IN (SELECT id FROM queues WHERE task = $task)",
    "exposures": f"""id IN (SELECT id FROM (SELECT id, unnest(response_ids) AS response_id FROM exposures)
                           WHERE response_id IN ({_TASK_RESPONSES}))""",
    "ratings": f"response_id IN ({_TASK_RESPONSES})",
}
"""Which rows of a table belong to a task; all others have a column that says so."""

_ORDER = {"answers": "created_at, case_id, variant", "votes": "created_at, id"}


def export(
    store: Store,
    path: str | Path,
    what: str = "answers",
    *,
    task: str | None = None,
    run: str | None = None,
    raw: bool = False,
    format: str | None = None,
) -> int:
    """Write a view or a table to a file, in place of what was there before; returns how many rows.

    The file is complete or not there at all. Answers and votes come in the order of time, tables in none. Times are UTC; in texts
    they are ISO 8601 with a Z. Values that are JSON stay JSON (nested in JSON Lines, text in CSV and Parquet), lists become JSON
    text in CSV.

    Args:
        store: where from.
        path: where to; the ending says how: .csv, .jsonl (both also with .gz) or .parquet.
        what: `answers`, `votes`, or the name of a table.
        task: only what belongs to this task.
        run: only what belongs to the run whose id begins so.
        raw: leave texts in CSV as they are, also those that a spreadsheet would run as formulas.
        format: csv, jsonl or parquet, whatever the name ends in.

    Raises:
        SettingsError: the ending is none of these, the folder is not there, or `what` has no runs.
        UnknownName: `what` is neither view nor table, or there is no such task.
        StoreError: there is no such store or run, or the file cannot be written.
    """
    target = Path(path)
    ending = _ending(target, what, format)
    store.must_exist()
    if run is not None and what not in _OF_RUN:
        raise SettingsError(f"'{what}' does not belong to runs; leave the run out")
    belongs = _Belongs.to(store, task, run)
    with beside(target) as temporary:
        with store.lease() as connection:
            rows = _copy(connection, what, belongs.condition(what), temporary, ending, raw=raw)
        temporary.replace(target)
    return rows


def export_all(
    store: Store,
    folder: str | Path,
    format: str = "csv",
    *,
    task: str | None = None,
    run: str | None = None,
    raw: bool = False,
) -> dict[str, int]:
    """Write both views and every table into a folder, a file each, all of one moment; returns how many rows, by name.

    Files of these names are replaced once all are written; whatever else is in the folder stays.

    Args:
        store: where from.
        folder: where to; it is made if it is not there.
        format: csv, jsonl or parquet; also csv.gz and jsonl.gz.
        task: only what belongs to this task.
        run: only what belongs to the run whose id begins so; what belongs to no run is left out.
        raw: leave texts in CSV as they are, also those that a spreadsheet would run as formulas.

    Raises:
        SettingsError: the format is none of these, or `folder` is a file or lies in a folder that is not there.
        UnknownName: there is no such task.
        StoreError: there is no such store or run, or the files cannot be written.
    """
    target = Path(folder)
    ending = f".{format}"
    if ending not in _FORMATS:
        raise SettingsError(f"tables are written as {', '.join(name[1:] for name in _FORMATS)}, not as {format}")
    if target.is_file():
        raise SettingsError(f"{target}: this is a file; give the name of a folder")
    refuse_orphaned(target)
    store.must_exist()
    wanted = [what for what in EXPORTS if run is None or what in _OF_RUN]
    belongs = _Belongs.to(store, task, run)
    with beside(target) as temporary:
        temporary.mkdir()
        with store.lease() as connection:
            rows = {
                what: _copy(connection, what, belongs.condition(what), temporary / f"{what}{ending}", ending, raw=raw)
                for what in wanted
            }
        target.mkdir(exist_ok=True)
        for what in wanted:
            (temporary / f"{what}{ending}").replace(target / f"{what}{ending}")
    return rows


@dataclass(frozen=True)
class _Belongs:
    """The task and the run (id) that everything written belongs to; None for any."""

    task: str | None
    run: str | None

    @classmethod
    def to(cls, store: Store, task: str | None, run: str | None) -> _Belongs:
        """Those of these names, once it is clear that the store has them."""
        if task is not None:
            known_task(store, task, {*queries.tasks(store), *asked_tasks(store)})
        return cls(task, None if run is None else queries.find_run(store, run).run.id)

    def condition(self, what: str) -> str:
        """SQL for the rows of a view or table; nothing for all that there are."""
        wanted = []
        if self.task is not None:
            wanted.append(_OF_TASK.get(what, "task = $task").replace("$task", _quoted(self.task)))
        if self.run is not None:
            wanted.append(_OF_RUN[what].replace("$run", _quoted(self.run)))
        return f" WHERE {' AND '.join(wanted)}" if wanted else ""


def _quoted(text: str) -> str:
    """A text in SQL, since COPY takes no parameters."""
    return "'" + text.replace("'", "''") + "'"


def _copy(connection: DuckDBPyConnection, what: str, condition: str, target: Path, ending: str, *, raw: bool) -> int:
    selected = f"SELECT {_columns(connection, what, ending, raw=raw)} FROM {what}{condition}"
    if what in _ORDER:
        selected += f" ORDER BY {_ORDER[what]}"
    else:
        # 500,000 responses take 260 MB so, and 1 GB otherwise.
        connection.execute("SET preserve_insertion_order = false")
    place = str(target).replace("'", "''")
    try:
        connection.execute(f"COPY ({selected}) TO '{place}' ({_FORMATS[ending]})")
        return int(connection.fetchall()[0][0])
    finally:
        connection.execute("RESET preserve_insertion_order")  # it is the process's, not this connection's


def _ending(target: Path, what: str, format: str | None) -> str:
    """The format by its name or the file's, once it is clear that it and what is asked for make sense."""
    name = target.name.lower()
    if format is not None:
        name = f".{format}.gz" if name.endswith(".gz") else f".{format}"
        if name not in _FORMATS:
            raise SettingsError(f"{target}: a table is written as {', '.join(_FORMATS)}, not as {name}")
    ending = next((known for known in sorted(_FORMATS, key=len, reverse=True) if name.endswith(known)), "")
    if not ending:
        raise SettingsError(f"{target}: cannot tell the format from this name; end it in {', '.join(_FORMATS)}")
    if what not in EXPORTS:
        raise UnknownName(f"there is nothing called '{what}' to export{near(what, EXPORTS)}")
    refuse_misplaced(target)
    return ending


def _columns(connection: DuckDBPyConnection, what: str, ending: str, *, raw: bool) -> str:
    connection.execute(f"DESCRIBE {what}")
    kinds = {f'"{name}"': kind for name, kind, *_ in connection.fetchall()}
    return ", ".join(f"{_value(name, kind, ending, raw=raw)} AS {name}" for name, kind in kinds.items())


def _value(name: str, kind: str, ending: str, *, raw: bool) -> str:
    if ending == ".parquet":
        # As a type of its own, JSON reaches few readers; TIMESTAMPTZ is what they take for UTC.
        return {"JSON": f"CAST({name} AS VARCHAR)", "TIMESTAMP": f"{name} AT TIME ZONE 'UTC'"}.get(kind, name)
    if kind == "TIMESTAMP":
        return f"strftime({name}, '%Y-%m-%dT%H:%M:%S.%fZ')"
    if ending.startswith(".jsonl"):
        return name
    text = {"VARCHAR": name, "JSON": f"CAST({name} AS VARCHAR)", "VARCHAR[]": f"CAST(to_json({name}) AS VARCHAR)"}.get(
        kind
    )
    if text is None:
        return name
    if raw:
        return text
    risky = f"regexp_matches({text}, '{FORMULA}') AND NOT regexp_full_match({text}, '{NEGATIVE}')"
    return f"CASE WHEN {risky} THEN '''' || {text} ELSE {text} END"
