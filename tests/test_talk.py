"""Whole conversations with real engines: speech is synthesised, heard, answered, and the answer itself recognised."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import numpy as np
import pytest

from conftest import Run
from rooms import room, until
from roomtone.core.dialog import Ended, Turn
from roomtone.core.machine import Mode
from roomtone.core.sound import RATE, Audio, join
from roomtone.demo.visits import cough
from roomtone.engines.stt import Hints, pocketsphinx
from roomtone.rehearsal import Rehearsal
from roomtone.settings import Settings
from roomtone.utterance import Utterance
from speech import said

REAL = Settings.model_validate({"listen": {"mode": "open"}, "time_zone": "Europe/Berlin"})
VISITOR = "en-us+m3"

DISTRACTORS = (
    *(
        "good morning everybody",
        "the weather is fine",
        "I could not say",
        "nothing is playing now",
        "please try again",
    ),
    *("the lights are off", "your list is empty", "I have no idea", "there is no such room", "the door is closed"),
    *("it is raining in town", "dinner will be late", "nobody called today", "the train has left", "that is enough"),
    *("come back tomorrow", "the music has stopped", "you have no messages", "the kitchen is warm", "see you soon"),
)


async def asks(rehearsal: Rehearsal, text: str, **where: float) -> list[Turn]:
    rehearsal.device.visit(await said(text, VISITOR, lead_s=0, tail_s=0), **where)
    return await rehearsal.at_rest()


def reply(rehearsal: Rehearsal, since: int) -> Audio:
    """Return what the loudspeaker played since a sample, without the silence around it."""
    played = rehearsal.device.played.cut(since)
    sounds = np.flatnonzero(played.samples)
    return played.cut(int(sounds[0]), int(sounds[-1]))


async def recognised(sound: Audio, answer: str) -> str:
    """Hear a sound on a grammar of the answer and twenty distractors."""
    lines = [line.lower().replace("-", " ") for line in (answer, *DISTRACTORS)]
    plain = [" ".join(re.sub(r"[^a-z' ]", " ", line).split()) for line in lines]
    grammar = "#JSGF V1.0;\ngrammar answers;\npublic <answer> = " + " | ".join(plain) + ";"
    utterance = Utterance(0.0)
    utterance.add(join([Audio.silence(0.3), sound, Audio.silence(0.3)]))
    utterance.end(0.0, 0.0)
    async with pocketsphinx.open(pocketsphinx.Settings(min_score=-10)) as engine:
        finals = [heard async for heard in engine.transcribe(utterance.stream(), Hints(grammar=grammar))]
    assert finals[-1].text in (*plain, "")
    return "the answer" if finals[-1].text == plain[0] else finals[-1].text


def test_a_spoken_question_gets_a_spoken_answer_that_can_be_understood(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(REAL, tmp_path) as rehearsal:
            for question, intent in (
                ("set a timer for five minutes", "timer.set"),
                ("cancel all timers", "timer.cancel_all"),
            ):
                before = len(rehearsal.device.played)
                [turn] = await asks(rehearsal, question)
                assert (turn.heard, turn.intent, turn.ended) == (question, intent, Ended.COMPLETED)
                assert await recognised(reply(rehearsal, before), turn.spoken) == "the answer"

    run(scenario())


def test_in_a_room_with_echo_words_interrupt_and_a_cough_does_not(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(REAL, tmp_path, leak_db=-12.0, seed=5) as rehearsal:
            for sound, kept in ((cough(), True), (await said("what time is it", VISITOR, lead_s=0, tail_s=0), False)):
                rehearsal.device.visit(await said("what can you do", VISITOR, lead_s=0, tail_s=0), distance_m=1.0)
                await until(rehearsal, "turn.first_sound")
                await asyncio.sleep(2.5)
                rehearsal.device.visit(sound, distance_m=1.0)
                turns = await rehearsal.at_rest()
                if kept:
                    assert [turn.ended for turn in turns] == [Ended.COMPLETED]
                    assert turns[0].spoken == turns[0].said
                else:
                    assert [turn.ended for turn in turns] == [Ended.INTERRUPTED, Ended.COMPLETED]
                    assert turns[1].intent == "clock.time"

    run(scenario())


def test_it_does_not_hear_itself(run: Run[None], tmp_path: Path) -> None:
    """A minute of its own voice in a live room starts no turn and stops no reply."""

    async def scenario() -> None:
        async with room(REAL, tmp_path, leak_db=-9.0, rt60_ms=500, seed=3) as rehearsal:
            for _ in range(4):
                [turn] = await asks(rehearsal, "what can you do", distance_m=1.0)
                assert turn.ended is Ended.COMPLETED
                await asyncio.sleep(8)
                assert rehearsal.room.conversation.state.mode is Mode.IDLE
            assert len(rehearsal.turns) == 4

    run(scenario())


def test_speech_that_is_no_command_is_not_taken_for_one(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(REAL, tmp_path) as rehearsal:
            [turn] = await asks(rehearsal, "my sister bought a wooden table in november")
            assert (turn.heard, turn.answered_by) == ("", "none")
            assert turn.said == rehearsal.room.conversation.speaker.phrases.say("not_heard")

    run(scenario())


@pytest.mark.long
def test_an_hour_of_talk_is_cut_into_utterances_and_the_next_command_works(run: Run[None], tmp_path: Path) -> None:
    """Forty seconds without a pause stand for the hour: no utterance is longer than thirty."""

    async def scenario() -> None:
        async with room(REAL, tmp_path) as rehearsal:
            talk = await said(
                "and the people came and went all day long and they talked", VISITOR, lead_s=0, tail_s=0
            )
            loud = talk.cut(0, round(2.5 * RATE))
            rehearsal.device.visit(join([loud] * 16))
            await rehearsal.at_rest()
            [turn] = await asks(rehearsal, "what time is it")
            assert turn.intent == "clock.time"

    run(scenario())


@pytest.mark.parametrize("silence", [0.0, 3.0])
def test_nothing_said_is_no_turn(run: Run[None], tmp_path: Path, silence: float) -> None:
    async def scenario() -> None:
        async with room(REAL, tmp_path) as rehearsal:
            rehearsal.device.visit(Audio.silence(silence))
            assert await rehearsal.at_rest() == []

    run(scenario())
