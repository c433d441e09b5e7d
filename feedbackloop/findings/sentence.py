"""Results in words: one sentence that says what the votes amount to, and what must be known to read it rightly."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from feedbackloop.findings import wording
from feedbackloop.findings.wording import digits, percent, span
from feedbackloop.stats.interval import Interval, proportion_interval
from feedbackloop.stats.standings import FEWEST_COMPARISONS
from feedbackloop.wording import count

if TYPE_CHECKING:
    from feedbackloop.findings.scores import Scores
    from feedbackloop.findings.verdict import Row, Verdict

FIRST_PAIRS = 20
"""So many are proposed where nobody has voted."""

MUCH_BAD = 0.2
"""From this share of comparisons on it is said that both answers were bad."""

_NO_VOTES = {
    "user": "no feedback by end users that compares answers",
    "judge": "no votes by model judges",
    "grader": "checks do not compare answers; what they say stands below",
}


def headline(verdict: Verdict) -> str:
    """The best candidate against the baseline, or what is missing to say so.

    How many more votes a decision takes is not said here but by `improve.gate`, which knows the rule: two plans would differ.
    """
    if verdict.counted is not None:
        return _nothing_yet(verdict)
    row = verdict.best
    if row is None:
        assert verdict.baseline is not None
        return f"{verdict.baseline.label} was never compared with the others: {to_rate(verdict, FIRST_PAIRS)}"
    return against(verdict, row)


def against(verdict: Verdict, row: Row) -> str:
    """How one candidate stands against the baseline."""
    assert verdict.baseline is not None
    candidate, base = row.player.label, verdict.baseline.label
    who = _whose(verdict, row)
    if not row.votes:
        return f"{candidate} was never compared with {base}: {to_rate(verdict, FIRST_PAIRS)}"
    if row.few:
        return (
            f"Few votes yet: {candidate} won {row.wins} of {count(row.votes, 'comparison')} with {base} and lost {row.losses} "
            f"({span(row.win_rate)}%; {who}); {to_rate(verdict, FEWEST_COMPARISONS - row.votes, more=True)}"
        )
    votes = count(row.votes, "vote")
    if not row.decided:
        share = percent(row.win_rate.estimate or 0.0, digits(row.win_rate))
        return f"No difference shown yet: {candidate} {share} against {base} ({span(row.win_rate)}; {votes}; {who})"
    if (row.win_rate.lower or 0.0) > 0.5:
        first, second, interval = candidate, base, row.win_rate
    else:
        first, second, interval = base, candidate, _mirrored(row.win_rate)
    share = percent(interval.estimate or 0.0, digits(interval))
    return f"{first} is preferred to {second} in {share} of comparisons ({span(interval)}; {votes}; {who})"


def notes(verdict: Verdict) -> tuple[str, ...]:
    """A sentence each; none of them may be missing where it applies."""
    said = []
    row = verdict.best
    rivals = [one for one in verdict.rows if one.votes and one is not row]
    if rivals:
        said.append(
            "The others: "
            + ", ".join(f"{one.player.label} {_share(one)}" for one in rivals[:4])
            + (f" and {len(rivals) - 4} more" if len(rivals) > 4 else "")
            + "."
        )
    if len(rivals) >= 2:
        said.append(
            f"Each interval stands for itself: the best of {len(rivals) + 1} looks better than it is, by chance alone."
        )
    if row is not None and (row.both_bad_rate.estimate or 0.0) >= MUCH_BAD:
        said.append(f"In {percent(row.both_bad_rate.estimate or 0.0)} of these comparisons both answers were bad.")
    if row is not None and row.raters.total == 1 and verdict.selection.rater_kind == "human":
        said.append(f"One rater: this is the taste of {row.raters}.")
    if verdict.scope == "raters like these" and row is not None and row.win_rate.scope != verdict.scope:
        said.append("Fewer than five raters: the interval speaks of these raters only.")
    never = [one.player.label for one in verdict.rows if not one.votes]
    if never and row is not None and verdict.baseline is not None:
        said.append(f"Never compared with {verdict.baseline.label}: {wording.listed(never[:4], len(never))}.")
    names = Counter(one.name for one in verdict.players.known)
    for name in [name for name, times in names.items() if times > 1]:
        labels = [one.label for one in verdict.players.known if one.name == name]
        said.append(
            f"{name} has {len(labels)} versions, each counted by itself: {labels[0]} (newest), {', '.join(labels[1:])}."
        )
    if verdict.not_blind:
        were = "vote by a rater" if verdict.not_blind == 1 else "votes by raters"
        said.append(f"{verdict.not_blind:,} {were} who knew whose answers they saw: left out.")
    return tuple(said)


def of_checks(found: Scores) -> str:
    """What checks say of the variants, the best first."""
    rows = sorted(found.overall, key=lambda row: -(row.mean.estimate or 0.0))
    if not rows:
        if found.rows:
            return f"{count(len(found.metrics), 'check')} without passing or failing: see the figures"
        return "No checks yet: name some in the spec, such as json_valid or contains"
    said = [f"{row.player.label} {wording.rate(row.mean)}" for row in rows[:4]]
    more = f" and {len(rows) - 4} more" if len(rows) > 4 else ""
    return f"Checks passed: {', '.join(said)}{more}"


def about_ties(verdict: Verdict) -> tuple[str, ...]:
    """How often nobody won, and whether the side mattered on which an answer stood."""
    votes = verdict.votes
    if not votes:
        return ()
    ties = proportion_interval(float(verdict.cells.ties.sum()), votes)
    bad = proportion_interval(float(verdict.cells.both_bad.sum()), votes)
    said = [
        f"Of {count(votes, 'vote')} {wording.rate(ties)} were about the same, {wording.rate(bad)} found both answers bad."
    ]
    if verdict.left.n:
        side = "so the side mattered" if verdict.left.excludes(0.5) else "no sign that the side mattered"
        decided = count(verdict.left.n, "decided vote")
        said.append(f"The answer on the left was chosen in {wording.rate(verdict.left)} of {decided}: {side}.")
    else:
        said.append("On which side an answer stood is not known of these votes.")
    return tuple(said)


def to_rate(verdict: Verdict, pairs: int, *, more: bool = False) -> str:
    """`rate 20 pairs, 7 minutes`: what a person can do about too few votes; others' votes just have to come."""
    if verdict.selection.rater_kind != "human":
        return f"{pairs}{' more' if more else ''} would do" if more else "none of them yet"
    noun = "more pair" if more else "pair"
    return f"rate {count(pairs, noun)}, {wording.duration(pairs * verdict.seconds_per_vote)}"


def _nothing_yet(verdict: Verdict) -> str:
    counted = verdict.counted
    assert counted is not None
    when = " in this period" if verdict.selection.since else ""
    if not counted.answers:
        return f"No answers{when or ' yet'}"
    answers = count(counted.answers, "answer")
    if counted.players < 2:
        return f"One variant only, {answers}{when}: add a second to compare it with"
    if verdict.selection.rater_kind != "human":
        return f"{answers}{when}, {_NO_VOTES[verdict.selection.rater_kind]}"
    kind = "no blind votes" if verdict.not_blind else "no votes"
    return f"{answers}{when}, {kind}: {to_rate(verdict, min(FIRST_PAIRS, counted.cases))}"


def _whose(verdict: Verdict, row: Row) -> str:
    if row.win_rate.scope == "raters like these":
        return f"raters like {row.raters}"
    return str(row.raters) if verdict.selection.rater_kind != "judge" else f"judged by {row.raters}"


def _share(row: Row) -> str:
    yet = "few votes yet, " if row.few else ""
    return f"{percent(row.win_rate.estimate or 0.0, digits(row.win_rate))} ({yet}{span(row.win_rate)}; {count(row.votes, 'vote')})"


def _mirrored(interval: Interval) -> Interval:
    """The same as seen from the other side."""

    def flipped(value: float | None) -> float | None:
        return None if value is None else 1 - value

    return Interval(
        estimate=flipped(interval.estimate),
        lower=flipped(interval.upper),
        upper=flipped(interval.lower),
        se=interval.se,
        n=interval.n,
        clusters=interval.clusters,
        method=interval.method,
        scope=interval.scope,
        alpha=interval.alpha,
        center=flipped(interval.center),
        df=interval.df,
    )
