"""Whatever stands where in a file of another tool: it is taken, or refused in one sentence, and never a traceback."""

from __future__ import annotations

import copy
import json
import random

import pytest
import test_import_formats as formats
import test_import_promptfoo as promptfoo

from feedbackloop.errors import FeedbackLoopError
from feedbackloop.importers.formats import FORMATS, Source, recognise
from feedbackloop.importers.intake import Passage
from feedbackloop.store import Store

ODD = [
    *(None, True, 3, -1, 1.5, 1e300, "", "x", "{{a}}", "\x00", "\ud800", "file://x", "[1", "{}", "2025-01-01"),
    *([], {}, [1], ["x"], [None], [{}], {"a": 1}, {"role": "user"}, [{"role": "user"}]),
]
TABLE = {
    "head": {"vars": ["n"], "prompts": [{"raw": "x"}]},
    "body": [{"vars": ["1"], "outputs": [{"text": "x", "pass": True, "score": 1}], "test": {}}],
}
CONFIG = {
    "prompts": ["Say {{n}}", {"raw": "x", "label": "y"}],
    "providers": ["openai:x", {"id": "openai:y", "config": {"temperature": 1}, "prompts": ["y"]}],
    "defaultTest": {"assert": [{"type": "latency", "threshold": 1}], "vars": {"a": 1}, "options": {"x": 1}},
    "tests": [
        {
            "vars": {"n": ["1", 2]},
            "assert": [{"type": "contains", "value": "x"}, {"type": "assert-set", "assert": [{"type": "is-json"}]}],
            "metadata": {"a": 1},
        }
    ],
    "scenarios": [{"config": [{"vars": {"q": 1}}], "tests": [{"vars": {"r": 1}}]}],
    "evaluateOptions": {"repeat": 2},
    "assertionTemplates": {"a": {"type": "is-json"}},
}
RESULT = promptfoo.result(0, 0, "a", parts=[promptfoo.part("equals", value="x")])
BATTLE = formats.battle(["Q", "a"], ["Q", "b"], "tie", conv_metadata={"sum_assistant_a_tokens": 1})
SEEDS = [
    ("promptfoo", promptfoo.whole(RESULT, prompts=[{"raw": "a"}])),
    ("promptfoo", {"results": {"table": TABLE}}),
    ("promptfoo", [RESULT]),
    ("promptfoo-config", CONFIG),
    ("openai-batch-input", [formats.BATCH_IN]),
    ("openai-batch", [formats.BATCH_OUT]),
    ("chat", [formats.CHAT]),
    ("alpaca-eval", [formats.ALPACA]),
    ("alpaca-eval-annotations", [formats.ANNOTATION]),
    ("arena", [BATTLE]),
    ("arena", [formats.BATTLE | {"prompt": '["x"]', "response_a": '["x"]', "response_b": "x"}]),
    ("llmperf", [formats.REQUEST]),
]


def places(value, path=()):
    """Paths to everything within a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def spoiled(value, draw):
    """A copy with something odd at one place, or without it."""
    value = copy.deepcopy(value)
    path = draw.choice(list(places(value)))
    within = value
    for key in path[:-1]:
        within = within[key]
    if isinstance(within, dict) and draw.random() < 0.2:
        del within[path[-1]]
    else:
        within[path[-1]] = copy.deepcopy(draw.choice(ODD))
    return value


@pytest.mark.parametrize(("name", "seed"), SEEDS, ids=[f"{name}-{at}" for at, (name, _) in enumerate(SEEDS)])
def test_nonsense_is_refused_in_a_sentence(tmp_path, name, seed) -> None:
    draw = random.Random(5)
    given = formats.write_jsonl(tmp_path / "in.jsonl", formats.BATCH_IN)
    format_ = FORMATS.get(name)
    taken, said = 0, []
    for _ in range(150):
        made = spoiled(seed, draw)
        lines = isinstance(made, list)
        path = tmp_path / ("f.jsonl" if lines else "f.json")
        path.write_text("".join(json.dumps(row) + "\n" for row in made) if lines else json.dumps(made))
        for written in ("f.cases.jsonl", "f.feedbackloop.yaml"):
            (tmp_path / written).unlink(missing_ok=True)
        source = Source(path, Store(tmp_path / "none.duckdb"), given if name == "openai-batch" else None)
        try:
            recognise(path)
            if format_.convert:
                format_.convert(source, "t")
            else:
                Passage(path, format_.read(source)).print()
            taken += 1
        except FeedbackLoopError as error:
            said.append(str(error))
    assert not [sentence for sentence in said if "\n" in sentence]
    assert 10 < taken < 150
