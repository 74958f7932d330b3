"""Every skill's folder is held to what stands in it: its samples, and the conversations of its dialogues."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from conftest import Run
from home import BERLIN, Home, whole
from roomtone.core.dialog import Persona, Source, Turn
from roomtone.mind import Answer, skillfiles
from roomtone.mind.phrases import Phrases
from roomtone.mind.sentences import Skills
from roomtone.mind.skills import Exchange
from roomtone.mind.thinking import Mind

SKILLS = Skills.load()
FOLDERS = [folder for folder in skillfiles.SHIPPED.iterdir() if (folder / "en.yaml").is_file()]
DIALOGUES = [
    pytest.param(skill.name, talk, id=f"{skill.name}: {name}")
    for skill in SKILLS.skills
    for name, talk in skill.dialogues.items()
]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_keeps_its_word(folder: Path) -> None:
    skillfiles.check(skillfiles.load(folder, "en"))


@pytest.mark.parametrize(("skill", "talk"), DIALOGUES)
def test_a_dialogue_goes_as_it_is_written(run: Run[None], skill: str, talk: tuple[Exchange, ...]) -> None:
    run(play(SKILLS, skill, talk))


async def play(skills: Skills, skill: str, talk: tuple[Exchange, ...]) -> None:
    """Say one line after the other to a household, and hold each answer to what is written beside it."""
    home, mind = Home(), Mind(skills, Phrases.load(skills.language.language), Random(1))
    for exchange in talk:
        prepare(home, exchange)
        answer = await mind.answer(exchange.heard, home)
        said = await whole(answer.deltas)
        if exchange.intent is not None:
            wanted = exchange.intent if "." in exchange.intent else f"{skill}.{exchange.intent}"
            assert answer.intent == wanted, exchange.heard
        if exchange.reply is not None:
            assert said in ([exchange.reply] if isinstance(exchange.reply, str) else exchange.reply), exchange.heard
        if exchange.like is not None:
            assert re.search(exchange.like, said), f"{exchange.heard}: {said}"
        home.last = recorded(exchange.heard, answer, said)
        home.asked.append(answer.intent)


def prepare(home: Home, exchange: Exchange) -> None:
    if exchange.at is not None:
        home.clock = exchange.at.replace(tzinfo=BERLIN)
    home.clock += timedelta(**exchange.later)
    given = {**exchange.given}
    if "persona" in given:
        home.persona = Persona.model_validate(given.pop("persona"))
    if "latency" in given:
        home.last = recorded("anything", Answer("none", _nothing()), "", latency_ms=given.pop("latency"))
    for name, value in given.items():
        assert hasattr(home, name), f"a household has no {name}"
        setattr(home, name, value)


async def _nothing() -> AsyncIterator[str]:
    for nothing in ():
        yield nothing


def recorded(heard: str, answer: Answer, said: str, **more: Any) -> Turn:
    turn = {
        "turn": 1,
        "trace": "t",
        "session": "s",
        "room": "kitchen",
        "persona": "companion",
        "source": Source.VOICE,
    }
    given = {"heard": heard, "said": said, "intent": answer.intent, "offers": answer.offers, **more}
    return Turn.model_validate({**turn, **given})
