"""What `import feedbackloop` offers."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import feedbackloop


def test_every_public_name_is_listed_sorted_and_there() -> None:
    assert feedbackloop.__all__ == sorted(feedbackloop.__all__)
    assert set(feedbackloop.__all__) == set(feedbackloop._HOMES)
    for name in feedbackloop.__all__:
        assert getattr(feedbackloop, name) is not None


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(feedbackloop.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    names = {
        alias.asname or alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert names == set(feedbackloop.__all__)


def test_the_patterns_own_name_is_the_same_class() -> None:
    assert feedbackloop.FeedbackLoopArchitecture is feedbackloop.FeedbackLoop


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, feedbackloop; print([m for m in ('pydantic', 'duckdb', 'pandas', 'openai') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
