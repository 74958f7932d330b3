"""Anthropic's Messages API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from conftest import Run
from llm_talk import HELLO, TIMER, engine, heard, message
from roomtone.core.dialog import Message, Role
from roomtone.engines.llm import Options, Trouble, Usage
from roomtone.engines.llm._reading import Names
from roomtone.engines.llm.anthropic import NOBODY_SPOKE, Settings, missing, request
from roomtone.scripted_provider import Reply, Request, provider


def stream(*told: Mapping[str, Any]) -> Reply:
    """Return a reply of these events, as they are."""
    return Reply(raw="".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in told).encode())


def text(said: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": said}}


def stop(reason: str) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 3}}


def turns(*messages: Message) -> list[list[dict[str, Any]]]:
    asked = request(Settings(model="m"), messages, Options(), Names(()))["messages"]
    assert [turn["role"] for turn in asked] == ["user", "assistant"] * (len(asked) // 2) + ["user"] * (len(asked) % 2)
    return [turn["content"] for turn in asked]


def said(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def test_everything_a_persona_wants_is_asked_for(run: Run[None]) -> None:
    talk = (
        *HELLO,
        message("It is Tuesday.", Role.SYSTEM),
        message(
            "Let me look.", Role.ROOMTONE, calls=[{"id": "a", "name": "timer.set", "arguments": '{"minutes":9}'}]
        ),
        message("done", Role.TOOL, call="a", name="timer.set"),
        message("And?"),
    )
    options = Options(max_tokens=99, temperature=1.7, top_p=0.9, stop=("\n", "END"), tools=(TIMER,))

    async def scenario() -> None:
        with provider([Reply("Yes.")]) as server:
            async with engine("anthropic", server.url, extra={"service_tier": "auto"}) as llm:
                await heard(llm, talk, options)
        assert server.requests[0].path == "/v1/messages"
        assert server.requests[0].headers["anthropic-version"]
        assert server.requests[0].body == {
            "model": "scripted",
            "system": [
                {**said("You are the voice of a room."), "cache_control": {"type": "ephemeral"}},
                said("It is Tuesday."),
            ],
            "messages": [
                {"role": "user", "content": [said("How are you?")]},
                {
                    "role": "assistant",
                    "content": [
                        said("Let me look."),
                        {"type": "tool_use", "id": "a", "name": "timer__set", "input": {"minutes": 9}},
                    ],
                },
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "a", "content": "done"}, said("And?")],
                },
            ],
            "stream": True,
            "max_tokens": 99,
            "temperature": 1.0,
            "top_p": 0.9,
            "stop_sequences": ["END"],
            "tools": [
                {"name": "timer__set", "description": "Sets a timer.", "input_schema": dict(TIMER.parameters)},
            ],
            "service_tier": "auto",
        }

    run(scenario())


def test_turns_alternate_and_begin_with_the_person() -> None:
    assert turns(message("Hello"), message("are you there?")) == [[said("Hello"), said("are you there?")]]
    assert turns(message("The timer rang.", Role.ROOMTONE), message("Which?")) == [
        [said(NOBODY_SPOKE)],
        [said("The timer rang.")],
        [said("Which?")],
    ]
    assert turns(message("Hello"), message(" ", Role.ROOMTONE), message("")) == [[said("Hello")]]
    assert turns() == [[said(NOBODY_SPOKE)]]


def test_tools_that_ran_side_by_side_are_answered_in_one_turn() -> None:
    calls = [{"id": mark, "name": "timer.set", "arguments": "{}"} for mark in "ab"]
    spoken = turns(
        message("Two timers."),
        message("", Role.ROOMTONE, calls=calls),
        message("one", Role.TOOL, call="a", name="timer.set"),
        message("two", Role.TOOL, call="b", name="timer.set"),
    )
    assert [block["id"] for block in spoken[1]] == ["a", "b"]
    assert [(block["tool_use_id"], block["content"]) for block in spoken[2]] == [("a", "one"), ("b", "two")]


def test_a_schema_is_asked_for_as_structured_output(run: Run[None]) -> None:
    async def scenario() -> None:
        schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
        with provider([Reply('{"n": 3}')]) as server:
            async with engine("anthropic", server.url) as llm:
                assert (await heard(llm, options=Options(schema=schema))).text == '{"n": 3}'
        form = server.requests[0].body["output_config"]["format"]
        assert form["type"] == "json_schema"
        assert form["schema"]["additionalProperties"] is False
        assert "minimum" not in form["schema"]["properties"]["n"]

    run(scenario())


def test_a_model_that_takes_no_temperature_is_asked_without_from_then_on(run: Run[None]) -> None:
    def picky(asked: Request) -> Reply:
        if "temperature" in asked.body:
            return Reply(status=400, message="`temperature` and `top_p` are deprecated for this model.")
        return Reply("Hello")

    async def scenario() -> None:
        with provider(picky) as server:
            async with engine("anthropic", server.url) as llm:
                for _ in range(2):
                    assert (await heard(llm, options=Options(top_p=0.5))).text == "Hello"
        assert ["top_p" in asked.body for asked in server.requests] == [True, False, False]

    run(scenario())


@pytest.mark.parametrize(
    ("told", "trouble"),
    [
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, Trouble.BUSY),
        ({"type": "error", "error": {"type": "api_error", "message": "Internal"}}, Trouble.BUSY),
        ({"type": "error", "error": {"type": "rate_limit_error", "message": "Slow down"}}, Trouble.LIMIT),
        (stop("refusal"), Trouble.REFUSED),
    ],
)
def test_what_goes_wrong_in_mid_stream_comes_after_what_was_good(
    run: Run[None], told: dict[str, Any], trouble: Trouble
) -> None:
    async def scenario() -> None:
        with provider([stream(text("Well"), told)]) as server:
            async with engine("anthropic", server.url) as llm:
                answer = await heard(llm)
        assert answer.text == "Well"
        assert answer.failed is not None
        assert answer.failed.trouble is trouble

    run(scenario())


@pytest.mark.parametrize("reason", ["max_tokens", "model_context_window_exceeded"])
def test_a_reply_that_ran_out_of_room_says_so(run: Run[None], reason: str) -> None:
    async def scenario() -> None:
        with provider([Reply("One two", finish=reason)]) as server:
            async with engine("anthropic", server.url) as llm:
                answer = await heard(llm)
        assert answer.failed is None
        assert answer.usage is not None
        assert answer.usage.cut

    run(scenario())


def test_thoughts_and_what_is_new_are_passed_over(run: Run[None]) -> None:
    async def scenario() -> None:
        opening = {"input_tokens": 5, "cache_read_input_tokens": 70, "cache_creation_input_tokens": 20}
        thinking = {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm"}}
        told: list[dict[str, Any]] = [
            {"type": "message_start", "message": {"usage": opening}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
            thinking,
            {"type": "something_new", "delta": {"type": "something_else"}},
            text("Hello"),
            stop("end_turn"),
            text(" and what nobody asked for"),
            {"type": "message_stop"},
        ]
        with provider([stream(*told)]) as server:
            async with engine("anthropic", server.url) as llm:
                answer = await heard(llm)
        assert answer.failed is None
        assert answer.text == "Hello"
        assert answer.usage == Usage(input_tokens=95, output_tokens=3, cached_tokens=70)

    run(scenario())


def test_what_is_lacking_is_one_line() -> None:
    assert "model" in str(missing(Settings()))
    assert "api_key" in str(missing(Settings(model="claude-sonnet-4")))
    assert missing(Settings.model_validate({"model": "claude-sonnet-4", "api_key": "x"})) is None
