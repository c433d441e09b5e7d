"""Checks of numbers: one that the answer names, and those that were measured of it."""

from __future__ import annotations

import functools
import re
from collections import deque
from collections.abc import Iterable
from typing import Any

from feedbackloop.graders.arguments import COUNT, NUMBER, SHARE, TEXT, one_of, read
from feedbackloop.graders.grader import Grade, GraderFunction, as_text, verdict
from feedbackloop.models import AIResponse, Case

READ = 100_000
"""Characters of an answer that are searched for a number: its end, or its beginning where the first one is asked for."""
MINUS = "\u2212"
SAME = 1e-9
"""Share by which two numbers may differ and be the same: decimals are not kept exactly."""


def numeric(wanted: Any = None) -> GraderFunction:
    """The last number in the answer is `wanted` (the number in the case's `expected` if none is named). No opinion without either.

    `{value: 42, absolute: 0.5}` or `{relative: 0.01}` allow as much difference (both: whichever allows more), `pick: first` or `any`
    take another number than the last, `decimal: ","` reads 1.234,5 as Germans write it. Thousands' commas, currency signs and
    units around a number are skipped. At most 100,000 characters of the answer are read.

    Raises:
        TypeError: an option is not what it should be.
        ValueError: there is no such option, or no number in the wanted text.
    """
    options = read(
        wanted,
        {
            "value": TEXT,
            "absolute": SHARE,
            "relative": SHARE,
            "pick": one_of("last", "first", "any"),
            "decimal": one_of(".", ","),
        },
        short="value",
    )
    decimal, pick = options.get("decimal", "."), options.get("pick", "last")
    named = None if "value" not in options else _target(options["value"], decimal)

    def grade(case: Case, response: AIResponse) -> Grade:
        if named is None and case.expected is None:
            return None
        target = _target(case.expected, decimal) if named is None else named
        allowed = max(options.get("absolute", 0.0), max(options.get("relative", 0.0), SAME) * abs(target))
        found = _picked(response.output, pick, decimal)
        reason = f"found {', '.join(f'{number:.12g}' for number in found[:5])}" if found else "there is no number in it"
        return verdict(any(abs(number - target) <= allowed for number in found), f"{reason}, wanted {target:.12g}")

    return grade


def length(limit: Any) -> GraderFunction:
    """The answer has at most so many characters; `{min: 10, max: 80, unit: words}` says more. White space around it does not count.

    Words are what stands between white space.

    Raises:
        TypeError: an option is not what it should be.
        ValueError: there is no such option, or no limit.
    """
    options = read(limit, {"min": COUNT, "max": COUNT, "unit": one_of("characters", "words")}, short="max")
    least, most, unit = options.get("min", 0), options.get("max"), options.get("unit", "characters")
    if "min" not in options and most is None:
        raise ValueError("give it a limit, as in {length: 400} or {length: {min: 10, max: 80, unit: words}}")
    if most is not None and least > most:
        raise ValueError(f"no answer has at least {least} and at most {most} {unit}")

    def grade(case: Case, response: AIResponse) -> Grade:  # noqa: ARG001  the shape of all graders
        text = response.output.strip()
        count = len(text.split()) if unit == "words" else len(text)
        if count < least:
            return verdict(passed=False, reason=f"{count:,} {unit}, at least {least:,} wanted")
        return verdict(most is None or count <= most, f"{count:,} {unit}, at most {most:,} wanted")

    return grade


def latency(limit: Any) -> GraderFunction:
    """The answer took at most so many milliseconds (the successful attempt alone). No opinion on one taken from an earlier run.

    An answer of which no time is known is an error of the check.

    Raises:
        TypeError: it is no limit.
    """
    if not SHARE.fits(limit):
        raise TypeError("give it a limit in milliseconds, as in {latency: 2000}")

    def grade(case: Case, response: AIResponse) -> Grade:  # noqa: ARG001  the shape of all graders
        if response.cached:
            return None
        if response.latency_ms is None:
            raise ValueError("how long this answer took is not known")
        return verdict(response.latency_ms <= limit, f"{response.latency_ms:,.0f} ms, at most {limit:,} wanted")

    return grade


def cost(limit: Any) -> GraderFunction:
    """The answer cost at most so many USD. One whose price is not known is an error of the check.

    Raises:
        TypeError: it is no limit.
    """
    if not SHARE.fits(limit):
        raise TypeError("give it a limit in USD, as in {cost: 0.002}")

    def grade(case: Case, response: AIResponse) -> Grade:  # noqa: ARG001  the shape of all graders
        if response.cost_usd is None:
            raise ValueError(
                f"what {response.model_used} costs is not known; name its price in [prices] of feedbackloop.toml"
            )
        return verdict(response.cost_usd <= limit, f"${response.cost_usd:.6g}, at most ${limit:.6g} wanted")

    return grade


def _target(value: Any, decimal: str) -> float:
    if NUMBER.fits(value):
        return float(value)
    found = _picked(as_text(value), "last", decimal)
    if not found:
        raise ValueError(f"there is no number in the wanted answer {as_text(value)[:100]!r}")
    return found[-1]


def _picked(text: str, pick: str, decimal: str) -> list[float]:
    part = text[-READ:] if pick == "last" else text[:READ]
    numbers: Iterable[re.Match[str]] = _pattern(decimal).finditer(part)
    if pick == "last":
        numbers = deque(numbers, maxlen=1)
    found = []
    for match in numbers:
        found.append(_number(match, decimal))
        if pick == "first":
            break
    return found


def _number(match: re.Match[str], decimal: str) -> float:
    digits = match["digits"].replace("." if decimal == "," else ",", "").replace(",", ".")
    return float(("-" if match["sign"] in {"-", MINUS} else "") + digits + (match["power"] or ""))


@functools.cache
def _pattern(decimal: str) -> re.Pattern[str]:
    group, point = (",", r"\.") if decimal == "." else (r"\.", ",")
    return re.compile(
        # A minus is no sign after a word or a number: "gpt-4", "10-20".
        rf"(?:(?<![\w.,)])(?P<sign>[-+{MINUS}]))?[$€£¥]?(?<![A-Za-z_\d])(?<!\d{point})"
        rf"(?P<digits>\d{{1,3}}(?:{group}\d{{3}})+(?!\d)(?:{point}\d+)?|\d+(?:{point}\d+)?|(?<!{point}){point}\d+)(?P<power>[eE][-+]?\d+)?"
    )
