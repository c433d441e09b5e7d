"""BLEU, by `sacrebleu` (extra `metrics`): the reference implementation that published figures are made with."""

from __future__ import annotations

from typing import Any

from sacrebleu.metrics.bleu import BLEU

from feedbackloop.graders.arguments import TEXT, TEXTS, Kind, one_of, read
from feedbackloop.graders.grader import GraderFunction, as_text
from feedbackloop.models import AIResponse, Case

READ = 200_000
"""Characters of a text; so many take 0.4 s."""
# Its other tokenizers fetch a model from the network when they are first used.
_TOKENIZERS = ("13a", "char", "intl", "none", "zh")


def bleu(wanted: Any = None) -> GraderFunction:
    """Sentence BLEU, 0 to 1, against a text or the best of several (the case's `expected` if none is named).

    Source: Papineni et al., 2002; as sacrebleu computes it for a sentence (exponential smoothing, effective order). For texts
    without spaces say `{text: ..., tokenize: char}` or `zh`. Texts of more than 200,000 characters are an error of the check.

    Raises:
        TypeError: an option is not what it should be.
        ValueError: there is no such option.
    """
    either = Kind("a text or a list of texts", lambda value: TEXT.fits(value) or TEXTS.fits(value))
    options = read(wanted, {"text": either, "tokenize": one_of(*_TOKENIZERS)}, short="text")
    metric = BLEU(effective_order=True, tokenize=options.get("tokenize", "13a"))

    def grade(case: Case, response: AIResponse) -> float | None:
        text = options.get("text", case.expected)
        if text is None:
            return None
        references = [as_text(item) for item in (text if isinstance(text, list) else [text])]
        if (longest := max(map(len, [response.output, *references]))) > READ:
            raise ValueError(f"a text has {longest:,} characters; words are counted in {READ:,} at most")
        try:
            return min(1.0, float(metric.sentence_score(response.output, references).score) / 100)
        finally:
            _forget(metric.tokenizer)

    return grade


def _forget(tokenizer: Any) -> None:
    """Empty a tokenizer's cache: it would keep the last 65,536 answers, some gigabytes of them."""
    for part in (tokenizer, getattr(tokenizer, "_post_tokenizer", None)):
        if clear := getattr(type(part).__call__, "cache_clear", None):
            clear()
