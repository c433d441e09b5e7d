"""What a part of a run is to ask: all of it is gone through once, before anything is paid for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from feedbackloop.datasets import Checked, Dataset
from feedbackloop.models import AIRequest, Case
from feedbackloop.pipeline.budget import Worst, refuse_too_small
from feedbackloop.pipeline.cells import Asking
from feedbackloop.pipeline.engine import Engine
from feedbackloop.prompts import refuse_same_text
from feedbackloop.queries.reuse import Ended


@dataclass
class Plan:
    """The cells of a run as its dataset and variants are now."""

    dataset: Dataset
    asking: Sequence[Asking]
    repeats: int
    engine: Engine
    worst: Worst
    ended: Ended | None = None
    """What earlier parts of the run have asked; None at its start."""
    reusable: Collection[int] = frozenset()
    """Hashes of (key,) of what has an answer that would be used again."""

    def __post_init__(self) -> None:
        self.cells = 0
        self.outside = 0
        """Cells that earlier parts have asked and that are in the plan no more, such as rows left out since."""
        self._met = 0
        self._dear: AIRequest | None = None

    def check(self) -> Checked:
        """Render every case for every variant.

        Raises:
            DatasetError: a row cannot be read or rendered.
            PromptError: a prompt says the same to every case.
            SettingsError: the budget is less than one call could cost.
        """
        checked = self.dataset.check(self._look)
        if checked.cases > 1 and not checked.conversations:
            for one in self.asking:
                refuse_same_text(one.variant, one.prompt, next(iter(self.dataset)), self.engine.settings.base)
        limit = self.engine.purse.limit_usd
        if self._dear is not None and limit is not None:
            refuse_too_small([self._dear], self.worst, limit)
        self.cells = checked.cases * len(self.asking) * self.repeats
        if self.ended is not None:
            self.outside = len(self.ended.answered) + len(self.ended.failed) - self._met
        return checked

    def _look(self, case: Case) -> None:
        for one in self.asking:
            if self.ended is not None:
                cells = (hash((case.id, one.variant.id, repeat)) for repeat in range(self.repeats))
                self._met += sum(cell in self.ended.answered or cell in self.ended.failed for cell in cells)
            # Of a run that goes on, a batch may be on its way whatever is left: what is too dear is met when it comes up.
            limit = self.engine.purse.limit_usd
            if limit is None or self.ended is not None or self._dear or not self.engine.live(one.models[0]):
                one.render(case)
                continue
            request = one.request(case, 0)
            if (self.worst(request) or 0.0) > limit and hash((request.key,)) not in self.reusable:
                self._dear = request
