"""OpenAI's chat completions, and what other servers make of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from conftest import Run
from llm_talk import HELLO, TIMER, engine, heard, message
from roomtone import engines
from roomtone.core.dialog import Role
from roomtone.engines.llm import Options, Text, Trouble, Usage
from roomtone.engines.llm.openai import Settings, missing
from roomtone.scripted_provider import Reply, Request, provider


def stream(*chunks: Mapping[str, Any] | str, done: bool = True) -> Reply:
    """Return a reply of these chunks, as they are."""
    told = [chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in chunks]
    return Reply(raw="".join(f"data: {one}\n\n" for one in [*told, *(["[DONE]"] if done else [])]).encode())


def delta(finish: str | None = None, **said: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


def call(name: str | None = None, arguments: Any = "", **marks: Any) -> dict[str, Any]:
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    return {"function": function, **marks}


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        (
            "one index, ids of their own (Ollama)",
            [
                delta(tool_calls=[call("timer__set", '{"minutes": 9}', id="a", index=0)]),
                delta(tool_calls=[call("lights", '{"on": true}', id="b", index=0)]),
                delta("tool_calls"),
            ],
        ),
        (
            "neither ids nor indexes, both at once",
            [
                delta(tool_calls=[call("timer__set", '{"minutes": 9}'), call("lights", '{"on": true}')]),
                delta("tool_calls"),
            ],
        ),
        (
            "arguments as an object",
            [
                delta(
                    tool_calls=[call("timer__set", {"minutes": 9}, index=0), call("lights", {"on": True}, index=1)]
                ),
                delta("stop"),
            ],
        ),
        (
            "in turns, with the id in every delta",
            [
                delta(tool_calls=[call("timer__set", "", id="a", index=0), call("lights", "", id="b", index=1)]),
                delta(tool_calls=[call("timer__set", '{"minutes"', id="a", index=0)]),
                delta(tool_calls=[call(None, '{"on": ', index=1)]),
                delta(tool_calls=[call(None, ": 9}", index=0)]),
                delta("tool_calls", tool_calls=[call(None, "true}", index=1)]),
            ],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_calls_are_put_together_however_a_server_numbers_them(
    run: Run[None], shape: str, chunks: list[dict[str, Any]]
) -> None:
    async def scenario() -> None:
        with provider([stream(*chunks)]) as server:
            async with engine("openai", server.url) as llm:
                said = await heard(llm, options=Options(tools=(TIMER,)))
        assert said.failed is None
        assert [(one.name, json.loads(one.arguments)) for one in said.calls] == [
            ("timer.set", {"minutes": 9}),
            ("lights", {"on": True}),
        ]
        assert len({one.id for one in said.calls} - {""}) == 2

    run(scenario())


def test_a_server_that_does_not_say_what_it_took_is_no_worse(run: Run[None]) -> None:
    async def scenario() -> None:
        with provider([stream(delta(content="Hello"), delta("stop"), done=False)]) as server:
            async with engine("openai", server.url) as llm:
                assert (await heard(llm)).pieces == [Text("Hello"), Usage()]

    run(scenario())


def test_what_a_server_does_not_know_is_left_out_from_then_on(run: Run[None]) -> None:
    def picky(request: Request) -> Reply:
        if "temperature" in request.body:
            return Reply(status=400, message="Unsupported value: 'temperature' does not support 0.7 with this model.")
        if "max_tokens" in request.body:
            return Reply(status=400, message="'max_tokens' is not supported; use 'max_completion_tokens' instead.")
        if "stop" in request.body:
            return Reply(status=400, message="Unsupported parameter: 'stop' is not supported with this model.")
        if "stream_options" in request.body:
            return Reply(status=422, message="Extra inputs are not permitted: stream_options")
        return Reply("Hello")

    async def scenario() -> None:
        with provider(picky) as server:
            async with engine("openai", server.url) as llm:
                for _ in range(2):
                    assert (await heard(llm, options=Options(stop=("END",)))).text == "Hello"
        assert len(server.requests) == 6
        body = server.requests[-1].body
        assert body["max_completion_tokens"] == 400
        assert body.keys() == {"model", "messages", "stream", "max_completion_tokens"}

    run(scenario())


def test_one_bad_tool_does_not_cost_the_others(run: Run[None]) -> None:
    async def scenario() -> None:
        words = "tools.3.input_schema is no schema; see tools[3].function.parameters, my_tools and nonstop"
        with provider([Reply(status=400, message=words)]) as server:
            async with engine("openai", server.url) as llm:
                assert (await heard(llm, options=Options(tools=(TIMER,), stop=("END",)))).failed is not None
        assert len(server.requests) == 1

    run(scenario())


def test_a_model_that_knows_no_tools_answers_without(run: Run[None]) -> None:
    async def scenario() -> None:
        with provider([Reply(status=400, message="gemma:2b does not support tools"), Reply("Hello")]) as server:
            async with engine("openai", server.url) as llm:
                assert (await heard(llm, options=Options(tools=(TIMER,)))).text == "Hello"
        assert "tools" not in server.requests[-1].body

    run(scenario())


def test_what_comes_after_the_end_is_not_said(run: Run[None]) -> None:
    async def scenario() -> None:
        with provider(
            [stream(delta(content="Hello"), delta("stop"), delta(content=" again"), delta("stop"))]
        ) as server:
            async with engine("openai", server.url) as llm:
                assert (await heard(llm)).text == "Hello"

    run(scenario())


def test_a_refusal_that_does_not_end_is_one(run: Run[None]) -> None:
    async def scenario() -> None:
        words = "temperature, top_p, stop, stream_options and max_tokens are wrong"
        with provider([Reply(status=400, message=words)]) as server:
            async with engine("openai", server.url) as llm:
                said = await heard(llm)
        assert said.failed is not None
        assert said.failed.trouble is Trouble.NONSENSE
        assert len(server.requests) == 2

    run(scenario())


@pytest.mark.parametrize(
    ("chunks", "text", "trouble"),
    [
        ([delta(content="Well"), {"error": {"message": "overloaded", "code": 502}}], "Well", Trouble.BUSY),
        ([delta(content="Well"), {"error": {"message": "slow down", "code": 429}}], "Well", Trouble.LIMIT),
        ([delta(content="Well"), {"error": "it broke"}], "Well", Trouble.BUSY),
        ([delta(content="Well"), delta("error")], "Well", Trouble.BUSY),
        ([delta(content="Well"), delta("content_filter")], "Well", Trouble.REFUSED),
        ([delta(refusal="I cannot")], "", Trouble.REFUSED),
        ([delta("length")], "", Trouble.NONSENSE),
        ([delta(reasoning_content="Hm, let me think")], "", Trouble.BUSY),
    ],
)
def test_what_goes_wrong_in_mid_stream_comes_after_what_was_good(
    run: Run[None], chunks: list[dict[str, Any]], text: str, trouble: Trouble
) -> None:
    async def scenario() -> None:
        with provider([stream(*chunks)]) as server:
            async with engine("openai", server.url) as llm:
                said = await heard(llm)
        assert said.text == text
        assert said.failed is not None
        assert said.failed.trouble is trouble

    run(scenario())


@pytest.mark.parametrize(
    ("status", "error", "trouble"),
    [
        (429, {"code": "insufficient_quota", "type": "insufficient_quota"}, Trouble.CREDIT),
        (400, {"code": "context_length_exceeded", "type": "invalid_request_error"}, Trouble.TOO_LONG),
        (400, {"code": 400, "type": "exceed_context_size_error"}, Trouble.TOO_LONG),
        (400, {"code": "content_filter"}, Trouble.REFUSED),
        (400, {"code": "model_not_found"}, Trouble.MODEL),
        (404, "model 'llama9' not found, try pulling it first", Trouble.MODEL),
    ],
)
def test_errors_are_known_by_their_names(
    run: Run[None], status: int, error: dict[str, Any] | str, trouble: Trouble
) -> None:
    async def scenario() -> None:
        body = json.dumps({"error": error}).encode()
        with provider([Reply(status=status, raw=body)]) as server:
            async with engine("openai", server.url) as llm:
                said = await heard(llm)
        assert said.failed is not None
        assert said.failed.trouble is trouble

    run(scenario())


def test_a_letter_that_comes_in_halves_is_one(run: Run[None]) -> None:
    async def scenario() -> None:
        halves = [
            delta(content="Hi \ud83d"),
            delta(content="\ude00!"),
            delta(content="\ud83d"),
            delta("stop", content=" no"),
        ]
        with provider([stream(*halves)]) as server:
            async with engine("openai", server.url) as llm:
                said = await heard(llm)
        assert said.text == "Hi \U0001f600!\ufffd no"

    run(scenario())


def test_a_reply_that_ran_out_of_tokens_says_so(run: Run[None]) -> None:
    async def scenario() -> None:
        with provider([Reply("One two", finish="length")]) as server:
            async with engine("openai", server.url) as llm:
                said = await heard(llm)
        assert said.failed is None
        assert said.usage is not None
        assert said.usage.cut

    run(scenario())


def test_what_a_gateway_says_it_cost_is_kept(run: Run[None]) -> None:
    async def scenario() -> None:
        usage = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2, "cost": 0.0004}}
        with provider([stream(delta(content="Hello"), delta("stop"), usage)]) as server:
            async with engine("openai", server.url) as llm:
                assert (await heard(llm)).usage == Usage(9, 2, cost=0.0004)

    run(scenario())


def test_everything_a_persona_wants_is_asked_for(run: Run[None]) -> None:
    talk = (
        *HELLO,
        message(
            "Let me look.", Role.ROOMTONE, calls=[{"id": "a", "name": "timer.set", "arguments": '{"minutes":9}'}]
        ),
        message("done", Role.TOOL, call="a", name="timer.set"),
    )
    schema = {"type": "object", "properties": {"answer": {"type": "string"}}}
    options = Options(
        max_tokens=99, temperature=0.2, top_p=0.9, stop=("a", "b", "c", "d", "e"), tools=(TIMER,), schema=schema
    )

    async def scenario() -> None:
        with provider([Reply("Yes.")]) as server:
            async with engine("openai", server.url, extra={"reasoning_effort": "none"}) as llm:
                await heard(llm, talk, options)
        assert server.requests[0].body == {
            "model": "scripted",
            "messages": [
                {"role": "system", "content": "You are the voice of a room."},
                {"role": "user", "content": "How are you?"},
                {
                    "role": "assistant",
                    "content": "Let me look.",
                    "tool_calls": [
                        {
                            "id": "a",
                            "type": "function",
                            "function": {"name": "timer__set", "arguments": '{"minutes": 9}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "a", "content": "done"},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": 99,
            "temperature": 0.2,
            "top_p": 0.9,
            "stop": ["a", "b", "c", "d"],
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "timer__set",
                        "description": "Sets a timer.",
                        "parameters": dict(TIMER.parameters),
                    },
                }
            ],
            "response_format": {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}},
            "reasoning_effort": "none",
        }

    run(scenario())


def test_what_is_lacking_is_one_line() -> None:
    assert "model" in str(missing(Settings()))
    assert "api_key" in str(missing(Settings(model="gpt-5-mini")))
    assert missing(Settings(model="llama3.2", base_url="http://nas.local:11434/v1")) is None


@pytest.mark.parametrize("url", ["nas.local:11434", "ftp://nas.local", "http://", "http://me:secret@nas.local"])
def test_an_address_must_be_one(url: str) -> None:
    with pytest.raises(ValueError, match="is not a URL"):
        Settings(base_url=url)


def test_an_engine_says_whom_it_asks(run: Run[None]) -> None:
    async def scenario() -> None:
        async with engines.open_engine(
            "llm", "openai", Settings(model="llama3.2", base_url="http://NAS.local:11434/v1/")
        ) as llm:
            assert (llm.host, llm.model, llm.context, llm.continues) == ("nas.local:11434", "llama3.2", 0, False)

    run(scenario())
