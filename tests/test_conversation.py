"""Whole conversations with scripted engines, on a clock on which only waiting takes time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from conftest import Run
from rooms import HELP, room, scripted, somebody_speaks, speaks, until
from roomtone.answers import prompt_for
from roomtone.core.dialog import Ended, Source, Timer, Turn
from roomtone.core.errors import AudioError, StoreError
from roomtone.core.machine import Mode
from roomtone.core.signals import Dismiss, MuteSet, Prompt, Wake
from roomtone.demo.visits import cough
from roomtone.rehearsal import Rehearsal


def test_a_question_is_answered_and_followed_by_listening_that_ends_by_itself(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted("what time is it"), tmp_path) as rehearsal:
            [turn] = await speaks(rehearsal)
            assert (turn.heard, turn.intent, turn.answered_by) == ("what time is it", "clock.time", "skill")
            assert turn.said == turn.spoken != ""
            assert turn.ended is Ended.COMPLETED
            assert rehearsal.room.conversation.state.mode is Mode.LISTENING
            await asyncio.sleep(7)
            assert rehearsal.room.conversation.state.mode is Mode.IDLE

    run(scenario())


def test_latencies_add_up(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        slow = {"stt": {"delay_s": 0.2, "partials": False}, "tts": {"delay_s": 0.1}}
        async with room(scripted("what time is it", **slow), tmp_path) as rehearsal:
            [turn] = await speaks(rehearsal)
            latency = turn.latency_ms
            assert latency.endpoint is not None
            assert latency.first_sound is not None
            assert latency.stt == 200
            assert latency.tts == 100
            assert latency.first_sound == round(latency.endpoint + 300, 3)
            assert latency.overhead == 0

    run(scenario())


async def interrupted(rehearsal: Rehearsal, sound: object, after_s: float = 2.0) -> list[Turn]:
    """Ask for the long list of skills, and make a sound into the answer."""
    rehearsal.device.visit(await somebody_speaks())
    await until(rehearsal, "turn.first_sound")
    await asyncio.sleep(after_s)
    rehearsal.device.visit(sound)
    return await rehearsal.at_rest()


def test_words_interrupt_and_spoken_holds_what_was_heard(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted(HELP, "what time is it"), tmp_path) as rehearsal:
            first, second = await interrupted(rehearsal, await somebody_speaks())
            assert first.ended is Ended.INTERRUPTED
            assert first.said.startswith(first.spoken)
            assert 0 < len(first.spoken) < len(first.said)
            assert (second.intent, second.ended) == ("clock.time", Ended.COMPLETED)
            stored = await rehearsal.room.store.history()
            assert [turn.spoken for turn in stored] == [first.spoken, second.spoken]

    run(scenario())


def loudness(rehearsal: Rehearsal) -> list[float]:
    """Return how loud the loudspeaker was in each tenth of a second in which it played."""
    played = rehearsal.device.played.samples.astype(float)
    tenths = [float(np.abs(played[at : at + 1600]).max()) for at in range(0, len(played), 1600)]
    sounding = [place for place, peak in enumerate(tenths) if peak]
    return tenths[sounding[0] : sounding[-1]]


def quietest(rehearsal: Rehearsal) -> float:
    return min(loudness(rehearsal))


def loudest(rehearsal: Rehearsal) -> float:
    return max(loudness(rehearsal))


def test_a_cough_ducks_the_reply_which_then_goes_on(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted(HELP, ""), tmp_path) as rehearsal:
            modes: list[Mode] = []
            rehearsal.show = lambda event: modes.append(event.data.mode) if event.kind == "state.changed" else None
            [turn] = await interrupted(rehearsal, cough())
            assert turn.ended is Ended.COMPLETED
            assert turn.spoken == turn.said
            assert modes[2:5] == [Mode.SPEAKING, Mode.INTERRUPT, Mode.SPEAKING]
            assert quietest(rehearsal) < 0.2 * loudest(rehearsal)

    run(scenario())


def test_a_nod_does_not_take_the_floor(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted(HELP, "uh huh"), tmp_path) as rehearsal:
            [turn] = await interrupted(rehearsal, await somebody_speaks("uh huh"))
            assert turn.ended is Ended.COMPLETED
            assert turn.spoken == turn.said

    run(scenario())


def test_stop_is_answered_by_silence(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted(HELP, "stop"), tmp_path) as rehearsal:
            first, second = await interrupted(rehearsal, await somebody_speaks("stop"))
            assert first.ended is Ended.INTERRUPTED
            assert (second.heard, second.said) == ("stop", "")
            assert rehearsal.room.conversation.state.mode is Mode.IDLE
            before = rehearsal.device.loudspeaker.heard
            await asyncio.sleep(3)
            assert rehearsal.device.loudspeaker.heard == before

    run(scenario())


def test_hello_into_a_reply_asks_for_the_floor(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted(HELP, "hello", "what time is it"), tmp_path) as rehearsal:
            first, second = await interrupted(rehearsal, await somebody_speaks("hello"))
            assert first.ended is Ended.INTERRUPTED
            assert (second.heard, second.said) == ("hello", "")
            [third] = await speaks(rehearsal)
            assert third.intent == "clock.time"

    run(scenario())


def test_speech_that_is_not_understood_is_admitted_once_and_not_again(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted("", "", "what time is it", ""), tmp_path) as rehearsal:
            turns = [turn for _ in range(4) for turn in await speaks(rehearsal)]
            assert [turn.heard for turn in turns] == ["", "", "what time is it", ""]
            assert [bool(turn.said) for turn in turns] == [True, False, True, True]
            assert [turn.answered_by for turn in turns] == ["none", "none", "skill", "none"]

    run(scenario())


def test_a_recogniser_that_fails_or_hangs_is_owned_up_to_and_the_next_turn_works(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        for fault in ({"fail_at": 1}, {"hang_at": 1}):
            settings = scripted("one", "what time is it", stt=fault)
            async with room(settings, tmp_path) as rehearsal:
                [failed] = await speaks(rehearsal)
                assert failed.ended is Ended.FAILED
                assert failed.error is not None
                assert failed.spoken == rehearsal.room.conversation.speaker.phrases.say("hearing_failed")
                [worked] = await speaks(rehearsal)
                assert worked.intent == "clock.time"

    run(scenario())


def test_a_synthesiser_that_fails_at_the_third_sentence_costs_no_sentence_before(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        for fault in ({"fail_at": 3}, {"hang_at": 3}):
            async with room(scripted("what time is it", tts=fault), tmp_path) as rehearsal:
                text = "This is one. This is two. This is three. This is four."
                turn = await rehearsal.room.conversation.answer(Prompt(text, Source.CLI, verbatim=True))
                assert turn.ended is Ended.FAILED
                assert turn.spoken.startswith("This is one. This is two.")
                assert "This is four" not in turn.spoken
                assert turn.spoken.endswith(rehearsal.room.conversation.speaker.phrases.say("speaking_failed"))
                await rehearsal.at_rest()
                [worked] = await speaks(rehearsal)
                assert worked.spoken == worked.said

    run(scenario())


def test_a_room_without_a_voice_still_makes_a_sound(run: Run[None], tmp_path: Path) -> None:
    """The first sentence fails, and so does the apology: the failure chime is what is left."""

    async def scenario() -> None:
        async with room(scripted("what time is it"), tmp_path) as rehearsal:
            rehearsal.room.synthesiser.speak = _mute  # type: ignore[method-assign]
            [turn] = await speaks(rehearsal)
            assert turn.ended is Ended.FAILED
            assert turn.spoken == ""
            assert rehearsal.device.loudspeaker.heard > 0

    run(scenario())


async def _mute(*_: object) -> object:
    raise OSError("no voice at all")
    yield


def test_a_prompt_waits_while_someone_is_answered(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted(HELP), tmp_path) as rehearsal:
            rehearsal.device.visit(await somebody_speaks())
            await until(rehearsal, "turn.first_sound")
            turn = await rehearsal.room.conversation.answer(Prompt("what time is it", Source.WEB))
            assert (turn.intent, turn.source) == ("clock.time", Source.WEB)
            first, second = await rehearsal.at_rest()
            assert first.ended is Ended.COMPLETED
            assert second.trace == turn.trace

    run(scenario())


def test_a_timer_rings_when_it_is_due_and_only_once(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted("set a pasta timer for nine minutes"), tmp_path) as rehearsal:
            [turn] = await speaks(rehearsal)
            assert turn.intent == "timer.set"
            assert [timer.name for timer in await rehearsal.room.store.timers()] == ["pasta"]
            await asyncio.sleep(535)
            assert len(rehearsal.turns) == 1
            await asyncio.sleep(15)
            rehearsal.room.conversation.post(Dismiss(Source.BUTTON))
            [rang] = await rehearsal.at_rest()
            assert (rang.source, rang.spoken) == (Source.SCHEDULE, "Your pasta timer is done.")
            assert await rehearsal.room.store.timers() == []

    run(scenario())


def test_a_timer_that_came_due_while_off_is_said_at_the_start(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted("set a timer for nine minutes"), tmp_path) as rehearsal:
            await speaks(rehearsal)
        await asyncio.sleep(600)
        async with room(scripted(), tmp_path) as rehearsal:
            [missed] = await rehearsal.at_rest()
            assert "your timer ended" in missed.said

    run(scenario())


def test_the_button_makes_a_closed_room_listen_and_the_chime_is_not_heard_as_speech(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        settings = scripted("what time is it", listen={"mode": "button"})
        async with room(settings, tmp_path, leak_db=-6.0) as rehearsal:
            assert await speaks(rehearsal) == []
            await asyncio.sleep(5)
            rehearsal.room.conversation.post(Wake(Source.BUTTON))
            await asyncio.sleep(1.5)
            state = rehearsal.room.conversation.state
            assert (state.mode, state.turn) == (Mode.LISTENING, None)
            [turn] = await speaks(rehearsal)
            assert turn.intent == "clock.time"

    run(scenario())


def test_nobody_is_heard_while_muted(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted("what time is it"), tmp_path) as rehearsal:
            rehearsal.room.conversation.post(MuteSet(True))
            assert await speaks(rehearsal) == []
            rehearsal.room.conversation.post(MuteSet(False))
            [turn] = await speaks(rehearsal)
            assert turn.intent == "clock.time"

    run(scenario())


def test_dismissal_from_outside_silences_at_once(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted(HELP), tmp_path) as rehearsal:
            rehearsal.device.visit(await somebody_speaks())
            await until(rehearsal, "turn.first_sound")
            await asyncio.sleep(1)
            rehearsal.room.conversation.post(Dismiss(Source.BUTTON))
            [turn] = await rehearsal.at_rest()
            assert turn.ended is Ended.DISMISSED
            assert 0 < len(turn.spoken) < len(turn.said)

    run(scenario())


def test_the_graph_of_messages_follows_what_was_said(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted("what time is it", "thank you"), tmp_path) as rehearsal:
            await speaks(rehearsal)
            await speaks(rehearsal)
            (last,) = rehearsal.room.conversation.recorder.tips
            assert last is not None
            path = await rehearsal.room.store.ancestry(last)
            assert [message.text for message in path][::2] == ["what time is it", "thank you"]
            assert len(path) == 4

    run(scenario())


def test_the_feed_tells_a_turn_as_a_chain_of_causes(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted("what time is it"), tmp_path) as rehearsal:
            with rehearsal.room.feed.watch("turn.*") as events:
                [turn] = await speaks(rehearsal)
                told = [await anext(events) for _ in range(4)]
            assert [event.kind for event in told] == ["turn.begun", "turn.heard", "turn.first_sound", "turn.ended"]
            assert {event.trace for event in told} == {turn.trace}
            assert [event.cause for event in told[1:]] == [event.id for event in told[:-1]]

    run(scenario())


def test_each_part_says_how_it_is(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted("one", "what time is it", stt={"fail_at": 1}), tmp_path) as rehearsal:
            await rehearsal.at_rest()
            assert set(rehearsal.room.health().values()) == {"ok"}
            await speaks(rehearsal)
            assert "told to fail" in rehearsal.room.health()["stt"]
            await speaks(rehearsal)
            assert rehearsal.room.health()["stt"] == "ok"

    run(scenario())


# ------------------------------------------------------------------------------- what can go wrong


def test_who_goes_on_after_a_command_does_not_have_it_done_twice(run: Run[None], tmp_path: Path) -> None:
    """ "Set a pasta timer for nine minutes", a breath, "please": heard as one, done once."""

    async def scenario() -> None:
        command = "set a pasta timer for nine minutes"
        settings = scripted(command, f"{command} please", stt={"delay_s": 0.8, "partials": False})
        async with room(settings, tmp_path) as rehearsal:
            rehearsal.device.visit(await somebody_speaks())
            while rehearsal.room.conversation.state.mode is not Mode.THINKING:
                await rehearsal.next_event()
            rehearsal.device.visit(await somebody_speaks("please"))
            turns = await rehearsal.at_rest()
            assert [turn.heard for turn in turns] == [f"{command} please"]
            assert [timer.name for timer in await rehearsal.room.store.timers()] == ["pasta"]
            assert [turn.turn for turn in await rehearsal.room.store.history()] == [1]

    run(scenario())


def test_a_microphone_that_dies_in_mid_utterance_does_not_leave_the_room_waiting(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with room(scripted("what time is it"), tmp_path) as rehearsal:
            rehearsal.device.visit(await somebody_speaks("a very long sentence about nothing in particular"))
            await until(rehearsal, "turn.begun")
            rehearsal.device.microphone.take = lambda *_: None
            [turn] = await rehearsal.at_rest()
            assert turn.intent == "clock.time"
            alarm = Prompt("Your timer is done.", Source.SCHEDULE, verbatim=True)
            assert (await rehearsal.room.conversation.answer(alarm)).spoken == alarm.text

    run(scenario())


async def _odd(*_: object) -> AsyncIterator[object]:
    raise OSError("no more processes")
    yield


def test_an_engine_that_raises_what_it_should_not_costs_one_turn(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted("what time is it"), tmp_path) as rehearsal:
            recogniser = rehearsal.room.parts.stt
            good, recogniser.transcribe = recogniser.transcribe, _odd  # type: ignore[method-assign]
            [failed] = await speaks(rehearsal)
            assert (failed.ended, failed.spoken) == (
                Ended.FAILED,
                rehearsal.room.conversation.speaker.phrases.say("hearing_failed"),
            )
            recogniser.transcribe = good  # type: ignore[method-assign]
            [worked] = await speaks(rehearsal)
            assert worked.intent == "clock.time"

    run(scenario())


def test_a_recogniser_that_fails_over_a_reply_lets_the_reply_go_on(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted(HELP), tmp_path) as rehearsal:
            rehearsal.device.visit(await somebody_speaks())
            await until(rehearsal, "turn.first_sound")
            rehearsal.room.parts.stt.transcribe = _odd  # type: ignore[method-assign]
            rehearsal.device.visit(await somebody_speaks())
            [turn] = await rehearsal.at_rest()
            assert (turn.ended, turn.spoken) == (Ended.COMPLETED, turn.said)

    run(scenario())


def test_a_voice_detector_that_fails_is_told_and_the_room_goes_on(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted("what time is it"), tmp_path) as rehearsal:
            vad = rehearsal.room.parts.ears.vad
            good, vad.probability = vad.probability, lambda _: 1 / 0
            assert await speaks(rehearsal) == []
            assert "division" in rehearsal.room.health()["ears"]
            vad.probability = good
            [turn] = await speaks(rehearsal)
            assert turn.intent == "clock.time"

    run(scenario())


def test_a_call_while_somebody_speaks_hears_who_goes_on(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted("television", "what time is it"), tmp_path) as rehearsal:
            rehearsal.device.visit(await somebody_speaks("and now the news of the day from all over the world"))
            await until(rehearsal, "turn.begun")
            await asyncio.sleep(0.5)
            rehearsal.room.conversation.post(Wake(Source.BUTTON))
            [turn] = await rehearsal.at_rest()
            assert turn.intent == "clock.time"

    run(scenario())


def test_a_lost_loudspeaker_costs_the_chime_and_not_the_room(run: Run[None], tmp_path: Path) -> None:
    async def lost(_: object) -> None:
        raise AudioError("the loudspeaker is gone")

    async def scenario() -> None:
        async with room(scripted("what time is it"), tmp_path) as rehearsal:
            good, rehearsal.device.loudspeaker.play = rehearsal.device.loudspeaker.play, lost
            rehearsal.room.conversation.post(Wake(Source.BUTTON))
            await rehearsal.at_rest()
            rehearsal.device.loudspeaker.play = good
            [turn] = await speaks(rehearsal)
            assert turn.spoken

    run(scenario())


def test_a_prompt_that_is_dismissed_before_it_began_is_answered_for(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted(), tmp_path) as rehearsal:
            await rehearsal.at_rest()
            rehearsal.room.conversation.post(Prompt("what time is it", Source.WEB))
            rehearsal.room.conversation.post(Dismiss(Source.WEB))
            [turn] = await rehearsal.at_rest()
            assert (turn.ended, turn.spoken) == (Ended.DISMISSED, "")

    run(scenario())


def test_an_alarm_that_nobody_heard_rings_again_after_a_restart(run: Run[None], tmp_path: Path) -> None:
    """It was parked behind a long reply when the power went."""

    async def scenario() -> None:
        async with room(scripted("set a timer for three seconds", HELP), tmp_path) as rehearsal:
            await speaks(rehearsal)
            rehearsal.device.visit(await somebody_speaks())
            await until(rehearsal, "turn.first_sound")
            await asyncio.sleep(6)
            assert len(rehearsal.room.conversation.state.parked) == 1
        async with room(scripted(), tmp_path) as rehearsal:
            await until(rehearsal, "turn.first_sound")
            await asyncio.sleep(6)
            rehearsal.room.conversation.post(Dismiss(Source.BUTTON))
            [missed] = await rehearsal.at_rest()
            assert "your timer ended" in missed.said
            assert await rehearsal.room.store.timers() == []

    run(scenario())


def test_a_timer_rings_though_the_disk_is_full(
    run: Run[None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def full(*_: object) -> None:
        raise StoreError("the disk is full")

    async def scenario() -> None:
        async with room(scripted("set a timer for three seconds"), tmp_path) as rehearsal:
            await speaks(rehearsal)
            rehearsal.room.store.save_timers = full  # type: ignore[method-assign]
            await asyncio.sleep(200)
            rehearsal.room.conversation.post(Dismiss(Source.BUTTON))
            rang = [turn for turn in await rehearsal.at_rest() if turn.source is Source.SCHEDULE]
            assert [turn.spoken for turn in rang] == ["Your timer is done."]
            assert "the disk is full" in caplog.text

    run(scenario())


def test_a_timer_that_was_kept_while_its_turn_was_dismissed_still_rings(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted("set a timer for nine seconds"), tmp_path) as rehearsal:
            store, save = rehearsal.room.store, rehearsal.room.store.save_timers

            async def save_slowly(timers: Sequence[Timer] = (), remove: Sequence[Timer] = ()) -> None:
                await save(timers, remove)
                await asyncio.sleep(1)

            store.save_timers = save_slowly  # type: ignore[method-assign]
            rehearsal.device.visit(await somebody_speaks())
            await until(rehearsal, "turn.heard")
            await asyncio.sleep(0.5)
            rehearsal.room.conversation.post(Dismiss(Source.BUTTON))
            await asyncio.sleep(15)
            rang = [turn for turn in await rehearsal.at_rest() if turn.source is Source.SCHEDULE]
            assert [turn.spoken for turn in rang] == ["Your timer is done."]

    run(scenario())


def test_text_that_nothing_can_write_down_is_answered(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted(), tmp_path) as rehearsal:
            turn = await rehearsal.room.conversation.answer(prompt_for("what \ud800 time", verbatim=True))
            assert turn.ended is Ended.COMPLETED

    run(scenario())


def test_the_wait_for_the_text_of_an_interruption_is_the_recognisers(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = scripted(HELP, "what time is it", stt={"delay_s": 0.6, "partials": False})
        async with room(settings, tmp_path) as rehearsal:
            _, turn = await interrupted(rehearsal, await somebody_speaks())
            assert turn.latency_ms.stt == 600

    run(scenario())


def test_who_says_help_into_a_reply_is_heard_however_a_sure_recogniser_measures_it(
    run: Run[None], tmp_path: Path
) -> None:
    """Confidences of different engines cannot be compared; whether one is sure, it says itself."""

    async def scenario() -> None:
        async with room(scripted(HELP, "help", stt={"confidence": 0.8}), tmp_path) as rehearsal:
            turns = await interrupted(rehearsal, await somebody_speaks())
            assert Ended.DISMISSED in [turn.ended for turn in turns]

    run(scenario())


def test_a_cough_that_sounds_a_little_like_help_does_not_take_the_floor(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted(HELP, "help", stt={"confidence": 0.7}), tmp_path) as rehearsal:
            [turn] = await interrupted(rehearsal, cough())
            assert turn.ended is Ended.COMPLETED

    run(scenario())
