"""Text by models on the screen: whatever it holds, it is shown and does nothing."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

import browser
import pytest
from streamlit.testing.v1 import AppTest

from feedbackloop.models import Case
from feedbackloop.pages import answer
from feedbackloop.pages.answer_markdown import escaped, safe

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[1]

HOSTILE = [
    '<img src=x onerror="window.hit=1"><script>window.hit=1</script>',
    "<style>* { display: none !important }</style><link rel=stylesheet href=http://example.com/s.css>",
    '<iframe src="http://example.com/f"></iframe><object data="http://example.com/o"></object><base href="http://example.com/">',
    "<svg onload=alert(1)><a xlink:href='javascript:alert(1)'><text>x</text></a></svg>",
    '<details open ontoggle="window.hit=1"><summary>x</summary></details><form action=http://example.com><input autofocus onfocus="window.hit=1">',
    "![x](http://example.com/x.png) ![y][r] [![z](http://example.com/z.png)](http://example.com/z)\n\n[r]: http://example.com/r.png",
    "[a](javascript:alert(1)) [b](data:text/html,<script>alert(1)</script>) [c](http://example.com/c) <http://example.com/d> [d](//example.com)",
    "http://example.com/bare www.example.com/bare someone@example.com http\\://example.com/split :\\//",
    ":material/home: :material\\/home: :smile: :streamlit: :red[red] :blue-background[blue] :small[small] :green-badge[badge]",
    "$\\LaTeX$ and $$\\rule{1000em}{1000em}$$ and \\(x^2\\) \\href{javascript:alert(1)}{x}",
    '```mermaid\ngraph TD; A-->B; click A href "javascript:alert(1)"\n```\n\n```math\n\\rule{9em}{9em}\n```\n\n```latex\n\\rule{9em}{9em}\n```',
    "x" * 10_000,
    "| " + " | ".join(f"column{n}" for n in range(60)) + " |\n" + "|---" * 60 + "|\n" + "| " + "word" * 40 + " |" * 60,
    "```\n" + "y" * 5_000 + "\n```",
    "Z" + "\u0301" * 5_000 + " piled, \u202eturned round\u202c, \x1b[31mred\x1b[0m \x00 \x08 \u200b\u200d\ufeff \ud800",
    "> " * 3_000 + "deep",
    "*a " * 3_000 + "b" + " a*" * 3_000,
    "# " + "Heading " * 40,
    ":::note\n<b>x</b>\n:::\n\n[^1]\n\n[^1]: http://example.com/foot",
    "",
    "  \n\t ",
]

SCRIPT = """
import json, sys
from pathlib import Path
import streamlit as st
from feedbackloop.pages import answer
st.set_page_config(layout="wide")
for number, text in enumerate(json.loads(Path({texts!r}).read_text())):
    with st.container(key=f"case-{{number}}"):
        plain, markdown, marked = st.columns(3)
        with plain:
            answer.show(text, key=f"plain-{{number}}")
        with markdown:
            answer.show(text, key=f"markdown-{{number}}", markdown=True)
        with marked:
            answer.show_pieces([answer.Piece(text[:200], True), answer.Piece(text[200:], False)], key=f"marked-{{number}}")
        st.button(answer.escaped(text[:100]), key=f"label-{{number}}")
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "# One\n## Two\nText **bold** *it* ~~no~~ `code`",
            "#### One\n\n##### Two\n\nText **bold** *it* ~~no~~ `code`",
        ),
        ("1. a\n2. b\n   - c\n\n- d\n\n* e", "1. a\n2. b\n\n   - c\n\n- d\n\n* e"),
        ("3) x\n4) y", "3. x\n4. y"),
        ("> a\n> b", "> a\\\n> b"),
        ("---", "---"),
        ("```python\nprint('`')\n```", "```python\nprint('`')\n```"),
        ("~~~\n```\n~~~", "````\n```\n````"),
        ("| a | b |\n|---|:-:|\n| 1 | `x` |", "| a | b |\n| --- | --- |\n| 1 | `x` |"),
        ("``a`b``", "``a`b``"),
        ("a  \nb\nc", "a\\\nb\\\nc"),
        ("![cat](http://x.y/c.png)", "cat \\(http\\:\u2060\\/\\/x\\.y\\/c\\.png\\)"),
        ("[word](http://x.y)", "word \\(http\\:\u2060\\/\\/x\\.y\\)"),
        ("<b>", "\\<b\\>"),
        ("\\(x\\) &lt; \\*", "\\\\\\(x\\\\\\) \\&lt\\; \\*"),
        ("```mermaid\nx\n```", "```\nx\n```"),
    ],
)
def test_markdown_is_written_anew_from_what_may_come_through(text: str, expected: str) -> None:
    assert safe(text) == expected


def test_what_is_nested_too_deeply_is_shown_as_it_is() -> None:
    for text in ("> " * 3_000 + "x", "- " * 3_000 + "x", "*a " * 3_000 + "b" + " a*" * 3_000):
        assert safe(text) == f"```\n{text}\n```"


def test_the_signs_of_streamlit_are_cut_in_two() -> None:
    for text in (":material/home:", "http://x.y", "www.x.y", "a@b.c", "->", "<-"):
        assert "\u2060" in escaped(text)
    assert escaped("12:30 or 1.5 [x]").replace("\\", "").replace("\u2060", "") == "12:30 or 1.5 [x]"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a\x08b\x1b[0m\x7f", "a\u2408b\u241b[0m\u2421"),
        ("tab\tand\nline\r\nend\rs", "tab\tand\nline\nend\ns"),
        ("\x00\ud800\x85", "\u2400\ufffd\ufffd"),
        ("\u202eabc\u202c \u2066x\u2069", "\ufffdabc\ufffd \ufffdx\ufffd"),
        (
            "e\u0301 ก็ \U0001f468\u200d\U0001f469\u200d\U0001f467",
            "e\u0301 ก็ \U0001f468\u200d\U0001f469\u200d\U0001f467",
        ),
        ("x" + "\u0301" * 100, "x" + "\u0301" * 8),
    ],
)
def test_what_cannot_be_seen_is_made_visible_and_languages_are_left_alone(text: str, seen: str) -> None:
    assert answer.visible(text) == seen


def page_of(body: str) -> AppTest:
    app = AppTest.from_string(
        f"import streamlit as st\nfrom feedbackloop.models import Case\nfrom feedbackloop.pages import answer\n{body}"
    )
    app.run()
    assert not app.exception
    return app


def shown(app: AppTest) -> list[str]:
    return [element.value for element in app.text]


def test_plain_text_keeps_its_white_space() -> None:
    text = "  two\n    four\n\ttab\n\nend  "
    assert shown(page_of(f"answer.show({text!r}, key='a')"))[0].replace("\u2060", "") == text


def test_empty_and_blank_answers_are_said_to_be_so() -> None:
    assert page_of("answer.show('', key='a')").caption[0].value == "Empty."
    assert "Blank" in page_of("answer.show(' \\n', key='a')").caption[0].value


@pytest.mark.parametrize("markdown", [False, True])
def test_a_long_answer_is_cut_until_all_of_it_is_asked_for(markdown: bool) -> None:
    app = page_of(f"answer.show('ab ' * 21_826, key='a', markdown={markdown})")

    def length() -> int:
        return len((app.markdown[0].value if markdown else app.text[0].value).rstrip("\u2060").rstrip()) + 1

    assert length() <= 20_001
    assert app.button[0].label == "Show all 65,478 characters"
    app.button[0].click().run()
    assert length() == 65_478
    assert app.button[0].label == "Show the first 20,000 characters"


def test_a_case_with_one_variable_is_just_its_text() -> None:
    app = page_of("answer.inputs(Case(inputs={'anything': 'What now?'}), key='a')")
    assert (shown(app), [caption.value for caption in app.caption]) == (["What now?"], [])


def test_a_case_is_drawn_with_names_turns_and_folded_documents() -> None:
    case = Case(
        inputs={"question": "Where is it? " * 10, "kind": "short", "list": [1, 2]},
        messages=[
            {"role": "system", "content": "Be kind."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look"},
                    {"type": "image_url", "image_url": {"url": "http://example.com/i.png"}},
                ],
            },
            {"role": "assistant", "content": None, "tool_calls": [{"id": "call"}]},
            {"role": "<b>odd</b>", "content": ""},
        ],
        context=["one", {"title": "T", "text": "two"}],
    )
    app = page_of(f"answer.inputs(Case.model_validate_json({case.model_dump_json()!r}), key='a')")
    text = "\n".join(shown(app))
    for part in ("Where is it?", "Be kind.", "Look", "http://example.com/i.png", "call", "one", "two"):
        assert part in text
    captions = [caption.value.replace("\\", "").replace("\u2060", "") for caption in app.caption]
    for part in ("question", "kind: short", "System", "User", "Assistant", "<b>odd</b>", "2. title: T"):
        assert part in captions
    assert [expander.label for expander in app.expander] == ["2 documents"]


@pytest.fixture
def texts(tmp_path: Path) -> list[str]:
    """The hostile ones, and with the real data at hand also those of its answers that are known to be ugly."""
    found = list(HOSTILE)
    path = ROOT.parent / "shared" / "data" / "outputs.jsonl.gz"
    if path.is_file():
        ugly = {
            ("gpt-4o", 410),
            ("gpt-4o", 429),
            ("gpt-4o", 727),
            ("alpaca-7b", 339),
            ("alpaca-7b", 366),
            ("ghost-7b", 301),
        }
        ugly |= {("gpt-4o", 511), ("gpt-4o", 658), ("gpt-4o", 626), ("Meta-Llama", 30), ("Meta-Llama", 196)}
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        found += [r["output"] for r in rows for name, n in ugly if r["prompt_id"] == n and r["model"].startswith(name)]
        assert len(found) == len(HOSTILE) + len(ugly)
    return found


@pytest.fixture
def address(texts: list[str], tmp_path: Path) -> Iterator[str]:
    """A page that shows these texts in every way there is."""
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    (tmp_path / "page.py").write_text(SCRIPT.format(texts=str(tmp_path / "texts.json")))
    silent = {"STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false"}
    with browser.running_app(tmp_path / "none.duckdb", tmp_path, tmp_path / "page.py", **silent) as url:
        yield url


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


def test_in_a_browser_hostile_answers_are_shown_and_do_nothing(texts: list[str], address: str, page: Page) -> None:
    asked: list[str] = []
    dialogs: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(address)
    page.wait_for_selector(browser.FINISHED, timeout=60_000)
    page.get_by_test_id("stMain").locator(f".st-key-label-{len(texts) - 1}").wait_for(timeout=30_000)
    page.wait_for_timeout(1_000)

    main = page.get_by_test_id("stMain")
    assert {urlparse(url).netloc for url in asked if not url.startswith("data:")} == {urlparse(address).netloc}
    assert (dialogs, page.evaluate("window.hit")) == ([], None)
    for never in ("img", "iframe", "object", "a[href]", "script", "form", "details", ".katex", "base", "link"):
        assert main.locator(never).count() == 0, never
    # The one style is the product's own.
    assert all("overflow-x: auto" in text for text in main.locator("style").all_inner_texts() if text)
    assert main.get_by_test_id("stException").count() == 0
    assert main.locator("[data-testid=stIconMaterial]").count() == 0
    # Nothing grew out of its column (a marked word's edge may, by some pixels): neither the giant word, nor the table of sixty columns, nor the code of one line.
    wide = page.evaluate(
        """() => [...document.querySelectorAll('[class*="-text"] [data-testid="stText"], [class*="-text"] [data-testid="stMarkdown"]')]
            .map(element => [element.scrollWidth > element.clientWidth + 8, element.closest('[class*="st-key-"]').className])
            .filter(([outside]) => outside)"""
    )
    assert wide == [], wide
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    # And it is all there to be read.
    first = main.locator(".st-key-plain-0-text").inner_text()
    assert first.strip() == HOSTILE[0]
    for way in ("markdown", "marked"):
        assert "<script>window.hit=1</script>" in main.locator(f".st-key-{way}-0-text").inner_text().replace(
            "\u2060", ""
        )
