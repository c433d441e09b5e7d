"""Rating packs: a page that gives nothing away, and votes that are counted once however often they come back."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_comparisons import TASK, fill, forget, rate_all, standing
from typer.testing import CliRunner

from feedbackloop import comparisons
from feedbackloop.cli import app
from feedbackloop.errors import DatasetError, SettingsError
from feedbackloop.identity import utcnow
from feedbackloop.importers import import_rating_pack, is_rating_pack
from feedbackloop.importers.rating_pack import FORMAT
from feedbackloop.improve.export import export_rating_pack
from feedbackloop.models import Assignment, Comparison, Exposure, Queue, Rating
from feedbackloop.store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

HOSTILE = (
    "</script><script>window.broken = 1</script><!-- <img src='https://example.org/x.png' onerror='window.broken = 1'>"
    " &lt; \u2028 \u2029 {{POLICY}}"
)
START = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def filled_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Store(tmp_path_factory.mktemp("filled") / "loop.duckdb")
    fill(made, text=lambda name, number: f"{name[::-1]} on {number}.")
    return made.path


@pytest.fixture
def filled(filled_file: Path, tmp_path: Path) -> Store:
    return Store(shutil.copy(filled_file, tmp_path))


def opened(store: Store, overlap: int = 1) -> Queue:
    return comparisons.open_queue(store, TASK, ["umbra", "lumen"], overlap=overlap, seed=7)


def content(page: Path) -> dict:
    found = re.search(r'<script type="application/json" id="pack">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(found[1])


class Expert:
    """What the page does, without a browser."""

    def __init__(self, page: Path) -> None:
        self.pack = content(page)
        self.entries: list[dict] = []
        self.at = utcnow()

    def add(self, do: str, number: int, **rest: object) -> None:
        self.at += timedelta(milliseconds=1)
        self.entries.append({"do": do, "pair": self.pack["pairs"][number]["id"], **rest, "at": self.at.isoformat()})

    def vote(self, number: int, verdict: str = "left", seconds: float = 12.5) -> None:
        pair = self.pack["pairs"][number]
        seals = {name: pair[name] for name in ("left", "right", "propensity")}
        self.add("vote", number, **seals, verdict=verdict, proof=pair["proofs"][verdict], seconds=seconds)

    def save(self, folder: Path, name: str = "votes.json", **changes: object) -> Path:
        file = {"format": FORMAT, "version": 1, "queue": self.pack["queue"], "rater": self.pack["rater"]}
        (folder / name).write_text(json.dumps({**file, "entries": self.entries, **changes}))
        return folder / name


def pack(store: Store, folder: Path, rater: str = "Anna", **options: object) -> Path:
    path = folder / f"{rater}.html"
    export_rating_pack(store, path, opened(store), rater, **options)
    return path


def issues(store: Store) -> list[Rating]:
    return store.load(Rating, "SELECT * FROM current_ratings WHERE metric = 'issue'")


def every_row(store: Store) -> int:
    return len(store.load(Comparison, "SELECT * FROM comparisons")) + len(store.load(Rating, "SELECT * FROM ratings"))


# The page


def test_the_page_says_nothing_of_whose_the_answers_are(tmp_path: Path, filled: Store) -> None:
    text = pack(filled, tmp_path).read_text()
    secrets = filled.read(
        """
        SELECT id FROM responses UNION SELECT id FROM requests UNION SELECT id FROM variants UNION SELECT id FROM runs
        UNION SELECT id FROM cases UNION SELECT id FROM assignments
        """
    )["id"]
    assert len(secrets) > 30
    assert not [word for word in [*secrets, "umbra", "lumen", "simulated", "the right one"] if word in text]


def test_sides_are_those_of_the_app(tmp_path: Path, filled: Store) -> None:
    shown = {pair["case"][0]["text"]: pair["texts"] for pair in content(pack(filled, tmp_path))["pairs"]}
    dealt = [comparisons.next_pair(filled, opened(filled), "Anna")]
    assert len(shown) == 6
    assert [shown[pair.case.inputs["input"]] for pair in dealt] == [[pair.left, pair.right] for pair in dealt]


def test_what_a_model_wrote_cannot_leave_its_place(tmp_path: Path) -> None:
    store = Store(tmp_path / "loop.duckdb")
    fill(store, cases=1, text=lambda name, number: f"{HOSTILE} {name[::-1]}")
    page = pack(store, tmp_path)
    text = page.read_text()
    assert text.count("</script>") == 2
    assert text.isascii()
    assert "<img" not in text
    assert content(page)["pairs"][0]["texts"][0].startswith(HOSTILE)


def test_the_page_can_load_nothing(tmp_path: Path, filled: Store) -> None:
    text = pack(filled, tmp_path).read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.findall(r"https?:|//[a-z]+\.", text)


def test_pairs_are_kept_for_their_rater(tmp_path: Path, filled: Store) -> None:
    first = content(pack(filled, tmp_path, "Anna", pairs=4))
    second = content(pack(filled, tmp_path, "Ben"))
    cases = [{pair["case"][0]["text"] for pair in one["pairs"]} for one in (first, second)]
    assert [len(found) for found in cases] == [4, 2]
    assert not cases[0] & cases[1]
    assert comparisons.next_pair(filled, opened(filled), "Cleo") is None
    ends = {row.expires - row.created_at for row in filled.load(Assignment, "SELECT * FROM assignments")}
    assert all(timedelta(days=29) < end <= timedelta(days=30) for end in ends)
    with pytest.raises(SettingsError, match="nothing is left for Cleo"):
        pack(filled, tmp_path, "Cleo")
    assert not (tmp_path / "Cleo.html").exists()


def test_made_again_it_holds_the_same_pairs_first(tmp_path: Path, filled: Store) -> None:
    ids = [pair["id"] for pair in content(pack(filled, tmp_path, pairs=3))["pairs"]]
    forget()
    again = [pair["id"] for pair in content(pack(filled, tmp_path, pairs=5))["pairs"]]
    assert again[:3] == ids
    assert len(set(again)) == 5
    assert [pair["id"] for pair in content(pack(filled, tmp_path, pairs=5))["pairs"]] == again


def test_what_the_rater_has_judged_is_not_in_it(tmp_path: Path, filled: Store) -> None:
    queue = opened(filled)
    pair = comparisons.next_pair(filled, queue, "Anna")
    comparisons.vote(filled, pair, "left", "Anna", 3.0)
    assert len(content(pack(filled, tmp_path))["pairs"]) == 5


def test_with_two_raters_for_each_pair_both_get_all(tmp_path: Path, filled: Store) -> None:
    queue = opened(filled, overlap=2)
    sizes = [export_rating_pack(filled, tmp_path / f"{name}.html", queue, name).pairs for name in ("Anna", "Ben")]
    assert sizes == [6, 6]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"path": "pack.json"}, "ends in .html"),
        ({"path": "nowhere/pack.html"}, "there is no folder"),
        ({"rater": "  "}, "name them"),
        ({"pairs": 0}, "one pair at least"),
        ({"hold_days": 0}, "a day or more"),
    ],
)
def test_what_makes_no_sense_is_said(tmp_path: Path, filled: Store, changes: dict, reason: str) -> None:
    given = {"path": "pack.html", "rater": "Anna", **changes}
    with pytest.raises(SettingsError, match=reason):
        export_rating_pack(filled, tmp_path / given.pop("path"), opened(filled), **given)
    assert not filled.load(Assignment, "SELECT * FROM assignments")


def test_single_answers_and_open_queues_are_refused(tmp_path: Path, filled: Store) -> None:
    single = comparisons.open_queue(filled, TASK, ["umbra"], purpose="single")
    named = comparisons.open_queue(filled, TASK, ["umbra", "lumen"], blind=False)
    for queue in (single, named):
        with pytest.raises(SettingsError, match="blind pairs"):
            export_rating_pack(filled, tmp_path / "pack.html", queue, "Anna")


# The votes


def test_votes_come_in_as_the_page_meant_them(tmp_path: Path, filled: Store) -> None:
    expert = Expert(pack(filled, tmp_path))
    for number, verdict in enumerate(("left", "right", "tie", "both_bad")):
        expert.vote(number, verdict, seconds=10.5 + number)
        expert.at += timedelta(milliseconds=50)
    found = import_rating_pack(expert.save(tmp_path), filled, now=expert.at)
    votes = standing(filled)
    assert (found.votes, found.new, found.not_blind, found.older) == (4, 4, 0, 0)
    assert [vote.seconds for vote in votes] == [10.5, 11.5, 12.5, 13.5]
    assert [vote.created_at.isoformat() for vote in votes] == [entry["at"] for entry in expert.entries]
    assert all(
        (vote.rater, vote.rater_kind, vote.blind, vote.pair_propensity) == ("Anna", "human", True, 1) for vote in votes
    )
    queue = opened(filled)
    outputs = dict(filled.read("SELECT id, output FROM responses").itertuples(index=False))
    for vote, pair in zip(votes, expert.pack["pairs"], strict=False):
        left, right = (vote.response_a, vote.response_b) if vote.a_shown_left else (vote.response_b, vote.response_a)
        assert [outputs[left], outputs[right]] == pair["texts"]
        assert (vote.variant_a, vote.variant_b) == tuple(queue.variants)
    assert votes[0].winner == ("a" if votes[0].a_shown_left else "b")
    assert votes[1].winner == ("b" if votes[1].a_shown_left else "a")
    assert [vote.winner for vote in votes[2:]] == ["tie", "both_bad"]
    assert comparisons.status(filled, queue).votes == 4


def test_sent_again_it_counts_once_and_a_later_file_adds_what_is_new(tmp_path: Path, filled: Store) -> None:
    expert = Expert(pack(filled, tmp_path))
    expert.vote(0)
    expert.add("issue", 0, label="incomplete")
    early = expert.save(tmp_path, "early.json")
    assert import_rating_pack(early, filled).new == 2
    assert import_rating_pack(early, filled).new == 0
    expert.vote(1)
    late = expert.save(tmp_path, "late.json")
    assert import_rating_pack(late, filled).new == 1
    assert [import_rating_pack(one, filled).new for one in (early, late)] == [0, 0]
    assert (len(standing(filled)), len(issues(filled))) == (2, 1)


def test_stores_of_each_kind_take_them(tmp_path: Path, store: Store) -> None:
    fill(store)
    expert = Expert(pack(store, tmp_path))
    expert.vote(0)
    expert.add("issue", 0, label="incomplete")
    votes = expert.save(tmp_path)
    assert [import_rating_pack(votes, store).new for _ in range(2)] == [2, 0]
    expert.add("undo", 0)
    assert import_rating_pack(expert.save(tmp_path), store).new == 2
    assert not [*standing(store), *issues(store)]


def test_an_earlier_file_after_a_later_one_adds_nothing(tmp_path: Path, filled: Store) -> None:
    expert = Expert(pack(filled, tmp_path))
    expert.vote(0)
    early = expert.save(tmp_path, "early.json")
    expert.add("undo", 0)
    expert.vote(0, "both_bad")
    assert import_rating_pack(expert.save(tmp_path, "late.json"), filled).new == 3
    assert import_rating_pack(early, filled).new == 0
    assert [vote.winner for vote in standing(filled)] == ["both_bad"]


@pytest.mark.parametrize("undone", [True, False])
def test_a_changed_vote_replaces_the_one_before(tmp_path: Path, filled: Store, undone: bool) -> None:
    expert = Expert(pack(filled, tmp_path))
    expert.vote(0, "left")
    expert.add("issue", 0, label="incomplete")
    import_rating_pack(expert.save(tmp_path), filled)
    if undone:
        expert.add("undo", 0)
    expert.vote(0, "both_bad")
    expert.add("issue", 0, label="unsafe")
    expert.add("note", 0, text=" neither says when ")
    found = import_rating_pack(expert.save(tmp_path), filled)
    (vote,) = standing(filled)
    assert (vote.winner, vote.comment, vote.seconds) == ("both_bad", "neither says when", 12.5)
    assert [one.label for one in issues(filled)] == ["unsafe", "unsafe"]
    assert {one.response_id for one in issues(filled)} == {vote.response_a, vote.response_b}
    assert (found.votes, found.issues) == (1, 2)
    assert import_rating_pack(expert.save(tmp_path), filled).new == 0


def test_what_was_taken_back_is_the_raters_again(tmp_path: Path, filled: Store) -> None:
    expert = Expert(pack(filled, tmp_path))
    expert.vote(0)
    expert.add("undo", 0)
    assert import_rating_pack(expert.save(tmp_path), filled).votes == 0
    assert not standing(filled)
    assert comparisons.status(filled, opened(filled)).votes == 0


def test_a_label_is_of_the_answer_that_lost(tmp_path: Path, filled: Store) -> None:
    expert = Expert(pack(filled, tmp_path))
    expert.vote(0, "right")
    expert.add("issue", 0, label="wrong tone")
    expert.add("issue", 0, label="wrong tone")
    import_rating_pack(expert.save(tmp_path), filled)
    (vote,), (issue,) = standing(filled), issues(filled)
    assert issue.response_id == (vote.response_a if vote.winner == "b" else vote.response_b)
    assert (issue.value, issue.rater, issue.blind, issue.queue) == (1, "Anna", True, vote.queue)


def test_two_browsers_of_one_rater_count_once(tmp_path: Path, filled: Store) -> None:
    page = pack(filled, tmp_path)
    home, office = Expert(page), Expert(page)
    office.at += timedelta(milliseconds=10)
    home.vote(0, "left")
    office.vote(0, "tie")
    later = utcnow() + timedelta(seconds=1)
    import_rating_pack(office.save(tmp_path), filled, now=later)
    assert import_rating_pack(home.save(tmp_path), filled, now=later).older == 1
    assert [vote.winner for vote in standing(filled)] == ["tie"]


def test_a_vote_in_the_app_meanwhile_is_replaced_by_a_later_one(tmp_path: Path, filled: Store) -> None:
    expert = Expert(pack(filled, tmp_path))
    rate_all(filled, opened(filled), "Anna", "tie")
    expert.at = utcnow()
    expert.vote(0, "both_bad")
    import_rating_pack(expert.save(tmp_path), filled, now=expert.at)
    assert sorted(vote.winner for vote in standing(filled)) == ["both_bad", *["tie"] * 5]


def test_answers_made_since_change_nothing(tmp_path: Path, filled: Store) -> None:
    expert = Expert(pack(filled, tmp_path))
    fill(filled, run_id="run-2", text=lambda name, number: f"newer {name} {number}", later=timedelta(hours=1))
    expert.vote(0)
    import_rating_pack(expert.save(tmp_path), filled)
    runs = filled.read(
        "SELECT DISTINCT run_id FROM requests JOIN responses ON request_id = requests.id JOIN comparisons ON response_a = responses.id"
    )
    assert list(runs["run_id"]) == ["run-1"]


def test_who_had_seen_the_names_is_not_blind(tmp_path: Path, filled: Store) -> None:
    expert = Expert(pack(filled, tmp_path))
    pairs = filled.load(Assignment, "SELECT * FROM assignments ORDER BY created_at")
    answers = filled.read("SELECT case_id, responses.id FROM responses JOIN requests ON requests.id = request_id")
    ids = {one.case_id: list(answers[answers["case_id"] == one.case_id]["id"]) for one in pairs}
    comparisons.expose(filled, "Anna", pairs[0].case_id, ids[pairs[0].case_id][:1], "compare")
    comparisons.expose(filled, "Ben", pairs[1].case_id, ids[pairs[1].case_id], "compare")
    expert.at = utcnow()
    for number in range(3):
        expert.vote(number)
    done = expert.at
    # Seen after the vote: it was blind.
    third = pairs[2].case_id
    late = done + timedelta(seconds=1)
    filled.append([Exposure(rater="Anna", case_id=third, response_ids=ids[third], page="compare", created_at=late)])
    found = import_rating_pack(expert.save(tmp_path), filled, now=done)
    blind = {vote.case_id: vote.blind for vote in standing(filled)}
    assert found.not_blind == 1
    assert [blind[one.case_id] for one in pairs[:3]] == [False, True, True]


def test_times_stay_between_export_and_import(tmp_path: Path, filled: Store) -> None:
    expert = Expert(pack(filled, tmp_path))
    expert.at = START - timedelta(days=900)
    expert.vote(0)
    expert.at = START + timedelta(days=90_000)
    expert.vote(1)
    now = utcnow()
    import_rating_pack(expert.save(tmp_path), filled, now=now)
    given = filled.load(Assignment, "SELECT * FROM assignments ORDER BY created_at")
    assert [vote.created_at for vote in standing(filled)] == [given[0].created_at, now]


def test_a_pack_may_come_back_late(tmp_path: Path, filled: Store) -> None:
    expert = Expert(pack(filled, tmp_path))
    with filled.lease() as connection:
        connection.execute("UPDATE assignments SET expires = created_at + INTERVAL 1 MINUTE - INTERVAL 1 HOUR")
    expert.vote(0)
    assert import_rating_pack(expert.save(tmp_path), filled).votes == 1


def _flip(expert: Expert) -> None:
    expert.entries[0]["verdict"] = "right"


def _swap(expert: Expert) -> None:
    first = expert.entries[0]
    first["left"], first["right"] = first["right"], first["left"]


def _weigh(expert: Expert) -> None:
    expert.entries[0]["propensity"] = 0.5


def _move(expert: Expert) -> None:
    expert.entries[0]["pair"] = expert.pack["pairs"][1]["id"]


def _invent(expert: Expert) -> None:
    expert.entries[0]["pair"] = "0" * 32


def _orphan(expert: Expert) -> None:
    expert.add("undo", 3)


def _label_a_tie(expert: Expert) -> None:
    expert.vote(2, "tie")
    expert.add("issue", 2, label="unsafe")


def _negative(expert: Expert) -> None:
    expert.entries[0]["seconds"] = -1


def _strange(expert: Expert) -> None:
    expert.entries[0]["do"] = "drop"


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (_flip, "entry 1 was changed after the page saved it"),
        (_swap, "entry 1 was changed"),
        (_weigh, "entry 1 was changed"),
        (_move, "entry 1 was changed"),
        (_invent, "entry 1 is on a pair that this store gave to nobody called Anna"),
        (_orphan, "entry 3 was changed"),
        (_label_a_tie, "entry 4 was changed"),
        (_negative, "'entries.0.vote.seconds' is not as a rating pack saves it"),
        (_strange, "'entries.0' is not as a rating pack saves it"),
    ],
)
def test_a_file_that_was_changed_is_refused_whole(
    tmp_path: Path, filled: Store, tamper: Callable[[Expert], None], reason: str
) -> None:
    expert = Expert(pack(filled, tmp_path))
    expert.vote(0)
    expert.vote(5)
    tamper(expert)
    with pytest.raises(DatasetError, match=reason) as error:
        import_rating_pack(expert.save(tmp_path), filled)
    assert "\n" not in str(error.value)
    assert not every_row(filled)


def test_another_rater_queue_or_store_is_refused(tmp_path: Path, filled: Store) -> None:
    expert = Expert(pack(filled, tmp_path))
    expert.vote(0)
    with pytest.raises(DatasetError, match="nobody called Ben"):
        import_rating_pack(expert.save(tmp_path, rater="Ben"), filled)
    other = Store(tmp_path / "other.duckdb")
    for _ in range(2):
        with pytest.raises(DatasetError, match=r"other\.duckdb has no queue '.{8}'; import it into the store"):
            import_rating_pack(expert.save(tmp_path), other)
        fill(other, cases=1)
    assert not every_row(filled)


def test_a_file_that_was_cut_short_is_said_to_be(tmp_path: Path, filled: Store) -> None:
    expert = Expert(pack(filled, tmp_path))
    expert.vote(0)
    whole = expert.save(tmp_path).read_text()
    (tmp_path / "cut.json").write_text(whole[:-30])
    assert is_rating_pack(tmp_path / "cut.json")
    with pytest.raises(DatasetError, match=r"cut\.json: it is cut short or damaged"):
        import_rating_pack(tmp_path / "cut.json", filled)


def test_other_files_are_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"input": FORMAT}]))
    (tmp_path / "b.json").write_text('{"format": "other"}')
    (tmp_path / "c.csv").write_text(FORMAT)
    assert not any(is_rating_pack(tmp_path / name) for name in ("a.json", "b.json", "c.csv", "none.json"))


# The commands


def test_commands(tmp_path: Path, filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, code: int = 0) -> str:
        ended = CliRunner().invoke(app, [*arguments, "--store", "loop.duckdb"])
        assert ended.exit_code == code, ended.output
        return ended.output

    options = ("--format", "rating-pack", "--rater", "Anna M.")
    said = run("export", "anna.html", *options, "--task", TASK, "--variants", "umbra,lumen", "--pairs", "3")
    assert "Wrote 3 pairs for Anna M. to anna.html" in said
    assert "feedbackloop import Anna-M-votes.json --store loop.duckdb" in said
    expert = Expert(tmp_path / "anna.html")
    expert.vote(0)
    expert.vote(1)
    expert.save(tmp_path, "Anna-M-votes.json")
    assert "Imported 2 votes and 0 issues by Anna M. for the task support" in run("import", "Anna-M-votes.json")
    assert "Nothing new" in run("import", "Anna-M-votes.json")
    assert len(standing(filled)) == 2
    again = run("export", "rest.html", *options, "--queue", expert.pack["queue"])
    assert "Wrote 4 pairs" in again
    run("export", "anna.html", "--format", "rating-pack", "--rater", "Anna", code=2)
    run("export", "anna.html", "--format", "rating-pack", "--queue", "x", code=2)
    run("export", "answers.csv", "--rater", "Anna", code=2)
    run("import", "Anna-M-votes.json", "--not-blind", code=2)


# The browser


@pytest.fixture(scope="module")
def context(chromium: Browser) -> Iterator[BrowserContext]:
    made = chromium.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True, offline=True)
    made.set_default_timeout(15_000)
    yield made
    made.close()


class Screen:
    """The pack in a browser whose clock stands still until told."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.problems, self.asked = page, [], []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda message: self.problems.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: self.asked.append(request.url))
        page.clock.install(time=utcnow())
        page.goto(address)

    def read(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def press(self, keys: str, after_ms: int = 12_000) -> None:
        for key in keys:
            self.page.clock.fast_forward(after_ms)
            self.page.keyboard.press(key)

    def save(self, path: Path) -> Path:
        with self.page.expect_download() as download:
            self.page.keyboard.press("f")
        assert download.value.suggested_filename == "Anna-votes.json"
        download.value.save_as(path)
        return path


def test_rated_by_keyboard_and_imported_twice(tmp_path: Path, context: BrowserContext) -> None:
    store = Store(tmp_path / "loop.duckdb")
    fill(store, cases=8, text=lambda name, number: f"{'x' if name == 'umbra' else 'y'} on {number} {HOSTILE}")
    path = pack(store, tmp_path)
    page = context.new_page()
    screen = Screen(page, path.as_uri())
    assert screen.read("#count") == "Anna · 0 of 8 rated"
    shown = [(screen.read("#left"), screen.read("#right"))]
    assert "</script><script>" in shown[0][0]
    page.keyboard.press("1")  # too quick
    assert "Not counted" in screen.read("#said")
    for key in "1234":
        screen.press(key)
        shown.append((screen.read("#left"), screen.read("#right")))
    assert screen.read("#count") == "Anna · 4 of 8 rated"
    assert "You said: both bad. Fault of both:" in screen.read("#said")
    screen.press("u")
    assert screen.read("#count") == "Anna · 3 of 8 rated"
    assert (screen.read("#left"), screen.read("#right")) == shown[3]
    screen.press("2")
    screen.press("e")  # the third issue: incomplete
    screen.press("n")
    page.keyboard.type("says 1234")
    page.keyboard.press("Control+Enter")
    early = screen.save(tmp_path / "early.json")
    # A reload goes on where it was.
    page.reload()
    assert screen.read("#count") == "Anna · 4 of 8 rated"
    assert (screen.read("#left"), screen.read("#right")) == shown[4]
    screen.press("s")
    assert screen.read("#left") != shown[4][0]
    screen.press("1")
    late = screen.save(tmp_path / "late.json")
    assert screen.problems == []
    assert page.evaluate("window.broken") is None
    assert all(url.startswith(("file:", "blob:")) for url in screen.asked)

    later = utcnow() + timedelta(hours=1)
    assert import_rating_pack(early, store, now=later).votes == 4
    found = import_rating_pack(late, store, now=later)
    assert (found.votes, found.issues, found.new, found.older) == (5, 1, 1, 0)
    assert [import_rating_pack(one, store, now=later).new for one in (early, late, early)] == [0, 0, 0]
    votes = standing(store)
    assert len(votes) == 5
    assert len({vote.case_id for vote in votes}) == 5
    assert all(vote.blind and 11.9 <= vote.seconds <= 30 for vote in votes)
    texts = dict(store.read("SELECT id, output FROM responses").itertuples(index=False))
    for vote, verdict in zip(sorted(votes, key=lambda vote: vote.created_at)[:2], ("left", "right"), strict=True):
        chosen = vote.response_a if vote.winner == "a" else vote.response_b
        place = ["left", "right"].index(verdict)
        number = len([one for one in votes if one.created_at < vote.created_at])
        assert texts[chosen][:6] == shown[number][place][:6]
    assert [vote.comment for vote in votes if vote.comment] == ["says 1234"]
    assert [one.label for one in issues(store)] == ["incomplete"]
    page.close()


def test_to_the_end_and_back(tmp_path: Path, context: BrowserContext, filled: Store) -> None:
    page = context.new_page()
    page.set_viewport_size({"width": 800, "height": 700})
    screen = Screen(page, pack(filled, tmp_path, pairs=2).as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 800
    screen.press("s1")
    screen.press("1")
    assert "All rated" in screen.read("#done")
    assert not page.locator("#screen").is_visible()
    screen.press("u")
    screen.press("3")
    expert = json.loads(screen.save(tmp_path / "votes.json").read_text())
    assert [entry["do"] for entry in expert["entries"]] == ["vote", "vote", "undo", "vote"]
    assert import_rating_pack(tmp_path / "votes.json", filled, now=utcnow() + timedelta(hours=1)).votes == 2
    assert screen.problems == []
    page.close()
