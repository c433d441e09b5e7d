"""From judged answers to a change: what leaves the store for other tools, and what comes back as a better variant."""

from feedbackloop.improve.export import EXPORTS, export

__all__ = ["EXPORTS", "export"]
