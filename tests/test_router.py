"""The router: one answer, whoever of the language models dies, stalls or may not be asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from conftest import Run
from roomtone import outbound
from roomtone.core.dialog import Message, Role
from roomtone.core.errors import EngineUnavailable
from roomtone.core.persona import Egress, ModelUse, Persona, Preference
from roomtone.engines.llm import LlmError, Options, Piece, Text, Usage
from roomtone.llm_router import FIRST_PIECE_HERE_S, FIRST_PIECE_S, Router
from roomtone.llm_router.calls import Terms
from roomtone.llm_router.line import NOBODY
from roomtone.llm_router.models import Model
from roomtone.settings import Provider
from routers import ANSWER, FAR, GO_ON, QUESTION, answered, house, pieces, said, seconds

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


def test_however_often_it_is_said_again_there_is_room_for_the_answer(run: Run[None]) -> None:
    long = " ".join(f"considerably{number}" for number in range(40)) + "."

    async def scene() -> None:
        async with AsyncExitStack() as stack:
            dying: dict[str, Any] = {f"p{place}": {"text": long, "dies_after": place} for place in range(36, 40)}
            here = await house(stack, **dying, last=long)
            assert await answered(here.router, Options(max_tokens=50)) == long

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
    class Spaced:
        continues, host, model = False, None, "spaced"

        async def reply(self, messages: Sequence[Message], options: Options) -> AsyncIterator[Piece]:
            for word in ANSWER.split():
                yield Text(word)
                yield Text(" ")

    async def scene() -> None:
        told = []
        async for piece in Router([("spaced", Spaced())], GO_ON).reply(QUESTION, Options()):
            await asyncio.sleep(60)
            told.append(piece)
        assert said(told).rstrip() == ANSWER

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
