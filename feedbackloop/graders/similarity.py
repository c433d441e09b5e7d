"""How near an answer is to a wanted text, from 0 to 1. The heavy part is `rapidfuzz`'s, and its work is bounded."""

from __future__ import annotations

import functools
from typing import Any

import regex as regular
from rapidfuzz.distance import LCSseq, Levenshtein

from feedbackloop.graders.arguments import COUNT, TEXT, read
from feedbackloop.graders.grader import Grade, GraderFunction, verdict, wanted_text
from feedbackloop.models import AIResponse, Case

WORK = 5_000_000_000
"""Characters of the answer times those of the wanted text. Two of 65,477 each are 4.3 billion: 0.15 s."""
READ = 200_000
"""Characters of a text that are split into words."""

# As Google's rouge_score splits English (runs of letters and digits), for all scripts: what is written without spaces counts
# by the character.
_WORDS = regular.compile(
    r"(?V1)[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]|[[\p{L}\p{M}\p{N}]--[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]]+"
)


def levenshtein(wanted: Any = None) -> GraderFunction:
    """1 for the wanted text itself (the case's `expected` if none is named), less by the share of characters to be changed.

    With `{text: ..., max: 5}` a yes or no: at most so many characters to insert, delete or replace. White space around both is
    left out. Texts whose lengths multiply to more than 5 billion are an error of the check.

    Raises:
        TypeError: an option is not what it should be.
        ValueError: there is no such option.
    """
    options = read(wanted, {"text": TEXT, "max": COUNT}, short="text")
    most = options.get("max")

    def grade(case: Case, response: AIResponse) -> Grade:
        text = wanted_text(options.get("text"), case)
        if text is None:
            return None
        answer, text = response.output.strip(), text.strip()
        if len(answer) * len(text) > WORK:
            raise ValueError(f"{len(answer):,} by {len(text):,} characters are too many to compare")
        if most is None:
            return Levenshtein.normalized_similarity(answer, text)
        return verdict(
            Levenshtein.distance(answer, text, score_cutoff=int(most)) <= most, f"more than {most} characters differ"
        )

    return grade


def rouge_l(wanted: Any = None) -> GraderFunction:
    """ROUGE-L: the F-measure of the longest common subsequence of words, upper or lower case.

    Source: C.-Y. Lin, ROUGE: A Package for Automatic Evaluation of Summaries, 2004, section 3, with beta = 1 and no stemming, as
    Google's `rouge_score` computes it (which no longer is kept, and needs nltk). Texts of more than 200,000 characters are an
    error of the check.

    Raises:
        TypeError: an option is not what it should be.
        ValueError: there is no such option.
    """
    options = read(wanted, {"text": TEXT}, short="text")

    def grade(case: Case, response: AIResponse) -> float | None:
        text = wanted_text(options.get("text"), case)
        if text is None:
            return None
        reference, answer = _reference(text), _words(response.output)
        common = LCSseq.similarity(answer, reference)
        # 2PR / (P + R) with P = common/len(answer) and R = common/len(reference).
        return 2 * common / (len(answer) + len(reference)) if common else 0.0

    return grade


def _words(text: str) -> tuple[str, ...]:
    if len(text) > READ:
        raise ValueError(f"a text has {len(text):,} characters; words are counted in {READ:,} at most")
    return tuple(_WORDS.findall(text.lower()))


@functools.lru_cache(maxsize=64)
def _reference(text: str) -> tuple[str, ...]:
    # The same for every variant and repeat of a case, and for a text named in the spec for every case.
    return _words(text)
