"""What came of a run by its checks, and the files that say so."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

import feedbackloop as fl
from feedbackloop.errors import SettingsError, StoreError
from feedbackloop.graders import create
from feedbackloop.models import AIRequest, AIResponse, Case, ProcessingStatus, Rating, Run, RunEvent, Variant
from feedbackloop.reports import markdown, outcome, report
from feedbackloop.reports.markdown import code
from feedbackloop.store import Store

TERSE, STEPS = Variant(name="terse", model="m:a"), Variant(name="steps", model="m:b")
GRADERS = [{"contains": "refund", "weight": 3}, {"not_contains": "sorry", "required": True}, {"length": {"max": 90}}]
HOSTILE = "=cmd()|'x' <script>alert('x')</script> ]]> & \x01\x0b\u202e @everyone [a](http://b) | `` ` \ufffe \r\n# big"


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "loop.duckdb")


def fill(
    store, answers, *, variants=(TERSE, STEPS), graders=GRADERS, state="finished", total=None, repeats=1, **settings
):
    """`answers`: (case, variant name, repeat) to a text, None for one that never came, or a text with what each grader gave."""
    made = [create(grader) for grader in graders]
    run = Run(
        task="support", dataset="cases.jsonl", fingerprint="f", variants=[one.id for one in variants], repeats=repeats,
        settings={"graders": graders, **settings}, git_commit="a" * 40,
    )  # fmt: skip
    cases = {name: Case(inputs={"input": f"What of {name}?"}, external_id=name) for name, *_ in answers}
    records = [run, *variants, *cases.values()]
    for (name, variant_name, repeat), said in answers.items():
        text, values = said if isinstance(said, tuple) else (said, [])
        variant = next(one for one in variants if one.name == variant_name)
        request = AIRequest(
            input="x",
            task="support",
            run_id=run.id,
            case_id=cases[name].id,
            variant_id=variant.id,
            repeat=repeat,
            key="k",
        )
        response = AIResponse(
            request_id=request.id,
            output=text or "",
            model_used="m:a",
            latency_ms=None if text is None else 1500.0,
            cost_usd=None if text is None else 0.001,
            spent_usd=0.001,
            status=ProcessingStatus.FAILED if text is None else ProcessingStatus.COMPLETED,
            **({"error_type": "ProviderTimeout", "error": "no answer within 30 s"} if text is None else {}),
        )
        records += [request, response]
        for grader, value in zip(made, values, strict=False):
            if value is not None:
                error, number = (value, None) if isinstance(value, str) else (None, value)
                records.append(
                    Rating(
                        response_id=response.id, metric=grader.name, rater=grader.rater, rater_kind="grader", value=number,
                        error=error, reason=None if number or error else "not as wanted",
                    )
                )  # fmt: skip
    counts = {"total": len(answers) if total is None else total, "done": len(answers)}
    store.append([*records, RunEvent(run_id=run.id, kind=state, counts=counts)])
    return run.id


PLAIN = {
    ("one", "terse", 0): ("refund", [1, 1, 1]),
    ("two", "terse", 0): ("sorry", [0, 0, 1]),
    ("three", "terse", 0): None,
    ("one", "steps", 0): ("refund", [1, 1, 0]),
    ("two", "steps", 0): ("hm", [None, None, None]),
}


def test_an_answer_passes_if_all_its_checks_do(store) -> None:
    fill(store, PLAIN)
    terse, steps = outcome(store).variants
    assert (terse.answers, terse.passed, terse.failed, terse.errors, terse.unchecked) == (3, 1, 1, 1, 0)
    assert terse.rate == pytest.approx(1 / 3)
    assert terse.score == pytest.approx((1 + 1 / 5 + 0) / 3)
    assert (steps.passed, steps.failed, steps.unchecked, steps.judged) == (0, 1, 1, 1)
    assert [(check.name, check.passed, check.judged) for check in terse.checks] == [
        ("contains", 1, 2), ("not_contains", 1, 2), ("length", 2, 2)
    ]  # fmt: skip


def test_with_a_threshold_the_weighted_score_decides(store) -> None:
    fill(store, PLAIN, threshold=0.8)
    found = outcome(store)
    terse, steps = found.variants
    assert (steps.passed, steps.failed, steps.unchecked) == (1, 0, 1)
    assert terse.passed == 1
    [failed] = found.answers("failed")
    assert failed.reasons[0] == "score 0.20, 0.8 wanted"


def test_reasons_say_why(store) -> None:
    fill(store, {**PLAIN, ("four", "steps", 0): ("x", [1, "ValueError: no", 1])})
    found = {(answer.name, answer.variant): answer for answer in outcome(store).answers()}
    assert found["two", "terse"].reasons == ("contains: not as wanted", "not_contains: not as wanted")
    assert found["three", "terse"].reasons == ("ProviderTimeout: no answer within 30 s",)
    assert found["four", "steps"].reasons == ("not_contains could not be computed: ValueError: no",)
    assert found["one", "terse"].reasons == ()


@pytest.mark.parametrize(
    ("answers", "mark", "begins"),
    [
        ({("a", "terse", 0): ("refund", [1, 1, 1])}, 1.0, []),
        ({("a", "terse", 0): ("x", [1, 1, 0]), ("b", "terse", 0): ("x", [1, 1, 1])}, 0.5, []),
        ({("a", "terse", 0): ("x", [1, 1, 0]), ("b", "terse", 0): ("x", [1, 1, 1])}, 0.51, ["terse: 1 of 2"]),
        ({("a", "terse", 0): ("x", [1, 1, 0]), ("b", "terse", 0): ("x", [1, 1, 1])}, None, []),
        (
            {("a", "terse", 0): ("x", [1, 0, 1]), ("b", "terse", 0): ("x", [1, 1, 1])},
            0.5,
            ["terse: 1 answer did not pass"],
        ),
        (
            {("a", "terse", 0): ("x", [1, 0, 1])},
            None,
            ["terse: 1 answer did not pass 'not_contains', which is required"],
        ),
        ({("a", "terse", 0): None}, 0.1, ["terse: 0 of 1 answer passed"]),
        ({("a", "terse", 0): ("x", [])}, 0.1, ["terse: nothing was checked"]),
        ({("a", "terse", 0): ("x", []), ("b", "terse", 0): None}, 0.1, ["terse: nothing was checked"]),
    ],
)
def test_a_run_falls_short_where_a_variant_does_or_a_required_check_fails(store, answers, mark, begins) -> None:
    fill(store, answers, variants=(TERSE,))
    told = outcome(store).shortfalls(mark)
    assert len(told) == len(begins)
    assert all(sentence.startswith(begin) for sentence, begin in zip(told, begins, strict=True))


def test_every_variant_must_reach_the_share(store) -> None:
    good = {(f"{number}", "terse", 0): ("refund", [1, 1, 1]) for number in range(9)}
    fill(store, {**good, ("0", "steps", 0): ("x", [0, 1, 1])})
    assert outcome(store).shortfalls(0.9) == ("steps: 0 of 1 answer passed (0.0%), 90% wanted",)


def test_what_is_not_complete_is_not_good_enough(store) -> None:
    fill(store, {("a", "terse", 0): ("refund", [1, 1, 1])}, variants=(TERSE,), state="stopped", total=10)
    found = outcome(store)
    assert found.shortfalls() == ()
    assert found.shortfalls(0.5) == ("the run is not complete (stopped, 1 of 10 answers)",)


def test_a_check_without_weight_counts_for_nothing(store) -> None:
    graders = [{"contains": "a"}, {"json_valid": None, "weight": 0}]
    fill(store, {("a", "terse", 0): ("a", [1, 0])}, graders=graders, variants=(TERSE,))
    [answer] = outcome(store).answers()
    assert (answer.state, answer.reasons) == ("passed", ())


def test_only_the_current_answer_of_a_cell_is_judged(store) -> None:
    fill(store, {("a", "terse", 0): None}, variants=(TERSE,))
    [failed] = outcome(store).answers()
    request = AIRequest(
        input="x", task="support", run_id=outcome(store).run.id, case_id=failed.case_id, variant_id=TERSE.id, key="k"
    )
    again = AIResponse(request_id=request.id, output="refund", model_used="m:a")
    started = [RunEvent(run_id=request.run_id, kind="started") for _ in range(2)]
    store.append([request, again, *started, RunEvent(run_id=request.run_id, kind="finished", counts={"total": 1})])
    [answer] = outcome(store).answers()
    assert (answer.output, answer.state) == ("refund", "unchecked")


async def test_functions_of_ones_own_are_read_back_and_not_run(store, tmp_path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def polite(case, response):\n    return 'please' in response.output\n")
    mine = {"python": f"{file}:polite", "weight": 2, "required": True}
    rows = [{"input": "one please", "expected": "x"}]

    def brief(case, response):
        return len(response.output) < 2

    made = await fl.run(rows, [{"name": "echo", "model": "python:echo.py:echo"}], store=store, graders=[mine, brief],
                        settings=echoing(tmp_path))  # fmt: skip
    file.write_text("raise SystemExit('run again')\n")
    [answer] = outcome(store, made.run.id).answers()
    assert [(check.name, check.passed, check.weight) for check in answer.score.checks] == [
        ("polite", True, 2), ("brief", False, 1)
    ]  # fmt: skip
    assert answer.reasons == ("brief: not passed",)


def echoing(folder) -> fl.Settings:
    (folder / "echo.py").write_text("def echo(inputs):\n    return inputs['input']\n")
    return fl.Settings(base=folder)


def test_a_run_without_checks_has_no_share(store) -> None:
    fill(store, {("a", "terse", 0): "x", ("b", "terse", 0): None}, graders=[], variants=(TERSE,))
    found = outcome(store)
    assert (found.variants[0].rate, found.variants[0].score, found.checks) == (None, None, ())
    assert found.shortfalls(0.5) == ("terse: nothing was checked",)
    assert "passed" not in markdown(found)


# Elements with the attributes they must and may have and the elements within, as in junit-10.xsd of Jenkins's xUnit plugin.
JUNIT = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors"},
        {"time", "skipped", "timestamp", "hostname", "id", "package"},
        {"properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, set(), set()),
    "testcase": ({"name"}, {"time", "classname"}, {"skipped", "error", "failure", "system-out", "system-err"}),
    **dict.fromkeys(("skipped", "error", "failure"), (set(), {"type", "message"}, set())),
}


def test_junit_has_the_structure_that_build_servers_read(store, tmp_path) -> None:
    fill(store, PLAIN)
    report(store, None, tmp_path / "r.xml")
    root = ET.parse(tmp_path / "r.xml").getroot()
    for element in root.iter():
        must, may, within = JUNIT[element.tag]
        assert must <= set(element.keys()) <= must | may
        assert {child.tag for child in element} <= within
        assert re.fullmatch(r"\d+\.\d{3}", element.get("time", "0.000"))
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("5", "2", "1")
    terse, steps = root
    assert [terse.get(name) for name in ("name", "tests", "failures", "errors", "skipped", "time")] == [
        "terse", "3", "1", "1", "0", "3.000"
    ]  # fmt: skip
    found = {(case.get("classname"), case.get("name")): [child.tag for child in case] for case in root.iter("testcase")}
    assert found == {
        ("support.terse", "one"): [],
        ("support.terse", "two"): ["failure"],
        ("support.terse", "three"): ["error"],
        ("support.steps", "one"): ["failure"],
        ("support.steps", "two"): ["skipped"],
    }
    failure, error = terse.find("testcase/failure"), terse.find("testcase/error")
    assert failure.get("message") == "contains: not as wanted; not_contains: not as wanted"
    assert "Input: What of two?" in failure.text
    assert "Answer: sorry" in failure.text
    assert (error.get("type"), error.get("message")) == ("ProviderTimeout", "ProviderTimeout: no answer within 30 s")
    assert steps.find("properties/property[@name='commit']").get("value") == "a" * 40


def test_junit_names_are_unique_within_a_suite(store, tmp_path) -> None:
    cases = [Case(inputs={"input": "x" * 100 + tail}) for tail in "ab"]
    run = Run(task="t.u", dataset="d", fingerprint="f", variants=[TERSE.id], repeats=2, settings={})
    records = [run, TERSE, *cases]
    for case in cases:
        for repeat in range(2):
            request = AIRequest(input="x", run_id=run.id, case_id=case.id, variant_id=TERSE.id, repeat=repeat, key="k")
            records += [request, AIResponse(request_id=request.id, output="a", model_used="m")]
    store.append(records)
    report(store, None, tmp_path / "r.xml")
    cases = list(ET.parse(tmp_path / "r.xml").getroot().iter("testcase"))
    assert len({case.get("name") for case in cases}) == 4
    assert {case.get("classname") for case in cases} == {"t_u.terse"}
    assert not list(ET.parse(tmp_path / "r.xml").getroot().iter("skipped"))


@pytest.fixture
def hostile(store, tmp_path):
    """Reports on a run whose every text is hostile, by ending."""
    variant = Variant(name=HOSTILE, model="m:a")
    said = {(HOSTILE, HOSTILE, 0): (HOSTILE, [0, 1, 1]), ("b", HOSTILE, 0): None}
    fill(store, said, variants=(variant,))
    files = {ending: tmp_path / f"r.{ending}" for ending in ("xml", "json", "csv", "md", "html")}
    report(store, None, *files.values(), fail_under=0.5)
    return files


def test_junit_holds_whatever_a_model_writes(hostile) -> None:
    root = ET.parse(hostile["xml"]).getroot()
    text = root.find("testsuite/testcase/failure").text
    assert "<script>alert('x')</script> ]]> &" in text
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe]", text)


def test_json_holds_everything_as_it_is(hostile) -> None:
    found = json.loads(hostile["json"].read_text(encoding="utf-8"))
    first, second = found["answers"]
    assert first["output"] == HOSTILE
    assert (first["state"], first["score"], second["state"]) == ("failed", 0.4, "error")
    assert first["checks"][0] == {
        "name": "contains", "rater": create(GRADERS[0]).rater, "value": 0.0, "passed": False, "weight": 3.0,
        "required": False, "reason": "not as wanted", "error": None,
    }  # fmt: skip
    assert (found["variants"][0]["rate"], found["fail_under"]) == (0.0, 0.5)
    assert len(found["shortfalls"]) == 1


def test_csv_disarms_formulas(hostile) -> None:
    with hostile["csv"].open(encoding="utf-8", newline="") as stream:
        first, second = csv.DictReader(stream)
    assert first["output"] == f"'{HOSTILE}"
    assert first["external_id"] == f"'{HOSTILE}"
    assert (first["check_contains"], first["check_length"], second["check_contains"]) == ("0.0", "1.0", "")
    assert (second["state"], second["reasons"]) == ("error", "ProviderTimeout: no answer within 30 s")


def test_markdown_has_a_table_of_variants_and_what_did_not_pass(store, tmp_path) -> None:
    fill(store, PLAIN)
    text = markdown(outcome(store), 0.9)
    assert text.startswith("### Not good enough: 1 of 4 answers passed\n")
    assert "| `terse` | 33.3% (1 of 3) | 0.40 | 2 | 1 | 0 | 1.5 s | 1.5 s | $1.00 |" in text
    assert "| `terse` | `two` | `contains: not as wanted; not_contains: not as wanted` |" in text
    assert "run `" in text
    assert markdown(outcome(store), 0.0).startswith("### Not good enough")  # one check is required


def test_markdown_lets_nobody_link_mention_or_draw(hostile) -> None:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(hostile["md"].read_text(encoding="utf-8"))
    inline = [child for token in tokens for child in token.children or ()]
    assert {child.type for child in inline} <= {"code_inline", "text", "softbreak", "strong_open", "strong_close"}
    assert not [
        child for child in inline if child.type == "text" and ("@" in child.content or "script" in child.content)
    ]
    blocks = [token.content for token in tokens if token.type == "html_block"]
    assert blocks == ["<details><summary>2 answers did not pass</summary>\n", "</details>\n"]
    assert {token.tag for token in tokens if token.type == "heading_open"} == {"h3"}
    rows = sum(token.type == "tr_open" for token in tokens)
    cells = sum(token.type == "td_open" for token in tokens)
    assert (rows, cells) == (5, 9 + 2 * 3)


@pytest.mark.parametrize("text", ["a", "`", "``a`", "a|b", "a\\|b", "a\\\\|b|", "\\", "", "\n\n", "a\x07b"])
def test_a_code_span_in_a_table_is_one_cell(text) -> None:
    from markdown_it import MarkdownIt

    table = f"| a | b |\n|---|---|\n| {code(text)} | end |\n"
    tokens = MarkdownIt("commonmark").enable("table").parse(table)
    cells = [token for place, token in enumerate(tokens) if place and tokens[place - 1].type == "td_open"]
    assert [child.type for child in cells[0].children if child.content.strip()] in (["code_inline"], [])
    assert cells[1].content == "end"


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.append(tag)
        self.attributes += attributes


def test_the_page_runs_nothing_and_asks_for_nothing(hostile) -> None:
    text = hostile["html"].read_text(encoding="utf-8")
    page = _Page(text)
    assert not set(page.tags) & {"script", "a", "img", "link", "iframe", "object", "form", "base"}
    assert not [
        name for name, _ in page.attributes if name in {"src", "href", "action", "background"} or name.startswith("on")
    ]
    assert "url(" not in text
    assert "@import" not in text
    assert "prefers-color-scheme: dark" in text
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in text
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", text)


def test_what_looks_like_a_place_to_be_filled_is_not_filled(store, tmp_path) -> None:
    fill(store, {("{{TITLE}}", "terse", 0): ("{{BODY}}", [1, 1, 1])}, variants=(TERSE,))
    report(store, None, tmp_path / "r.html")
    assert "{{BODY}}" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_report_is_refused_before_anything_is_written(store, tmp_path) -> None:
    fill(store, PLAIN)
    with pytest.raises(SettingsError, match=r"r\.txt: cannot tell the format"):
        report(store, None, tmp_path / "r.md", tmp_path / "r.txt")
    with pytest.raises(SettingsError, match="there is no folder"):
        report(store, None, tmp_path / "none" / "r.md")
    with pytest.raises(StoreError, match="there is no run 'zz'"):
        report(store, "zz", tmp_path / "r.md")
    with pytest.raises(StoreError, match="no such store"):
        report(Store(tmp_path / "other.duckdb"), None, tmp_path / "r.md")
    assert not list(tmp_path.glob("*r.*"))


def test_an_outcome_can_be_gone_through_again(store) -> None:
    fill(store, PLAIN)
    found = outcome(store)
    assert [answer.name for answer in found.answers()] == [answer.name for answer in found.answers()]
    assert len(list(found.answers("failed", STEPS.id))) == 1
    assert fl.report(store).variants == found.variants
