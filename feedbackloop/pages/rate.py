"""Rate: which is better? Blind: nothing on this page says whose answer it is before the vote."""

from __future__ import annotations

import streamlit as st

from feedbackloop import comparisons
from feedbackloop.errors import UnknownName
from feedbackloop.models import Queue
from feedbackloop.pages import address, context
from feedbackloop.pages.rating import choosing, screen


def _wanted() -> Queue | None:
    """The queue that the address names."""
    id_ = st.query_params.get("queue")
    if not id_ or not context.store().exists():
        return None
    try:
        return comparisons.queue(context.store(), id_)
    except UnknownName:
        st.warning("The store has no such queue; perhaps the link is from another store.", icon=":material/info:")
        return None


queue, rater = _wanted(), context.rater()

if queue is not None and rater is not None:
    # The baseline's name would stand in the address.
    address.keep("baseline", None)
    names = {} if queue.blind else context.read(comparisons.variant_names, tuple(queue.variants))
    screen.judge(*screen.sitting(context.store(), queue, rater), names)
    st.stop()

st.title("Rate")
st.caption("Which is better? You see two answers, and not whose they are.")
if queue is not None:
    st.markdown("You are invited to rate. Who are you?")
    choosing.name_yourself("rating-who")
    st.stop()
scope = context.scope(period=False)
if scope is None:
    st.info("There is nothing to rate yet: no answers are in this store.", icon=":material/info:")
    context.link("home", "Try the demo, or bring your data", icon=":material/home:")
    st.stop()
choosing.choose(scope, rater)
