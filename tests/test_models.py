"""The records: identity by content, and the pattern's own defaults."""

from __future__ import annotations

from datetime import UTC

import pytest
from pydantic import ValidationError

from feedbackloop.identity import content_id, fingerprint, new_id
from feedbackloop.models import AIRequest, AIResponse, Case, ProcessingStatus, Variant
from feedbackloop.text import storable, storable_value


def test_the_patterns_request_needs_only_an_input() -> None:
    request = AIRequest(input="hello")
    assert (request.model, request.priority, request.purpose) == ("gpt-4o-mini", 5, "answer")
    assert request.created_at.tzinfo is UTC
    assert "model" not in request.model_fields_set
    assert len(request.id) == 36


@pytest.mark.parametrize("priority", [0, 11])
def test_priority_is_one_to_ten(priority: int) -> None:
    with pytest.raises(ValidationError):
        AIRequest(input="x", priority=priority)


def test_the_patterns_response_is_made_as_in_its_guide() -> None:
    response = AIResponse(
        request_id="1",
        output="x",
        model_used="m",
        latency_ms=1.0,
        tokens_used=3,
        cost_usd=0.1,
        status=ProcessingStatus.COMPLETED,
    )
    assert response.status == "completed"
    with pytest.raises(ValidationError):
        response.output = "y"


def test_a_case_is_its_inputs_messages_and_context() -> None:
    case = Case(inputs={"a": 1, "b": "x"})
    assert case.id == Case(inputs={"b": "x", "a": 1}, expected="e", segment="s", metadata={"m": 1}, external_id="7").id
    assert len({case.id, Case(inputs={"a": True, "b": "x"}).id, Case(inputs={"a": 1, "b": "x"}, context=["d"]).id}) == 3


def test_a_variant_is_its_model_prompt_and_parameters() -> None:
    first = Variant(name="a", model="m", prompt="p", params={"t": 0.1})
    assert first.id == Variant(name="b", model="m", prompt="p", params={"t": 0.1}).id
    assert first.id != Variant(name="a", model="m", prompt="p", params={"t": 0.2}).id
    assert first.id != Variant(name="a", model="m", prompt="p", params={"t": 0.1}, fallbacks=["n"]).id


def test_ids_are_fresh_uuid4() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(id_[14] == "4" and id_[19] in "89ab" for id_ in ids)


def test_content_ids_do_not_depend_on_the_order_of_keys() -> None:
    assert content_id({"a": 1, "b": [2]}, "x") == content_id({"b": [2], "a": 1}, "x")
    assert content_id("ab", "c") != content_id("a", "bc")


def test_a_fingerprint_depends_on_the_order_of_cases() -> None:
    assert fingerprint(["a", "b"]) == fingerprint(iter(["a", "b"])) != fingerprint(["b", "a"])


def test_text_that_no_database_takes_is_repaired_and_counted() -> None:
    assert storable("plain") == ("plain", 0)
    assert storable("a\x00b\ud800\udfffü") == ("a\u2400b\ufffd\ufffdü", 3)
    made = storable_value({"k\x00": ["\ud800", 1, None, {"x": "ok"}]})
    assert made.value == {"k\u2400": ["\ufffd", 1, None, {"x": "ok"}]}
    assert made.repaired == 2
