"""A room whose model begins to answer in the person's pause: nothing is heard or done until they have finished."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from rooms import room, scripted, speaks
from roomtone.core.dialog import Ended, Source, Turn
from roomtone.core.signals import Dismiss, Prompt
from roomtone.engines.llm.script import Script
from roomtone.flow import task_group
from roomtone.rehearsal import Rehearsal
from roomtone.settings import Settings

WHOLE = "photosynthesis"
"""One word: what is heard at the first pause is all of it."""

HALVES = "what makes leaves green"
"""What is heard at the first pause is half of it."""

GREEN = "Leaves are green because of chlorophyll. It takes in red light. And blue."


def thinking(*heard: str, texts: tuple[Any, ...] = (GREEN,), anticipate: bool = True, **more: Any) -> Settings:
    provider = {"engine": "script", "texts": texts, **more}
    return scripted(*heard, llm={"route": ["pi"], "providers": {"pi": provider}, "anticipate": anticipate})


def model(rehearsal: Rehearsal) -> Script:
    [place] = rehearsal.room.parts.minds.router.places
    assert isinstance(place.engine, Script)
    return place.engine


def questions(rehearsal: Rehearsal) -> list[str]:
    return [messages[-1].text.rpartition("\n\n")[2] for messages, _ in model(rehearsal).asked]


async def one(rehearsal: Rehearsal) -> Turn:
    [turn] = await speaks(rehearsal)
    return turn


def test_what_was_begun_in_the_pause_is_the_answer_and_comes_sooner(run: Run[None], tmp_path: Path) -> None:
    slow = ({"text": GREEN, "first_piece_s": 0.6},)

    async def answered(anticipate: bool) -> Turn:
        folder = tmp_path / str(anticipate)
        async with room(thinking(WHOLE, texts=slow, anticipate=anticipate), folder) as rehearsal:
            turn = await one(rehearsal)
            assert questions(rehearsal) == [WHOLE]
            assert (turn.said, turn.answered_by, turn.ended) == (GREEN, "llm:pi", Ended.COMPLETED)
            return turn

    async def scenario() -> None:
        early, late = await answered(True), await answered(False)
        assert late.latency_ms.saved is None
        assert early.latency_ms.saved is not None
        assert early.latency_ms.think is not None
        assert late.latency_ms.think is not None
        assert 0 < early.latency_ms.saved <= 610
        assert abs(early.latency_ms.think + early.latency_ms.saved - late.latency_ms.think) < 50  # virtual time

    run(scenario())


def test_what_was_begun_for_half_of_the_words_is_thrown_away(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(thinking(HALVES, texts=(f"Nothing. {GREEN} {GREEN}", GREEN)), tmp_path) as rehearsal:
            turn = await one(rehearsal)
            assert questions(rehearsal) == ["what makes", HALVES]
            assert (turn.said, turn.heard) == (GREEN, HALVES)
            assert (turn.latency_ms.saved or 0) < 5  # its words were all there only at the end
            statuses = await rehearsal.room.parts.minds.ledger.read("SELECT status FROM llm_calls ORDER BY id")
            assert [row["status"] for row in statuses] == ["cancelled", "ok"]

    run(scenario())


def test_words_that_promise_more_are_not_answered_in_advance(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(thinking("why is the sky so blue", texts=("So.",)), tmp_path) as rehearsal:
            assert (await one(rehearsal)).said == "So."
            assert questions(rehearsal) == ["why is the sky so blue"]

    run(scenario())


def test_no_tool_runs_for_words_that_were_not_the_last(run: Run[None], tmp_path: Path) -> None:
    louder = {"calls": [{"name": "volume.set", "arguments": '{"percent": 20}'}]}

    async def scenario() -> None:
        async with room(thinking(HALVES, texts=(louder, GREEN)), tmp_path) as rehearsal:
            before = rehearsal.device.loudspeaker.volume
            assert (await one(rehearsal)).said == GREEN
            assert rehearsal.device.loudspeaker.volume == before
            assert await rehearsal.room.store.read("SELECT * FROM tool_runs") == []

    run(scenario())


def test_a_skills_command_is_done_once_and_not_ahead(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(thinking("set a timer for nine minutes"), tmp_path) as rehearsal:
            assert (await one(rehearsal)).answered_by == "skill"
            assert len(await rehearsal.room.parts.timers.running()) == 1
            assert len(model(rehearsal).asked) <= 1  # of half the words, for nobody

    run(scenario())


def test_a_draft_that_failed_is_made_again(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(thinking(WHOLE, texts=({"trouble": "refused"}, GREEN)), tmp_path) as rehearsal:
            turn = await one(rehearsal)
            assert turn.ended is Ended.FAILED
            assert turn.error is not None
            assert turn.error.code == "LLM_API_ERROR"
            assert turn.spoken == "The language model won't answer that."

    run(scenario())


def test_what_may_not_leave_this_machine_is_told_to_no_model_outside(run: Run[None], tmp_path: Path) -> None:
    folder = tmp_path / "personas" / "hermit"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("name: Hermit\negress: none\n")
    (folder / "system_prompt.md").write_text("You are $persona.")

    async def scenario() -> None:
        settings = thinking(WHOLE, host="api.example.com")
        settings = settings.model_copy(
            update={"personas": settings.personas.model_copy(update={"default": "hermit"})}
        )
        async with room(settings, tmp_path) as rehearsal:
            turn = await one(rehearsal)
            assert (turn.persona, turn.answered_by) == ("hermit", "offline")
            assert turn.spoken.startswith("I may not ask anyone about that outside")
            assert model(rehearsal).asked == []
            assert await rehearsal.room.parts.minds.ledger.read("SELECT * FROM sent") == []

    run(scenario())


def test_what_left_the_house_is_on_the_receipt_with_its_turn(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(thinking(WHOLE, host="api.example.com"), tmp_path) as rehearsal:
            turn = await one(rehearsal)
            [row] = await rehearsal.room.parts.minds.ledger.read("SELECT * FROM sent")
            assert (row["trace"], row["persona"], row["host"]) == (turn.trace, "companion", "api.example.com")
            assert (row["kind"], row["why"], row["bytes"] > len(WHOLE)) == ("text", "answer", True)
            [call] = await rehearsal.room.parts.minds.ledger.read("SELECT * FROM llm_calls")
            assert (call["trace"], call["status"], call["written"]) == (turn.trace, "ok", len(GREEN.split()))
            assert turn.tokens is not None
            assert turn.tokens.written == call["written"]

    run(scenario())


@pytest.mark.parametrize("where", ["model", "memory"])
def test_stop_is_the_end_though_a_library_fails_at_being_stopped(
    run: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    async def upset() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RuntimeError("the connection was in use") from None

    async def upset_model(*_: Any) -> AsyncIterator[Any]:
        await upset()
        yield

    async def upset_memory(*_: Any) -> None:
        await upset()

    async def scenario() -> None:
        async with room(thinking(), tmp_path) as rehearsal, task_group() as group:
            minds, converse = rehearsal.room.parts.minds, rehearsal.room.conversation
            if where == "model":
                monkeypatch.setattr(model(rehearsal), "reply", upset_model)
            else:
                monkeypatch.setattr(minds.memory, "recall", upset_memory)
            asking = group.create_task(converse.answer(Prompt(HALVES, Source.CLI)))
            await asyncio.sleep(1)
            stopped_at = asyncio.get_running_loop().time()
            converse.post(Dismiss(Source.CLI))
            turn = await asking
            assert asyncio.get_running_loop().time() - stopped_at < 0.1
            assert (turn.said, turn.ended) == ("", Ended.DISMISSED)
            statuses = [row["status"] for row in await minds.ledger.read("SELECT status FROM llm_calls")]
            assert statuses == (["cancelled"] if where == "model" else []), "nobody was asked once more"

    run(scenario())
