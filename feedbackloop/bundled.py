"""Where the files lie that are part of the package but no code: demo data, starter files, the app's script."""

from __future__ import annotations

from pathlib import Path

from feedbackloop.errors import FeedbackLoopError

_PACKAGE = Path(__file__).parent


def bundled(name: str) -> Path:
    """The place of a file or folder that a checkout keeps at its top (`data`) and a wheel as `feedbackloop/_bundled/data`.

    Raises:
        FeedbackLoopError: this installation lacks it.
    """
    places = [_PACKAGE / "_bundled" / name]
    # Without this check a wheel's neighbour in site-packages would pass for ours: `data` is a common name there.
    if (_PACKAGE.parent / "pyproject.toml").is_file():
        places.append(_PACKAGE.parent / name)
    for place in places:
        if place.exists():
            return place
    raise FeedbackLoopError(
        f"'{name}' is missing from this installation of feedbackloop ({_PACKAGE}); install it again from a wheel or a checkout"
    )
