"""A request chooses who answers it, where somebody clearly fits: for that one answer, and only where it may."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from conftest import Run
from rooms import room, speaks
from roomtone.core.errors import EngineError
from roomtone.core.persona import Persona
from roomtone.mind.phrases import load_language
from roomtone.personas import Library
from roomtone.shipped import shipped
from roomtone.turn.choosing import Chooser
from test_agents import persona
from test_routines import hear, listen, settings

SMALL = load_language("en").small_words
HOUSE = Library([shipped("personas")])
CAST = {id_: HOUSE.load(id_) for id_ in HOUSE.ids()}


def chosen(text: str, present: str = "companion", chooser: Chooser | None = None) -> str | None:
    found = asyncio.run((chooser or Chooser(SMALL)).fitting(text, list(CAST.values()), CAST[present]))
    return found.id if found is not None else None


@pytest.mark.parametrize(
    ("text", "who"),
    [
        ("what can I cook with leeks", "chef"),
        ("give me a recipe for the kitchen", "chef"),
        ("tell me something about bedtime", "storyteller"),
        ("help me learning the times tables", "tutor"),
        ("why is the sky blue", None),
        ("what is the capital of Peru", None),
        ("what should I do with the children today", None),
        ("read me a story", None),
        ("", None),
        ("the of and", None),
        ("\N{PILE OF POO} \x00 ((", None),
    ],
)
def test_who_clearly_fits_is_chosen_and_in_doubt_nobody(text: str, who: str | None) -> None:
    assert chosen(text) == who


def test_who_speaks_and_fits_as_well_goes_on() -> None:
    assert chosen("what can I cook with leeks", present="chef") is None


@dataclass
class Meaning:
    """Knows what some texts mean: along which axis; all else means nothing."""

    axes: dict[str, int]
    name: str = "test"
    asked: list[int] = field(default_factory=list)
    broken: bool = False

    async def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        if self.broken:
            raise EngineError("the embedder is gone")
        self.asked.append(len(texts))
        rows = np.zeros((len(texts), 4), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word, axis in self.axes.items():
                row[axis] += word in text
        return rows


def test_meaning_finds_who_fits_where_no_word_is_the_same_and_is_looked_up_once() -> None:
    embed = Meaning({"egg": 1, "recipes": 1})
    chooser = Chooser(SMALL, embed)
    assert [chosen("how long do I boil an egg", chooser=chooser) for _ in range(2)] == ["chef", "chef"]
    assert embed.asked == [len(CAST) + 1, 1]
    embed.broken = True
    assert chosen("how long do I boil an egg", chooser=chooser) is None
    assert chosen("what can I cook with leeks", chooser=chooser) == "chef"


# ------------------------------------------------------------------------------------------- in a room

COOKING = "what could I cook with leeks"


def allowed(tmp_path: Path, *heard: str, replies: tuple[Any, ...], choose: bool = True) -> Any:
    return settings(tmp_path, *heard, replies=replies, personas={"choose": choose})


@pytest.mark.parametrize(("choose", "who"), [(True, "Chef"), (False, "Companion")])
def test_a_request_is_answered_once_by_who_fits_it_in_their_voice_and_words_and_nobody_is_switched(
    run: Run[None], tmp_path: Path, choose: bool, who: str
) -> None:
    async def scenario() -> None:
        replies = ("A soup.", "Because of the light.")
        at_home = allowed(tmp_path, COOKING, "why is the sky blue", replies=replies, choose=choose)
        async with room(at_home, tmp_path) as rehearsal:
            asked, voices = listen(rehearsal), hear(rehearsal)
            [turn] = await speaks(rehearsal)
            assert (turn.said, turn.intent) == ("A soup.", "persona.chef" if choose else None)
            assert (asked[0][1].persona, asked[0][0][0].text.splitlines()[0][:20]) == (
                who.lower(),
                CAST[who.lower()].system_prompt.splitlines()[0][:20],
            )
            assert voices[0].voice_id == CAST[who.lower()].voice.voice_id
            [turn] = await speaks(rehearsal)
            assert turn.intent is None
            assert asked[1][1].persona == "companion"
            assert voices[1].voice_id == CAST["companion"].voice.voice_id
            assert rehearsal.room.conversation.speaker.persona.id == "companion"
            assert any("A soup." in message.text for message in asked[1][0])

    run(scenario())


def test_a_skill_of_who_speaks_goes_first(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        persona(tmp_path, "clockmaker", tags=["time", "clocks"])
        async with room(allowed(tmp_path, "what time is it", replies=("No.",)), tmp_path) as rehearsal:
            [turn] = await speaks(rehearsal)
            assert turn.intent == "clock.time"

    run(scenario())


def test_nothing_said_to_who_keeps_it_here_is_answered_by_a_model_elsewhere(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        persona(tmp_path, "monk", tags=["prayer"], egress="none", description="Knows every prayer")
        cloud = {"engine": "script", "texts": ["Nobody knows."], "host": "cloud.example"}
        llm = {"providers": {"cloud": cloud}, "route": ["cloud"], "anticipate": False}
        at_home = settings(tmp_path, "which prayer is the oldest", llm=llm, personas={"choose": True})
        async with room(at_home, tmp_path) as rehearsal:
            [turn] = await speaks(rehearsal)
            assert (turn.said, turn.intent) == ("Nobody knows.", None)

    run(scenario())


def test_what_was_said_by_who_keeps_it_here_is_told_to_no_model_elsewhere_later(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        persona(tmp_path, "monk", tags=["prayer"], egress="none", description="Knows every prayer")
        cloud = {"engine": "script", "texts": ["Because of the light."], "host": "cloud.example"}
        llm = {"providers": {"cloud": cloud, "pi": {"engine": "script", "texts": ["Hear us."]}}, "anticipate": False}
        heard = ("which prayer is the oldest", "why is the sky blue")
        at_home = settings(tmp_path, *heard, llm={**llm, "route": ["cloud", "pi"]}, personas={"choose": True})
        async with room(at_home, tmp_path) as rehearsal:
            [turn] = await speaks(rehearsal)
            assert (turn.said, turn.intent) == ("Hear us.", "persona.monk")
            [turn] = await speaks(rehearsal)
            assert (turn.said, turn.intent) == ("Because of the light.", None)
            far = rehearsal.room.parts.minds.router.places[0].engine
            [(messages, _)] = far.asked
            assert not any("Hear us." in message.text for message in messages)

    run(scenario())


def test_a_persona_that_has_a_mistake_is_not_chosen(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        persona(tmp_path, "monk", tags=["prayer"], tools=["no_such_skill"])
        at_home = allowed(tmp_path, "which prayer is the oldest", replies=("Nobody knows.",))
        async with room(at_home, tmp_path) as rehearsal:
            [turn] = await speaks(rehearsal)
            assert (turn.said, turn.intent) == ("Nobody knows.", None)

    run(scenario())


def test_a_persona_alone_in_the_house_answers_all() -> None:
    alone = Persona(id="only", name="Only")
    assert asyncio.run(Chooser(SMALL).fitting("anything only", [], alone)) is None
