"""What a model is told in a room: the daemon's own pipeline, with a model that notes what it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conftest import Run
from rooms import room, scripted, speaks
from roomtone.core.dialog import Source
from roomtone.core.signals import Prompt, Switch
from roomtone.engines.llm.script import Script
from roomtone.rehearsal import Rehearsal
from roomtone.settings import Settings

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
