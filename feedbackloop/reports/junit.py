"""JUnit XML, which every build server reads: a suite for each variant, a test case for each answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from xml.sax.saxutils import XMLGenerator
from xml.sax.xmlreader import AttributesImpl

from feedbackloop.findings.wording import short
from feedbackloop.graders.grader import as_text
from feedbackloop.reports.answer import JudgedAnswer
from feedbackloop.reports.outcomes import Outcome, VariantOutcome
from feedbackloop.text import fit_for_xml

_LONGEST = 300
"""Characters of a message; the text below it says all."""


def write_junit(outcome: Outcome, file: Path, fail_under: float | None = None) -> None:  # noqa: ARG001 - a build asks each answer
    """Write the run's answers as JUnit XML.

    What did not pass is a failure with its checks' reasons, what never came an error with its kind, and what no check had an opinion on
    skipped; without any checks, what came has passed. Times are those of the answers, in seconds. Elements and attributes are those that
    Jenkins's schema (junit-10.xsd) and GitLab's and GitHub's readers know.
    """
    with file.open("wb") as stream:
        _Suites(stream).write(outcome)


class _Suites:
    def __init__(self, stream: BinaryIO) -> None:
        self._xml = XMLGenerator(stream, encoding="utf-8", short_empty_elements=True)

    def write(self, outcome: Outcome) -> None:
        variants = outcome.variants
        self._xml.startDocument()
        with self._element(
            "testsuites",
            name=outcome.run.task,
            tests=sum(variant.answers for variant in variants),
            failures=sum(variant.failed for variant in variants),
            errors=sum(variant.errors for variant in variants),
            time=_seconds(sum(variant.seconds for variant in variants)),
        ):
            for variant in variants:
                self._suite(outcome, variant)
        self._xml.endDocument()

    def _suite(self, outcome: Outcome, variant: VariantOutcome) -> None:
        with self._element(
            "testsuite",
            name=variant.variant,
            tests=variant.answers,
            failures=variant.failed,
            errors=variant.errors,
            skipped=variant.unchecked if outcome.checks else 0,
            time=_seconds(variant.seconds),
            timestamp=f"{outcome.run.created_at:%Y-%m-%dT%H:%M:%S}",
        ):
            self._properties(outcome, variant)
            names: set[str] = set()
            for answer in outcome.answers(variant_id=variant.variant_id):
                self._case(outcome, answer, _unique(answer, names, repeated=outcome.run.repeats > 1))

    def _properties(self, outcome: Outcome, variant: VariantOutcome) -> None:
        known = {
            "run": outcome.run.id,
            "dataset": outcome.run.dataset,
            "variant_id": variant.variant_id,
            "commit": outcome.run.git_commit,
            "pass_rate": variant.rate,
            "score": variant.score,
            "latency_p95_ms": variant.latency_p95_ms,
            "cost_usd": variant.cost_usd,
        }
        with self._element("properties"):
            for name, value in known.items():
                if value is not None:
                    text = f"{value:.6g}" if isinstance(value, float) else value
                    with self._element("property", name=name, value=text):
                        pass

    def _case(self, outcome: Outcome, answer: JudgedAnswer, name: str) -> None:
        # Readers take what stands before the last dot for a package.
        place = ".".join(part.replace(".", "_") for part in (outcome.run.task, answer.variant))
        with self._element("testcase", classname=place, name=name, time=_seconds((answer.latency_ms or 0.0) / 1000)):
            message = short("; ".join(answer.reasons), _LONGEST)
            if answer.state == "error":
                self._told("error", message, str(answer.error_type or "failed"), answer)
            elif answer.state == "failed":
                self._told("failure", message, "check", answer)
            elif answer.state == "unchecked" and outcome.checks:
                with self._element("skipped", message="no check had an opinion on it"):
                    pass

    def _told(self, element: str, message: str, kind: str, answer: JudgedAnswer) -> None:
        with self._element(element, message=message, type=kind):
            self._xml.characters(fit_for_xml("\n".join(_lines(answer))))

    @contextmanager
    def _element(self, tag: str, **attributes: object) -> Iterator[None]:
        self._xml.startElement(
            tag, AttributesImpl({name: fit_for_xml(str(value)) for name, value in attributes.items()})
        )
        yield
        self._xml.endElement(tag)


def _lines(answer: JudgedAnswer) -> Iterable[str]:
    yield from answer.reasons
    yield f"\nInput: {answer.input}"
    if answer.expected is not None:
        yield f"\nExpected: {as_text(answer.expected)}"
    if answer.output:
        yield f"\nAnswer: {answer.output}"


def _unique(answer: JudgedAnswer, names: set[str], *, repeated: bool) -> str:
    """A name that no other case of the suite has: two inputs may begin alike."""
    again = f" #{answer.repeat + 1}" if repeated else ""
    name = f"{answer.name}{again}"
    if name in names:
        name = f"{answer.name} ({answer.case_id[:8]}){again}"
    names.add(name)
    return name


def _seconds(value: float) -> str:
    return f"{value:.3f}"
