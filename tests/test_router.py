"""The router: one answer, whoever of the language models dies, stalls, lies, or may not be asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Run, leaving_nothing
from roomtone import logs, outbound
from roomtone.accounts import Call
from roomtone.clock import run_skipping
from roomtone.core.continuation import _bare
from roomtone.core.dialog import Message, Role, Tokens
from roomtone.core.errors import EngineError, EngineUnavailable
from roomtone.core.persona import Egress, ModelUse, Persona, Preference
from roomtone.core.tooling import ToolSpec
from roomtone.engines.llm import LlmError, Options, Piece, Text, ToolCall, Trouble, Usage
from roomtone.engines.llm import script as script_engine
from roomtone.engines.llm.script import Script
from roomtone.failover import REST_S
from roomtone.flow import beside, close
from roomtone.llm_calls import Terms
from roomtone.llm_line import LONG_REST_S, NOBODY
from roomtone.llm_models import Model
from roomtone.llm_router import BUDGET_S, FIRST_PIECE_HERE_S, FIRST_PIECE_S, Router
from roomtone.settings import Provider

ANSWER = "The capital of France is Paris, which lies on the Seine and has been the seat of kings since Clovis."
WORDS = ANSWER.split()
QUESTION = [Message(session="s", role=Role.PERSON, text="What is the capital of France?")]
GO_ON = "go on after {last}"
FAR = "api.example.com"


@dataclass
class Books:
    """Accounts in memory."""

    calls: list[Call] = field(default_factory=list)

    def note(self, call: Call) -> None:
        self.calls.append(call)

    async def today(self, provider: str) -> Tokens:
        return sum((call.tokens for call in self.calls if call.provider == provider), Tokens())

    @property
    def statuses(self) -> list[tuple[str, str]]:
        return [(call.provider, call.status) for call in self.calls]


@dataclass
class House:
    """A router made of scripts, with its books and what it told the feed."""

    scripts: dict[str, Script]
    books: Books
    events: list[tuple[str, Any]]
    router: Router

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


async def house(
    stack: AsyncExitStack, terms: dict[str, Terms] | None = None, /, route: Sequence[str] = (), **scripts: Any
) -> House:
    """Open a router of scripts, each by its name: a reply, a list of them, or its settings."""
    opened = {}
    for name, told in scripts.items():
        keys = told if isinstance(told, dict) and "texts" in told else {"texts": told}
        texts = keys["texts"] if isinstance(keys["texts"], (list, tuple)) else [keys["texts"]]
        own = script_engine.Settings(**{"model": name, **keys, "texts": texts})
        opened[name] = await stack.enter_async_context(script_engine.open(own))
    books, events = Books(), []
    router = Router(
        list(opened.items()),
        GO_ON,
        terms=terms,
        route=route,
        accounts=books,
        on_event=lambda kind, data: events.append((kind, data)),
    )
    return House(opened, books, events, router)


async def pieces(router: Router, options: Options | None = None) -> list[Piece]:
    return [piece async for piece in router.reply(QUESTION, options or Options())]


def said(told: list[Piece]) -> str:
    assert isinstance(told[-1], Usage)
    assert sum(isinstance(piece, Usage) for piece in told) == 1
    return "".join(piece.text for piece in told if isinstance(piece, Text))


async def answered(router: Router, options: Options | None = None) -> str:
    return said(await pieces(router, options))


def plain(text: str) -> list[str]:
    return [_bare(word) for word in text.split()]


# -------------------------------------------------------------------------------- going on in mid-sentence


@pytest.mark.parametrize("continues", [True, False])
@pytest.mark.parametrize("fault", ["dies_after", "stalls_after"])
def test_a_death_at_every_word_is_answered_whole(run: Run[None], continues: bool, fault: str) -> None:
    long = " ".join(f"word{number}" for number in range(100)) + "."

    async def scene() -> None:
        for place in range(101):
            async with AsyncExitStack() as stack:
                here = await house(
                    stack, first={"text": long, fault: place}, second={"texts": long, "continues": continues}
                )
                told = await pieces(here.router)
                assert said(told) == long, place
                assert here.router.served_by == ("second" if place <= 100 else "first")

    run(scene())


def test_the_next_is_told_what_was_said_and_asked_to_go_on(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            here = await house(
                stack, first={"text": ANSWER, "dies_after": 6}, second="Paris, which lies on the Seine."
            )
            told = await pieces(here.router)
            assert said(told) == "The capital of France is Paris, which lies on the Seine."
            assert {piece.by for piece in told if isinstance(piece, Text)} == {"first", "second"}
            begun, asks = here.scripts["second"].asked[0][0][-2:]
            assert (begun.role, begun.text) == (Role.ROOMTONE, "The capital of France is")
            assert (asks.role, asks.text) == (Role.PERSON, "go on after The capital of France is")
            assert ("llm.failover", {"from": "first", "to": "second", "words": 5}) in here.events
            assert isinstance(told[-1], Usage)
            assert told[-1].by == "second"

    run(scene())


def test_one_that_continues_is_given_the_broken_reply_alone(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            second = {"texts": ANSWER, "continues": True}
            here = await house(stack, first={"text": ANSWER, "dies_after": 6}, second=second)
            assert await answered(here.router) == ANSWER
            assert here.scripts["second"].asked[0][0][-1].text == "The capital of France is"

    run(scene())


def test_three_that_die_one_after_the_other_give_one_answer(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            here = await house(
                stack,
                first={"text": ANSWER, "dies_after": 4},
                second={"text": ANSWER, "stalls_after": 9},
                third={"text": ANSWER, "dies_after": 14},
                fourth=ANSWER,
            )
            assert await answered(here.router) == ANSWER
            assert [status for _, status in here.books.statuses] == ["failed", "stalled", "failed", "ok"]

    run(scene())


def test_the_only_model_is_asked_again_to_end_what_it_began(run: Run[None]) -> None:
    async def scene() -> None:
        for fault in ("dies_after", "stalls_after"):
            async with AsyncExitStack() as stack:
                here = await house(stack, only=[{"text": ANSWER, fault: 5}, ANSWER])
                assert await answered(here.router) == ANSWER

    run(scene())


def test_what_was_good_is_said_before_the_failure_is_told(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            here = await house(stack, only=[{"text": ANSWER, "dies_after": 5, "trouble": "credit"}])
            told: list[str] = []
            with pytest.raises(LlmError, match="told to fail"):
                async for piece in here.router.reply(QUESTION, Options()):
                    told += [piece.text] if isinstance(piece, Text) else []
            assert "".join(told) == "The capital of France "

    run(scene())


def test_what_a_model_thinks_aloud_is_neither_said_nor_gone_on_with(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            here = await house(
                stack, first={"text": "<think> hmm </think> It is a dog.", "dies_after": 6}, second="It is a cat."
            )
            assert await answered(here.router) == "It is a cat."
            assert here.scripts["second"].asked[0][0][-2].text == "It is"

    run(scene())


# ------------------------------------------------------------------------------------------- deadlines


async def seconds(answer: Awaitable[str]) -> float:
    began = asyncio.get_running_loop().time()
    assert await answer == ANSWER
    return asyncio.get_running_loop().time() - began


@pytest.mark.parametrize(
    ("host", "bound"), [(FAR, FIRST_PIECE_S), (None, FIRST_PIECE_HERE_S), ("127.0.0.1", FIRST_PIECE_HERE_S)]
)
def test_the_first_word_is_waited_for_no_longer_than_bearable(run: Run[None], host: str | None, bound: float) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            here = await house(stack, slow={"texts": [{"first_piece_s": 99}], "host": host}, quick=ANSWER)
            assert await seconds(answered(here.router)) == pytest.approx(bound)

    run(scene())


def test_a_provider_has_bounds_of_its_own(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            terms = {"slow": Terms(Provider(engine="script", first_piece_s=1, stall_s=2))}
            here = await house(
                stack, terms, slow=[{"first_piece_s": 99}, {"text": ANSWER, "stalls_after": 3}], quick=[ANSWER] * 2
            )
            assert await seconds(answered(here.router)) == pytest.approx(1)
            assert await seconds(answered(here.router)) == pytest.approx(2)

    run(scene())


def test_a_reader_that_takes_its_time_makes_no_stall(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            here = await house(stack, only=ANSWER)
            told = []
            async for piece in here.router.reply(QUESTION, Options()):
                await asyncio.sleep(60)
                told.append(piece)
            assert said(told) == ANSWER

    run(scene())


def test_white_space_is_no_sign_of_life(run: Run[None]) -> None:
    class Blank:
        continues, host, model = False, None, "blank"

        async def reply(self, messages: Sequence[Message], options: Options) -> AsyncIterator[Piece]:
            while True:
                yield Text(" \n")
                await asyncio.sleep(1)

    async def scene() -> None:
        async with AsyncExitStack() as stack:
            script = (await house(stack, quick=ANSWER)).scripts["quick"]
            router = Router([("blank", Blank()), ("quick", script)], GO_ON)
            assert await seconds(answered(router)) == pytest.approx(FIRST_PIECE_HERE_S)

    run(scene())


# --------------------------------------------------------------------------------------------- privacy


@pytest.mark.parametrize(
    ("limit", "asked"),
    [(Egress.ANY, ["far", "near", "here"]), (Egress.LAN, ["near", "here"]), (Egress.NONE, ["here"])],
)
def test_who_may_not_be_told_is_never_asked_not_even_in_the_end(
    run: Run[None], limit: Egress, asked: list[str]
) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            broken = {"texts": [{"trouble": "credit"}] * 9}
            here = await house(
                stack, far={**broken, "host": FAR}, near={**broken, "host": "192.168.1.2"}, here=broken
            )
            with outbound.within(limit), pytest.raises(LlmError):
                await answered(here.router, Options(route=("far", "near", "here")))
            assert [name for name, script in here.scripts.items() if script.asked] == asked
            assert [call.provider for call in here.books.calls] == asked

    run(scene())


def test_where_nobody_may_be_told_it_is_said_so(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            here = await house(stack, far={"texts": ANSWER, "host": FAR})
            with outbound.within(Egress.LAN):
                assert not here.router.answers()
                with pytest.raises(EngineUnavailable, match=r"none of the language models \(far\) may be told"):
                    await answered(here.router)
            assert here.router.answers()

    run(scene())


def test_a_router_without_models_says_so(run: Run[None]) -> None:
    async def scene() -> None:
        router = Router([], GO_ON)
        assert (router.host, router.model, router.context, router.count) == (None, "", 0, None)
        assert router.health == "no language model is open"
        with pytest.raises(EngineUnavailable, match="roomtone doctor"):
            await answered(router)

    run(scene())


# ----------------------------------------------------------------------------------------------- order


@pytest.mark.parametrize(
    ("use", "route"),
    [
        (ModelUse(), ("house", "cloud", "pi")),
        (ModelUse(route=("pi", "cloud")), ("pi", "cloud")),
        (ModelUse(prefer=Preference.LOCAL), ("pi", "house", "cloud")),
        (ModelUse(prefer=Preference.CLOUD), ("cloud", "house", "pi")),
        (ModelUse(prefer=Preference.LOCAL_ONLY), ("pi", "house")),
        (ModelUse(prefer=Preference.LOCAL_ONLY, route=("cloud",)), NOBODY),
        (ModelUse(route=("gone", "pi")), ("pi",)),
        (ModelUse(route=("gone",)), ("house", "cloud", "pi")),
    ],
)
def test_a_persona_asks_whom_it_prefers(
    run: Run[None], use: ModelUse, route: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            here = await house(
                stack,
                route=("house", "cloud", "pi"),
                pi=ANSWER,
                house={"texts": ANSWER, "host": "10.0.0.2"},
                cloud={"texts": ANSWER, "host": FAR},
                spare=ANSWER,
            )
            persona = Persona(id="chef", name="Chef", llm=use)
            assert here.router.route_of(persona) == here.router.route_of(persona) == route
            told = await pieces(here.router, Options(route=route)) if route != NOBODY else []
            assert [piece.by for piece in told[-1:] if isinstance(piece, Usage)] == list(route[:1]) * bool(told)
            if route == NOBODY:
                with pytest.raises(EngineUnavailable):
                    await answered(here.router, Options(route=route))

    run(scene())
    complaints = [line for line in caplog.messages if "no provider is called 'gone'" in line]
    assert len(complaints) == ("gone" in use.route)


def test_a_prompt_is_to_fit_into_every_model_that_may_have_to_answer(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            terms = {
                "cloud": Terms(Provider(engine="script"), Model(context=128_000)),
                "pi": Terms(Provider(engine="script"), Model(context=4096)),
            }
            here = await house(stack, terms, cloud={"texts": ANSWER, "host": FAR}, pi=ANSWER)
            assert here.router.context == 4096
            assert here.router.context_of(("cloud",)) == 128_000
            with outbound.within(Egress.NONE):
                assert here.router.context_of(("cloud",)) == 0

    run(scene())


# ------------------------------------------------------------------------------------ trying again


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
            with pytest.raises(EngineUnavailable, match="only took what they may take"):
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
                assert text.startswith(said(told))
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


def test_a_reply_by_a_schema_is_whole_or_another_models(run: Run[None]) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            first = {"text": '{"a": "b c d e', "dies_after": 4}
            here = await house(stack, first=first, second='{"a": "b c d e f"}')
            told = await pieces(here.router, Options(schema={"type": "object"}))
            assert said(told) == '{"a": "b c d e f"}'
            assert len(told) == 2

    run(scene())


# ------------------------------------------------------------------------------------- random faults


@dataclass(frozen=True)
class Fault:
    """How one call goes: which words are said again before it goes on, after how many it breaks, and how."""

    how: str
    after: int = 0
    again: int = 0
    case: str = "as it is"


class Patient:
    """A model that knows the answer, goes on from wherever it is asked to, and has a fault a call."""

    model = "patient"

    def __init__(self, faults: Sequence[Fault], host: str | None, continues: bool) -> None:
        self.host, self.continues = host, continues
        self.calls = 0
        self.faults = list(faults)

    async def reply(self, messages: Sequence[Message], options: Options) -> AsyncIterator[Piece]:
        outbound.leaving(self.host, 1, "text", options.why)
        self.calls += 1
        fault = self.faults.pop(0) if self.faults else Fault("well")
        begun = [message.text for message in messages if message.role is Role.ROOMTONE]
        known = len(begun[-1].split()) if begun else 0
        words = WORDS[max(0, known - (fault.again if not self.continues else 0)) :]
        if fault.how == "empty":
            return
        if fault.how in tuple(Trouble):
            raise LlmError("ill", Trouble(fault.how), 2.0)
        for place, word in enumerate(words):
            if fault.how != "well" and place == fault.after:
                if fault.how == "stalls":
                    await asyncio.Event().wait()
                raise LlmError("died") if fault.how == "dies" else RuntimeError("a fault")
            await asyncio.sleep(0.01)
            yield Text((" " if place else "") + (word.upper() if fault.case == "loud" else word))
        yield Usage(10, len(words))


faults = st.builds(
    Fault,
    st.sampled_from(["well", "dies", "dies", "stalls", "breaks", "empty", *Trouble]),
    st.integers(0, len(WORDS)),
    st.integers(0, len(WORDS)),
    st.sampled_from(["as it is", "loud"]),
)
patients = st.builds(Patient, st.lists(faults, max_size=4), st.sampled_from([None, "10.0.0.2", FAR]), st.booleans())


@settings(max_examples=300, deadline=None)
@given(st.lists(patients, min_size=1, max_size=4), st.sampled_from(list(Egress)), st.integers(1, 3))
def test_under_random_faults_there_is_one_coherent_answer(line: list[Patient], limit: Egress, turns: int) -> None:
    books = Books()
    router_of = [(f"p{place}", patient) for place, patient in enumerate(line)]

    async def turn(router: Router) -> None:
        before, told, failed = len(books.calls), [], False
        with outbound.within(limit):
            someone_is_well = any(outbound.allows(one.host) and not one.faults for one in line)
        try:
            with outbound.within(limit):
                async for piece in router.reply(QUESTION, Options()):
                    told.append(piece)
        except EngineError:
            failed = True
        text = plain("".join(piece.text for piece in told if isinstance(piece, Text)))
        assert text == plain(ANSWER)[: len(text)], "nothing is said twice, nothing is left out"
        assert failed or text == plain(ANSWER)
        assert not (failed and someone_is_well)
        assert [isinstance(piece, Usage) for piece in told].count(True) == (not failed)
        statuses = [call.status for call in books.calls[before:]]
        assert statuses.count("ok") == (not failed)
        assert "cancelled" not in statuses

    async def scene() -> None:
        router = Router(router_of, GO_ON, accounts=books)
        async with beside(router.recover(), "recover"):
            for _ in range(turns):
                await turn(router)
                await asyncio.sleep(100)

    run_skipping(leaving_nothing(scene()), counts_work=False)
    assert sum(patient.calls for patient in line) == len(books.calls), "a row a call"
    with outbound.within(limit):
        for patient in line:
            assert outbound.allows(patient.host) or not patient.calls, "privacy goes first"
