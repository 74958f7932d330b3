"""What the router does about models that are busy, ill, dear, empty or out of their minds, and what it keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from conftest import Run
from roomtone import logs
from roomtone.core.dialog import Message
from roomtone.core.tooling import ToolSpec
from roomtone.engines.llm import LlmError, Options, Piece, Text, ToolCall, Usage
from roomtone.engines.llm.script import Script
from roomtone.failover import REST_S
from roomtone.flow import beside, close, task_group
from roomtone.llm_router import BUDGET_S, Router
from roomtone.llm_router.calls import Terms
from roomtone.llm_router.line import LONG_REST_S
from roomtone.llm_router.models import Model
from roomtone.settings import Provider
from routers import ANSWER, GO_ON, QUESTION, answered, house, pieces, said, seconds

# ------------------------------------------------------------------------------------ trying again


def test_who_waits_for_their_turn_at_a_model_is_not_told_that_it_is_silent(
    run: Run[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            here = await house(stack, pi=[{"text": ANSWER, "first_piece_s": 20}] * 3)
            monkeypatch.setattr(Script, "one_at_a_time", True, raising=False)
            async with task_group() as group:
                asking = [group.create_task(answered(here.router)) for _ in range(3)]
            assert [each.result() for each in asking] == [ANSWER] * 3
            assert asyncio.get_running_loop().time() >= 60
            assert [call.first_piece_ms for call in here.books.calls] == [pytest.approx(20_000)] * 3

    run(scene())


def test_a_busy_model_is_asked_again_before_anybody_is_told(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            here = await house(stack, only=[{"trouble": "busy"}, {"trouble": "busy"}, ANSWER])
            assert 0 < await seconds(answered(here.router)) < BUDGET_S

    run(scene())


def test_a_limit_is_waited_for_where_that_is_soon_over(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            here = await house(stack, only=[{"trouble": "limit", "retry_after_s": 3}, ANSWER])
            assert await seconds(answered(here.router)) == pytest.approx(3)

    run(scene())


@pytest.mark.parametrize(
    "trouble", [{"trouble": "limit", "retry_after_s": 60}, {"trouble": "key"}, {"trouble": "refused"}]
)
def test_nobody_waits_in_vain(run: Run[None], trouble: dict[str, Any]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            here = await house(stack, only=[trouble, ANSWER])
            began = asyncio.get_running_loop().time()
            with pytest.raises(LlmError) as caught:
                await answered(here.router)
            assert asyncio.get_running_loop().time() == began
            assert caught.value.trouble == trouble["trouble"]
            assert len(here.scripts["only"].asked) == 1

    run(scene())


def test_all_reasons_are_told_in_one_line(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            here = await house(stack, one={"trouble": "key"}, two={"trouble": "credit"})
            with pytest.raises(LlmError, match=r"one: told to fail \(key\); two: told to fail \(credit\)"):
                await answered(here.router)

    run(scene())


def test_a_limit_is_kept_to_for_as_long_as_it_says(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            first = [{"trouble": "limit", "retry_after_s": 120}, ANSWER]
            here = await house(stack, first=first, second=[ANSWER] * 3)
            for wait, asked in ((0, 1), (119, 1), (2, 2)):
                await asyncio.sleep(wait)
                assert await answered(here.router) == ANSWER
                assert len(here.scripts["first"].asked) == asked

    run(scene())


# ------------------------------------------------------------------------------------ breaking circuits


def test_a_model_that_fails_twice_running_rests_and_is_asked_last(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            here = await house(stack, first=[{"trouble": "busy"}] * 2 + [ANSWER], second=[ANSWER] * 4)
            for _ in range(3):
                assert await answered(here.router) == ANSWER
            assert len(here.scripts["first"].asked) == 2
            await asyncio.sleep(REST_S)
            assert await answered(here.router) == ANSWER
            assert len(here.scripts["first"].asked) == 3
            assert here.kinds().count("llm.back") == 1

    run(scene())


def test_a_wrong_key_rests_for_an_hour_and_is_told_once(run: Run[None], caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            here = await house(stack, first=[{"trouble": "key"}] * 9, second=[ANSWER] * 9)
            for _ in range(3):
                assert await answered(here.router) == ANSWER
            await asyncio.sleep(LONG_REST_S + 1)
            assert await answered(here.router) == ANSWER
            assert len(here.scripts["first"].asked) == 2

    run(scene())
    assert len([line for line in caplog.messages if "told to fail (key)" in line]) == 1


def test_a_model_that_is_well_again_is_asked_first_again_without_a_turn_that_finds_out(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            here = await house(stack, first=[{"trouble": "credit"}, ANSWER], second=[ANSWER] * 2)
            async with beside(here.router.recover(), "recover"):
                await answered(here.router)
                await asyncio.sleep(LONG_REST_S - 1)
                assert "llm.back" not in here.kinds()
                await asyncio.sleep(2)
                assert here.events[-1] == ("llm.back", {"provider": "first"})
                assert here.scripts["first"].checked == 1
                await answered(here.router)
                assert here.router.served_by == "first"
                await asyncio.sleep(LONG_REST_S * 3)
                assert here.scripts["first"].checked == 1

    run(scene())


def test_a_model_that_stays_ill_is_asked_less_and_less_often(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            first = {"texts": [{"trouble": "busy"}] * 9, "recovers": False}
            here = await house(stack, first=first, second=[ANSWER] * 9)
            async with beside(here.router.recover(), "recover"):
                for _ in range(2):
                    await answered(here.router)
                await asyncio.sleep(3600)
            assert 5 <= here.scripts["first"].checked <= 15
            assert "llm.back" not in here.kinds()
            assert "told to be ill" in here.router.places[0].trouble

    run(scene())


def test_a_refusal_or_too_long_a_prompt_is_no_sickness(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            first = [{"trouble": "too_long"}, {"trouble": "refused"}, ANSWER]
            here = await house(stack, first=first, second=[ANSWER] * 2)
            for served in ("second", "second", "first"):
                await answered(here.router)
                assert here.router.served_by == served
            assert here.books.statuses[2] == ("first", "refused")

    run(scene())


# ------------------------------------------------------------------------------------------ allowances


def test_requests_of_a_minute_are_counted_before_they_are_made(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            terms = {"first": Terms(Provider(engine="script", per_minute=2))}
            here = await house(stack, terms, first=[ANSWER] * 9, second=[ANSWER] * 9)
            by = []
            for _ in range(4):
                await answered(here.router)
                by.append(here.router.served_by)
                await asyncio.sleep(20)
            assert by == ["first", "first", "second", "first"]

    run(scene())


@pytest.mark.parametrize("limit", [{"tokens_per_day": 30}, {"dollars_per_day": 0.00003}])
def test_who_took_all_it_may_take_today_is_not_asked(run: Run[None], limit: dict[str, Any]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            terms = {"only": Terms(Provider(engine="script", **limit), Model(input=1, output=1))}
            here = await house(stack, terms, only=[ANSWER] * 9)
            began = asyncio.get_running_loop().time()
            with pytest.raises(LlmError, match="only took what they may take"):
                for _ in range(3):
                    await answered(here.router)
            assert len(here.scripts["only"].asked) == 2
            assert asyncio.get_running_loop().time() == began

    run(scene())


# ------------------------------------------------------------------------------------------- accounts


def test_every_call_is_a_row_with_what_it_took(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            terms = {"second": Terms(Provider(engine="script"), Model(input=2, output=10))}
            first = [{"text": ANSWER, "dies_after": 6, "first_piece_s": 1, "delta_s": 0.5}]
            here = await house(stack, terms, first=first, second="Paris.")
            with logs.during(lambda: {"trace": "t1"}):
                told = await pieces(here.router, Options(persona="chef", why="summary"))
            broken, whole = here.books.calls
            assert (broken.status, broken.error) == ("failed", "first: told to fail (busy)")
            assert (broken.first_piece_ms, broken.total_ms) == (1000, 4000)
            assert broken.tokens.written > 0
            assert (whole.persona, whole.why, whole.model, whole.trace) == ("chef", "summary", "second", "t1")
            assert whole.tokens.cost == pytest.approx((whole.tokens.read * 2 + 10) / 1e6)
            usage = told[-1]
            assert isinstance(usage, Usage)
            assert usage.input_tokens == broken.tokens.read + whole.tokens.read
            assert usage.cost == pytest.approx(whole.tokens.cost)
            assert [data for kind, data in here.events if kind == "llm.called"] == here.books.calls

    run(scene())


@pytest.mark.parametrize(
    "told",
    [Usage(10**30, 5), Usage(-5, 5), Usage(3, 5, cost=float("nan")), Usage(3, 5, cost=-9), Usage(3, 5, cost=1e999)],
)
def test_a_provider_that_says_nonsense_of_what_it_took_is_not_believed(
    run: Run[None], monkeypatch: pytest.MonkeyPatch, told: Usage
) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            here = await house(stack, only=ANSWER)
            honest = here.scripts["only"].reply

            async def reply(messages: Sequence[Message], options: Options) -> AsyncIterator[Piece]:
                async for piece in honest(messages, options):
                    yield told if isinstance(piece, Usage) else piece

            monkeypatch.setattr(here.scripts["only"], "reply", reply)
            assert await answered(here.router) == ANSWER
            [call] = here.books.calls
            assert (call.tokens.read, call.tokens.written, call.tokens.cost) in ((0, 5, 0), (3, 5, 0))

    run(scene())


def test_a_reader_that_leaves_is_a_row_too(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            here = await house(stack, only=ANSWER)
            reply = here.router.reply(QUESTION, Options())
            await anext(reply)
            await close(reply)
            (call,) = here.books.calls
            assert (call.status, call.error) == ("cancelled", "")
            assert call.tokens.read > 0
            assert call.tokens.written > 0
            assert here.router.health == "ok"

    run(scene())


def test_a_cancelled_turn_is_a_row_too(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            here = await house(stack, only={"text": ANSWER, "stalls_after": 2})
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await answered(here.router)
            assert here.books.statuses == [("only", "cancelled")]
            assert here.kinds() == ["llm.called"]

    run(scene())


# ----------------------------------------------------------------------------------------- nonsense


def test_an_empty_answer_is_none(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            here = await house(stack, first="", second=ANSWER)
            assert await answered(here.router) == ANSWER
            assert here.books.calls[0].error == "first gave an empty answer"

    run(scene())


def test_a_model_that_loops_or_never_stops_is_cut_off(run: Run[None]) -> None:
    async def scene() -> None:
        many = " ".join(f"word{number}" for number in range(2000))
        for text, error in (
            ("I do not know. " * 200, "again and again"),
            (many, "does not stop"),
            ("x" * 10**6, "stop"),
        ):
            async with AsyncExitStack() as stack:
                here = await house(stack, only=text)
                told = await pieces(here.router, Options(max_tokens=50))
                assert len(said(told)) <= 50 * 8 + 200
                assert said(told) == text[:600] or f"{text} ".startswith(f"{said(told).rstrip()} ")
                assert isinstance(told[-1], Usage)
                assert told[-1].cut
                assert here.books.calls[0].status == "cut"
                assert error in here.books.calls[0].error

    run(scene())


def test_a_fault_in_an_engine_is_a_failure_like_another(run: Run[None]) -> None:
    class Faulty:
        continues, host, model = False, None, "faulty"

        async def reply(self, messages: Sequence[Message], options: Options) -> AsyncIterator[Piece]:
            yield Text("The capital of ")
            raise ZeroDivisionError("a fault")

    async def scene() -> None:
        async with AsyncExitStack() as stack:
            script = (await house(stack, quick=ANSWER)).scripts["quick"]
            assert await answered(Router([("faulty", Faulty()), ("quick", script)], GO_ON)) == ANSWER

    run(scene())


# -------------------------------------------------------------------------------------------- tools


TOOL = ToolSpec("timer.set", "Set a timer.", {"type": "object"})
CALL = {"name": "timer.set", "arguments": '{"minutes": 5}'}


def test_a_stream_that_dies_after_a_whole_call_has_ended(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            first = {"text": "One moment.", "calls": [CALL], "dies_late": True}
            here = await house(stack, first=first, second={"text": "", "calls": [CALL]})
            told = await pieces(here.router, Options(tools=(TOOL,)))
            assert said(told) == "One moment."
            assert [piece.name for piece in told if isinstance(piece, ToolCall)] == ["timer.set"]
            assert not here.scripts["second"].asked

    run(scene())


def test_a_call_is_made_once_in_a_reply(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            same = {"name": "timer.set", "arguments": '{ "minutes":5 }'}
            other = {"name": "timer.set", "arguments": '{"minutes": 6}'}
            here = await house(stack, only={"calls": [CALL, same, other, CALL]})
            told = await pieces(here.router, Options(tools=(TOOL,)))
            assert [piece.arguments for piece in told if isinstance(piece, ToolCall)] == [
                CALL["arguments"],
                other["arguments"],
            ]

    run(scene())


def test_tools_and_schemas_are_not_for_models_that_know_none(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            terms = {"only": Terms(Provider(engine="script"), Model(tools=False, knows_schema=False))}
            here = await house(stack, terms, only=[ANSWER])
            await answered(here.router, Options(tools=(TOOL,), schema={"type": "object"}))
            options = here.scripts["only"].asked[0][1]
            assert (options.tools, options.schema) == ((), None)

    run(scene())


@pytest.mark.parametrize("knows", [True, False])
def test_a_reply_by_a_schema_is_whole_or_another_models(run: Run[None], knows: bool) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            first = {"text": '{"a": "b c d e', "dies_after": 4}
            terms = {"first": Terms(Provider(engine="script"), Model(knows_schema=knows))}
            here = await house(stack, terms, first=first, second='{"a": "b c d e f"}')
            told = await pieces(here.router, Options(schema={"type": "object"}))
            assert said(told) == '{"a": "b c d e f"}'
            assert len(told) == 2

    run(scene())
