"""The run spec: what people write, and what they are told when it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from feedbackloop.errors import SettingsError
from feedbackloop.spec import load_spec

FULL = """
task: support
dataset: data/support.jsonl
variants:
  - {name: terse, model: "openai:gpt-4o-mini", prompt: "Answer in one sentence: {{ input }}"}
  - {name: steps, model: "openai:gpt-4o", prompt: [{role: system, content: "Think step by step."}, {role: user, content: "{{ input }}"}],
     params: {temperature: 0.2}, fallbacks: ["openai:gpt-4o-mini"], exemplars: [{input: a, output: b}]}
graders: [{contains: "refund"}, json_valid, "my_graders.py:polite"]
limits: {concurrency: 64, requests_per_minute: 500, tokens_per_minute: 200000, timeout_s: 60, retries: 3}
budget_usd: 5
repeats: 1
"""
HEAD = "dataset: d.jsonl\nvariants:\n  - {name: a, model: b}\n"


def test_the_designs_own_spec_is_read(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(FULL)
    spec = load_spec(file)
    assert spec.task.name == "support"
    assert spec.dataset_path == tmp_path / "data/support.jsonl"
    terse, steps = spec.variant_records()
    assert (terse.name, steps.fallbacks, steps.params) == ("terse", ["openai:gpt-4o-mini"], {"temperature": 0.2})
    assert steps.exemplars[0].inputs == {"input": "a"}
    assert spec.limits is not None
    assert spec.limits.requests_per_minute == 500
    assert spec.graders == [{"contains": "refund"}, "json_valid", "my_graders.py:polite"]


def test_a_variants_identity_is_its_content_not_its_name(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(
        "dataset: d\nvariants: [{name: a, model: m, prompt: x}, {name: b, model: m, prompt: x}, {name: c, model: m}]"
    )
    a, b, c = load_spec(file).variant_records()
    assert a.id == b.id != c.id
    assert a.label == f"a@{a.id[:4]}"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (HEAD.replace("model", "modle"), "unknown key 'variants.0.modle'; did you mean 'model'?"),
        (HEAD + "limits: {concurency: 3}", "unknown key 'limits.concurency'; did you mean 'concurrency'?"),
        (HEAD + "grader: [x]", "unknown key 'grader'; did you mean 'graders'?"),
        (
            HEAD.replace("}", ", params: {extra_headers: {Authorization: Bearer sk-1}}}"),
            "'variants.0.params': 'Authorization' is a secret, and parameters are stored",
        ),
        (HEAD + "repeats: 0", "'repeats': input should be greater than or equal to 1"),
        (HEAD + "  - {name: a, model: c}", "two variants are called 'a'; every name may stand once"),
        (HEAD + "task: {name: t, baseline: aa}", "the baseline 'aa' is none of the variants; did you mean 'a'?"),
        ("dataset: d.jsonl\nvariants: []", "'variants': list should have at least 1 item"),
        ("variants: [{name: a, model: b}]", "'dataset' is missing"),
        ("- a\n- b", "a spec is a mapping with `dataset` and `variants`"),
        ("", "a spec is a mapping with `dataset` and `variants`"),
        (HEAD + "base: /etc", "unknown key 'base'"),
    ],
)
def test_a_mistake_is_one_sentence_that_says_where(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_spec(file)
    assert str(caught.value).startswith(f"{file}: {sentence}")
    assert "\n" not in str(caught.value)


def test_broken_yaml_is_told_with_line_and_column(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("dataset: d\nvariants: [{name: a\n")
    with pytest.raises(SettingsError, match=rf"{file}:3:1: this is not valid YAML"):
        load_spec(file)


def test_a_missing_spec_names_the_near_one(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(HEAD)
    with pytest.raises(SettingsError, match=r"no such spec; did you mean 'spec.yaml'\?"):
        load_spec(tmp_path / "spce.yaml")
    with pytest.raises(SettingsError, match="feedbackloop init"):
        load_spec(tmp_path / "folder" / "x.yaml")


def test_a_spec_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_bytes(b"\xff\xfe\x00d")
    with pytest.raises(SettingsError, match="UTF-8"):
        load_spec(file)
