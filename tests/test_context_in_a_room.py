"""What a model is told in a room: the daemon's own pipeline, with a model that notes what it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from rooms import room, scripted, somebody_speaks, speaks, until
from roomtone.core.dialog import Ended, Source
from roomtone.core.signals import Prompt, Switch
from roomtone.engines.llm.script import Script
from roomtone.mind.memory import Level
from roomtone.mouth import Piece
from roomtone.past import past
from roomtone.recorder import Recorder
from roomtone.rehearsal import Rehearsal
from roomtone.settings import EngineSection, Settings
from roomtone.turn.live import LiveTurn

SKY = "why is the sky blue"
SEA = "and what about the sea"
SUN = "so why is the sun yellow"


def talkative(*heard: str, texts: Sequence[Any] = ("The air is blue.", "It is a mirror.", "It is hot.")) -> Settings:
    provider = {"engine": "script", "texts": texts}
    return scripted(*heard, llm={"route": ["pi"], "providers": {"pi": provider}, "anticipate": False})


def asked(rehearsal: Rehearsal) -> list[list[str]]:
    """Return what the model was told, each time, as texts."""
    [place] = rehearsal.room.parts.minds.router.places
    model = place.engine
    assert isinstance(model, Script)
    return [[message.text for message in messages] for messages, _ in model.asked]


def questions(prompt: Sequence[str]) -> list[str]:
    return [text.rpartition("</context>\n\n")[2] for text in prompt[1:]]


async def asks(rehearsal: Rehearsal, text: str) -> None:
    await rehearsal.room.conversation.answer(Prompt(text, Source.CLI))


def test_each_prompt_goes_on_from_the_one_before_it(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(talkative(SKY, SEA, SUN), tmp_path) as rehearsal:
            for _ in range(3):
                await speaks(rehearsal)
            first, second, third = asked(rehearsal)
            assert second[: len(first)] == first
            assert third[: len(second)] == second
            assert questions(third) == [SKY, "The air is blue.", SEA, "It is a mirror.", SUN]

    run(scenario())


def test_a_conversation_is_gone_on_with_after_a_restart(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(talkative(), tmp_path) as rehearsal:
            await asks(rehearsal, SKY)
            [first] = asked(rehearsal)
        async with room(talkative(), tmp_path) as rehearsal:
            await rehearsal.room.conversation.recorder.resume()
            await asks(rehearsal, SEA)
            [second] = asked(rehearsal)
            assert second[: len(first)] == first

    run(scenario())


def test_another_persona_is_told_nothing_of_it_and_the_first_finds_all_as_it_was(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with room(talkative(), tmp_path) as rehearsal:
            await asks(rehearsal, SKY)
            await switched(rehearsal, "chef")
            await asks(rehearsal, SEA)
            await switched(rehearsal, "companion")
            await asks(rehearsal, SUN)
            first, other, third = asked(rehearsal)
            assert questions(other) == [SEA]
            assert third[: len(first)] == first
            assert questions(third) == [SKY, "The air is blue.", SUN]

    run(scenario())


async def switched(rehearsal: Rehearsal, persona: str) -> None:
    with rehearsal.room.feed.watch("persona.switched") as switches:
        rehearsal.room.conversation.post(Switch(persona, Source.CLI, "test"))
        await anext(switches)


def test_what_a_skill_said_is_told_too_and_an_erased_conversation_is_not(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(talkative(), tmp_path) as rehearsal:
            await asks(rehearsal, "set a pasta timer for nine minutes")
            await asks(rehearsal, SKY)
            await rehearsal.room.conversation.recorder.erase()
            await asks(rehearsal, SEA)
            before, after = asked(rehearsal)
            assert questions(before)[0] == "set a pasta timer for nine minutes"
            assert "nine minutes" in questions(before)[1]
            assert questions(after) == [SEA]

    run(scenario())


def test_who_interrupts_is_answered_by_one_who_knows_what_was_heard(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = talkative(SKY, SEA, texts=["One two three four five six.", "It is a mirror."])
        settings = settings.model_copy(update={"tts": EngineSection(engine="tone", word_s=2.0)})
        async with room(settings, tmp_path) as rehearsal:
            rehearsal.device.visit(await somebody_speaks())
            await until(rehearsal, "turn.first_sound")
            await asyncio.sleep(5.0)
            rehearsal.device.visit(await somebody_speaks())
            interrupted, _ = await rehearsal.at_rest()
            first, second = asked(rehearsal)
            assert 0 < len(interrupted.spoken) < len(interrupted.said)
            assert second[: len(first)] == first
            assert questions(second) == [SKY, f"{interrupted.spoken} —", SEA]

    run(scenario())


def test_a_long_conversation_is_summed_up_when_the_room_is_quiet(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        texts = [*(f"Reply {number}." for number in range(11)), "They spoke of numbers.", "Last."]
        async with room(talkative(texts=texts), tmp_path) as rehearsal:
            for number in range(11):
                await asks(rehearsal, f"please imagine the number {number} in colour")
            await until(rehearsal, "context.summarised")
            await asks(rehearsal, SKY)
            assert asked(rehearsal)[-1][0].endswith("They spoke of numbers.\n</context>")
            assert "Reply 10." in asked(rehearsal)[-1]

    run(scenario())


@pytest.mark.long
def test_what_a_conversation_was_about_is_known_when_it_is_over(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        texts = ["The air is blue.", "It is a mirror.", "They spoke of the sky and the sea.", "Again?"]
        async with room(talkative(texts=texts), tmp_path) as rehearsal:
            await asks(rehearsal, SKY)
            await asks(rehearsal, SEA)
            await until(rehearsal, "context.summarised")
            [fact] = await rehearsal.room.parts.minds.memory.facts("companion")
            assert (fact.level, fact.text) == (Level.SUMMARY, "They spoke of the sky and the sea.")

    run(scenario())


def answering(recorder: Recorder, number: int, asked: str, said: str, spoken: str) -> LiveTurn:
    """Begin a turn that has been asked something and has said something."""
    live = LiveTurn(number, None, Prompt(asked, Source.CLI))
    live.watch.understood = 0.0
    recorder.begin(live, 0)
    recorder.keep(live, 0)
    live.said = said
    live.speech.pieces.append(Piece(spoken, 0, 1000))
    return live


def test_a_reply_that_was_stopped_is_known_before_its_turn_has_ended(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(talkative(), tmp_path) as rehearsal:
            recorder = rehearsal.room.conversation.recorder
            first = answering(recorder, 101, "one", "yes or no", "yes or no")
            first.ended, first.speech.stopped_at = Ended.INTERRUPTED, 700
            second = answering(recorder, 102, "two", "5 %", "five percent")
            known = []
            for _ in range(2):
                before = await past(rehearsal.room.store, recorder.before(second), unkept=recorder.unkept)
                known.append([(message.id, message.text, message.data.get("cut")) for message in before.messages])
                if len(known) == 1:
                    recorder.close(first, 700)
            assert [each[1:] for each in known[0]] == [("one", None), ("yes or", True)]
            assert known[1] == known[0]
            recorder.close(second, 1000)
            after = await past(rehearsal.room.store, recorder.tips, unkept=recorder.unkept)
            assert (after.messages[-1].text, after.messages[-1].data["meant"]) == ("five percent", "5 %")

    run(scenario())
