"""Whether answers become better, slower or dearer: quality, latency and cost from run to run, or over time."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pandas as pd

from feedbackloop import queries
from feedbackloop.errors import SettingsError
from feedbackloop.findings import wording
from feedbackloop.findings.players import Player, Players, players
from feedbackloop.findings.report import named_task
from feedbackloop.findings.samples import FRACTION, Scale, floats, mean_of_cases, mean_score, scale_of, win_rate
from feedbackloop.models import RaterKind
from feedbackloop.queries import trends as counted
from feedbackloop.queries import verdicts
from feedbackloop.queries.policies import releases
from feedbackloop.queries.trends import Ladder, Step
from feedbackloop.queries.verdicts import Selection
from feedbackloop.stats.interval import Interval, quantile_interval
from feedbackloop.store import Store

MOST_STEPS = 400
"""Of more, the newest are shown: a chart cannot show them, and nobody would read them."""

_FORMULA = frozenset("=+-@\t\r")

WIN_RATE = "win rate"
CHECKS = "checks"

_WHOSE: dict[RaterKind, str] = {"human": "people", "user": "end users", "judge": "model judges", "grader": "checks"}


@dataclass(frozen=True)
class Quality:
    """What quality is measured by."""

    title: str
    """`win rate`, `checks`, `thumbs (people)`: what it is chosen by."""
    rater_kind: RaterKind
    scale: Scale
    metrics: tuple[str, ...] = ()
    """None of them: votes against the baseline."""
    versions: tuple[str | None, ...] = ()

    @property
    def votes(self) -> bool:
        """Whether answers are compared, and not rated one by one."""
        return not self.metrics


@dataclass(frozen=True)
class Rung:
    """A step of the axis: a run, or a stretch of time."""

    id: str
    """The run's id, or the local time at which it begins."""
    label: str
    moment: datetime
    """In the zone asked for: when the run's first answer came, or when the stretch begins."""


@dataclass(frozen=True)
class Point:
    """All answers of one name within one step."""

    rung: int
    """Which of the rungs."""
    player: str
    """The name."""
    variant_id: str
    """Newest version in it."""
    version: str
    """The same as people read it: `steps@991a`."""
    changed: bool
    """Whether an earlier step had another version, or this one has several."""
    run_id: str | None
    """Of the newest answer: where its rows are."""
    answers: int
    failed: int
    unpriced: int
    quality: Interval | None
    """None where nobody judged these answers, and for the baseline's win rate."""
    latency_p50_ms: Interval
    latency_p95_ms: Interval
    cost_usd: Interval


@dataclass(frozen=True)
class Mark:
    """A decision that changed who answers: a release, or going back to an earlier one."""

    moment: datetime
    """In the zone asked for."""
    back: bool
    words: str
    """`released steps@991a`, `rolled back to terse`."""


@dataclass(frozen=True, repr=False)
class Trends:
    """A line per variant name; its versions are steps of it."""

    task: str
    step: Step
    zone: str
    since: datetime | None
    baseline: Player | None
    players: Players
    rungs: tuple[Rung, ...]
    """Oldest first."""
    points: tuple[Point, ...]
    """By rung, then in the order of the players."""
    quality: Quality | None
    """What quality is measured by here; None where nothing was judged."""
    qualities: tuple[Quality, ...]
    """What else it could be."""
    left_out: int
    """Older steps that are not here."""
    marks: tuple[Mark, ...] = ()
    """What was released and rolled back since the first of the rungs, oldest first."""

    def of(self, player: str) -> tuple[Point, ...]:
        """One name's points, oldest first."""
        return tuple(point for point in self.points if point.player == player)

    def to_frame(self) -> pd.DataFrame:
        """A row per step and variant name.

        Columns: step (run id, or the local beginning), began (in the zone asked for), variant, version, variant_id, run_id, answers,
        failed, unpriced, quality_by, judged (how many verdicts quality rests on), quality, latency_p50_ms, latency_p95_ms, cost_usd,
        each with _lower and _upper.
        """
        return pd.DataFrame.from_records([self._record(point) for point in self.points])

    def to_csv(self) -> str:
        """The same as CSV; a text that a spreadsheet would run as a formula gets an apostrophe in front."""
        frame = self.to_frame()
        for name in ("variant", "version", "quality_by"):
            frame[name] = [
                f"'{cell}" if isinstance(cell, str) and cell[:1] in _FORMULA else cell for cell in frame[name]
            ]
        return str(frame.to_csv(index=False))

    def _record(self, point: Point) -> dict[str, object]:
        rung = self.rungs[point.rung]
        record: dict[str, object] = {
            "step": rung.id,
            "began": rung.moment,
            "variant": point.player,
            "version": point.version,
            "variant_id": point.variant_id,
            "run_id": point.run_id,
            "answers": point.answers,
            "failed": point.failed,
            "unpriced": point.unpriced,
            "quality_by": self.quality.title if self.quality else None,
            "judged": point.quality.n if point.quality else 0,
        }
        for name, interval in (
            ("quality", point.quality),
            ("latency_p50_ms", point.latency_p50_ms),
            ("latency_p95_ms", point.latency_p95_ms),
            ("cost_usd", point.cost_usd),
        ):
            record |= {
                name: interval.estimate if interval else None,
                f"{name}_lower": interval.lower if interval else None,
                f"{name}_upper": interval.upper if interval else None,
            }
        return record

    def __repr__(self) -> str:
        """What it covers."""
        by = f"{len(self.rungs)} {self.step}{'' if len(self.rungs) == 1 else 's'}"
        quality = f", quality by {self.quality.title}" if self.quality else ", nothing judged"
        return f"Trends of {self.task}: {by}, {len(self.players.known)} variants{quality}"

    def _repr_html_(self) -> str:
        """For notebooks: what it covers, and the table, escaped."""
        table = str(self.to_frame().to_html(index=False, escape=True, max_rows=30))
        return f"<div><p><b>{html.escape(repr(self))}</b></p>{table}</div>"


def trends(
    store: Store,
    *,
    task: str | None = None,
    by: Step = "run",
    since: datetime | None = None,
    baseline: str | None = None,
    quality: str | None = None,
    zone: str = "UTC",
) -> Trends:
    """Quality, latency and cost of a task's variants from run to run, or over time.

    Args:
        store: where the answers are.
        task: which task; unless given, the one with the newest run.
        by: a step of the axis: `run`, `hour`, `day` or `week` (from Monday on).
        since: only answers made since this moment. A vote or rating belongs to the moment of its answer.
        baseline: name of the variant that win rates are against; unless given, what the task says, else the first that ran.
        quality: what quality is measured by, as `Trends.qualities` has it: `win rate`, `checks`, `thumbs (people)`; unless given, the
            first of these that there is.
        zone: where days begin, an IANA name such as `Europe/Berlin`.

    Raises:
        StoreError: there is no such store.
        UnknownName: there is no such task or variant.
        SettingsError: there is no such step, zone or measure of quality.
    """
    if by not in get_args(Step):
        raise SettingsError(f"by='{by}': trends go by {', '.join(get_args(Step)[:-1])} or {get_args(Step)[-1]}")
    there = _zone(zone)
    selection = Selection(named_task(store, task), since, by="name")
    ladder = Ladder(by, zone)
    rows = counted.steps(store, selection, ladder)
    known = players(store, selection.task, "name", rows["player"])
    base = _baseline(store, selection, known, baseline)
    offered = qualities(store, selection)
    chosen = _chosen(offered, quality)
    rungs, left_out = _rungs(rows, by, there)
    judged = _judged(store, selection, ladder, chosen, base) if chosen else {}
    return Trends(
        task=selection.task,
        step=by,
        zone=zone,
        since=since,
        baseline=base,
        players=known,
        rungs=rungs,
        points=_points(rows, rungs, known, judged),
        quality=chosen,
        qualities=offered,
        left_out=left_out,
        marks=_marks(store, known, selection.task, rungs[0].moment, there) if rungs else (),
    )


def _marks(store: Store, known: Players, task: str, since: datetime, zone: ZoneInfo) -> tuple[Mark, ...]:
    names = {id_: player.version_label(id_) for player in known.known for id_ in player.versions}
    return tuple(
        Mark(
            release.policy.created_at.astimezone(zone),
            release.back,
            f"{'rolled back to' if release.back else 'released'} {wording.answering(release.policy.weights, names)}",
        )
        for release in releases(store, task)
        if release.policy.created_at >= since
    )


def qualities(store: Store, selection: Selection) -> tuple[Quality, ...]:
    """What quality can be measured by, what people say first: votes, then checks, then ratings."""
    found = [
        Quality(WIN_RATE if kind == "human" else f"{WIN_RATE} ({_WHOSE[kind]})", kind, FRACTION)
        for kind in verdicts.voting_kinds(store, selection)
    ]
    kinds = counted.kinds_of_scores(store, selection)
    newest = kinds.drop_duplicates(["rater_kind", "metric"])
    checks = newest[(newest["rater_kind"] == "grader") & (newest["low"] >= 0) & (newest["high"] <= 1)]
    if len(checks):
        metrics, versions = tuple(map(str, checks["metric"])), tuple(map(str, checks["version"]))
        found.append(Quality(CHECKS, "grader", FRACTION, metrics, versions))
    described = queries.task(store, selection.task)
    criteria = frozenset(described.criteria) if described else frozenset()
    alone = checks["metric"].tolist() if len(checks) == 1 else []
    for row in newest.to_dict("records"):
        kind, metric, version = row["rater_kind"], str(row["metric"]), row["version"]
        if not (kind == "grader" and metric in alone):
            scale = scale_of(metric, float(row["low"]), float(row["high"]), criteria)
            only = version if isinstance(version, str) else None
            found.append(Quality(f"{metric} ({_WHOSE[kind]})", kind, scale, (metric,), (only,)))
    return tuple(found)


def _chosen(offered: tuple[Quality, ...], title: str | None) -> Quality | None:
    if title is None:
        return offered[0] if offered else None
    for one in offered:
        if one.title == title:
            return one
    titles = ", ".join(f"'{one.title}'" for one in offered) or "nothing: no answer was judged yet"
    raise SettingsError(f"quality='{title}': this task's quality can be measured by {titles}")


def _baseline(store: Store, selection: Selection, known: Players, name: str | None) -> Player | None:
    if name is not None:
        return known.named(name)
    chosen = queries.baseline(store, selection.task)
    return None if chosen is None else known.named(chosen.name)


def _judged(
    store: Store, selection: Selection, ladder: Ladder, quality: Quality, base: Player | None
) -> Mapping[tuple[str, str], Interval]:
    """Quality by rung id and name."""
    mine = Selection(selection.task, selection.since, rater_kind=quality.rater_kind, by="name")
    if quality.votes:
        if base is None:
            return {}
        duels = counted.duels_by_step(store, mine, ladder, base.id)
        return {(str(rung), str(name)): win_rate(group) for (rung, name), group in duels.groupby(["rung", "player"])}
    rows = counted.scores_by_step(store, mine, ladder, quality.metrics, quality.versions)
    return {
        (str(row["rung"]), str(row["player"])): mean_score(row["n"], row["total"], row["cases"], quality.scale)
        for row in rows.to_dict("records")
    }


def _rungs(rows: pd.DataFrame, step: Step, zone: ZoneInfo) -> tuple[tuple[Rung, ...], int]:
    first = rows.groupby("rung", sort=False)["moment"].min().sort_values(kind="stable")
    kept = first.iloc[-MOST_STEPS:]
    made = []
    for id_, utc in kept.items():
        name = str(id_)
        if step == "run":
            moment = utc.to_pydatetime().replace(tzinfo=UTC).astimezone(zone)
            label = f"{_day(moment)} {moment:%H:%M} ({name[:8]})"
        else:
            moment = datetime.fromisoformat(name).replace(tzinfo=zone)
            label = {
                "hour": f"{_day(moment)} {moment:%H:00}",
                "day": f"{moment:%a} {_day(moment)} {moment.year}",
                "week": _week(moment),
            }[step]
        made.append(Rung(name, label, moment))
    return tuple(made), len(first) - len(kept)


def _week(monday: datetime) -> str:
    sunday = monday + timedelta(days=6)
    return f"{_day(monday)} to {_day(sunday)} {sunday.year}"


def _day(moment: datetime) -> str:
    return f"{moment.day} {moment:%b}"


def _points(
    rows: pd.DataFrame, rungs: tuple[Rung, ...], known: Players, judged: Mapping[tuple[str, str], Interval]
) -> tuple[Point, ...]:
    places = {rung.id: place for place, rung in enumerate(rungs)}
    order = {id_: place for place, id_ in enumerate(known.ids)}
    last: dict[str, str] = {}
    points = []
    for row in sorted(rows.to_dict("records"), key=lambda row: (places.get(row["rung"], -1), order[row["player"]])):
        name, variant_id, rung = str(row["player"]), str(row["variant_id"]), str(row["rung"])
        changed = bool(row["several"]) or last.get(name, variant_id) != variant_id
        last[name] = variant_id
        if rung not in places:
            continue
        latencies = floats(row["latencies"])
        points.append(
            Point(
                rung=places[rung],
                player=name,
                variant_id=variant_id,
                version=known[name].version_label(variant_id),
                changed=changed,
                run_id=row["run_id"] if isinstance(row["run_id"], str) else None,
                answers=int(row["answers"]),
                failed=int(row["failed"]),
                unpriced=int(row["unpriced"]),
                quality=judged.get((rung, name)),
                latency_p50_ms=quantile_interval(latencies, 0.5),
                latency_p95_ms=quantile_interval(latencies, 0.95),
                cost_usd=mean_of_cases(row["costs"], row["cost_items"]),
            )
        )
    return tuple(points)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise SettingsError(f"zone='{name}': there is no such time zone; give one such as Europe/Berlin") from error
