"""The structure that the design promises, held by parsing the imports."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "feedbackloop"

LAYERS = [
    {"identity", "models", "palette", "errors", "text", "usage", "wording"},
    {
        "registry",
        "settings",
        "spec",
        "datasets",
        "prompts",
        "pricing",
        "schema",
        "rows",
        "lease",
        "functions",
        "places",
        "store",
        "stats",
        "bundled",
    },
    {"providers", "queries"},
    {"graders", "comparisons", "importers", "plots", "findings"},
    {"pipeline"},
    {"improve", "reports", "demo", "doctor"},
    {"cli", "client", "pytest_plugin", "gateway", "pages", "__main__"},
]
# Where a module of a layer builds on another one of the same layer.
WITHIN = {
    "models": {"identity"},
    "errors": {"models"},
    "settings": {"registry", "errors"},
    "spec": {"settings", "registry"},
    "pricing": {"settings"},
    "functions": {"registry"},
    "rows": {"schema"},
    "places": {"lease", "rows", "schema"},
    "store": {"places", "rows", "schema"},
    "doctor": {"demo"},
    "plots": {"findings"},
    "reports": {"improve"},
    "importers": {"graders"},
    "__main__": {"cli"},
}
HOMES = {
    "streamlit": {"pages"},
    "fastapi": {"gateway"},
    "starlette": {"gateway"},
    "uvicorn": {"gateway"},
    "prometheus_client": {"pipeline"},
    "openai": {"providers"},
    "ray": {"pipeline"},
    "duckdb": {"store", "places", "schema", "datasets", "queries"},
    "genai_prices": {"pricing"},
    "jinja2": {"prompts"},
    "pytest": {"pytest_plugin"},
    "typer": {"cli"},
    "rich": {"cli"},
    "plotly": {"plots"},
    "jsonschema": {"graders"},
    "rapidfuzz": {"graders"},
    "sacrebleu": {"graders"},
}


def place(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def imports() -> dict[str, set[str]]:
    """Module name to everything it imports, in functions too, but not what only a type checker reads."""
    found: dict[str, set[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                node.body = []
        names: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name}: imports are absolute"
                module = node.module or ""
                submodules = {f"{module}.{alias.name}" for alias in node.names}
                is_module = {
                    one
                    for one in submodules
                    if (PACKAGE.parent / one.replace(".", "/")).with_suffix(".py").exists()
                    or (PACKAGE.parent / one.replace(".", "/")).is_dir()
                }
                names |= is_module or {module}
        found[name] = names
    return found


def layer_of(name: str) -> int:
    for number, layer in enumerate(LAYERS):
        if name in layer:
            return number
    raise AssertionError(f"{name} stands in no layer: add it to LAYERS")


def test_a_module_imports_only_from_lower_layers_or_its_own_folder() -> None:
    wrong = []
    for module, names in imports().items():
        here = place(module)
        if here == "__init__":
            continue
        for name in names:
            if name == "feedbackloop" or not name.startswith("feedbackloop."):
                continue
            there = place(name)
            if there == here or there in WITHIN.get(here, set()) or layer_of(there) < layer_of(here):
                continue
            wrong.append(f"{module} imports {name}")
    assert not wrong


def test_there_is_no_circle_of_imports() -> None:
    graph = {
        module: {name for name in names if name.startswith("feedbackloop.") and name != module}
        for module, names in imports().items()
    }
    # A folder's own __init__ gathers what its modules offer; modules that import it back for its protocol are the other way.
    list(TopologicalSorter(graph).static_order())


def test_every_dependency_has_one_home() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, names in imports().items()
        for name in {name.split(".")[0] for name in names}
        if name in HOMES and place(module) not in HOMES[name]
    ]
    assert not wrong


def test_modules_stay_readable() -> None:
    long = [str(file) for file in PACKAGE.rglob("*.py") if len(file.read_text().splitlines()) > 400]
    assert not long


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils", "util", "common", "helpers", "misc", "constants", "base"}
    assert not [file for file in PACKAGE.rglob("*.py") if file.stem in drawers]
