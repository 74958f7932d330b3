"""The loop-back check in a running room: it chirps, hears itself, and nobody is disturbed or overheard by it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import sick_card
from conftest import Run
from rooms import room, scripted, somebody_speaks, speaks
from roomtone import loopback
from roomtone.answers import Answers
from roomtone.core.dialog import Source
from roomtone.core.errors import AudioError, RoomBusy, UsageError
from roomtone.core.machine import Mode
from roomtone.core.signals import MuteSet, Prompt, Wake
from roomtone.core.sound import Audio
from roomtone.loopback import Heard, LoopBack, Tape
from roomtone.metrics import Metrics
from roomtone.rehearsal import Rehearsal


async def chirped(rehearsal: Rehearsal, **how: bool) -> LoopBack:
    return await loopback.in_room(rehearsal.room.conversation, **how)


def test_a_room_hears_its_own_chirp_through_the_air(run: Run[Any], tmp_path: Path) -> None:
    async def look() -> LoopBack:
        async with room(scripted(), tmp_path, leak_db=-12, delay_ms=40, noise_dbfs=-60) as rehearsal:
            return await chirped(rehearsal)

    echo = run(look())
    assert (echo.tried, echo.heard, echo.why) == (True, True, None)
    assert 35 <= echo.delay_ms <= 60
    assert echo.level_db == pytest.approx(-12, abs=4)
    assert echo.room_dbfs == pytest.approx(-60, abs=3)


def test_a_loudspeaker_that_does_not_reach_the_microphone_is_not_heard(run: Run[Any], tmp_path: Path) -> None:
    async def look() -> LoopBack:
        async with room(scripted(), tmp_path, leak_db=-100) as rehearsal:
            return await chirped(rehearsal)

    echo = run(look())
    assert (echo.tried, echo.heard, echo.delay_ms) == (True, False, None)


@pytest.mark.parametrize("leak_db", [-30, -6, 6])
def test_the_chirp_is_neither_speech_nor_an_interruption(run: Run[Any], tmp_path: Path, leak_db: float) -> None:
    async def look() -> list[str]:
        async with room(scripted("what can you do"), tmp_path, leak_db=leak_db) as rehearsal:
            kinds = []
            rehearsal.show = lambda event: kinds.append(event.kind)
            assert (await chirped(rehearsal)).heard
            await rehearsal.at_rest()
            assert kinds == []
            [turn] = await speaks(rehearsal)
            assert turn.heard == "what can you do", "who speaks afterwards is heard as ever"
            return kinds

    assert run(look())


def test_a_muted_room_listens_to_nothing_and_does_not_chirp(run: Run[Any], tmp_path: Path) -> None:
    async def look() -> LoopBack:
        async with room(scripted(), tmp_path, leak_db=-12) as rehearsal:
            rehearsal.room.conversation.post(MuteSet(True))
            await rehearsal.at_rest()
            before = len(rehearsal.device.played)
            echo = await chirped(rehearsal)
            assert not rehearsal.device.played.samples[before:].any()
            assert await asked(rehearsal, "levels") == [{"result": None}]
            return echo

    assert run(look()) == LoopBack(tried=False, why="muted")


def test_in_quiet_hours_it_chirps_softly_and_only_for_who_insists(run: Run[Any], tmp_path: Path) -> None:
    async def look() -> int:
        async with room(scripted(), tmp_path, leak_db=-12) as rehearsal:
            assert (await chirped(rehearsal)).heard
            loud = int(abs(rehearsal.device.played.samples).max())
            await rehearsal.room.parts.quiet.keep_for(600)
            assert await chirped(rehearsal) == LoopBack(tried=False, why="quiet hours")
            before = len(rehearsal.device.played)
            assert (await chirped(rehearsal, even_quiet=True)).heard
            soft = int(abs(rehearsal.device.played.samples[before:]).max())
            assert 0 < soft < loud * 0.7
            return soft

    assert run(look())


def test_a_loudspeaker_turned_down_to_nothing_is_told(run: Run[Any], tmp_path: Path) -> None:
    async def look() -> LoopBack:
        async with room(scripted(), tmp_path, leak_db=-12) as rehearsal:
            rehearsal.device.loudspeaker.set_volume(0)
            return await chirped(rehearsal)

    assert run(look()) == LoopBack(tried=False, why="volume")


def test_it_waits_for_the_answer_that_is_being_given(run: Run[Any], tmp_path: Path) -> None:
    async def look() -> None:
        async with room(scripted(), tmp_path, leak_db=-12) as rehearsal:
            conversation = rehearsal.room.conversation
            conversation.post(Prompt("One sentence that is being said. And another.", Source.CLI, verbatim=True))
            while conversation.state.mode is not Mode.SPEAKING:
                await rehearsal.next_event()
            assert (await chirped(rehearsal)).heard
            [turn] = await rehearsal.at_rest()
            assert turn.spoken == "One sentence that is being said. And another."

    run(look())


def test_a_room_that_never_rests_is_busy(run: Run[Any], tmp_path: Path) -> None:
    async def look() -> None:
        async with room(scripted(), tmp_path, leak_db=-12) as rehearsal:
            conversation = rehearsal.room.conversation
            text = "This is a very long story. " * 40
            conversation.post(Prompt(text, Source.CLI, verbatim=True))
            while conversation.state.mode is Mode.IDLE:
                await rehearsal.next_event()
            with pytest.raises(RoomBusy, match="try again"):
                await chirped(rehearsal)

    run(look())


def test_who_presses_the_button_meanwhile_is_listened_to_at_once(run: Run[Any], tmp_path: Path) -> None:
    async def look() -> None:
        async with room(scripted("what can you do"), tmp_path, leak_db=-12) as rehearsal:
            conversation = rehearsal.room.conversation

            async def press() -> None:
                await asyncio.sleep(0.3)
                conversation.post(Wake(Source.BUTTON))
                await asyncio.sleep(0.3)
                assert not conversation.parts.ears.deaf
                rehearsal.device.visit(await somebody_speaks())

            async with asyncio.TaskGroup() as group:
                group.create_task(press())
                with pytest.raises(RoomBusy):
                    await chirped(rehearsal)
            [turn] = await rehearsal.at_rest()
            assert turn.heard == "what can you do"

    run(look())


# --------------------------------------------------------------------------------- over the control socket


async def asked(rehearsal: Rehearsal, command: str, **keys: Any) -> list[dict[str, Any]]:
    opened = rehearsal.room
    answers = Answers(opened, Metrics(opened.feed, opened.engines, (), opened.settings.state_dir))
    return [message async for message in answers.answer({"command": command, **keys})]


def test_the_daemon_chirps_for_who_asks_over_its_socket(run: Run[Any], tmp_path: Path) -> None:
    async def look() -> None:
        async with room(scripted(), tmp_path, leak_db=-12) as rehearsal:
            [message] = await asked(rehearsal, "chirp")
            assert message["result"]["heard"] is True
            with pytest.raises(UsageError):
                await asked(rehearsal, "chirp", even_quiet="yes")

    run(look())


def test_the_daemon_tells_live_levels_while_it_listens_on(run: Run[Any], tmp_path: Path) -> None:
    async def look() -> None:
        async with room(scripted("what can you do"), tmp_path, leak_db=-12, noise_dbfs=-50) as rehearsal:
            rehearsal.device.visit(await somebody_speaks())
            *levels, last = await asked(rehearsal, "levels")
            assert len(levels) >= 8
            assert max(each["dbfs"] for each in levels) > -40
            heard = Heard(**last["result"])
            assert (heard.dead, heard.clipped) == (False, 0.0)
            assert heard.seconds >= loopback.LISTEN_S
            [turn] = await rehearsal.at_rest()
            assert turn.heard == "what can you do"

    run(look())


# ------------------------------------------------------------------------------------------------- sick cards


@pytest.mark.parametrize(("ill", "said"), [("mute", "the microphone gives"), ("no loudspeaker", "the loudspeaker")])
def test_a_card_that_does_not_work_is_told_in_a_bounded_time(run: Run[Any], ill: str, said: str) -> None:
    async def look() -> None:
        card, tape = sick_card.Card(ill), Tape()

        async def record() -> None:
            async for capture in card:
                tape.take(capture)

        async with asyncio.TaskGroup() as group:
            recording = group.create_task(record())
            with pytest.raises(AudioError, match=said):
                await loopback.measure(tape, card)
            recording.cancel()

    run(look())


def test_what_a_microphone_gave_is_told_in_numbers() -> None:
    assert Heard.of(Audio.silence(1).samples) == Heard(1.0, -100.0, -100.0, 0.0, dead=True)
    assert Heard.of(Audio.silence(0).samples).seconds == 0
    loud = Audio.from_bytes(b"\x00\x40\xff\x7f" * 8000)
    assert Heard.of(loud.samples).clipped == 0.5
