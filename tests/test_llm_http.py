"""What every provider over HTTP keeps to, whichever dialect it speaks: over real connections, with real failures."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Run
from llm_talk import HELLO, TIMER, engine, heard, message
from roomtone import outbound
from roomtone.core.dialog import Role, Tokens
from roomtone.core.errors import EgressRefused
from roomtone.core.persona import Egress
from roomtone.core.tooling import ToolSpec
from roomtone.engines.llm import LlmError, Options, Text, ToolCall, Trouble, Usage
from roomtone.engines.llm._reading import LETTERS_A_TOKEN, Names
from roomtone.engines.llm._sse import Events
from roomtone.engines.llm._trouble import retry_after
from roomtone.flow import close
from roomtone.scripted_provider import Reply, Request, events, provider

DIALECTS = ("openai", "anthropic")
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
SAID = "I am well, thank you. And you?"

both = pytest.mark.parametrize("dialect", DIALECTS)


def recorded(dialect: str, reply: Reply) -> bytes:
    """Return the whole body of a reply as this dialect has it."""
    asked = Request(PATHS[dialect], {}, {"stream_options": {"include_usage": True}})
    return b"".join(event for event, _ in events(reply, asked))


@both
def test_a_reply_is_its_words_then_its_calls_then_what_it_took(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        reply = Reply(
            SAID, tool_calls=[("timer__set", '{"minutes": 9}')], usage=Tokens(read=90, cached=60, written=12)
        )
        with provider([reply], key="secret-1") as server:
            async with engine(dialect, server.url) as llm:
                said = await heard(llm, options=Options(tools=(TIMER,)))
        assert said.failed is None
        assert [type(piece) for piece in said.pieces] == [Text] * 7 + [ToolCall, Usage]
        assert said.text == SAID
        assert (said.calls[0].name, said.calls[0].arguments) == ("timer.set", '{"minutes": 9}')
        assert said.usage == Usage(input_tokens=90, output_tokens=12, cached_tokens=60)

    run(scenario())


@both
def test_calls_of_one_reply_are_kept_apart(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        calls = [("timer__set", '{"minutes": 9}'), ("timer__set", '{"minutes": 12}'), ("lights", "")]
        with provider([Reply(tool_calls=calls)]) as server:
            async with engine(dialect, server.url) as llm:
                said = await heard(llm, options=Options(tools=(TIMER,)))
        assert [(call.name, call.arguments) for call in said.calls] == [
            ("timer.set", '{"minutes": 9}'),
            ("timer.set", '{"minutes": 12}'),
            ("lights", "{}"),
        ]
        assert len({call.id for call in said.calls}) == 3

    run(scenario())


@both
def test_a_reply_cut_at_any_byte_is_whole_words_and_an_error(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        deltas = ["Thänks", "."]
        reply = Reply(deltas=deltas, tool_calls=[("timer__set", '{"minutes": 9}')], usage=Tokens(read=5, written=4))
        whole = len(recorded(dialect, reply))
        cuts = iter(range(whole + 1))
        prefixes = {"".join(deltas[:count]) for count in range(3)}
        with provider(lambda _: replace(reply, cut_at=next(cuts))) as server:
            async with engine(dialect, server.url) as llm:
                for at in range(whole + 1):
                    said = await heard(llm, options=Options(tools=(TIMER,)))
                    assert said.text in prefixes, at
                    if said.failed is None:
                        assert (said.text, [call.arguments for call in said.calls]) == (
                            "Thänks.",
                            ['{"minutes": 9}'],
                        )
                    else:
                        assert (said.failed.trouble, said.calls, said.usage) == (Trouble.BUSY, [], None), at
        assert said.failed is None
        assert len(server.requests) == whole + 1

    run(scenario())


@both
def test_a_reply_that_ends_early_without_an_error_is_one(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        body = recorded(dialect, Reply("One two three"))
        half = body[: body.index(b"three")]
        with provider([Reply(raw=half), Reply(raw=b""), Reply(raw=b"data: [DONE]\n\n")]) as server:
            async with engine(dialect, server.url) as llm:
                said = [await heard(llm) for _ in range(3)]
        assert [one.text for one in said] == ["One two", "", ""]
        assert [one.failed.trouble for one in said if one.failed] == [Trouble.BUSY] * 3

    run(scenario())


GARBAGE = {
    "half a JSON line": b'data: {"choices": [{"delta"\n\n',
    "no JSON": b"data: <html>\n\n",
    "no UTF-8": b"data: \xff\xfe\n\n",
    "a list": b"data: [1, 2]\n\n",
    "a number": b"data: 7\n\n",
    "null": b"data: null\n\n",
    "other types": b'data: {"type": 5, "choices": [{"delta": "x"}], "index": {}}\n\n',
    "other types below": b'data: {"type": "x", "choices": [{"delta": {"content": 5}}], "delta": {"text": []}}\n\n',
    "too deep": b"data: " + b"[" * 100_000 + b"\n\n",
    "a page": b"<html><body>Log in to the hotel's network</body></html>",
}


@both
@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_after_good_words_leaves_the_words(run: Run[None], dialect: str, body: bytes) -> None:
    async def scenario() -> None:
        good = recorded(dialect, Reply("One two three"))
        good = good[: good.index(b"\n\n", good.index(b"three")) + 2]
        with provider([Reply(raw=body), Reply(raw=good + body), Reply("And on.")]) as server:
            async with engine(dialect, server.url) as llm:
                alone, after, next_one = [await heard(llm) for _ in range(3)]
        assert alone.failed is not None
        assert alone.failed.trouble is Trouble.NONSENSE
        assert "\n" not in alone.failed.message
        assert alone.pieces == []
        assert after.failed is not None
        assert after.failed.trouble in (Trouble.NONSENSE, Trouble.BUSY)
        assert after.text == "One two three"
        assert (next_one.text, next_one.failed) == ("And on.", None)

    run(scenario())


REFUSALS = [
    (401, "", Trouble.KEY, "api_key"),
    (403, "", Trouble.KEY, "api_key"),
    (402, "", Trouble.CREDIT, "top the account up"),
    (404, "no such model", Trouble.MODEL, "model"),
    (400, "Your credit balance is too low", Trouble.CREDIT, "top the account up"),
    (400, "This model's maximum context length is 8192 tokens", Trouble.TOO_LONG, "llm.tokens"),
    (400, "messages: at least one message is required", Trouble.NONSENSE, "at least one message"),
    (413, "", Trouble.TOO_LONG, "llm.tokens"),
    (302, "", Trouble.MODEL, "base_url"),
    (500, "", Trouble.BUSY, "500"),
    (503, "", Trouble.BUSY, "503"),
    (529, "", Trouble.BUSY, "529"),
]


@both
@pytest.mark.parametrize(("status", "words", "trouble", "mends"), REFUSALS)
def test_a_refusal_says_in_one_line_who_what_and_what_mends_it(
    run: Run[None], dialect: str, status: int, words: str, trouble: Trouble, mends: str
) -> None:
    async def scenario() -> None:
        headers = {"x-request-id": "req-77", "location": "http://127.0.0.1:9/elsewhere"}
        with provider([Reply(status=status, message=words, headers=headers)]) as server:
            async with engine(dialect, server.url) as llm:
                said = await heard(llm)
        assert said.failed is not None
        assert said.failed.trouble is trouble
        for part in ("scripted at 127.0.0.1", mends, "req-77"):
            assert part in said.failed.message
        assert "\n" not in said.failed.message
        assert len(server.requests) == 1, "whoever asked decides whether it is asked again"

    run(scenario())


@both
def test_a_gateway_s_page_is_not_quoted(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        with provider([Reply(status=502, raw=b"<html><h1>Bad Gateway</h1></html>")]) as server:
            async with engine(dialect, server.url) as llm:
                said = await heard(llm)
        assert said.failed is not None
        assert said.failed.message.endswith("cannot answer now (HTTP 502)")

    run(scenario())


@both
def test_a_server_may_ask_for_rest(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        with provider([Reply(status=429, headers={"retry-after": "7"}), Reply(status=429)]) as server:
            async with engine(dialect, server.url) as llm:
                first, second = await heard(llm), await heard(llm)
        assert first.failed is not None
        assert second.failed is not None
        assert (first.failed.trouble, first.failed.retry_after_s) == (Trouble.LIMIT, 7.0)
        assert "7 s" in first.failed.message
        assert (second.failed.trouble, second.failed.retry_after_s) == (Trouble.LIMIT, None)

    run(scenario())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "9" * 400}, 86_400.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after-ms": "nan ms"}, None),
        ({}, None),
    ],
)
def test_wishes_for_rest_are_read_or_passed_over(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_date_to_come_back_at_is_held_against_the_servers_own_clock() -> None:
    servers = datetime(2031, 5, 1, 12, tzinfo=UTC)
    later, sooner = servers + timedelta(seconds=40), servers - timedelta(seconds=40)
    answered = {"date": format_datetime(servers, usegmt=True)}
    assert retry_after({**answered, "retry-after": format_datetime(later, usegmt=True)}) == 40
    assert retry_after({**answered, "retry-after": format_datetime(sooner, usegmt=True)}) == 0


@both
def test_a_wrong_key_is_never_repeated(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        told = "secret-1 is not a key, nor is hidden-2, nor sec****-1"
        with (
            provider([Reply(status=401, message=told), Reply(status=400, message=told)]) as server,
            provider([Reply()], key="another") as strict,
        ):
            async with engine(dialect, server.url, headers={"X-Gateway": "hidden-2"}) as llm:
                said = [await heard(llm), await heard(llm)]
            async with engine(dialect, strict.url) as llm:
                said.append(await heard(llm))
        assert [one.failed.trouble for one in said if one.failed] == [Trouble.KEY, Trouble.NONSENSE, Trouble.KEY]
        for one in said:
            assert one.failed is not None
            assert "secret-1" not in repr(one.failed.as_dict())
            assert "hidden-2" not in repr(one.failed.as_dict())
        assert said[0].failed is not None
        assert "sec****-1" not in said[0].failed.message

    run(scenario())


@both
def test_a_model_that_is_not_there_is_told_by_its_name(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        with provider([Reply("Hello")]) as server:
            async with engine(dialect, server.url, model="nobody") as llm:
                said = await heard(llm)
        assert said.failed is not None
        assert said.failed.trouble is Trouble.MODEL
        assert "nobody at 127.0.0.1" in said.failed.message

    run(scenario())


@both
def test_a_server_that_is_off_is_busy(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            async with engine(dialect, f"http://127.0.0.1:{taken.getsockname()[1]}/v1") as llm:
                said = await heard(llm)
                with pytest.raises(LlmError, match="cannot be reached"):
                    await llm.check()  # type: ignore[attr-defined]  # an engine may have it
        assert said.failed is not None
        assert said.failed.trouble is Trouble.BUSY
        assert "is it on" in said.failed.message

    run(scenario())


@both
def test_silence_ends_in_an_error_within_the_time_that_was_set(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        with provider([Reply("One two three", stalls_after_words=2), Reply(first_piece_s=60)]) as server:
            async with engine(dialect, server.url, timeout_s=0.2) as llm:
                said = [await heard(llm), await heard(llm)]
        assert [one.text for one in said] == ["One two", ""]
        assert [one.failed.trouble for one in said if one.failed] == [Trouble.BUSY] * 2

    run(scenario())


@both
def test_leaving_a_reply_hangs_up(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        with provider([Reply("One two three", stalls_after_words=2), Reply("And on.")]) as server:
            async with engine(dialect, server.url) as llm:
                reply = llm.reply(HELLO, Options())
                assert await anext(reply) == Text("One")
                await close(reply)
                assert server.requests[0].over.wait(5)
                assert server.requests[0].hung_up
                assert (await heard(llm)).text == "And on."

    run(scenario())


@contextmanager
def noting_generators_left_to_the_loop() -> Iterator[list[object]]:
    """Note the async generators that nobody closed: the loop closes each in a task of its own, some time later."""
    left: list[object] = []
    hooks = sys.get_asyncgen_hooks()

    def note(generator: AsyncGenerator[object, object]) -> None:
        left.append(repr(generator))
        assert hooks.finalizer is not None
        hooks.finalizer(generator)

    sys.set_asyncgen_hooks(finalizer=note)
    try:
        yield left
        gc.collect()
    finally:
        sys.set_asyncgen_hooks(*hooks)


@both
def test_a_reply_leaves_nothing_for_the_loop_to_clear_up(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        plan = [
            Reply("One two three", stalls_after_words=2),
            Reply(SAID),
            Reply("One", dies_after_words=1),
            Reply(raw=b"data: 7\n\n"),
            Reply(deltas=["x" * 9_000_000]),
            Reply(deltas=repeat("and then ")),
        ]
        with provider(plan) as server, noting_generators_left_to_the_loop() as left:
            async with engine(dialect, server.url) as llm:
                reply = llm.reply(HELLO, Options())
                await anext(reply)
                await close(reply)
                del reply
                for _ in plan[1:]:
                    await heard(llm, options=Options(max_tokens=50))
        assert left == []

    run(scenario())


@both
def test_what_is_missing_after_the_end_is_not_waited_for(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        finished = {"openai": b'"finish_reason": "stop"', "anthropic": b'"stop_reason": "end_turn"'}[dialect]
        body = recorded(dialect, Reply(SAID))
        cut = body.index(b"\n\n", body.index(finished)) + 2
        assert cut < len(body)
        with provider([Reply(raw=body[:cut]), Reply(SAID, cut_at=cut), Reply(SAID, silent_at=cut)]) as server:
            async with engine(dialect, server.url) as llm, asyncio.timeout(10):
                said = [await heard(llm) for _ in range(3)]
        assert [one.text for one in said] == [SAID] * 3
        assert [one.failed for one in said] == [None] * 3
        assert all(isinstance(one.pieces[-1], Usage) for one in said)

    run(scenario())


@both
def test_a_megabyte_in_one_delta_is_cut_and_refused(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        with provider([Reply(deltas=["Well. ", "x" * 1_000_000]), Reply(deltas=["x" * 9_000_000])]) as server:
            async with engine(dialect, server.url) as llm:
                one, too_much = [await heard(llm, options=Options(max_tokens=50)) for _ in range(2)]
        assert one.failed is not None
        assert one.failed.trouble is Trouble.NONSENSE
        assert one.text.startswith("Well. x")
        assert len(one.text) == 50 * LETTERS_A_TOKEN
        assert too_much.failed is not None
        assert too_much.failed.trouble is Trouble.NONSENSE
        assert too_much.text == ""

    run(scenario())


@both
def test_a_model_that_never_stops_is_stopped(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        with provider([Reply(deltas=repeat("and then "))]) as server:
            async with engine(dialect, server.url) as llm:
                said = await heard(llm, options=Options(max_tokens=60))
                assert server.requests[0].over.wait(5)
        assert said.failed is None
        assert len(said.text) == 60 * LETTERS_A_TOKEN
        assert said.usage is not None
        assert said.usage.cut
        assert server.requests[0].hung_up

    run(scenario())


@both
def test_arguments_that_do_not_end_are_refused(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        with provider([Reply("Well.", tool_calls=[("timer__set", '{"a": "' + "x" * 200_000)])]) as server:
            async with engine(dialect, server.url) as llm:
                said = await heard(llm)
        assert said.failed is not None
        assert (said.text, said.calls, said.failed.trouble) == ("Well.", [], Trouble.NONSENSE)

    run(scenario())


@both
def test_an_answer_without_words_is_no_answer(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        with provider([Reply("")]) as server:
            async with engine(dialect, server.url) as llm:
                said = await heard(llm)
        assert said.failed is not None
        assert said.failed.trouble is Trouble.NONSENSE
        assert "said nothing" in said.failed.message

    run(scenario())


# ------------------------------------------------------------------------------------- what leaves


@both
def test_every_byte_that_leaves_is_noted_before_it_does(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        sizes: list[tuple[str | None, int, str, str]] = []
        leaving = outbound.leaving

        def note(host: str | None, size: int, kind: str, why: str) -> None:
            sizes.append((host, size, kind, why))
            leaving(host, size, kind, why)

        with pytest.MonkeyPatch.context() as patch, provider([Reply("Hello")]) as server:
            patch.setattr(outbound, "leaving", note)
            async with engine(dialect, server.url) as llm:
                await heard(llm, options=Options(why="summary"))
                await llm.check()  # type: ignore[attr-defined]
        sent = int(server.requests[0].headers["content-length"])
        host = server.url.partition("//")[2].partition("/")[0]
        assert sizes == [(host, sent, "text", "summary"), (host, 0, "text", "check")]

    run(scenario())


@both
def test_nothing_is_sent_where_it_may_not_travel(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        async with engine(dialect, "http://models.example/v1") as llm:
            with outbound.within(Egress.NONE), pytest.raises(EgressRefused):
                async for _ in llm.reply(HELLO, Options()):
                    pass

    run(scenario())


@both
def test_neither_proxies_nor_the_environment_have_a_say(
    run: Run[None], dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("OPENAI", "ANTHROPIC"):
        monkeypatch.setenv(f"{name}_BASE_URL", "http://127.0.0.1:9")
        monkeypatch.setenv(f"{name}_API_KEY", "from-the-environment")
        monkeypatch.setenv(f"{name}_CUSTOM_HEADERS", "X-Spy: from-the-environment")
    monkeypatch.setenv("OPENAI_ORG_ID", "from-the-environment")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "from-the-environment")

    async def scenario() -> None:
        with provider([Reply("Hello")]) as server:
            for key in (None, "secret-1"):
                async with engine(dialect, server.url, api_key=key, headers={"X-Title": "Room"}) as llm:
                    assert (await heard(llm)).text == "Hello"
        without, with_key = (request.headers for request in server.requests)
        assert "from-the-environment" not in repr((without, with_key))
        assert "authorization" not in without
        assert with_key["authorization"] == "Bearer secret-1"
        assert with_key["x-title"] == "Room"
        allowed = {
            "host",
            "connection",
            "accept",
            "content-type",
            "content-length",
            "user-agent",
            "anthropic-version",
        }
        assert set(without) <= allowed | {"accept-encoding", "x-title"}

    run(scenario())


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """Serve somewhere that nobody should go, and note who does."""
    visits: list[str] = []

    class Visit(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            visits.append(self.path)
            self.send_error(500)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Visit) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/away", visits
        finally:
            server.shutdown()
            thread.join()


@both
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(run: Run[None], dialect: str, status: int) -> None:
    async def scenario() -> None:
        with listening() as (away, visits), provider([Reply(status=status, headers={"location": away})]) as server:
            async with engine(dialect, server.url) as llm:
                said = await heard(llm)
        assert visits == []
        assert said.failed is not None
        assert said.failed.trouble is Trouble.MODEL

    run(scenario())


@both
def test_a_key_that_does_not_fit_is_found_without_a_message(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        with provider([Reply("Hello")], key="another") as strict, provider([Reply("Hello")]) as server:
            async with engine(dialect, strict.url) as llm:
                with pytest.raises(LlmError, match="api_key") as caught:
                    await llm.check()  # type: ignore[attr-defined]
            async with engine(dialect, server.url) as llm:
                await llm.check()  # type: ignore[attr-defined]
        assert caught.value.trouble is Trouble.KEY
        assert strict.requests == server.requests == []

    run(scenario())


@both
def test_a_server_that_lists_no_models_may_answer_all_the_same(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        with listening() as (url, visits):
            async with engine(dialect, url) as llm:
                await llm.check()  # type: ignore[attr-defined]
        assert visits == []

    run(scenario())


# --------------------------------------------------------------------------------------- what is said


@both
def test_half_a_letter_goes_out_as_a_question_mark(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        with provider([Reply("Yes.")]) as server:
            async with engine(dialect, server.url) as llm:
                assert (await heard(llm, (message("half \ud83d of it"),))).text == "Yes."
        assert "half ? of it" in json.dumps(server.requests[0].body)

    run(scenario())


@both
def test_calls_that_nothing_answered_are_not_told_again(run: Run[None], dialect: str) -> None:
    async def scenario() -> None:
        asked = [
            {"id": "a", "name": "timer.set", "arguments": "{broken"},
            {"id": "b", "name": "x", "arguments": "{}"},
        ]
        talk = (
            message("Set a timer."),
            message("", Role.ROOMTONE, calls=asked),
            message("done", Role.TOOL, call="a", name="timer.set"),
            message("lost", Role.TOOL, call="never", name="x"),
            message("And?"),
        )
        with provider([Reply("Yes.")]) as server:
            async with engine(dialect, server.url) as llm:
                assert (await heard(llm, talk)).failed is None
        sent = json.dumps(server.requests[0].body)
        assert "timer__set" in sent
        assert all(word not in sent for word in ("broken", '"b"', "lost"))

    run(scenario())


def test_names_of_tools_go_out_and_come_back() -> None:
    long = "server." + "x" * 80
    tools = [
        "timer.set",
        "timer__set",
        "a__b",
        "a.b",
        "home/light",
        "home.light",
        "home light",
        long,
        long + "y",
        "ö",
    ]
    names = Names(ToolSpec(name, "", {}) for name in tools)
    sent = [names.send(name) for name in tools]
    assert len(set(sent)) == len(tools)
    assert all(0 < len(name) <= 64 and name.replace("_", "a").replace("-", "a").isalnum() for name in sent)
    assert all(name.isascii() for name in sent)
    assert [names.back(name) for name in sent] == tools
    assert names.send("timer.set") == "timer__set"
    assert names.back("made_up") == "made_up"
    assert names.send("gone.tool") == "gone__tool"


@given(st.lists(st.binary(max_size=20)), st.data())
def test_events_are_the_same_however_they_are_cut(lines: list[bytes], data: st.DataObject) -> None:
    clean = [line.replace(b"\r", b"").replace(b"\n", b"") for line in lines]
    ends = [data.draw(st.sampled_from([b"\n", b"\r\n"])) for _ in clean]
    body = b"".join(b"data: " + line + end * 2 for line, end in zip(clean, ends, strict=True))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)))))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    decoder = Events()
    found = [event for piece in pieces for event in decoder.feed(piece)]
    assert found == [line for line in clean if line] or found == clean


def test_comments_names_and_lines_of_data_are_told_apart() -> None:
    body = b"\xef\xbb\xbf: warming up\nevent: x\nid: 3\ndata: one\ndata:two\n\n\ndata: half"
    decoder = Events()
    assert decoder.feed(body) == [b"one\ntwo"]
    assert decoder.feed(b" done\n\n") == [b"half done"]
    assert decoder.feed(b"data: a\r") + decoder.feed(b"\ndata: b\r\n\r\n") == [b"a\nb"]
