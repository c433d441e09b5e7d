"""How the rating screen fills the window, so that nothing scrolls but what is read, and how it takes keys."""

from __future__ import annotations

import streamlit as st

# Without this, or where a browser does not know :has, the screen works too; the page itself may scroll then.
_STYLE = """
<style>
[data-testid="stMain"]:has(.st-key-rating-screen) { overflow: hidden; }
/* What Streamlit puts between the page and the bar, to push the bar down. */
[data-testid="stMain"]:has(.st-key-rating-screen) > div:not([data-testid]) { flex: 0 0 0; }
[data-testid="stMainBlockContainer"]:has(.st-key-rating-screen) {
  padding: 2.75rem 1.5rem 0; max-width: none; flex: 1 1 0; min-height: 0; display: flex; flex-direction: column;
}
[data-testid="stMainBlockContainer"] :is(.stVerticalBlock, [data-testid="stLayoutWrapper"]):has(.st-key-rating-screen),
.st-key-rating-screen { flex: 1 1 0; min-height: 0; position: relative; }
.st-key-rating-screen > [data-testid="stLayoutWrapper"]:has(> .st-key-rating-tools) {
  position: absolute; top: -2.25rem; right: 0; width: auto;
}
.st-key-rating-screen > * { flex-shrink: 0; }
.st-key-rating-screen > [data-testid="stLayoutWrapper"]:has(> .st-key-rating-case) { flex: 0 1 auto; min-height: 4rem; max-height: 26dvh; }
.st-key-rating-case {
  overflow-y: auto; padding: 0.5rem 1rem; border-radius: 6px; background: color-mix(in srgb, currentColor 6%, transparent);
}
.st-key-rating-screen > [data-testid="stLayoutWrapper"]:has(> [class*="st-key-pair-"]) { flex: 1 1 0; min-height: 6rem; }
[class*="st-key-pair-"] { height: auto; padding-top: 0.5rem; }
[class*="st-key-pair-"] .stColumn + .stColumn {
  border-left: 1px solid color-mix(in srgb, currentColor 20%, transparent); padding-left: 1.5rem;
}
[class*="st-key-pair-"] .stColumn > .stVerticalBlock { gap: 0.25rem; }
.st-key-rating-last { min-height: 2.5rem; }
[data-testid="stBottomBlockContainer"]:has(.st-key-rating-bar) { padding: 0.5rem 1.5rem 0.75rem; max-width: none; }
</style>
"""


# The server sees presses late and in heaps when it is busy, and could take the repetitions of a held key for presses of their own.
_SCRIPT = """
<script>
if (!window.feedbackloopKeys) {
  window.feedbackloopKeys = true;
  window.addEventListener("keydown", (event) => {
    const writing = event.target instanceof Element && event.target.closest("input, textarea, [contenteditable]");
    if (event.repeat && event.key.length === 1 && !writing) { event.stopImmediatePropagation(); }
  }, true);
}
</script>
"""


# The dialog is there before its text is; once it has the focus, that is the writer's affair.
_BEGIN = """
<script>
{
  const until = Date.now() + 10000;
  const begin = () => {
    const text = document.querySelector("[role=dialog] textarea");
    if (text && document.activeElement !== text) { text.focus(); text.setSelectionRange(text.value.length, text.value.length); }
    if (!text && Date.now() < until) { requestAnimationFrame(begin); }
  };
  begin();
}
</script>
"""


def fill_window() -> None:
    """Let the rating screen take the window's height."""
    st.html(_STYLE)


def let_go_first() -> None:
    """Have the browser drop the repetitions of a held key: only letting go of it makes another press."""
    st.html(_SCRIPT, unsafe_allow_javascript=True)


def begin_in_text() -> None:
    """Have the text of the dialog that opens take the keys at once."""
    st.html(_BEGIN, unsafe_allow_javascript=True)
