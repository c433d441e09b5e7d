"""What users say of an answer, by its id."""

from __future__ import annotations

import openai
import pytest
from gateways import STEPS, Gateway

from feedbackloop.errors import StoreError
from feedbackloop.gateway import feedback as feedbacks
from feedbackloop.models import AIRequest, AIResponse

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
def gateway(tmp_path):
    with Gateway(tmp_path) as made:
        made.promote(STEPS.id)
        yield made


@pytest.fixture
def client(gateway):
    with gateway.client() as made:
        yield made


@pytest.fixture
def answer(client):
    return client.chat.completions.create(model="support", messages=HI, user="u1")


def say(client, **said):
    return client.post("/feedback", body=said, cast_to=object)


def ratings(gateway, current=True):
    table = "current_ratings" if current else "ratings"
    columns = "metric, value, label, comment, correction, rater, rater_kind, blind, response_id, id"
    return gateway.store.sql(f"SELECT {columns} FROM {table} ORDER BY created_at, metric").to_dict("records")


def test_a_thumb_down_is_a_rating_of_that_answer_by_its_user(gateway, client, answer):
    said = say(client, id=answer.id, thumbs="down", comment="too vague", issue="incomplete")
    thumb, issue = sorted(ratings(gateway), key=lambda rating: rating["metric"], reverse=True)
    assert said == {"object": "feedback", "id": answer.id, "ratings": [thumb["id"], issue["id"]]}
    assert (thumb["metric"], thumb["value"], thumb["comment"]) == ("thumbs", 0.0, "too vague")
    assert (issue["metric"], issue["label"]) == ("issue", "incomplete")
    for rating in (thumb, issue):
        assert (rating["rater"], rating["rater_kind"], rating["blind"], rating["response_id"]) == (
            "u1",
            "user",
            True,
            answer.id,
        )
    gateway.stop()
    joined = gateway.store.sql(
        "SELECT variant, mean_rating, issues FROM answers WHERE response_id = ?", [answer.id]
    ).iloc[0]
    assert (joined["variant"], joined["mean_rating"], list(joined["issues"])) == ("steps", 0.0, ["incomplete"])


def test_stars_comments_and_corrections(gateway, client, answer):
    say(client, response_id=answer.id, stars=4, user="someone else")
    say(client, id=answer.id, comment="nice", correction="Hello!")
    say(client, id=answer.id, label="too long")
    kept = {rating["metric"]: rating for rating in ratings(gateway)}
    assert (kept["stars"]["value"], kept["stars"]["rater"]) == (4.0, "someone else")
    assert (kept["comment"]["comment"], kept["comment"]["correction"]) == ("nice", "Hello!")
    assert kept["issue"]["label"] == "too long"


def test_a_later_word_of_the_same_user_replaces_the_earlier_one(gateway, client, answer):
    say(client, id=answer.id, thumbs="up")
    say(client, id=answer.id, thumbs="down")
    say(client, id=answer.id, thumbs="up", user="u2")
    say(client, id=answer.id, thumbs="down")
    now = {rating["rater"]: rating["value"] for rating in ratings(gateway)}
    assert now == {"u1": 0.0, "u2": 1.0}
    # Nothing is changed, and what was said already is not said again.
    assert len(ratings(gateway, current=False)) == 3


def test_faults_add_up(gateway, client, answer):
    for issue in ("unsafe", "too long", "unsafe"):
        say(client, id=answer.id, issue=issue)
    assert sorted(rating["label"] for rating in ratings(gateway)) == ["too long", "unsafe"]


def test_a_double_click_is_one_rating(gateway, answer):
    from concurrent.futures import ThreadPoolExecutor

    def click(_):
        with gateway.client() as client:
            return say(client, id=answer.id, thumbs="up")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(click, range(4)))
    assert len(ratings(gateway, current=False)) == 1


def test_without_a_user_anywhere_it_is_anonymous(gateway, client):
    answer = client.chat.completions.create(model="up:m", messages=HI)
    say(client, id=answer.id, thumbs="up")
    assert [rating["rater"] for rating in ratings(gateway)] == ["anonymous"]


def test_an_answer_of_another_process_is_found_in_the_store(gateway, client):
    request = AIRequest(input="hi", user_id="u9")
    response = AIResponse(request_id=request.id, output="ho", model_used="up:m")
    gateway.store.append([request, response])
    say(client, id=response.id, stars=5)
    assert [rating["rater"] for rating in ratings(gateway)] == ["u9"]


def test_streamed_answers_have_ids_for_feedback_too(gateway, client):
    chunks = list(client.chat.completions.create(model="support", messages=HI, stream=True, user="u3"))
    say(client, id=chunks[0].id, thumbs="up")
    assert [(rating["rater"], rating["response_id"]) for rating in ratings(gateway)] == [("u3", chunks[0].id)]


@pytest.mark.parametrize(
    ("said", "status", "says"),
    [
        ({}, 400, "'id'"),
        ({"id": "x"}, 400, "say something"),
        ({"id": "x", "thumbs": "sideways"}, 400, "'thumbs'"),
        ({"id": "x", "thumbs": True}, 400, "'thumbs'"),
        ({"id": "x", "stars": 6}, 400, "'stars'"),
        ({"id": "x", "stars": 4.5}, 400, "'stars'"),
        ({"id": "x", "stars": "5"}, 400, "'stars'"),
        ({"id": "x", "comment": ""}, 400, "'comment'"),
        ({"id": "x", "comment": "x" * 20_000}, 400, "'comment'"),
        ({"id": "x", "comment": "x" * 300_000}, 413, "longer than 0.2 MB"),
        ({"id": "x" * 100, "thumbs": "up"}, 400, "'id'"),
        ({"id": ["x"], "thumbs": "up"}, 400, "'id'"),
        ({"id": "x", "thumb": "up"}, 400, "'thumb'"),
        ({"id": "x' OR 1=1", "thumbs": "up"}, 404, "there is no answer with the id"),
    ],
)
def test_what_makes_no_sense_is_refused(lasting, monkeypatch, said, status, says):
    monkeypatch.setattr(feedbacks, "LOOK_AGAIN_S", 0.01)
    with lasting.client() as client, pytest.raises(openai.APIStatusError) as caught:
        say(client, **said)
    assert (caught.value.status_code, says in caught.value.message) == (status, True)
    assert ratings(lasting, current=False) == []


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    with Gateway(tmp_path_factory.mktemp("lasting")) as made:
        yield made


def test_unstorable_text_is_made_storable(gateway, client, answer):
    say(client, id=answer.id, comment="a\x00b")
    assert [rating["comment"] for rating in ratings(gateway)] == ["a\u2400b"]


def test_a_store_that_refuses_is_said_and_nothing_is_pretended(gateway, client, answer, monkeypatch):
    append = gateway.store.append

    def refusing(records, **options):
        if any(type(record).__name__ == "Rating" for record in records):
            raise StoreError("somebody else holds it")
        return append(records, **options)

    monkeypatch.setattr(gateway.store, "append", refusing)
    with pytest.raises(openai.InternalServerError) as caught:
        say(client, id=answer.id, thumbs="up")
    assert (caught.value.status_code, caught.value.code) == (503, "store_unavailable")
