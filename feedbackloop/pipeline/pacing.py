"""How fast a target may be asked: rates that are set, rates that it tells of itself, and the one that its refusals teach."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from feedbackloop.providers import Quota

CUT_LEAST = 0.03
"""A refusal takes off the share of requests that were refused, and at least this."""
DOUBTED = 10
"""As many requests are thought to have been borne besides: the first one refused does not mean that all are."""
BURST_S = 0.05
"""What the pace may save up while nobody asks."""

GROWTH = 0.01
"""Growth a second after a cut. One refusal in three seconds is where this and the least cut balance."""
CALM_S = 5.0
CALM_GROWTH = 0.02
"""After so long without a refusal, growth a second grows by so much a second: the limit has risen."""
SEARCH_GROWTH = 0.5
"""Growth a second while it is hardly known what the target bears."""
ANSWER_GROWTH = 0.1
"""Growth with an answer, at most: a target that answers once a minute is not asked ever faster meanwhile."""
LAG = 1.25
"""While the pace rises, what was sent over the last second lags behind it."""

SPORADIC = 0.05
"""A smaller share of refusals may have nothing to do with how fast the target is asked."""
FLOOR = 0.5
"""For such ones the pace does not fall below this share of what was borne since it was last far off."""

OVERRUN = 5
OVERRUN_SHARE = 0.2
"""So many refusals, and such a share of them, show that the pace is far off."""
OVERRUN_S = 0.5
SHORTEST_S = 0.05
FIRST_S = 1.0
"""What was borne is taken to have been borne in no less time than this; at first a target may let a second's worth pass at once."""
YOUNG_S = 2.0
"""A target that is asked for no longer was never asked at a pace: all that was sent to it counts."""
KNOWN = 25
"""As many requests have to be borne before the first refusal for it to be known how fast."""

PAUSE_S = 0.5
"""Nothing is sent for so long after far too much was sent, and where everything is refused; then doubled up to `PAUSE_MAX_S`."""
PAUSE_MAX_S = 15.0
PROBES_PER_S = 2.0
"""How fast it is asked after that, until an answer or `PROBED_S` without a refusal shows that it is open."""
PROBED_S = 2.0


@dataclass
class Bucket:
    """A rate: `per_minute` units flow in, at most a second's worth (or `most`) is kept, and whoever finds anything may overdraw."""

    per_minute: float
    level: float
    at: float
    most: float | None = None
    of_tokens: bool = False

    def wait(self, now: float) -> float:
        """Seconds until something is left."""
        most = self.per_minute / 60 if self.most is None else self.most
        self.level = min(self.level + (now - self.at) * self.per_minute / 60, most)
        self.at = now
        return 0.0 if self.level > 0 else -self.level * 60 / self.per_minute + 1e-3

    def take(self, tokens: float) -> None:
        """Count a request of so many tokens."""
        self.level -= tokens if self.of_tokens else 1


@dataclass
class _Meter:
    """How many a second there were lately: over the last second, and the half one that has begun."""

    since: float
    counts: list[int] = field(default_factory=lambda: [0, 0, 0])

    def add(self, now: float) -> None:
        if now - self.since >= 0.5:
            self._turn(now)
        self.counts[2] += 1

    def per_s(self, now: float) -> float:
        self._turn(now)
        return sum(self.counts) / (1.0 + now - self.since)

    def _turn(self, now: float) -> None:
        turns = int((now - self.since) / 0.5)
        if turns > 0:
            self.since += turns * 0.5
            self.counts = (self.counts + [0] * min(turns, 3))[-3:]


class Pace:
    """Requests a second that a target bears, found out from its refusals; without one there is no such limit.

    The first refusal comes when far too much is under way: nothing is sent for a moment, until the others have come in too, and
    what was borne is the first pace. That is done again whenever many are refused. From then on a refusal takes off little, and
    the pace grows by a hundredth a second, ever faster when it is left alone. So it stays within a few hundredths of the limit,
    at the price of one refusal in a hundred or two. A target that refuses everything is given pauses instead: that tells nothing
    of how much it bears when it is open.
    """

    def __init__(self, now: float) -> None:
        self._began = self._cut_at = now
        self._cut_to = math.inf
        self._lately = _Meter(now)
        self._sent = self._refused = self._answers = 0
        """Since the last cut."""
        self._all_sent = self._all_refused = 0
        """Since the pace was last far off."""
        self._young = False
        """Whether what is being weighed is all that was ever sent."""
        self._bucket: Bucket | None = None
        self._proved = 0.0
        """The fastest that was borne since then."""
        self._searching = False
        self._weighing_s = 0.0
        """How long it took to send what is being weighed; 0 when nothing is."""
        self._pause_s = 0.0
        self._opens_at = -math.inf
        """End of the last pause."""

    def per_s(self, now: float) -> float:
        """Requests a second at this moment; infinite as long as nothing was refused."""
        if self._cut_to == math.inf:
            return math.inf
        calm = now - self._cut_at
        grown = calm * GROWTH + max(calm - CALM_S, 0.0) ** 2 * CALM_GROWTH / 2
        if self._searching:
            grown = calm * SEARCH_GROWTH
        pace = self._cut_to * math.exp(min(grown, self._answers * ANSWER_GROWTH, 20.0))
        if self._pause_s and now - self._opens_at < PROBED_S:
            pace = min(pace, PROBES_PER_S)
        return pace

    def wait(self, now: float) -> float:
        """Seconds until the next request may be sent."""
        bucket = self._bucket
        if bucket is None:
            return 0.0
        if self._weighing_s:
            if now < self._opens_at:
                return self._opens_at - now
            self._weigh(now)
            bucket.level, bucket.at = 1.0, now
        pace = self.per_s(now)
        bucket.per_minute, bucket.most = pace * 60, max(pace * BURST_S, 1.0)
        return bucket.wait(now)

    def sent(self, now: float) -> None:
        """A request is sent."""
        self._lately.add(now)
        self._sent += 1
        self._all_sent += 1
        if self._bucket is not None:
            self._bucket.level -= 1

    def answered(self, sent_at: float) -> None:
        """The target answered a request."""
        self._answers += 1
        if sent_at > self._opens_at:
            self._pause_s = 0.0

    def refused(self) -> None:
        """The target refused a request."""
        self._refused += 1
        self._all_refused += 1

    def cut(self, now: float, named_s: float | None) -> float:
        """It did so with one that was sent after the last refusal was known; returns seconds to send nothing for.

        Args:
            named_s: for how long the target itself says so.
        """
        if self._weighing_s:
            return max(self._opens_at - now, named_s or 0.0)
        bucket, self._bucket = self._bucket, self._bucket or Bucket(60.0, 1.0, now)
        share = self._refused / (self._sent + DOUBTED)
        if bucket is None or (self._answers and self._refused >= OVERRUN and share >= OVERRUN_SHARE):
            self._young = now - self._began < YOUNG_S
            self._weighing_s = max(now - (self._began if self._young else self._cut_at), SHORTEST_S)
            return self._pause(now, PAUSE_S if named_s is None else named_s)
        if not self._answers:
            self._pause_s = min(max(self._pause_s * 2, PAUSE_S), PAUSE_MAX_S)
            return self._pause(now, self._pause_s if named_s is None else named_s)
        lately = self._lately.per_s(now)
        self._proved = max(self._proved, lately * (1 - share))
        borne = min(self.per_s(now), lately * LAG) * (1 - max(share, CUT_LEAST))
        self._cut(now, max(borne, self._proved * FLOOR if self._all_refused < SPORADIC * self._all_sent else 0.0))
        return named_s or 0.0

    def _pause(self, now: float, seconds: float) -> float:
        self._opens_at = now + seconds
        return seconds

    def _weigh(self, now: float) -> None:
        sent, refused = (self._all_sent, self._all_refused) if self._young else (self._sent, self._refused)
        seconds, self._weighing_s = self._weighing_s, 0.0
        if refused < SPORADIC * (sent + DOUBTED):
            # Only these few: it was not how fast it was asked.
            self._proved = sent / seconds
            self._cut(now, self._proved)
            return
        if self._young or self._cut_to == math.inf:
            seconds = max(seconds, FIRST_S)
            least = 0.1 * sent / seconds
        else:
            # Refusals that came late may be those of what was sent before it all.
            seconds, least = max(seconds, OVERRUN_S), self._cut_to / 2
        self._cut(now, max((sent - refused) / seconds, least))
        self._searching = self._young and sent - refused < KNOWN
        self._all_sent = self._all_refused = 0
        self._proved = 0.0

    def _cut(self, now: float, to: float) -> None:
        self._cut_to, self._cut_at, self._searching = max(to, 1 / 60), now, False
        self._sent = self._refused = self._answers = 0
        self._pause_s = 0.0


def told(bucket: Bucket | None, quota: Quota, now: float, *, of_tokens: bool) -> Bucket | None:
    """A rate as the target itself tells it with its answers and refusals; None while it tells nothing.

    What is left flows back evenly until all is there, as OpenAI's reference says of its `x-ratelimit-reset-*`. What was sent
    since the answer was begun is known here only, so that the lower of the two counts is believed.
    """
    used = quota.limit - quota.remaining
    if used <= 0 or quota.reset_s <= 0:
        return bucket
    # A request needs one of them, tokens may be overdrawn: how many an answer takes is known afterwards.
    left = quota.remaining if of_tokens else quota.remaining - 1
    per_minute = used / quota.reset_s * 60
    if bucket is None:
        return Bucket(per_minute, left, now, quota.limit, of_tokens=of_tokens)
    bucket.per_minute, bucket.most = per_minute, quota.limit
    bucket.wait(now)
    bucket.level = min(bucket.level, left)
    return bucket
