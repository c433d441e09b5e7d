"""OpenAI's chat completions on the wire: what is read from a client, and what is written to it."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from feedbackloop.gateway.refusals import Refused
from feedbackloop.identity import request_key
from feedbackloop.models import AIRequest, AIResponse, Message
from feedbackloop.text import storable_value

Body = TypeVar("Body", bound=BaseModel)

_FINISHED = {"stop", "length", "content_filter", "tool_calls", "function_call"}
_NOT_HERE = (
    "tools",
    "functions",
    "tool_choice",
    "function_call",
    "audio",
    "logprobs",
    "top_logprobs",
    "web_search_options",
)
"""Parameters whose effect would be lost on the way: answers are texts here."""


class ChatMessage(BaseModel):
    """One message of a conversation, as far as it matters here."""

    model_config = ConfigDict(strict=True, extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None


class StreamOptions(BaseModel):
    """How to stream."""

    model_config = ConfigDict(strict=True, extra="allow")

    include_usage: bool | None = None


class ChatBody(BaseModel):
    """What a client asks; everything else in it is a parameter of the model's."""

    model_config = ConfigDict(strict=True, extra="allow")

    model: Annotated[str, Field(min_length=1, max_length=200)]
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2_000)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    user: Annotated[str, Field(max_length=256)] | None = None
    safety_identifier: Annotated[str, Field(max_length=256)] | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    """`segment` picks the group that the policy looks at; all of it is stored with the request."""
    inputs: dict[str, Any] | None = None
    """An extension: further variables of the variant's prompt."""

    @property
    def include_usage(self) -> bool:
        """Whether the stream ends with the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


class FeedbackBody(BaseModel):
    """What somebody says of an answer."""

    model_config = ConfigDict(strict=True, extra="forbid")

    id: Annotated[str, Field(min_length=1, max_length=64, validation_alias=AliasChoices("id", "response_id"))]
    """The `id` of the answer."""
    thumbs: Literal["up", "down"] | None = None
    stars: Annotated[int, Field(ge=1, le=5)] | None = None
    comment: Annotated[str, Field(min_length=1, max_length=10_000)] | None = None
    correction: Annotated[str, Field(min_length=1, max_length=50_000)] | None = None
    """What the answer should have been."""
    issue: Annotated[
        str | None, Field(min_length=1, max_length=100, validation_alias=AliasChoices("issue", "label"))
    ] = None
    """A fault by its name, such as one of the task's issues."""
    user: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Who says so; by default the user that the answer was made for."""


def parse(model: type[Body], raw: bytes) -> Body:
    """A body as what it should be, with its texts made storable.

    Raises:
        Refused: it is not JSON, or not of that shape; names the parameter.
    """
    try:
        values = json.loads(raw, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(values, dict):
        raise Refused(400, "the body must be a JSON object", code="invalid_json")
    try:
        if not raw.isascii() or b"\\u" in raw:
            values = storable_value(values).value
        return model.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise Refused(400, f"'{where}': {fault['msg']}", code="invalid_value", param=where or None) from None
    except RecursionError:
        raise Refused(400, "the body is nested too deeply", code="invalid_json") from None


def asked(body: ChatBody) -> AIRequest:
    """The request that a client's body stands for, before it is known who answers it.

    Raises:
        Refused: it asks for something that cannot be given.
    """
    extra = {name: value for name, value in (body.model_extra or {}).items() if value not in (None, [], False)}
    for name in _NOT_HERE:
        if name in extra:
            raise Refused(
                400, f"'{name}' is not supported here: answers are texts", code="unsupported_parameter", param=name
            )
    if extra.get("modalities", ["text"]) != ["text"]:
        raise Refused(400, "only the modality 'text' is supported", code="unsupported_parameter", param="modalities")
    messages: list[Message] = [message.model_dump(exclude_unset=True) for message in body.messages]
    text = _last_text(messages)
    plain = len(messages) == 1 and messages[0] == {"role": "user", "content": text}
    params = {
        name: value for name, value in (body.model_extra or {}).items() if value is not None and name not in _NOT_HERE
    }
    if body.safety_identifier is not None:
        params["safety_identifier"] = body.safety_identifier
    return AIRequest(
        input=text,
        model=body.model,
        messages=[] if plain else messages,
        params=params,
        user_id=body.user or body.safety_identifier or None,
        inputs=body.inputs,
        metadata=dict(body.metadata or {}),
    )


def keyed(request: AIRequest, model: str) -> AIRequest:
    """The request put to a model by its own name."""
    messages = request.messages or [{"role": "user", "content": request.input}]
    key = request_key(messages, model, request.params, request.repeat)
    return request.model_copy(update={"model": model, "key": key, "inputs": None})


def completion(response: AIResponse) -> dict[str, Any]:
    """A whole answer."""
    message: dict[str, Any] = {"role": "assistant", "content": response.output, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(response)}
    return {
        "id": response.id,
        "object": "chat.completion",
        "created": int(response.created_at.timestamp()),
        "model": response.model_used,
        "choices": [choice],
        "usage": usage(response),
        "system_fingerprint": None,
    }


def usage(response: AIResponse) -> dict[str, Any] | None:
    """The tokens of an answer; None where they are not known."""
    read, written = response.input_tokens, response.output_tokens
    if read is None or written is None:
        return None
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": response.tokens_used if response.tokens_used is not None else read + written,
        "prompt_tokens_details": {"cached_tokens": response.cached_tokens or 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": response.reasoning_tokens or 0, "audio_tokens": 0},
    }


def finish_reason(response: AIResponse) -> str:
    """Why it ended, in OpenAI's words."""
    if response.truncated:
        return "length"
    return response.finish_reason if response.finish_reason in _FINISHED else "stop"


def event(data: dict[str, Any]) -> bytes:
    """One event of a stream."""
    return b"data: " + dumps(data) + b"\n\n"


def dumps(data: dict[str, Any]) -> bytes:
    """JSON as it is sent."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _last_text(messages: list[Message]) -> str:
    users = [message for message in messages if message["role"] == "user"]
    content = (users or messages)[-1].get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if part.get("type") == "text")
    return content or ""


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
