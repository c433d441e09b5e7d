"""A decision in words: one sentence for the screen, and a receipt to paste into a pull request."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from urllib.parse import quote

from feedbackloop.findings.wording import listed, short
from feedbackloop.improve.rules import Rule, line, rule_of
from feedbackloop.models import Decision, Policy
from feedbackloop.wording import count

MOST_NAMED = 3
"""Raters who are named; of more, only how many they are."""

_STATES = {"holds": "holds", "open": "not shown yet", "fails": "fails"}

_GUARDS = {
    "cost": "mean cost of an answer",
    "p95_latency": "95th percentile of latency",
    "failures": "failure rate",
    "saving": "saving",
}


def named(decision: Decision, variant_id: str) -> str:
    """A variant's name and version as they were when the decision was made."""
    return str(decision.evidence.get("names", {}).get(variant_id, variant_id[:4]))


def sentence(decision: Decision) -> str:
    """The verdict with its reason."""
    candidate, baseline = (short(named(decision, id_)) for id_ in (decision.candidate, decision.baseline))
    if decision.verdict == "promote":
        gain = "it is preferred" if decision.reason == "better" else "it is no worse, and cheaper or faster"
        return f"Release {candidate} in place of {baseline}: {gain}."
    if decision.reason == "worse":
        return f"Keep {baseline}: {candidate} is worse."
    if decision.reason.startswith("guard:"):
        guard = _GUARDS.get(decision.reason.removeprefix("guard:"), decision.reason)
        if guard == "saving":
            return f"{'Keep' if decision.verdict == 'keep' else 'Not yet'} {baseline}: {candidate} is not shown to be cheaper or faster."
        if decision.verdict == "keep":
            return f"Keep {baseline}: the {guard} of {candidate} is beyond what the rule allows."
        return f"Not yet: the {guard} of {candidate} looks beyond what the rule allows."
    more = f": about {count(decision.more_needed, 'more vote')} would tell" if decision.more_needed else ""
    return f"Too early to say whether {candidate} may replace {baseline}{more}."


def evidence(decision: Decision) -> str:
    """What the verdict rests on: the win rate, its interval, votes and raters."""
    if not decision.n:
        return "No blind vote has compared the two yet."
    raters = listed(decision.raters[:MOST_NAMED], len(decision.raters))
    votes = count(decision.n, "blind vote")
    if decision.estimate is None:
        return f"{votes} by {raters}, but no case has all its votes yet."
    voted = f"{votes} on {count(int(decision.evidence.get('cases', 0)), 'case')} by {raters}"
    bounds = (
        f" ({decision.lower:.0%} to {decision.upper:.0%} at {decision.evidence.get('confidence', 0.95):.0%}, however often it is looked at)"
        if decision.lower is not None and decision.upper is not None and (decision.lower, decision.upper) != (0.0, 1.0)
        else ""
    )
    candidate, baseline = (short(named(decision, id_)) for id_ in (decision.candidate, decision.baseline))
    said = [f"{candidate} wins {decision.estimate:.0%} of {unit(decision)} against {baseline}{bounds}: {voted}."]
    return " ".join([*said, *besides(decision)])


def unit(decision: Decision) -> str:
    """What the estimate and its interval count: cases, each once; in decisions of earlier versions the estimate was of comparisons."""
    return "cases" if "of_votes" in decision.evidence else "comparisons"


def besides(decision: Decision) -> list[str]:
    """What would puzzle a reader of the estimate: the share of votes where it is another, and a verdict that its interval has left."""
    said = []
    votes = decision.evidence.get("of_votes", {})
    asked = rule_of(decision).scope
    if votes.get("scope") == asked != decision.evidence.get("scope"):
        said.append(
            f"Of {asked}: {votes['estimate']:.0%} of the votes ({votes['lower']:.0%} to {votes['upper']:.0%} at one look)."
        )
    elif votes.get("estimate") is not None and f"{votes['estimate']:.0%}" != f"{decision.estimate or 0.0:.0%}":
        said.append(f"Of the votes it wins {votes['estimate']:.0%}.")
    settled, goal = decision.evidence.get("settled_at"), line(rule_of(decision))
    if settled and (decision.lower or 0.0) <= goal <= (1.0 if decision.upper is None else decision.upper):
        said.append(
            f"The whole interval lay on one side of {goal:.0%} after {count(settled, 'case')}, and that stands."
        )
    return said


def receipt(
    decision: Decision, *, store: str | None = None, policy: Policy | None = None, picture: str | None = None
) -> str:
    """Markdown for a pull request: the verdict, its evidence, the guards, and the commands that reproduce and undo it.

    Args:
        decision: what was decided.
        store: the store's URL, for the commands; left out where it is the usual one.
        policy: the release that followed, if there is one.
        picture: the file beside it that holds `improve.picture.picture`, if there is one.
    """
    where = f" --store {shlex.quote(store)}" if store else ""
    candidate, baseline = named(decision, decision.candidate), named(decision, decision.baseline)
    lines = [
        f"### {_plain(sentence(decision))}",
        "",
        *([f"![{_plain(sentence(decision))}]({quote(picture)})", ""] if picture else []),
        _plain(evidence(decision)),
        "",
        f"- Task: {_plain(decision.task)}; goal: {decision.goal.replace('_', ' ')}; decided {decision.created_at:%Y-%m-%d %H:%M} UTC",
        f"- Interval: {decision.evidence.get('method', 'unknown')}, clustered by case; it speaks of {decision.evidence.get('scope', 'these raters')}",
    ]
    if decision.guards:
        lines += ["", "| guard | baseline | candidate | change (95% bounds) | allowed | |", "|---|---|---|---|---|---|"]
        lines += [f"| {' | '.join(guard_cells(name, guard))} |" for name, guard in decision.guards.items()]
    gate = f"feedbackloop gate {shlex.quote(candidate)} --baseline {shlex.quote(baseline)} --task {shlex.quote(decision.task)} --goal {decision.goal}{_options(rule_of(decision))}{where}"
    lines += ["", "Reproduce:", "", f"    {gate}"]
    if policy is not None:
        lines += [
            "",
            f"Undo release {policy.id[:8]}:",
            "",
            f"    feedbackloop rollback {shlex.quote(decision.task)}{where}",
        ]
    return "\n".join(lines) + "\n"


def _options(rule: Rule) -> str:
    """What a rule says besides its goal, as options of `gate`; what it leaves at the default is left out."""
    options = {
        "margin": "margin",
        "rater_kind": "votes",
        "max_cost_increase": "max-cost",
        "max_p95_increase": "max-p95",
        "max_failure_increase": "max-failures",
    }
    given = rule.unusual
    return "".join(f" --{option} {given[name]}" for name, option in options.items() if given.get(name) is not None)


def guard_cells(name: str, guard: Mapping[str, object]) -> tuple[str, ...]:
    """A guard in words: what it guards, the baseline's figure, the candidate's, the change with its bounds, what is allowed, its state."""
    base, other, change, allowed = (guard.get(key) for key in ("baseline", "candidate", "increase", "allowed"))
    bounds = ""
    if isinstance(guard.get("lower"), float) and isinstance(guard.get("upper"), float):
        bounds = f" ({guard['lower']:+.0%} to {guard['upper']:+.0%})"
    return (
        _GUARDS.get(name, name),
        _figure(name, base),
        _figure(name, other),
        f"{change:+.0%}{bounds}" if isinstance(change, float) else "unknown",
        f"{allowed + 0.0:+.0%}" if isinstance(allowed, float) else "",
        _STATES.get(str(guard.get("state")), ""),
    )


def _figure(name: str, value: object) -> str:
    if not isinstance(value, float):
        return "unknown"
    if name == "failures":
        return f"{value:.1%}"
    return f"{value:,.0f} ms" if name == "p95_latency" or value > 10 else f"${value:.5f}"


def _plain(text: str) -> str:
    """Names come from users and uploads: nothing in them may become a link, an image or a tag of the page it is pasted into."""
    for character in "\\`*_[]<>|#!":
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")
