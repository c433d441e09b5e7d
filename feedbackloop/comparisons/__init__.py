"""Rating: queues of pairs or single answers, dealt out blind to raters, and what they say of them.

queue = open_queue(store, "support", ["terse", "steps"])
pair = next_pair(store, queue, "Anna")
vote(store, pair, "left", "Anna", seconds=12)
"""

from feedbackloop.comparisons.exposure import expose, expose_all
from feedbackloop.comparisons.items import Item, Pair, Single, Verdict
from feedbackloop.comparisons.queues import (
    Outlook,
    Purpose,
    QueueStatus,
    answers_of,
    open_queue,
    outlook,
    queue,
    queues,
    status,
)
from feedbackloop.comparisons.ratings import (
    Rated,
    correct,
    label_issue,
    rate,
    rate_and_deal,
    ratings_of,
    unlabel_issue,
    unrate,
)
from feedbackloop.comparisons.rounds import Closed, Outcome, next_item, next_pair, next_single, skip
from feedbackloop.comparisons.sitting import Last, Sitting
from feedbackloop.comparisons.summary import (
    Difference,
    Revealed,
    Said,
    SessionSummary,
    Standing,
    heading,
    reveal,
    session_summary,
    variant_names,
)
from feedbackloop.comparisons.votes import Voted, note, undo, vote, vote_and_deal, vote_openly

__all__ = [
    "Closed",
    "Difference",
    "Item",
    "Last",
    "Outcome",
    "Outlook",
    "Pair",
    "Purpose",
    "QueueStatus",
    "Rated",
    "Revealed",
    "Said",
    "SessionSummary",
    "Single",
    "Sitting",
    "Standing",
    "Verdict",
    "Voted",
    "answers_of",
    "correct",
    "expose",
    "expose_all",
    "heading",
    "label_issue",
    "next_item",
    "next_pair",
    "next_single",
    "note",
    "open_queue",
    "outlook",
    "queue",
    "queues",
    "rate",
    "rate_and_deal",
    "ratings_of",
    "reveal",
    "session_summary",
    "skip",
    "status",
    "undo",
    "unlabel_issue",
    "unrate",
    "variant_names",
    "vote",
    "vote_and_deal",
    "vote_openly",
]
