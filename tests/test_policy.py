"""Who answers from now on: promoting, canaries, segments, and the way back."""

from __future__ import annotations

import pytest
from released import STEPS, TERSE, make_store

from feedbackloop.errors import FeedbackLoopError, SettingsError, StoreError, UnknownName
from feedbackloop.improve.policy import history, promote, rollback
from feedbackloop.models import Decision, Policy, Run, Task, Variant
from feedbackloop.queries.policies import live, named, policies, released, releases, share
from feedbackloop.settings import Settings
from feedbackloop.store import Store


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "a.duckdb")


def weights(policy):
    names = {TERSE.id: "terse", STEPS.id: "steps"}
    return {
        segment: {names.get(variant, variant): share for variant, share in shares.items()}
        for segment, shares in policy.weights.items()
    }


# Promoting


@pytest.mark.parametrize("text", ["steps", STEPS.label, STEPS.id])
def test_a_variant_is_promoted_by_name_version_or_id(store, text):
    policy = promote(store, "support", text, decision_id="d1", fallback=["up:spare"])
    assert weights(policy) == {"*": {"steps": 1.0}}
    assert (policy.fallback, policy.decision_id) == (["up:spare"], "d1")
    assert live(store, "support") == policy


def test_a_name_is_the_version_that_ran_last_for_this_task(store):
    newer = Variant(name="steps", model="up:large", prompt="New: {{ input }}")
    elsewhere = Variant(name="steps", model="up:large", prompt="Elsewhere: {{ input }}")
    ran = [
        Run(task=task, dataset="d", fingerprint="f", variants=[v.id])
        for task, v in (("support", newer), ("x", elsewhere))
    ]
    store.append([newer, elsewhere, *ran])
    assert list(promote(store, "support", "steps").weights["*"]) == [newer.id]
    assert list(promote(store, "support", STEPS.label).weights["*"]) == [STEPS.id]


def test_a_canary_takes_its_share_and_the_others_keep_their_proportions(store):
    third = Variant(name="third", model="up:m")
    store.append([third])
    promote(store, "support", "steps", weights={"terse": 0.75, "steps": 0.25})
    policy = promote(store, "support", "third", canary=0.2)
    assert policy.weights == {"*": {TERSE.id: pytest.approx(0.6), STEPS.id: pytest.approx(0.2), third.id: 0.2}}
    grown = promote(store, "support", "third", canary=0.5)
    assert grown.weights["*"] == {TERSE.id: pytest.approx(0.375), STEPS.id: pytest.approx(0.125), third.id: 0.5}


def test_before_the_first_policy_a_canarys_rest_goes_to_the_baseline(store):
    assert weights(promote(store, "support", "steps", canary=0.1)) == {"*": {"terse": 0.9, "steps": 0.1}}


def test_a_segment_alone_is_changed_and_promoting_for_everyone_ends_it(store):
    promote(store, "support", "terse")
    assert weights(promote(store, "support", "steps", segment="de")) == {"*": {"terse": 1.0}, "de": {"steps": 1.0}}
    both = promote(store, "support", "steps", canary=0.1, segment="fr")
    assert weights(both)["fr"] == {"terse": 0.9, "steps": 0.1}
    assert weights(promote(store, "support", "steps")) == {"*": {"steps": 1.0}}


def test_weights_say_everything(store):
    policy = promote(store, "support", "steps", weights={"de": {"steps": 0.5, "terse": 0.5}})
    assert weights(policy) == {"de": {"steps": 0.5, "terse": 0.5}, "*": {"steps": 1.0}}
    assert weights(promote(store, "support", "steps", weights={"steps": 1, "terse": 0})) == {"*": {"steps": 1.0}}


def test_the_fallback_chain_stays_unless_another_is_named(store):
    promote(store, "support", "terse", fallback=["up:spare"])
    assert promote(store, "support", "steps").fallback == ["up:spare"]
    assert promote(store, "support", "steps", fallback=()).fallback == []
    named_fully = promote(store, "support", "steps", fallback=["gpt-4o"], settings=Settings())
    assert named_fully.fallback == ["openai:gpt-4o"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("suport", "steps", {}), "there is no task 'suport'; did you mean 'support'?"),
        (("support", "stepps", {}), "has no variant 'stepps'; did you mean 'steps'?"),
        (("support", "steps@zz", {}), "has no variant 'steps@zz'"),
        (("support", "steps", {"canary": 0}), "above 0 and at most 1, such as 0.1, and not 0"),
        (("support", "steps", {"canary": 1.5}), "and not 1.5"),
        (("support", "steps", {"canary": float("nan")}), "and not nan"),
        (("support", "terse", {"canary": 0.1}), "nothing is live for 'support' yet"),
        (("support", "steps", {"weights": {"steps": 0.5, "terse": 0.4}}), "the shares add up to 0.9, not to 1"),
        (("support", "steps", {"weights": {"de": {"steps": 0.5}}}), "the shares in the segment 'de' add up to 0.5"),
        (("support", "steps", {"weights": {"steps": -1, "terse": 2}}), "the share of 'steps' is -1"),
        (("support", "steps", {"weights": {"steps": True}}), "the share of 'steps' is True"),
        (("support", "steps", {"weights": {"steps": 0.5, STEPS.label: 0.5}}), "has two shares"),
        (("support", "steps", {"weights": {"terse": 1.0}}), "nothing, though it is to be promoted"),
        (("support", "steps", {"weights": {}}), "the weights are empty"),
        (("support", "steps", {"weights": {"de": {"steps": 1}, "terse": 1}}), "not both"),
        (("support", "steps", {"weights": {"nobody": 1}}), "has no variant 'nobody'"),
        (("support", "steps", {"weights": {"steps": 1}, "canary": 0.5}), "leave canary and segment out"),
        (("support", "steps", {"segment": " "}), "the segment is empty"),
        (("support", "steps", {"fallback": ["terse"]}), "its model is 'up:small'"),
        (("support", "steps", {"fallback": [" "]}), "a fallback is empty"),
        (("support", "steps", {"fallback": ["opnai:m"], "settings": Settings()}), "did you mean 'openai'"),
    ],
)
def test_what_makes_no_sense_is_one_sentence_and_changes_nothing(store, asked, says):
    task, variant, options = asked
    with pytest.raises(FeedbackLoopError) as caught:
        promote(store, task, variant, **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert policies(store) == []


def test_a_canary_needs_somebody_beside_it(store):
    promote(store, "support", "steps")
    with pytest.raises(SettingsError, match="already answers all"):
        promote(store, "support", "steps", canary=0.5)


def test_no_store_is_made_by_mistake(tmp_path):
    with pytest.raises(StoreError, match="no such store"):
        promote(Store(tmp_path / "none.duckdb"), "support", "steps")
    assert list(tmp_path.iterdir()) == []


# The way back


def test_rolling_back_restores_what_was_live_before_in_a_new_row(store):
    first = promote(store, "support", "terse", fallback=["up:spare"], decision_id="d1")
    promote(store, "support", "steps", decision_id="d2")
    restored = rollback(store, "support")
    assert (restored.weights, restored.fallback, restored.decision_id) == (first.weights, first.fallback, "d1")
    assert restored.id != first.id
    assert history(store, "support")[0].id == restored.id
    assert len(history(store, "support")) == 3


def test_rolling_back_twice_goes_back_two_steps_and_then_there_is_nothing(store):
    promote(store, "support", "terse")
    promote(store, "support", "steps", canary=0.1)
    promote(store, "support", "steps")
    assert weights(rollback(store, "support")) == {"*": {"terse": 0.9, "steps": 0.1}}
    assert weights(rollback(store, "support")) == {"*": {"terse": 1.0}}
    with pytest.raises(SettingsError, match="no policy before the live one"):
        rollback(store, "support")


def test_rolling_back_to_a_named_policy(store):
    promote(store, "support", "terse")
    second = promote(store, "support", "steps")
    promote(store, "support", "terse")
    assert weights(rollback(store, "support", to=second.id[:8])) == {"*": {"steps": 1.0}}
    with pytest.raises(SettingsError, match="no policy of 'support' has an id that begins with 'zzz'"):
        rollback(store, "support", to="zzz")
    with pytest.raises(SettingsError, match="no policy of 'support'"):
        rollback(store, "support", to="")


@pytest.mark.parametrize("canary", [None, 0.1])
def test_the_first_release_is_taken_back_to_the_tasks_baseline_and_then_there_is_nothing(store, canary):
    promote(store, "support", "steps", canary=canary, fallback=["up:spare"])
    back = rollback(store, "support")
    assert (weights(back), back.fallback) == ({"*": {"terse": 1.0}}, ["up:spare"])
    assert [release.back for release in releases(store, "support")] == [False, True]
    with pytest.raises(SettingsError, match="nor another baseline to go back to"):
        rollback(store, "support")
    promote(store, "support", "steps")
    assert weights(rollback(store, "support")) == {"*": {"terse": 1.0}}


def test_the_first_release_is_taken_back_to_the_baseline_of_its_decision(store):
    third = Variant(name="third", model="up:m")
    made = Decision(
        task="support", baseline=third.id, candidate=STEPS.id, goal="better", verdict="promote", reason="better"
    )
    store.append([third, made])
    promote(store, "support", "steps", decision_id=made.id)
    assert rollback(store, "support").weights == {"*": {third.id: 1.0}}


def test_where_no_baseline_is_known_rolling_back_says_so(store):
    lone = Variant(name="lone", model="up:m")
    store.append([lone, Task(name="new"), Policy(task="new", weights={"*": {lone.id: 1.0}})])
    with pytest.raises(SettingsError, match="no policy before the live one"):
        rollback(store, "new")


def test_there_is_nothing_to_roll_back_before_the_first_policy(store):
    with pytest.raises(SettingsError, match="no policy yet"):
        rollback(store, "support")


def test_what_is_written_later_is_newer_whatever_the_clock_says(store, monkeypatch):
    first = promote(store, "support", "terse")
    monkeypatch.setattr("feedbackloop.improve.policy.utcnow", lambda: first.created_at)
    second = promote(store, "support", "steps")
    assert second.created_at > first.created_at
    assert live(store, "support") == second


# Reading


def test_policies_of_tasks_are_told_apart(store):
    store.append([Run(task="other", dataset="d", fingerprint="f", variants=[TERSE.id])])
    promote(store, "support", "terse")
    one, two = promote(store, "support", "steps"), promote(store, "other", "terse")
    assert {policy.task: policy.id for policy in policies(store)} == {"support": one.id, "other": two.id}


def test_released_says_when_nothing_is_new(store):
    first = released(store)
    assert (first.policies, [variant.name for variant in first.variants]) == ({}, ["steps", "terse"])
    assert released(store, first.mark) is None
    policy = promote(store, "support", "steps")
    assert released(store, first.mark).policies == {"support": policy}


def test_a_store_that_is_not_there_has_nothing_released(tmp_path):
    store = Store(tmp_path / "none.duckdb")
    assert released(store).policies == {}
    assert (policies(store), live(store, "x")) == ([], None)
    assert not store.exists()


def test_a_name_with_an_at_sign_is_a_name():
    odd = Variant(name="a@b", model="up:m")
    assert named([odd, TERSE], "a@b") is odd
    assert named([odd, TERSE], odd.label) is odd
    assert named([odd, TERSE], "terse@") is None
    assert named([odd, TERSE], "@") is None


def test_unknown_names_are_of_their_own_class(store):
    with pytest.raises(UnknownName):
        promote(store, "support", "nobody")


def test_a_share_is_what_a_variant_answers_in_every_segment(store):
    assert share(live(store, "support"), STEPS.id) == 0
    promote(store, "support", "steps", canary=0.25)
    assert (share(live(store, "support"), STEPS.id), share(live(store, "support"), TERSE.id)) == (0.25, 0.75)
    promote(store, "support", "terse", segment="de")
    assert share(live(store, "support"), STEPS.id) == 0
