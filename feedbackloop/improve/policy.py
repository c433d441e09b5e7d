"""From a decision to what users get: policies, written one after the other and obeyed by the router within seconds.

A policy is never changed. Promoting and rolling back both write a new row, so that the history says who got what, and when.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta

from feedbackloop import queries
from feedbackloop.errors import SettingsError, UnknownName
from feedbackloop.identity import utcnow
from feedbackloop.models import Policy, Variant
from feedbackloop.providers import model_name
from feedbackloop.queries.policies import EVERYONE, live, named, policies, releases, replaced
from feedbackloop.queries.records import known_task
from feedbackloop.registry import near
from feedbackloop.settings import Settings
from feedbackloop.store import Store

Shares = Mapping[str, float]
"""Variant (name, `name@version` or id) to its share of the requests."""

_ROUNDING = 1e-6


def promote(
    store: Store,
    task: str,
    variant: str,
    *,
    weights: Shares | Mapping[str, Shares] | None = None,
    canary: float | None = None,
    segment: str | None = None,
    decision_id: str | None = None,
    fallback: Sequence[str] | None = None,
    settings: Settings | None = None,
) -> Policy:
    """Let a variant answer a task's requests: all of them, a share, or those of one segment.

    Args:
        variant: its name (then the newest version that ran for the task), `name@version`, or its id.
        weights: the whole distribution instead: shares by variant, or such shares by segment (`*` for all others, which goes
            to `variant` if it is not named).
        canary: the variant's share, between 0 and 1; those who answer now keep the rest in their proportions. Before the
            first policy the rest goes to the decision's baseline, else to the task's.
        segment: change this segment alone; by default every one.
        decision_id: the decision that this rests on.
        fallback: models that are asked, with the same messages, when the variant's own have failed, as `provider:model`. None
            keeps those of the live policy.
        settings: what the fallback's names are checked against.

    Raises:
        UnknownName: there is no such task or variant, or a fallback names no known provider.
        SettingsError: the shares make no sense.
        StoreError: there is no store yet, or it cannot be written.
    """
    store.must_exist()
    known_task(store, task)
    chosen = _variant(store, task, variant)
    present = live(store, task)
    if weights is not None:
        if canary is not None or segment is not None:
            raise SettingsError("weights say everything about who gets what; leave canary and segment out")
        shares = _whole(store, task, chosen, weights)
    else:
        shares = _changed(store, task, chosen, canary=canary, segment=segment, decision_id=decision_id)
    if fallback is None:
        models = list(present.fallback) if present else []
    else:
        models = [_model(store, task, model, settings) for model in fallback]
    return _write(store, present, Policy(task=task, weights=shares, fallback=models, decision_id=decision_id))


def rollback(store: Store, task: str, to: str | None = None) -> Policy:
    """Restore an earlier policy by writing it anew.

    Without `to` it is the one that the live policy took over from; rolling back twice goes back two steps. Before the first release
    stands what it took the place of: the baseline of its decision, else the task's.

    Args:
        to: how the id of the policy to restore begins; `history` lists them.

    Raises:
        SettingsError: there is nothing to go back to, or `to` does not name one policy.
    """
    past = releases(store, task)
    if not past:
        raise SettingsError(f"the task '{task}' has no policy yet, so there is nothing to roll back")
    present = past[-1]
    if to is None:
        if present.before is None:
            raise SettingsError(
                f"the task '{task}' has no policy before the live one, nor another baseline to go back to; name a policy with "
                f"`feedbackloop rollback {task} --to ID` (`feedbackloop policy {task}` lists them)"
            )
        wanted = present.before
    else:
        found = [one.policy for one in past if one.policy.id.startswith(to)] if to else []
        if len(found) != 1:
            raise SettingsError(
                f"{'several policies' if found else 'no policy'} of '{task}' {'have ids that begin' if found else 'has an id that begins'} "
                f"with '{to}'; `feedbackloop policy {task}` lists them"
            )
        wanted = found[0]
    restored = Policy(task=task, weights=wanted.weights, fallback=wanted.fallback, decision_id=wanted.decision_id)
    return _write(store, present.policy, restored)


def history(store: Store, task: str) -> list[Policy]:
    """The policies of a task, the live one first."""
    return policies(store, task)


def _write(store: Store, present: Policy | None, policy: Policy) -> Policy:
    # Clocks of two machines may differ: what is written later has to count as newer.
    created = utcnow()
    if present is not None and created <= present.created_at:
        created = present.created_at + timedelta(microseconds=1)
    policy = policy.model_copy(update={"created_at": created})
    store.append([policy])
    return policy


def _variant(store: Store, task: str, text: str) -> Variant:
    # The task's own come first: another task may have a variant of the same name.
    others = list(reversed(queries.variants(store)))
    found = named([*queries.task_variants(store, task), *others], text)
    if found is None:
        names = dict.fromkeys(variant.label if "@" in text else variant.name for variant in others)
        raise UnknownName(f"{store.url} has no variant '{text}'{near(text, names)}")
    return found


def _model(store: Store, task: str, text: str, settings: Settings | None) -> str:
    variant = named(queries.task_variants(store, task), text)
    if variant is not None:
        raise SettingsError(
            f"the fallback '{text}' is a variant, but fallbacks are models, which get the same messages; "
            f"its model is '{variant.model}'"
        )
    if not text.strip():
        raise SettingsError("a fallback is empty; write it as provider:model")
    return model_name(text, settings) if settings else text


def _changed(
    store: Store, task: str, chosen: Variant, *, canary: float | None, segment: str | None, decision_id: str | None
) -> dict[str, dict[str, float]]:
    """The live shares with the chosen variant in all segments, or in one."""
    if canary is not None and not 0 < canary <= 1:
        raise SettingsError(f"a canary's share is above 0 and at most 1, such as 0.1, and not {canary:g}")
    if segment is not None and not segment.strip():
        raise SettingsError("the segment is empty; name one, or leave it out for everyone")
    whole = canary is None or canary == 1
    if whole and segment in (None, EVERYONE):
        return {EVERYONE: {chosen.id: 1.0}}
    present = live(store, task)
    before = present.weights if present else {EVERYONE: {_rest(store, task, chosen, decision_id): 1.0}}
    touched = list(before) if segment is None else [segment]
    after = dict(before)
    for name in touched:
        after[name] = (
            {chosen.id: 1.0} if whole else _diluted(before.get(name, before[EVERYONE]), chosen, float(canary or 1))
        )
    return after


def _rest(store: Store, task: str, chosen: Variant, decision_id: str | None) -> str:
    baseline = replaced(store, task, decision_id)
    if baseline is None or baseline == chosen.id:
        raise SettingsError(
            f"nothing is live for '{task}' yet, so nobody would answer the other requests; promote one variant for everyone first"
        )
    return baseline


def _diluted(shares: Mapping[str, float], chosen: Variant, canary: float) -> dict[str, float]:
    others = {variant: share for variant, share in shares.items() if variant != chosen.id}
    total = sum(others.values())
    if not total:
        raise SettingsError(
            f"'{chosen.label}' already answers all of these requests; a canary needs another one beside it"
        )
    return {**{variant: share / total * (1 - canary) for variant, share in others.items()}, chosen.id: canary}


def _whole(
    store: Store, task: str, chosen: Variant, weights: Shares | Mapping[str, Shares]
) -> dict[str, dict[str, float]]:
    if not weights:
        raise SettingsError('the weights are empty; give shares such as {"terse": 0.9, "steps": 0.1}')
    nested: dict[str, Shares] = {}
    flat: dict[str, float] = {}
    for name, value in weights.items():
        if isinstance(value, Mapping):
            nested[name] = value
        else:
            flat[name] = value
    if flat and nested:
        raise SettingsError("weights are either shares by variant or such shares by segment, not both")
    if flat:
        nested = {EVERYONE: flat}
    made = {segment: _shares(store, task, segment, shares) for segment, shares in nested.items()}
    made.setdefault(EVERYONE, {chosen.id: 1.0})
    if not any(chosen.id in shares for shares in made.values()):
        raise SettingsError(f"the weights give '{chosen.label}' nothing, though it is to be promoted")
    return made


def _shares(store: Store, task: str, segment: str, shares: Shares) -> dict[str, float]:
    where = "" if segment == EVERYONE else f" in the segment '{segment}'"
    made: dict[str, float] = {}
    for name, share in shares.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < math.inf:
            raise SettingsError(f"the share of '{name}'{where} is {share!r}; shares are numbers between 0 and 1")
        variant = _variant(store, task, name)
        if variant.id in made:
            raise SettingsError(f"'{variant.label}' has two shares{where}; give it one")
        if share:
            made[variant.id] = float(share)
    total = sum(made.values())
    if abs(total - 1) > _ROUNDING:
        raise SettingsError(f"the shares{where} add up to {total:g}, not to 1")
    return made
