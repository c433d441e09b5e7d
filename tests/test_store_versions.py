"""A store written by one version of DuckDB opens on the other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

OTHER = os.environ.get("OTHER_DUCKDB_PYTHON")

WRITE = """
import sys
from feedbackloop.models import AIRequest, AIResponse, Case, Task, Variant
from feedbackloop.store import Store
store = Store(sys.argv[1])
case, variant = Case(inputs={"input": "hello"}), Variant(name="v", model="a:b")
request = AIRequest(input="hello", case_id=case.id, variant_id=variant.id, run_id="r", metadata={"by": sys.argv[2]})
store.append([Task(name="t"), case, variant, request, AIResponse(request_id=request.id, output="hi", model_used="a:b")])
"""
READ = """
import sys, duckdb
from feedbackloop.store import Store
frame = Store(sys.argv[1]).sql("SELECT variant, input, output FROM answers")
print(duckdb.__version__, frame.values.tolist())
"""


def test_both_versions_read_and_write_the_same_file(tmp_path: Path) -> None:
    if OTHER is None:
        pytest.skip("OTHER_DUCKDB_PYTHON names no interpreter with another version of DuckDB")

    def run(python: str, code: str, *arguments: str) -> str:
        return subprocess.run(
            [python, "-c", code, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    for first, second in ((sys.executable, OTHER), (OTHER, sys.executable)):
        file = str(tmp_path / f"{Path(first).parts[-3]}.duckdb")
        run(first, WRITE, file, "first")
        assert run(second, READ, file).endswith("[['v', 'hello', 'hi']]")
        run(second, WRITE, file, "second")
        versions = {run(python, READ, file).split()[0] for python in (first, second)}
        assert len(versions) == 2
        assert run(first, READ, file).count("hello") == 1  # the same cell, answered twice: one is current
