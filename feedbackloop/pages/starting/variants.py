"""Step 2 of a new run: the variants, each with a row rendered as its model would see it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st
import yaml

from feedbackloop import queries
from feedbackloop.errors import FeedbackLoopError, SettingsError
from feedbackloop.models import Case, Variant
from feedbackloop.pages import answer, context
from feedbackloop.pages.starting.data import Chosen
from feedbackloop.pipeline.foresight import cannot_ask, is_function, refuse_same, rendered
from feedbackloop.providers import model_name, provider_name
from feedbackloop.settings import Settings, parse
from feedbackloop.spec import VariantSpec

SLOTS = "new-slots"
"""Where the session keeps the numbers of the variants that are drawn."""

MOST = 6
SUGGESTED = ("simulated:small", "simulated:large", "openai:gpt-4o-mini", "openai:gpt-4o", "openai:gpt-4.1-mini")
CHIPS = 12

_FIRST = (("terse", "Answer in one sentence: {}"), ("steps", "Think step by step, then answer.\n\n{}"))
_MAIN = ("input", "prompt", "question", "instruction", "query", "text")


@dataclass(frozen=True)
class Drawn:
    """What the cards say."""

    specs: tuple[VariantSpec, ...]
    ready: bool
    """Whether each of them can be asked, and rendered from the row that is shown."""


def choose(chosen: Chosen, settings: Settings, like: Sequence[Variant]) -> Drawn:
    """Draw step 2.

    Args:
        chosen: the rows of step 1.
        settings: providers.
        like: variants to begin with; without any, two that differ in their prompt.
    """
    st.subheader("2 Variants", anchor=False)
    known = context.read(queries.variants) if context.store().exists() else []
    _begin(like, chosen)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        place = st.number_input(
            "Row shown", min_value=1, max_value=len(chosen.sample), value=1, key="new-row", width=140
        )
        slots: list[int] = st.session_state[SLOTS]
        if st.button("Add a variant", icon=":material/add:", disabled=len(slots) >= MOST):
            _add(chosen)
            st.rerun()
    case = chosen.sample[min(int(place or 1), len(chosen.sample)) - 1]
    specs, ready = [], True
    for pair in (slots[at : at + 2] for at in range(0, len(slots), 2)):
        for column, slot in zip(st.columns(2, gap="medium"), pair, strict=False):
            with column, st.container(border=True, key=f"variant-{slot}"):
                spec = _card(slot, chosen, known, settings, removable=len(slots) > 1)
                shown = spec is not None and _rendering(slot, spec, case, chosen, known=known, settings=settings)
            ready = ready and shown
            if spec is not None:
                specs.append(spec)
    return Drawn(tuple(specs), ready)


def _begin(like: Sequence[Variant], chosen: Chosen) -> None:
    """Fill the cards once: from earlier variants, or with two prompts over the first column that looks like a text."""
    origin = "+".join(variant.id for variant in like)
    if st.session_state.get(SLOTS) and origin in {"", st.session_state.get("new-from")}:
        return
    st.session_state["new-from"] = origin
    if like:
        st.session_state[SLOTS] = list(range(len(like)))
        for slot, variant in enumerate(like):
            replayed = variant.model.startswith("recorded:")
            _fill(slot, variant.model_copy(update={"model": SUGGESTED[0]}) if replayed else variant)
            st.session_state[f"new-{slot}-replayed"] = replayed
        return
    st.session_state[SLOTS] = [0, 1]
    model = "openai:gpt-4o-mini" if os.environ.get("OPENAI_API_KEY") else "simulated:small"
    for slot, (name, prompt) in enumerate(_FIRST):
        _fill(slot, Variant(name=name, model=model, prompt=prompt.format(_variable(chosen))))  # type: ignore[call-arg]


def _variable(chosen: Chosen) -> str:
    name = next((name for name in _MAIN if name in chosen.columns), next(iter(chosen.columns), ""))
    return _chip(name) if name else ""


def _chip(name: str) -> str:
    """A column as it stands in a prompt. A name that is no identifier cannot stand there by itself."""
    return f"{{{{ {name} }}}}" if name.isidentifier() else ""


def _fill(slot: int, variant: Variant) -> None:
    state, key = st.session_state, f"new-{slot}"
    prompt = variant.prompt
    state[f"{key}-name"], state[f"{key}-model"] = variant.name, variant.model
    state[f"{key}-system"] = state[f"{key}-prompt"] = ""
    state[f"{key}-messages"] = None
    if isinstance(prompt, str):
        state[f"{key}-prompt"] = prompt
    elif prompt is not None and (pair := _pair(prompt)):
        state[f"{key}-system"], state[f"{key}-prompt"] = pair
    elif prompt is not None:
        state[f"{key}-messages"] = yaml.safe_dump(prompt, sort_keys=False, allow_unicode=True)
    params = dict(variant.params)
    state[f"{key}-temperature"] = _take(params, "temperature", float)
    state[f"{key}-max_tokens"] = _take(params, "max_tokens", int)
    state[f"{key}-more"] = json.dumps(params, ensure_ascii=False) if params else ""
    state[f"{key}-fallbacks"] = ", ".join(variant.fallbacks)
    state[f"{key}-exemplars"] = [exemplar.model_dump() for exemplar in variant.exemplars]


def _pair(prompt: Sequence[Any]) -> tuple[str, str] | None:
    """The system's and the user's text, if that is all that a prompt is."""
    plain = [part for part in prompt if isinstance(part, dict) and set(part) == {"role", "content"}]
    if len(plain) != len(prompt) or not all(isinstance(part["content"], str) for part in plain):
        return None
    roles = [part["role"] for part in plain]
    if roles == ["system", "user"]:
        return plain[0]["content"], plain[1]["content"]
    return ("", plain[0]["content"]) if roles == ["user"] else None


def _take(params: dict[str, Any], name: str, kind: type[float | int]) -> Any:
    """A parameter that has a box of its own, out of the rest; what does not fit the box stays in the rest."""
    value = params.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or (kind is int and not isinstance(value, int)):
        return None
    del params[name]
    return kind(value)


def _add(chosen: Chosen) -> None:
    """One more card: the last one's model, and a prompt to be written."""
    slots: list[int] = st.session_state[SLOTS]
    new = max(slots) + 1
    model = st.session_state.get(f"new-{slots[-1]}-model") or SUGGESTED[0]
    _fill(new, Variant(name=f"variant {new + 1}", model=model, prompt=_variable(chosen)))  # type: ignore[call-arg]
    st.session_state[SLOTS] = [*slots, new]


def _card(
    slot: int, chosen: Chosen, known: Sequence[Variant], settings: Settings, *, removable: bool
) -> VariantSpec | None:
    """One variant's boxes, and what they say; none where they make no sense, which is said there."""
    key = f"new-{slot}"
    with st.container(horizontal=True, vertical_alignment="bottom", wrap=False):
        st.text_input("Name", key=f"{key}-name", max_chars=60, persist_state="session", width="stretch")
        if removable and st.button(
            ":material/close:", key=f"{key}-remove", help="Remove this variant", type="tertiary"
        ):
            st.session_state[SLOTS] = [other for other in st.session_state[SLOTS] if other != slot]
            st.rerun()
    used = [variant.model for variant in reversed(known) if not variant.model.startswith("imported:")]
    current = st.session_state.get(f"{key}-model")
    options = list(dict.fromkeys([*([current] if current else []), *used, *SUGGESTED]))
    st.selectbox(
        "Model",
        options,
        key=f"{key}-model",
        accept_new_options=True,
        persist_state="session",
        help="provider:model, such as openai:gpt-4o-mini, simulated:small (made-up answers, to try things out), or a model "
        "of an endpoint named in feedbackloop.toml",
    )
    if st.session_state.get(f"{key}-replayed"):
        st.caption("Its answers were replayed from a recording, which holds none to a changed prompt: choose a model.")
    if st.session_state.get(f"{key}-messages") is None:
        st.text_area("System message (optional)", key=f"{key}-system", height=68, persist_state="session")
        st.text_area("Prompt", key=f"{key}-prompt", height=140, persist_state="session")
        _chips(slot, chosen.columns)
    else:
        st.text_area("Messages (YAML)", key=f"{key}-messages", height=220, persist_state="session")
    _parameters(slot, str(st.session_state.get(f"{key}-model") or ""))
    try:
        return _spec(slot, settings)
    except FeedbackLoopError as error:
        st.error(answer.escaped(str(error)), icon=":material/error:")
        return None


def _chips(slot: int, columns: Sequence[str]) -> None:
    """Columns that can be put into the prompt with a click."""
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center", key=f"chips-{slot}"):
        st.caption("Insert", width="content")
        for number, name in enumerate(columns[:CHIPS]):
            if chip := _chip(name):
                st.button(
                    answer.escaped(chip),
                    key=f"new-{slot}-chip-{number}",
                    type="tertiary",
                    on_click=_append,
                    args=(slot, chip),
                )


def _append(slot: int, chip: str) -> None:
    key = f"new-{slot}-prompt"
    text = st.session_state.get(key) or ""
    st.session_state[key] = f"{text} {chip}" if text and not text.endswith((" ", "\n")) else f"{text}{chip}"


def _parameters(slot: int, model: str) -> None:
    key = f"new-{slot}"
    simulated = model.startswith("simulated:")
    with st.expander("Parameters", icon=":material/tune:"):
        if not simulated:
            left, right = st.columns(2)
            left.number_input(
                "temperature",
                0.0,
                2.0,
                None,
                0.1,
                key=f"{key}-temperature",
                placeholder="its own",
                persist_state="session",
            )
            right.number_input(
                "max_tokens", 1, None, None, 50, key=f"{key}-max_tokens", placeholder="its own", persist_state="session"
            )
        example = '{"quality": 0.9, "latency_ms": 500, "failure_rate": 0.05}' if simulated else '{"top_p": 0.9}'
        st.text_area("More, as JSON", key=f"{key}-more", height=68, placeholder=example, persist_state="session")
        st.text_input(
            "If it fails, ask", key=f"{key}-fallbacks", placeholder="openai:gpt-4o-mini, ...", persist_state="session"
        )
        if examples := st.session_state.get(f"{key}-exemplars"):
            st.caption(f"With {len(examples)} few-shot examples, as before.")


def _spec(slot: int, settings: Settings) -> VariantSpec:
    """What the boxes say.

    Raises:
        SettingsError: they make no sense.
    """
    state, key = st.session_state, f"new-{slot}"
    name = str(state.get(f"{key}-name") or "").strip()
    if not name:
        raise SettingsError("Give this variant a name.")
    model = str(state.get(f"{key}-model") or "").strip()
    if not model:
        raise SettingsError("Choose a model, or type one: provider:model.")
    values: dict[str, Any] = {"name": name, "model": model, "params": _params(slot, model)}
    if not is_function(model, settings):
        values["prompt"] = _prompt(slot)
        values["exemplars"] = state.get(f"{key}-exemplars") or []
    values["fallbacks"] = [part.strip() for part in str(state.get(f"{key}-fallbacks") or "").split(",") if part.strip()]
    return parse(VariantSpec, values, name)


def _prompt(slot: int) -> Any:
    state, key = st.session_state, f"new-{slot}"
    if (messages := state.get(f"{key}-messages")) is not None:
        try:
            return yaml.safe_load(messages)
        except yaml.YAMLError as error:
            raise SettingsError(
                f"The messages are not valid YAML: {getattr(error, 'problem', None) or error}"
            ) from error
    system, user = str(state.get(f"{key}-system") or ""), str(state.get(f"{key}-prompt") or "")
    if system.strip():
        return [{"role": "system", "content": system}, {"role": "user", "content": user}]
    return user


def _params(slot: int, model: str) -> dict[str, Any]:
    state, key = st.session_state, f"new-{slot}"
    params: dict[str, Any] = {}
    if not model.startswith("simulated:"):
        params = {
            name: state[f"{key}-{name}"]
            for name in ("temperature", "max_tokens")
            if state.get(f"{key}-{name}") is not None
        }
    if text := str(state.get(f"{key}-more") or "").strip():
        try:
            more = json.loads(text)
        except ValueError as error:
            raise SettingsError(f"The parameters are not valid JSON: {error}") from error
        if not isinstance(more, dict):
            raise SettingsError('The parameters must be a JSON object, such as {"top_p": 0.9}.')
        params |= more
    return params


def _rendering(
    slot: int, spec: VariantSpec, case: Case, chosen: Chosen, *, known: Sequence[Variant], settings: Settings
) -> bool:
    """The row as this variant sends it, or the sentence that says why it cannot; false for the latter."""
    refusal = _refused(spec, known, settings) or cannot_ask(spec, settings)
    if refusal:
        st.error(answer.escaped(refusal), icon=":material/key:" if "not set" in refusal else ":material/error:")
    try:
        messages = rendered(spec, case, settings)
        if not chosen.conversations:
            refuse_same(spec, case, chosen.cases, settings)
    except FeedbackLoopError as error:
        st.error(answer.escaped(str(error)), icon=":material/error:")
        return False
    st.caption("As it is sent")
    with st.container(height=220, border=False, key=f"rendered-{slot}"):
        if messages is None:
            st.caption("A function of yours gets the row's columns as they are.")
            st.json(case.inputs)
        else:
            answer.conversation(messages, f"rendered-{slot}")
    return refusal is None


def _refused(spec: VariantSpec, known: Sequence[Variant], settings: Settings) -> str | None:
    """What a page must not start: code, or a file outside this folder, that somebody names in a browser."""
    before = {variant.model for variant in known}
    for model in (spec.model, *spec.fallbacks):
        if model in before:
            continue
        try:
            full = model_name(model, settings)
            if is_function(model, settings):
                return (
                    f"{model} is code. Name it in a spec and run that once from the command line (feedbackloop run SPEC.yaml); "
                    "from then on it can be chosen here."
                )
        except FeedbackLoopError:
            continue  # whoever asks it says what is wrong
        table = settings.providers.get(provider_name(full, settings))
        if (table.kind if table else provider_name(full, settings)) == "recorded":
            path = (settings.base / Path(full.partition(":")[2].partition("#")[0]).expanduser()).resolve()
            if not path.is_relative_to(settings.base.resolve()):
                return f"{model} lies outside the store's folder; copy the recording there."
    return None
