"""The service: OpenAI's chat completions in front of tasks, variants and models, and feedback by an answer's id.

`serve` runs it, `create_app` makes the application for a server of one's own. Needs the extra `[serve]`.
"""

from feedbackloop.gateway.app import create_app
from feedbackloop.gateway.server import serve

__all__ = ["create_app", "serve"]
