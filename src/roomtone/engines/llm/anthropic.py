"""Anthropic's models, by the Messages API.

Shapes: https://docs.anthropic.com/en/api/messages and https://docs.anthropic.com/en/docs/build-with-claude/streaming
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ValidationError

from roomtone.core.dialog import Message, Role
from roomtone.engines.llm import Options, Piece, Trouble, Usage
from roomtone.engines.llm._dialect import Dialect, RemoteLlm
from roomtone.engines.llm._http import NO_KEY, HttpSettings, connected, not_ready, web_address
from roomtone.engines.llm._reading import Call, Names, Reading, answered, arguments_of
from roomtone.engines.llm._trouble import NO_ANSWER

ANTHROPIC = "https://api.anthropic.com"

OPTIONAL = {"temperature": None, "top_p": None, "output_config": None}
"""What newer models refuse, each or both together, and what older ones do."""

HOTTEST = 1.0
"""The API's highest temperature."""

NOBODY_SPOKE = "..."
"""Stands for the person's part where the conversation begins with Roomtone's: the API wants one there."""


class Settings(HttpSettings):
    """Which model, and the key. ``base_url`` is for gateways with the same API; a /v1 at its end is not needed."""

    base_url: Annotated[str, AfterValidator(web_address)] = ANTHROPIC


def missing(settings: Settings) -> str | None:
    """Say what is lacking: the package, the model or the key."""
    if (reason := not_ready(settings, "anthropic")) is not None:
        return reason
    if settings.base_url == ANTHROPIC and settings.api_key is None:
        return "no key is set; write api_key: credential:anthropic"
    return None


# ------------------------------------------------------------------------------------- what is asked


def request(settings: Settings, messages: Sequence[Message], options: Options, names: Names) -> dict[str, Any]:
    """Write a request's body. What never changes of the prompt, tools included, is marked to be kept."""
    system = [{"type": "text", "text": one.text} for one in messages if one.role is Role.SYSTEM and one.text.strip()]
    body: dict[str, Any] = {
        "model": settings.model,
        "messages": _turns([message for message in messages if message.role is not Role.SYSTEM], names),
        "stream": True,
        "max_tokens": options.max_tokens,
        "temperature": min(options.temperature, HOTTEST),
    }
    if system:
        body["system"] = [{**system[0], "cache_control": {"type": "ephemeral"}}, *system[1:]]
    if options.top_p != 1:
        body["top_p"] = options.top_p
    if stops := [stop for stop in options.stop if stop.strip()]:  # the API takes none that is only space
        body["stop_sequences"] = stops
    if options.tools:
        body["tools"] = [
            {
                "name": names.send(tool.name),
                "description": tool.description,
                "input_schema": {"type": "object", **tool.parameters},
            }
            for tool in options.tools
        ]
    if options.schema is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": _transformed(options.schema)}}
    return body | settings.extra


def _transformed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema as the API's structured output takes it: the SDK knows which keywords it refuses."""
    from anthropic import transform_schema

    return transform_schema(dict(schema))


def _turns(messages: Sequence[Message], names: Names) -> list[dict[str, Any]]:
    """Write the conversation as turns that alternate, the person's first; what tools answered is the person's."""
    turns: list[dict[str, Any]] = []
    for message, calls in answered(messages):
        role = "assistant" if message.role is Role.ROOMTONE else "user"
        blocks = _blocks(message, calls, names)
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    if not turns or turns[0]["role"] != "user":
        turns.insert(0, {"role": "user", "content": [{"type": "text", "text": NOBODY_SPOKE}]})
    return turns


def _blocks(message: Message, calls: Sequence[Mapping[str, Any]], names: Names) -> list[dict[str, Any]]:
    if message.role is Role.TOOL:
        return [{"type": "tool_result", "tool_use_id": message.data["call"], "content": message.text}]
    blocks: list[dict[str, Any]] = [{"type": "text", "text": message.text}] if message.text.strip() else []
    return blocks + [
        {
            "type": "tool_use",
            "id": call["id"],
            "name": names.send(call["name"]),
            "input": arguments_of(call["arguments"]),
        }
        for call in calls
    ]


# --------------------------------------------------------------------------------- what is answered


class _Block(BaseModel):
    type: str
    id: str | None = None
    name: str | None = None
    text: str | None = None
    input: dict[str, Any] | None = None


class _Delta(BaseModel):
    type: str | None = None
    text: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Usage(BaseModel):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Opening(BaseModel):
    usage: _Usage = _Usage()


class _Event(BaseModel):
    type: str
    index: int | None = None
    message: _Opening | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None


@dataclass(slots=True)
class _Messages(Reading):
    """Reads events; every block of a reply has its index. What a model thinks to itself is not passed on."""

    by_index: dict[int | None, Call] = field(default_factory=dict)
    used: _Usage = field(default_factory=_Usage)

    def take(self, event: Any) -> Iterator[Piece]:
        """Yield what an event brings. Raises LlmError where it is no event."""
        try:
            told = _Event.model_validate(event)
        except ValidationError as error:
            raise self.provider.trouble(Trouble.NONSENSE, NO_ANSWER) from error
        if told.message is not None:
            self._count(told.message.usage)
        if told.usage is not None:
            self._count(told.usage)
        if self.over:
            return
        if told.content_block is not None:
            yield from self._block(told.index, told.content_block)
        if told.delta is not None:
            yield from self._delta(told.index, told.delta)

    def _block(self, index: int | None, block: _Block) -> Iterator[Piece]:
        if block.type == "text":
            yield from self.say(block.text or "")
        if block.type == "tool_use":
            call = self.by_index[index] = self.begin_call(block.id, block.name or "")
            if block.input:
                self.go_on(call, json.dumps(block.input, ensure_ascii=False))

    def _delta(self, index: int | None, delta: _Delta) -> Iterator[Piece]:
        if delta.type == "text_delta":
            yield from self.say(delta.text or "")
        elif delta.type == "input_json_delta" and index in self.by_index:
            self.go_on(self.by_index[index], delta.partial_json or "")
        elif delta.stop_reason is not None and not self.over:
            reason = delta.stop_reason
            cut = reason in ("max_tokens", "model_context_window_exceeded")
            yield from self.end(reason, cut=cut, refused=reason == "refusal")

    def _count(self, usage: _Usage) -> None:
        """Take the newest of each number: the last event repeats some. ``input_tokens`` are without the cached."""
        self.used = self.used.model_copy(update=usage.model_dump(exclude_none=True))
        cached = self.used.cache_read_input_tokens or 0
        read = (self.used.input_tokens or 0) + cached + (self.used.cache_creation_input_tokens or 0)
        self.usage = Usage(read, self.used.output_tokens or 0, cached)


DIALECT = Dialect("/v1/models", "/v1/messages", OPTIONAL, request, _Messages)


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[RemoteLlm]:  # noqa: A001  # the name every engine has
    """Import the SDK and be ready; the API is called with each reply."""

    def make(sdk: Any, http: Any) -> Any:
        return sdk.AsyncAnthropic(
            api_key=NO_KEY,
            base_url=settings.base_url.removesuffix("/v1"),
            max_retries=0,
            http_client=http,
            open_telemetry=False,
        )

    async with connected(settings, "anthropic", make) as api:
        yield RemoteLlm(DIALECT, settings, api)
