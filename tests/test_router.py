"""Whom the live policy sends a request to, and that users stay where they are."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from engines import SETTINGS
from fakes import FakeTime, Scripted
from released import make_store

from feedbackloop.errors import AuthenticationFailed, PromptError, SettingsError, StoreError
from feedbackloop.improve.policy import promote, rollback
from feedbackloop.models import AIRequest, Exemplar, Policy, Variant
from feedbackloop.pipeline.engine import Engine
from feedbackloop.pipeline.loop import FeedbackLoop
from feedbackloop.pipeline.router import Router, choose
from feedbackloop.store import Store

TERSE = Variant(name="terse", model="a:m", prompt="In one sentence: {{ input }}", fallbacks=["b:m"])
STEPS = Variant(
    name="steps",
    model="c:m",
    prompt=[
        {"role": "system", "content": "Think, {{ who | default('you') }}."},
        {"role": "user", "content": "{{ input }}"},
    ],
    params={"temperature": 0.2},
)


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "a.duckdb", TERSE, STEPS)


def promoted(store, name="terse", **options):
    return promote(store, "support", TERSE.id if name == "terse" else STEPS.id, **options)


class Watch:
    now = 100.0

    def __call__(self):
        return self.now


def router(store, watch=None):
    return Router(store, Engine(SETTINGS), now=watch or Watch())


def ask(text="hi", **fields):
    return AIRequest(input=text, task="support", **fields)


# Who gets what


def test_each_variant_gets_its_share_of_the_users():
    shares = {"a": 0.5, "b": 0.3, "c": 0.2}
    got = Counter(choose(shares, f"user {n}", salt="support") for n in range(20_000))
    for variant, share in shares.items():
        # Four standard errors.
        assert abs(got[variant] / 20_000 - share) < 4 * (share * (1 - share) / 20_000) ** 0.5


def test_when_a_share_grows_users_only_move_to_it():
    users = [f"user {n}" for n in range(5_000)]
    before = [choose({"old": 0.6, "other": 0.3, "new": 0.1}, user, salt="t") for user in users]
    after = [choose({"old": 0.4, "other": 0.2, "new": 0.4}, user, salt="t") for user in users]
    moved = [(one, two) for one, two in zip(before, after, strict=True) if one != two]
    assert {two for _, two in moved} == {"new"}
    assert abs(len(moved) / 5_000 - 0.3) < 0.03


def test_tasks_draw_independently_and_the_order_of_shares_does_not_matter():
    users = [f"user {n}" for n in range(2_000)]
    one = [choose({"a": 0.5, "b": 0.5}, user, salt="one") for user in users]
    two = [choose({"b": 0.5, "a": 0.5}, user, salt="two") for user in users]
    assert one == [choose({"b": 0.5, "a": 0.5}, user, salt="one") for user in users]
    assert 0.4 < sum(x == y for x, y in zip(one, two, strict=True)) / 2_000 < 0.6


async def test_a_user_keeps_the_variant_in_every_process_and_the_propensities_are_logged(store):
    promoted(store)
    promoted(store, "steps", canary=0.4)
    one, two = router(store), router(store)
    for number in range(50):
        first = await one.route(ask(user_id=f"u{number}"))
        again = await two.route(ask("something else", user_id=f"u{number}"))
        assert first.variant == again.variant
        assert first.request.propensities == {TERSE.id: pytest.approx(0.6), STEPS.id: 0.4}


async def test_requests_without_a_user_are_spread_by_chance(store):
    promoted(store)
    promoted(store, "steps", canary=0.5)
    one = router(store)
    got = Counter([(await one.route(ask())).variant.name for _ in range(200)])
    assert 60 < got["steps"] < 140


async def test_segments_have_their_own_shares_and_others_the_stars(store):
    promoted(store)
    promoted(store, "steps", segment="de")
    one = router(store)
    for segment, name in (("de", "steps"), ("fr", "terse"), (None, "terse"), (7, "terse"), ("*", "terse")):
        routed = await one.route(ask(metadata={"segment": segment}))
        assert routed.variant.name == name


# What is asked


async def test_the_variants_prompt_model_parameters_and_chain_are_what_is_asked(store):
    policy = promoted(store, "steps", fallback=["b:m"])
    request = ask("Why?", params={"temperature": 1.0, "max_tokens": 9}, metadata={"mine": 1}, user_id="u")
    routed = await router(store).route(request)
    asked = routed.request
    assert asked.messages == [{"role": "system", "content": "Think, you."}, {"role": "user", "content": "Why?"}]
    assert (asked.id, asked.input, asked.model, asked.variant_id) == (request.id, "Why?", "c:m", STEPS.id)
    assert asked.params == {"temperature": 0.2, "max_tokens": 9}
    assert asked.metadata == {"mine": 1, "variant": "steps", "policy": policy.id, "inputs": {"input": "Why?"}}
    assert routed.models == ("c:m", "b:m")
    promoted(store, fallback=["c:m", "b:m"])
    assert (await router(store).route(ask())).models == ("a:m", "b:m", "c:m")


async def test_a_conversation_goes_between_the_prompts_own_messages(store):
    promoted(store, "steps")
    talk = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    routed = await router(store).route(ask(messages=talk, inputs={"who": "Eve"}))
    assert routed.request.messages == [{"role": "system", "content": "Think, Eve."}, *talk]
    with pytest.raises(PromptError, match="last message must be the user's"):
        await router(store).route(ask(messages=talk[:2]))


async def test_a_prompt_without_a_user_message_takes_the_conversation_whole(store):
    bare = Variant(name="bare", model="a:m", prompt=[{"role": "system", "content": "Be kind."}])
    talk = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "Well,"}]
    made = router(store).ask(ask(messages=talk), bare).request
    assert made.messages == [{"role": "system", "content": "Be kind."}, *talk]
    assert router(store).ask(ask("hi"), bare).request.messages[1] == {"role": "user", "content": "hi"}


async def test_images_stay_beside_the_rendered_text(store):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    content = [{"type": "text", "text": "What is it?"}, image]
    for variant, text in ((TERSE, "In one sentence: What is it?"), (STEPS, "What is it?")):
        made = router(store).ask(ask(messages=[{"role": "user", "content": content}]), variant).request
        assert made.messages[-1] == {"role": "user", "content": [{"type": "text", "text": text}, image]}


async def test_exemplars_are_turns_before_the_question(store):
    shown = Variant(
        name="shown", model="a:m", prompt="Q: {{ input }}", exemplars=[Exemplar(inputs={"input": "1+1"}, output="2")]
    )
    made = router(store).ask(ask("2+2"), shown).request
    assert [message["content"] for message in made.messages] == ["Q: 1+1", "2", "Q: 2+2"]


async def test_a_function_gets_inputs_instead_of_a_prompt(store, tmp_path):
    (tmp_path / "mine.py").write_text("def answer(inputs):\n    return str(sorted(inputs))\n")
    own = Variant(name="own", model=f"python:{tmp_path}/mine.py:answer")
    engine = Engine(SETTINGS)
    talk = [{"role": "assistant", "content": "Hello"}, {"role": "user", "content": "hi"}]
    routed = Router(store, engine).ask(ask(messages=talk, inputs={"docs": ["x"]}), own)
    assert routed.request.inputs == {"input": "hi", "docs": ["x"], "messages": talk[:1]}
    assert (await engine.complete(routed.request, routed.models)).output == "['docs', 'input', 'messages']"


async def test_a_missing_variable_is_named(store):
    wants = Variant(name="wants", model="a:m", prompt="{{ topic }}: {{ input }}")
    with pytest.raises(PromptError, match="'topic' is undefined"):
        router(store).ask(ask(), wants)


# Obeying


async def test_a_new_policy_is_obeyed_within_two_seconds_and_the_store_is_read_seldom(store, monkeypatch):
    promoted(store)
    watch = Watch()
    one = router(store, watch)
    assert (await one.route(ask())).variant.name == "terse"
    reads = []
    query = Store.query
    monkeypatch.setattr(Store, "query", lambda *arguments: reads.append(1) or query(*arguments))
    promoted(store, "steps")
    reads.clear()
    for _ in range(20):
        watch.now += 0.04
        assert (await one.route(ask())).variant.name == "terse"
    assert not reads
    watch.now += 2.0
    assert (await one.route(ask())).variant.name == "steps"
    for _ in range(20):
        watch.now += 3.0
        await one.route(ask())
    # Nothing was written since, which a file tells without being opened.
    assert len(reads) == 1


async def test_between_one_and_two_seconds_nobody_waits_for_the_store(store):
    promoted(store)
    watch = Watch()
    one = router(store, watch)
    await one.route(ask())
    promoted(store, "steps")
    watch.now += 1.5
    assert (await one.route(ask())).variant.name == "terse"
    await one._reading
    assert (await one.route(ask())).variant.name == "steps"


async def test_taking_the_first_release_back_leaves_the_baseline_to_answer(store):
    promoted(store, "steps")
    watch = Watch()
    one = router(store, watch)
    assert (await one.route(ask())).variant.name == "steps"
    rollback(store, "support")
    watch.now += 2.5
    assert (await one.route(ask())).variant.name == "terse"


async def test_rolling_back_is_obeyed_too(store):
    promoted(store)
    promoted(store, "steps")
    watch = Watch()
    one = router(store, watch)
    assert (await one.route(ask())).variant.name == "steps"
    rollback(store, "support")
    watch.now += 2.5
    assert (await one.route(ask())).variant.name == "terse"


async def test_a_store_that_cannot_be_read_leaves_the_last_policy_in_force(store, monkeypatch):
    promoted(store)
    watch = Watch()
    one = router(store, watch)
    await one.route(ask())
    promoted(store, "steps")

    def refuse(*_):
        raise StoreError("in use")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "query", refuse)
        watch.now += 5
        assert (await one.route(ask())).variant.name == "terse"
        with pytest.raises(StoreError, match="in use"):
            await router(store).route(ask())
    assert (await one.route(ask())).variant.name == "steps"


async def test_many_at_once_share_one_look_at_the_store(store, monkeypatch):
    promoted(store)
    reads = []
    query = Store.query
    monkeypatch.setattr(Store, "query", lambda *arguments: reads.append(1) or query(*arguments))
    one = router(store)
    await asyncio.gather(*(one.route(ask()) for _ in range(50)))
    assert len(reads) == 1


async def test_a_task_without_a_policy_is_not_routed(store, tmp_path):
    assert await router(store).route(ask()) is None
    assert await router(store).route(AIRequest(input="hi")) is None
    assert await router(Store(tmp_path / "none.duckdb")).route(ask()) is None


async def test_a_policy_whose_variants_are_not_here_says_so(store):
    store.append([Policy(task="support", weights={"*": {"gone": 0.5, TERSE.id: 0.5}})])
    assert (await router(store).route(ask())).request.propensities == {TERSE.id: 1.0}
    store.append([Policy(task="support", weights={"*": {"gone": 1.0}})])
    with pytest.raises(SettingsError, match="names no variant that the store holds"):
        await router(store).route(ask())


async def test_variants_are_found_by_name_and_version(store):
    one = router(store)
    assert await one.find(STEPS.label) == STEPS
    assert (await one.find("steps")).name == "steps"
    assert await one.find("nobody") is None


# The pattern's own face


def made(store, *providers):
    processor = FeedbackLoop(
        {"primary_model": "a:p", "fallback_model": "b:p"}, settings=SETTINGS, store=store, clock=FakeTime().clock()
    )
    processor._engine._providers.update(zip("abc", providers, strict=False))
    return processor


async def test_a_task_with_a_live_policy_goes_before_the_primary_model_and_a_named_one(store):
    policy = promoted(store, "steps")
    async with made(store, first := Scripted(["no"]), Scripted(["no"]), third := Scripted(["yes"])) as processor:
        response = await processor.process(ask("hi", model="a:m", user_id="u1"))
    assert (response.output, response.model_used) == ("yes", "c:m")
    assert first.requests == []
    assert third.requests[0].messages[0]["role"] == "system"
    row = store.sql(
        "SELECT a.variant, a.task, a.user_id, q.propensities, q.metadata FROM answers a JOIN requests q ON q.id = a.request_id"
    ).iloc[0]
    assert (row["variant"], row["task"], row["user_id"]) == ("steps", "support", "u1")
    assert STEPS.id in row["propensities"]
    assert policy.id in row["metadata"]


async def test_the_policys_chain_takes_over_and_the_configs_does_not(store):
    promoted(store, "steps", fallback=["a:m"])
    async with made(
        store, Scripted(["rescued"]), second := Scripted(["no"]), Scripted([AuthenticationFailed("x")])
    ) as processor:
        response = await processor.process(ask())
        assert (response.output, response.model_used) == ("rescued", "a:m")
        promoted(store, "steps", fallback=())
        processor._router._read_at = -1e9
        failed = await processor.process(ask())
    assert failed.error_type == "AuthenticationFailed"
    assert second.requests == []


async def test_a_task_without_a_policy_is_answered_by_the_primary_model(store):
    async with made(store, Scripted(["primary"])) as processor:
        assert (await processor.process(ask())).output == "primary"
