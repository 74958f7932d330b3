"""How a room is called, and what it does until then: wake words, the button, what was said in vain, and "stop"."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import Run
from rooms import HELP, room, scripted, somebody_speaks, speaks, until
from roomtone.app import how_called
from roomtone.core.dialog import Ended, Source, Turn
from roomtone.core.machine import Mode
from roomtone.core.signals import MuteSet, Prompt, Wake
from roomtone.core.sound import RATE, Audio, join
from roomtone.engines.wake import microwakeword
from roomtone.engines.wake.microwakeword import shipped_models
from roomtone.rehearsal import Rehearsal
from roomtone.settings import Settings
from speech import said

with_words = pytest.mark.skipif(not shipped_models(), reason="pip install 'roomtone[wake]'")


def waiting_for_a_word(*heard: str, wake: dict[str, Any] | None = None, follow_up_s: float = 0) -> Settings:
    return scripted(*heard, listen={"mode": "wake_word", "follow_up_s": follow_up_s}, wake=wake or {})


def waiting_for_the_button(*heard: str) -> Settings:
    return scripted(*heard, listen={"mode": "button", "follow_up_s": 0})


async def called(then: str = "", pause_s: float = 0.0) -> Audio:
    """Return "okay nabu", and what is said after it: in one breath, or after a pause."""
    if not pause_s:
        return await said(f"okay nabu {then}", "en-us")
    return join([await said("okay nabu", "en-us", tail_s=pause_s), await said(then, "en-us")])


def press(rehearsal: Rehearsal) -> None:
    rehearsal.room.conversation.post(Wake(Source.BUTTON))


def sounded(rehearsal: Rehearsal, since: int) -> bool:
    """Say whether the loudspeaker was heard after so many of its samples."""
    return bool(rehearsal.device.played.cut(since).dbfs > -60)


# ------------------------------------------------------------------------------------------ wake words


@with_words
@pytest.mark.parametrize("pause_s", [0.0, 0.2, 2.0])
def test_who_calls_is_answered_whether_they_speak_on_at_once_or_after_a_pause(
    run: Run[None], tmp_path: Path, pause_s: float
) -> None:
    async def scenario() -> None:
        async with room(waiting_for_a_word("what time is it"), tmp_path) as rehearsal:
            assert await speaks(rehearsal) == []
            rehearsal.device.visit(await called("what time is it", pause_s=pause_s))
            [turn] = await rehearsal.at_rest()
            assert (turn.intent, turn.source) == ("clock.time", Source.VOICE)
            assert await speaks(rehearsal) == []

    run(scenario())


@with_words
def test_the_word_itself_is_not_among_what_is_recognised(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = waiting_for_a_word().model_copy(update={"stt": Settings().stt})  # the real recogniser
        async with room(settings, tmp_path, rt60_ms=100) as rehearsal:
            rehearsal.device.visit(await called("what time is it"))
            [turn] = await rehearsal.at_rest()
            assert turn.heard == "what time is it"

    run(scenario())


@with_words
def test_only_who_waits_after_the_word_hears_a_chime(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(waiting_for_a_word("what time is it"), tmp_path) as rehearsal:
            rehearsal.device.visit(await called())
            await asyncio.sleep(3)
            assert rehearsal.room.conversation.state.called
            assert sounded(rehearsal, 0)
            await asyncio.sleep(10)
            before = len(rehearsal.device.played)
            rehearsal.device.visit(await called("what time is it"))
            await until(rehearsal, "turn.first_sound")
            assert not sounded(rehearsal, before)

    run(scenario())


@with_words
def test_a_word_of_its_own_wakes_a_persona(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        words = {"words": ["okay_nabu", {"model": "alexa", "persona": "chef"}]}
        async with room(waiting_for_a_word("who are you", "who are you", wake=words), tmp_path) as rehearsal:
            rehearsal.device.visit(await called("who are you", pause_s=1.0))
            await rehearsal.at_rest()
            await asyncio.sleep(5)
            rehearsal.device.visit(await said("alexa", "en-gb", tail_s=1.0))
            await until(rehearsal, "persona.switched")
            rehearsal.device.visit(await somebody_speaks())
            await rehearsal.at_rest()
            assert [turn.persona for turn in rehearsal.turns] == ["companion", "chef"]

    run(scenario())


@with_words
def test_the_word_interrupts_an_answer_and_the_next_question_is_served(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = waiting_for_a_word(HELP, "what time is it", "what time is it")
        async with room(settings, tmp_path, leak_db=-40.0, rt60_ms=100) as rehearsal:
            press(rehearsal)
            rehearsal.device.visit(await somebody_speaks())
            await until(rehearsal, "turn.first_sound")
            await asyncio.sleep(1)
            rehearsal.device.visit(await called("what time is it", pause_s=0.2))
            help_, time_ = await rehearsal.at_rest()
            assert (help_.ended, time_.intent) == (Ended.INTERRUPTED, "clock.time")

    run(scenario())


@with_words
def test_after_an_answer_no_word_is_needed_for_a_while(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = waiting_for_a_word(*["what time is it"] * 3, follow_up_s=6)
        async with room(settings, tmp_path) as rehearsal:
            rehearsal.device.visit(await called("what time is it"))
            assert len(await rehearsal.at_rest()) == 1
            assert len(await speaks(rehearsal)) == 1
            await asyncio.sleep(7)
            assert await speaks(rehearsal) == []

    run(scenario())


@with_words
def test_a_muted_room_does_not_hear_its_word(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(waiting_for_a_word("what time is it"), tmp_path) as rehearsal:
            rehearsal.room.conversation.post(MuteSet(True))
            rehearsal.device.visit(await called("what time is it"))
            assert await rehearsal.at_rest() == []

    run(scenario())


def test_without_an_engine_for_wake_words_the_room_listens_openly(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(waiting_for_a_word("what time is it", wake={"engine": "none"}), tmp_path) as rehearsal:
            assert len(await speaks(rehearsal)) == 1

    run(scenario())


# ------------------------------------------------------------------------------- what was said in vain


async def press_after(rehearsal: Rehearsal, seconds: float) -> list[Turn]:
    """Press the button so long after somebody has finished, and return what came of it."""
    rehearsal.device.visit(sound := await somebody_speaks())
    await asyncio.sleep(sound.seconds + seconds)
    press(rehearsal)
    return await rehearsal.at_rest()


@with_words
def test_a_word_that_was_nearly_heard_is_not_in_the_way_of_what_followed(
    run: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(microwakeword.Word, "threshold", lambda *_: 1.0)  # which nothing is above

    async def scenario() -> None:
        settings = waiting_for_a_word(wake={"words": [{"model": "okay_nabu"}]})
        settings = settings.model_copy(update={"stt": Settings().stt})  # the real recogniser
        async with room(settings, tmp_path, rt60_ms=100) as rehearsal:
            await asyncio.sleep(3)
            rehearsal.device.visit(sound := await said("okay nabu set a timer for five minutes", "en-gb"))
            await asyncio.sleep(sound.seconds + 1)
            assert rehearsal.room.conversation.state.mode is Mode.IDLE
            press(rehearsal)
            [turn] = await rehearsal.at_rest()
            assert turn.intent == "timer.set"
            assert turn.heard.endswith("a timer for five minutes")

    run(scenario())


@pytest.mark.parametrize("seconds", [0.15, 1.0, 3.0])
def test_a_press_answers_what_was_just_said_in_vain(run: Run[None], tmp_path: Path, seconds: float) -> None:
    async def scenario() -> None:
        async with room(waiting_for_the_button("what time is it"), tmp_path) as rehearsal:
            [turn] = await press_after(rehearsal, seconds)
            assert turn.intent == "clock.time"

    run(scenario())


def test_a_press_long_after_only_listens(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(waiting_for_the_button("what time is it"), tmp_path) as rehearsal:
            assert await press_after(rehearsal, 6.0) == []
            [turn] = await speaks(rehearsal)
            assert turn.intent == "clock.time"

    run(scenario())


def test_what_no_skill_understands_was_not_meant_for_the_room_which_then_listens(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        settings = waiting_for_the_button("and now the weather in the north", "what time is it")
        async with room(settings, tmp_path) as rehearsal:
            assert await press_after(rehearsal, 1.0) == []
            assert rehearsal.room.conversation.state.mode is Mode.LISTENING
            [turn] = await speaks(rehearsal)
            assert turn.intent == "clock.time"

    run(scenario())


def test_who_speaks_after_the_press_is_answered_instead(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        slow = {"delay_s": 1.0}
        settings = scripted(
            "what can you do", "what time is it", stt=slow, listen={"mode": "button", "follow_up_s": 0}
        )
        async with room(settings, tmp_path) as rehearsal:
            rehearsal.device.visit(sound := await somebody_speaks())
            await asyncio.sleep(sound.seconds + 1)
            press(rehearsal)
            await asyncio.sleep(0.3)
            rehearsal.device.visit(await somebody_speaks())
            turns = await rehearsal.at_rest()
            assert [turn.intent for turn in turns] == ["clock.time"]

    run(scenario())


def test_nothing_is_answered_twice(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(waiting_for_the_button(*["what time is it"] * 3), tmp_path) as rehearsal:
            assert len(await press_after(rehearsal, 1.0)) == 1
            press(rehearsal)
            assert await rehearsal.at_rest() == []
            await speaks(rehearsal)
            press(rehearsal)
            assert await rehearsal.at_rest() == []

    run(scenario())


def test_what_was_said_while_muted_is_gone(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(waiting_for_the_button("what time is it"), tmp_path) as rehearsal:
            rehearsal.room.conversation.post(MuteSet(True))
            await speaks(rehearsal)
            rehearsal.room.conversation.post(MuteSet(False))
            press(rehearsal)
            assert await rehearsal.at_rest() == []

    run(scenario())


def test_the_rooms_own_voice_is_not_taken_for_somebody(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(waiting_for_the_button("what time is it"), tmp_path, leak_db=-6.0) as rehearsal:
            rehearsal.room.conversation.post(Prompt("The timer is done.", Source.SCHEDULE, verbatim=True))
            await rehearsal.at_rest()
            press(rehearsal)
            assert await rehearsal.at_rest() == []

    run(scenario())


# ------------------------------------------------------------------------------------------------ stop


@pytest.mark.parametrize(
    ("words", "ended", "answers"), [("stop", Ended.INTERRUPTED, [""]), ("what time is it", Ended.COMPLETED, [])]
)
def test_into_a_long_answer_only_stop_is_heard_where_the_room_wants_to_be_called(
    run: Run[None], tmp_path: Path, words: str, ended: Ended, answers: list[str]
) -> None:
    async def scenario() -> None:
        async with room(waiting_for_the_button(HELP, words), tmp_path, leak_db=-40.0) as rehearsal:
            press(rehearsal)
            rehearsal.device.visit(await somebody_speaks())
            await until(rehearsal, "turn.first_sound")
            await asyncio.sleep(2)
            rehearsal.device.visit(await somebody_speaks())
            first, *rest = await rehearsal.at_rest()
            assert (first.ended, [turn.spoken for turn in rest]) == (ended, answers)

    run(scenario())


@with_words
def test_a_stop_word_of_its_own_silences_at_once_and_only_where_there_is_something_to_silence(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        settings = scripted(HELP, listen={"mode": "button", "follow_up_s": 0}, wake={"stop": "okay_nabu"})
        async with room(settings, tmp_path, leak_db=-40.0, rt60_ms=100) as rehearsal:
            word = await called()
            rehearsal.device.visit(word)
            assert await rehearsal.at_rest() == []
            await asyncio.sleep(5)
            press(rehearsal)
            rehearsal.device.visit(await somebody_speaks())
            await until(rehearsal, "turn.first_sound")
            await asyncio.sleep(2)
            rehearsal.device.visit(word)
            [turn] = await rehearsal.at_rest()
            assert turn.ended is Ended.DISMISSED

    run(scenario())


def test_ten_seconds_are_all_that_is_kept_and_nothing_of_it_on_the_disk(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(waiting_for_the_button(), tmp_path) as rehearsal:
            await speaks(rehearsal)
            await asyncio.sleep(20)
            kept = rehearsal.room.parts.ears._recent
            assert sum(map(len, kept)) == 10 * RATE

    run(scenario())
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 10 * RATE * 2


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"listen": {"mode": "open"}}, "it listens to whoever speaks"),
        ({"listen": {"mode": "button"}}, "press the button, and it listens"),
        (
            {"wake": {"engine": "microwakeword", "words": ["okay_nabu", "alexa"]}},
            "say okay nabu or alexa, or press the button, and it listens",
        ),
        ({"wake": {"engine": "none"}}, "it listens to whoever speaks"),
    ],
)
def test_whoever_starts_it_is_told_how_it_is_called(sections: dict[str, Any], told: str) -> None:
    assert how_called(Settings.model_validate(sections)) == told


def test_who_starts_it_on_a_terminal_is_told_of_its_key_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    told = how_called(Settings.model_validate({"listen": {"mode": "button"}}))
    assert told == "press the button (here: Enter), and it listens"
