"""The rule that Home and Decide go by: what the address says, else what people were last asked under."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from feedbackloop.improve import gate
from feedbackloop.improve.rules import Rule, parsed, written
from feedbackloop.pages import address, answer, context

GOALS = {"better": "is preferred", "no_worse": "is no worse, and cheaper or faster"}

NAME = "rule"
"""What the address calls it."""
_READ = "rule-read"
"""For which task which rule was last read from the address."""
_DRAWN = "rule-drawn"
"""What the widgets were last filled from."""


def in_force(task: str, candidate: str, baseline: str) -> Rule:
    """The rule of a decision between two variants (ids). One that was set for another task is dropped."""
    asked: Rule = context.read(gate.asked_rule, task, candidate, baseline)
    text = st.query_params.get(NAME)
    if text is None:
        # Typed more easily, and what links said before there was more.
        goal = st.query_params.get("goal")
        return replace(asked, goal="no_worse" if goal == "no_worse" else "better") if goal in GOALS else asked
    before, same = st.session_state.get(_READ, (task, text))
    if before != task and same == text:
        address.keep(NAME, None)
        return asked
    st.session_state[_READ] = (task, text)
    return parsed(text) or asked


def of_queue(scope: context.Scope, variants: Sequence[str]) -> dict[str, Any]:
    """What a queue between these variants (ids) keeps of the rule in force, so that it does not go back to the usual one."""
    if scope.baseline is None or len(variants) != 2 or variants[0] != scope.baseline.id:
        return {}
    return in_force(scope.task, variants[1], variants[0]).unusual


def set_to(rule: Rule, task: str, candidate: str, baseline: str) -> None:
    """Let this rule be in force from here on. The address holds it where it is not the one that people were asked under."""
    asked = context.read(gate.asked_rule, task, candidate, baseline)
    st.query_params.pop("goal", None)
    address.keep(NAME, None if rule == asked else written(rule))
    st.session_state[_READ] = (task, st.query_params.get(NAME))


def choose(task: str, candidate: str, baseline: str) -> Rule:
    """Draw the rule in force, folded but for its goal, and let what is changed in it be in force from here on."""
    before = in_force(task, candidate, baseline)
    _fill(before)
    st.selectbox("Goal: the candidate", list(GOALS), key="rule-goal", width=260, format_func=GOALS.__getitem__)
    rule = _said(before)
    unusual = len(rule.unusual.keys() - {"goal"} - ({"margin"} if rule.goal == "better" else set()))
    with st.popover(f"Rule and guards ({unusual})" if unusual else "Rule and guards", icon=":material/tune:"):
        if rule.goal == "no_worse":
            _percent("May lose at most (points of win rate)", "margin", least=0.1, most=30.0)
        _percent("May cost more (%)", "max-cost", most=1000.0)
        _percent("95th percentile may be slower (%)", "max-p95", most=1000.0)
        _percent("More requests may fail (points)", "max-failures", most=100.0)
        st.toggle(
            "Strict interval",
            key="rule-strict",
            help="Right without any approximation, and wider: it needs more votes.",
        )
        for said in _besides(rule):
            st.caption(answer.escaped(said))
    if rule != before:
        set_to(rule, task, candidate, baseline)
    st.session_state[_DRAWN] = written(rule)
    return rule


def _fill(rule: Rule) -> None:
    """Give the widgets the rule's values where they have none, or where the address or the queues say something new."""
    anew = st.session_state.get(_DRAWN) != written(rule)
    values = {
        "rule-goal": rule.goal,
        "rule-margin": _shown(rule.margin),
        "rule-max-cost": _shown(rule.max_cost_increase),
        "rule-max-p95": _shown(rule.max_p95_increase),
        "rule-max-failures": _shown(rule.max_failure_increase),
        "rule-strict": rule.strict,
    }
    for key, value in values.items():
        if anew or key not in st.session_state:
            st.session_state[key] = value


def _said(before: Rule) -> Rule:
    """The rule as the widgets have it; what has none stays."""
    state = st.session_state

    def share(name: str, exact: float | None) -> float | None:
        value: float | None = state[f"rule-{name}"]
        return exact if value == _shown(exact) else None if value is None else value / 100

    return replace(
        before,
        goal=state["rule-goal"],
        margin=share("margin", before.margin) or before.margin,
        max_cost_increase=share("max-cost", before.max_cost_increase),
        max_p95_increase=share("max-p95", before.max_p95_increase),
        max_failure_increase=share("max-failures", before.max_failure_increase),
        strict=state["rule-strict"],
    )


def _percent(title: str, name: str, *, most: float, least: float = 0.0) -> None:
    key = f"rule-{name}"
    present = st.session_state[key] or least
    st.number_input(
        title, min(least, present), max(most, present), None, 1.0, format="%g", key=key, placeholder="no guard"
    )


def _shown(share: float | None) -> float | None:
    return None if share is None else round(share * 100, 6)


def _besides(rule: Rule) -> list[str]:
    """What the rule says and no widget shows."""
    said = {
        "rater_kind": f"Only blind votes of this kind count: {rule.rater_kind}.",
        "metric": f"What is voted on: {rule.metric}.",
        "scope": f"It must hold of {rule.scope}.",
        "min_saving": f"It must save at least {rule.min_saving:.0%}.",
        "alpha": f"At {1 - rule.alpha:.0%} confidence.",
        "planned": f"Planned for {rule.planned} cases.",
    }
    return [words for name, words in said.items() if name in rule.unusual]
