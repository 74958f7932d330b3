"""Any server with OpenAI's chat completions: OpenAI, OpenRouter, Portkey, Groq, Ollama, llama-server, vLLM.

Shapes: https://platform.openai.com/docs/api-reference/chat and what the others make of it.
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

OPENAI = "https://api.openai.com/v1"

OPTIONAL = {
    "stream_options": None,
    "temperature": None,
    "top_p": None,
    "stop": None,
    "max_tokens": "max_completion_tokens",
    "response_format": None,
    "tools": None,
}
"""What some models and servers refuse, and what they want instead: thinking models take no temperature, small ones no
tools, and each still answers without."""

MOST_STOPS = 4


class Settings(HttpSettings):
    """Which server, which of its models, and the key. A server in the house needs none."""

    base_url: Annotated[str, AfterValidator(web_address)] = OPENAI


def missing(settings: Settings) -> str | None:
    """Say what is lacking: the package, the model, or the key where OpenAI itself is asked."""
    if (reason := not_ready(settings, "openai")) is not None:
        return reason
    if settings.base_url == OPENAI and settings.api_key is None:
        return "no key is set; write api_key: credential:openai, or the base_url of a server in the house"
    return None


# ------------------------------------------------------------------------------------- what is asked


def request(settings: Settings, messages: Sequence[Message], options: Options, names: Names) -> dict[str, Any]:
    """Write a request's body."""
    body: dict[str, Any] = {
        "model": settings.model,
        "messages": [_message(message, calls, names) for message, calls in answered(messages)],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": options.max_tokens,
        "temperature": options.temperature,
    }
    if options.top_p != 1:
        body["top_p"] = options.top_p
    if options.stop:
        body["stop"] = list(options.stop[:MOST_STOPS])
    if options.tools:
        body["tools"] = [
            {"type": "function", "function": {**_described(tool), "name": names.send(tool.name)}}
            for tool in options.tools
        ]
    if options.schema is not None:
        shape = {"name": "reply", "schema": dict(options.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": shape}
    return body | settings.extra


def _described(tool: Any) -> dict[str, Any]:
    return {"description": tool.description, "parameters": dict(tool.parameters)}


def _message(message: Message, calls: Sequence[Mapping[str, Any]], names: Names) -> dict[str, Any]:
    if message.role is Role.TOOL:
        return {"role": "tool", "tool_call_id": message.data["call"], "content": message.text}
    said: dict[str, Any] = {"role": message.role.value, "content": message.text}
    if calls:
        said["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {
                    "name": names.send(call["name"]),
                    "arguments": json.dumps(arguments_of(call["arguments"]), ensure_ascii=False),
                },
            }
            for call in calls
        ]
    return said


# --------------------------------------------------------------------------------- what is answered


class _Function(BaseModel):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _ToolDelta(BaseModel):
    index: int | None = None
    id: str | None = None
    function: _Function = _Function()


class _Delta(BaseModel):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolDelta] | None = None


class _Choice(BaseModel):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Details(BaseModel):
    cached_tokens: int | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    cost: float | None = None


class _Chunk(BaseModel):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None


@dataclass(slots=True)
class _Chat(Reading):
    """Reads chunks; calls are put together by their index, or by what tells one from the next where it is missing."""

    by_index: dict[int | None, Call] = field(default_factory=dict)

    def take(self, event: Any) -> Iterator[Piece]:
        """Yield what an event brings. Raises LlmError where it is no chunk."""
        try:
            chunk = _Chunk.model_validate(event)
        except ValidationError as error:
            raise self.provider.trouble(Trouble.NONSENSE, NO_ANSWER) from error
        if chunk.usage is not None:
            self._used(chunk.usage)
        for choice in (chunk.choices or ())[: 0 if self.over else 1]:
            delta = choice.delta or _Delta()
            yield from self.say(delta.content or "")
            for part in delta.tool_calls or ():
                self._called(part)
            if choice.finish_reason or delta.refusal:
                reason = choice.finish_reason or "refusal"
                yield from self.end(
                    reason, cut=reason == "length", refused=bool(delta.refusal) or reason == "content_filter"
                )

    def _called(self, part: _ToolDelta) -> None:
        arguments = part.function.arguments or ""
        if isinstance(arguments, dict):
            arguments = json.dumps(arguments, ensure_ascii=False)
        call = self._meant(part)
        if call is None:
            call = self.begin_call(part.id, part.function.name or "")
            self.by_index[part.index] = call
        self.go_on(call, arguments)

    def _meant(self, part: _ToolDelta) -> Call | None:
        """Return the call that a delta goes on with, None where it begins one.

        Some servers give every call the same index, or none: then another id, or a name after whole arguments, tells.
        """
        call = self.by_index.get(part.index)
        if call is None or (part.id and part.id != call.id):
            return None
        return None if part.function.name and not part.id and call.arguments else call

    def _used(self, usage: _Usage) -> None:
        details = usage.prompt_tokens_details or _Details()
        self.usage = Usage(
            input_tokens=usage.prompt_tokens or 0,
            output_tokens=usage.completion_tokens or 0,
            cached_tokens=details.cached_tokens or 0,
            cost=usage.cost or 0.0,
        )


DIALECT = Dialect("/models", "/chat/completions", OPTIONAL, request, _Chat)


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[RemoteLlm]:  # noqa: A001  # the name every engine has
    """Import the SDK and be ready; the server is called with each reply."""

    def make(sdk: Any, http: Any) -> Any:
        return sdk.AsyncOpenAI(api_key=NO_KEY, base_url=settings.base_url, max_retries=0, http_client=http)

    async with connected(settings, "openai", make) as api:
        yield RemoteLlm(DIALECT, settings, api)
