"""The scripted provider against the providers' own SDKs: it must speak as the real ones do."""

from __future__ import annotations

import json

import anthropic
import openai
import pytest

from roomtone.core.dialog import Tokens
from roomtone.scripted_provider import Reply, provider

REPLY = Reply(
    "I am well, thank you.",
    tool_calls=[("timer__set", '{"minutes": 9}')],
    usage=Tokens(read=90, cached=60, written=12),
)


def test_openais_own_sdk_understands_it() -> None:
    with (
        provider([REPLY], key="secret") as server,
        openai.OpenAI(base_url=server.url, api_key="secret", max_retries=0) as client,
        client.chat.completions.stream(
            model="scripted", messages=[{"role": "user", "content": "Hi"}], stream_options={"include_usage": True}
        ) as stream,
    ):
        whole = stream.get_final_completion()
    choice = whole.choices[0]
    assert choice.message.content == REPLY.text
    assert choice.message.tool_calls is not None
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"minutes": 9}
    assert choice.finish_reason == "tool_calls"
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (90, 12)


def test_anthropics_own_sdk_understands_it() -> None:
    with (
        provider([REPLY], key="secret") as server,
        anthropic.Anthropic(base_url=server.url.removesuffix("/v1"), api_key="secret", max_retries=0) as client,
        client.messages.stream(
            model="scripted", max_tokens=99, messages=[{"role": "user", "content": "Hi"}]
        ) as stream,
    ):
        whole = stream.get_final_message()
    text, use = whole.content
    assert text.type == "text"
    assert text.text == REPLY.text
    assert use.type == "tool_use"
    assert (use.name, use.input) == ("timer__set", {"minutes": 9})
    assert whole.stop_reason == "tool_use"
    assert (whole.usage.input_tokens, whole.usage.cache_read_input_tokens, whole.usage.output_tokens) == (30, 60, 12)


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, openai.AuthenticationError), (404, openai.NotFoundError), (429, openai.RateLimitError)],
)
def test_it_fails_as_it_is_told(status: int, error: type[openai.APIStatusError]) -> None:
    with (
        provider([Reply(status=status, message="so it is", headers={"retry-after": "7"})]) as server,
        openai.OpenAI(base_url=server.url, api_key="secret", max_retries=0) as client,
    ):
        with pytest.raises(error, match="so it is") as caught:
            client.chat.completions.create(model="scripted", messages=[{"role": "user", "content": "Hi"}])
        assert caught.value.response.headers["retry-after"] == "7"
        assert [one.id for one in client.models.list()] == ["scripted"]


def test_replies_come_in_their_order_and_the_last_one_again() -> None:
    with (
        provider([Reply("one"), Reply("two")]) as server,
        openai.OpenAI(base_url=server.url, api_key="secret", max_retries=0) as client,
    ):
        said = []
        for number in range(3):
            with client.chat.completions.stream(
                model="scripted", messages=[{"role": "user", "content": str(number)}]
            ) as stream:
                said.append(stream.get_final_completion().choices[0].message.content)
    assert said == ["one", "two", "two"]
    assert [request.body["messages"][0]["content"] for request in server.requests] == ["0", "1", "2"]
    assert all(request.over.wait(5) and not request.hung_up for request in server.requests)
